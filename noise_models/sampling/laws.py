"""Laws from which the noise of training images is drawn: one calibrated camera, or any camera."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from noise_models.cfa import BAYER_PLANES
from noise_models.errors import NoProfileForIso, ProfileError
from noise_models.profile import CameraProfile
from noise_models.sampling.parameters import TAIL_KINDS, NoiseParameters
from noise_models.sensor import Estimate, SensorNoise
from noise_models.terms import MAX_PRNU, TUKEY_MIN_SHAPE

# ISOs of a range are drawn in steps of 1/12 stop: cameras set thirds, and K changes by 6 % in between.
STEPS_PER_STOP = 12
# An estimate whose error exceeds this share of its value has no lognormal law: its factor would reach orders of
# magnitude. The share is that of two sigma between half and double the value, about.
MAX_RELATIVE_SPREAD = 0.35


class NoiseLaw(Protocol):
    """Anything from which the noise of a batch of images can be drawn.

    Attributes:
        planes: Names of the colour planes it describes.
    """

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of the colour planes."""
        ...

    def draw(self, count: int, *, generator: torch.Generator) -> NoiseParameters:
        """The noise of ``count`` images, independent of each other."""
        ...


class ProfileLaw:
    """One camera: K, read noise, row noise and tail are those of one drawn ISO, never mixed between ISOs.

    Attributes:
        planes: Of the profile.
        isos: The ISOs that can be drawn, each once.

    Raises:
        NoProfileForIso: an ISO that the profile says nothing about.
        ProfileError: the gain or the white level of an ISO is unknown.
        ValueError: both kinds of ISO, or none at all.
    """

    def __init__(
        self,
        profile: CameraProfile,
        *,
        isos: Sequence[float] | None = None,
        iso_range: tuple[float, float] | None = None,
        white_level: float | None = None,
        black_clamp: float = 0.0,
        draw_uncertainty: bool = False,
    ) -> None:
        """Tabulate the profile at the ISOs that can be drawn.

        Args:
            profile: Of the camera.
            isos: Drawn with equal probability. None, and no range: the measured ones.
            iso_range: Lowest and highest ISO; drawn log-uniformly in steps of 1 / `STEPS_PER_STOP` stop. An ISO that
                falls between two conversion gains takes the nearer measured ISO, for there the profile says nothing.
            white_level: Highest code [DN], for planes whose saturation the profile does not know.
            black_clamp: Lowest code that the camera writes [DN].
            draw_uncertainty: Also draw K, read noise and row noise around their values, with their standard errors as
                log-normal spread (at most `MAX_RELATIVE_SPREAD`) common to the planes: another body, a worse day.
        """
        if isos is not None and (iso_range is not None or not isos):
            raise ValueError("Give either isos, at least one, or iso_range.")
        if iso_range is not None:
            settings = [_nearest_known(profile, iso) for iso in _log_steps(profile, *iso_range)]
        else:
            settings = list(profile.isos if isos is None else isos)
        self.isos = tuple(sorted(set(settings)))
        self.planes = tuple(profile.entries[0].planes)
        entries = [profile.at(iso) for iso in self.isos]
        self._table = _tabulate(entries, self.planes, white_level, black_clamp)
        self._place = torch.tensor([self.isos.index(iso) for iso in settings])
        self._jitter = _per_entry([entry.black_jitter_dn for entry in entries])
        self._spread = torch.stack([_relative_errors(entry) for entry in entries]) * float(draw_uncertainty)

    def draw(self, count: int, *, generator: torch.Generator) -> NoiseParameters:
        """The noise of ``count`` images, each at its own ISO.

        Args:
            count: Number of images.
            generator: Of the draws; its device does not matter.
        """
        place = self._place[(_uniform(count, generator) * len(self._place)).long()]
        drawn = self._table.take(place)
        normal = _normal((count, 4), generator)
        factor = torch.exp(self._spread[place] * normal[:, :3])
        return replace(
            drawn,
            gain_dn=drawn.gain_dn * factor[:, :1],
            read_noise_dn=drawn.read_noise_dn * factor[:, 1:2],
            row_noise_dn=drawn.row_noise_dn * factor[:, 2],
            black_error_dn=(self._jitter[place] * normal[:, 3])[:, None].expand_as(drawn.gain_dn),
        )


@dataclass(frozen=True)
class WidePrior:
    """Any camera: ranges that hold the published ones, for networks that will meet unknown sensors.

    Drawn per image: log K uniform; read noise and row noise on a line over log K whose slope and bias are drawn too,
    with scatter (the joint law of ELD); the rest independently. DN of the ranges are those of 14 bits.

    Sources: LED, the ranges of its five virtual cameras (K, slopes, bias and tails); ELD, its released cameras (bias of
    row noise, scatters); published profiles of this package (black levels). PRNU: 0.3 to 1 % of usual sensors. Black
    error: 0.05 DN between frames of an IMX686, 0.5 to 2 DN over a shoot of an A7S II, colour bias in ELD.

    Attributes:
        planes: Names of the colour planes; all share one K and one read noise.
        gain_dn: Range of K [DN/e-], log-uniform.
        read_slope: Range of the slope of log read noise over log K.
        read_bias: Range of its value at K = 1, natural log of DN.
        read_scatter: Std of log read noise about the line.
        row_slope: The same of row noise.
        row_bias: The same of row noise.
        row_scatter: The same of row noise.
        tukey_shape: Range of lambda; the Tukey, the lognormal and the Gaussian kind are equally likely.
        lognormal_shape: Range of the width of log sigma.
        prnu: Range, ratio.
        black_error_dn: Range of the std of each plane's black error [DN], log-uniform.
        black_level_dn: Range of the black level [DN], log-uniform, whole codes.
        hot_fraction: Range of the share of hot sites, uniform.
        hot_excess_dn: Range of their mean excess [DN], log-uniform.
        bits: Bit depths, equally likely; fewer bits have coarser steps.

    Raises:
        ValueError: a range that is not rising, or values that no sensor has.
    """

    planes: tuple[str, ...] = BAYER_PLANES
    gain_dn: tuple[float, float] = (0.1, 30.0)
    read_slope: tuple[float, float] = (0.54, 0.68)
    read_bias: tuple[float, float] = (0.80, 2.08)
    read_scatter: float = 0.27
    row_slope: tuple[float, float] = (0.45, 0.73)
    row_bias: tuple[float, float] = (-1.80, -0.59)
    row_scatter: float = 0.25
    tukey_shape: tuple[float, float] = (-0.243, 0.2)
    lognormal_shape: tuple[float, float] = (0.0, 0.5)
    prnu: tuple[float, float] = (0.003, 0.01)
    black_error_dn: tuple[float, float] = (0.05, 2.0)
    black_level_dn: tuple[float, float] = (400.0, 2048.0)
    hot_fraction: tuple[float, float] = (0.0, 0.0)
    hot_excess_dn: tuple[float, float] = (10.0, 1000.0)
    bits: tuple[int, ...] = (12, 14)

    def __post_init__(self) -> None:
        """Check the ranges once."""
        ranges = {name: value for name, value in vars(self).items() if name not in ("planes", "bits")}
        for name, value in ranges.items():
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ValueError(f"The range of {name} must rise, not {value}.")
        positive = min(self.gain_dn[0], self.black_error_dn[0], self.black_level_dn[0], self.hot_excess_dn[0])
        if positive <= 0 or self.tukey_shape[0] <= TUKEY_MIN_SHAPE or self.prnu[1] > MAX_PRNU or not self.bits:
            raise ValueError(
                f"No sensor is described by K {self.gain_dn}, black error {self.black_error_dn}, black level "
                f"{self.black_level_dn}, hot excess {self.hot_excess_dn} (all positive), Tukey shape "
                f"{self.tukey_shape} (above {TUKEY_MIN_SHAPE}), PRNU {self.prnu} (up to {MAX_PRNU}), bits {self.bits}."
            )

    def draw(self, count: int, *, generator: torch.Generator) -> NoiseParameters:
        """The noise of ``count`` sensors; `NoiseParameters.iso` is None.

        Args:
            count: Number of images.
            generator: Of the draws; its device does not matter.
        """

        def uniform(ends: tuple[float, float]) -> Tensor:
            return ends[0] + (ends[1] - ends[0]) * _uniform(count, generator)

        def log_uniform(ends: tuple[float, float]) -> Tensor:
            return uniform((math.log(ends[0]), math.log(ends[1]))).exp()

        planes = len(self.planes)
        gain = log_uniform(self.gain_dn)
        scatter = _normal((count, 2), generator)
        read = uniform(self.read_slope) * gain.log() + uniform(self.read_bias) + self.read_scatter * scatter[:, 0]
        row = uniform(self.row_slope) * gain.log() + uniform(self.row_bias) + self.row_scatter * scatter[:, 1]
        kind = (_uniform(count, generator) * len(TAIL_KINDS)).long()
        shapes = torch.stack([torch.zeros_like(gain), uniform(self.lognormal_shape), uniform(self.tukey_shape)])
        depth = torch.tensor(self.bits)[(_uniform(count, generator) * len(self.bits)).long()].double()
        unit = torch.exp2(depth - 14.0)  # DN of this depth per DN of 14 bits

        def all_planes(values: Tensor) -> Tensor:
            return values[:, None].expand(count, planes)

        return NoiseParameters(
            planes=self.planes,
            iso=None,
            gain_dn=all_planes(gain * unit),
            read_noise_dn=all_planes(read.exp() * unit),
            row_noise_dn=row.exp() * unit,
            column_noise_dn=torch.zeros_like(gain),
            prnu=all_planes(uniform(self.prnu)),
            dsnu_dn=torch.zeros(count, planes, dtype=torch.float64),
            black_dn=all_planes((log_uniform(self.black_level_dn) * unit).round()),
            black_error_dn=_normal((count, planes), generator) * (log_uniform(self.black_error_dn) * unit)[:, None],
            white_dn=all_planes(torch.exp2(depth) - 1.0),
            low_code_dn=torch.zeros_like(gain),
            tail_kind=kind,
            tail_shape=shapes.gather(0, kind[None])[0],
            hot_fraction=uniform(self.hot_fraction),
            hot_excess_dn=log_uniform(self.hot_excess_dn) * unit,
        )


def _log_steps(profile: CameraProfile, low: float, high: float) -> list[float]:
    """Centres of equal log cells of a range that the profile reaches."""
    if not profile.isos[0] <= low <= high <= profile.isos[-1]:
        raise NoProfileForIso(
            f"ISO {low:g} to {high:g} is no range inside ISO {profile.isos[0]:g} to {profile.isos[-1]:g}, which the "
            f"profile of {profile.model!r} covers. Narrow the range, or calibrate more ISOs."
        )
    cells = max(1, math.ceil(STEPS_PER_STOP * math.log2(high / low)))
    return [low * (high / low) ** ((k + 0.5) / cells) for k in range(cells)]


def _nearest_known(profile: CameraProfile, iso: float) -> float:
    """The ISO itself, or the nearer end of the gap between two conversion gains in which it lies."""
    below = max((e for e in profile.entries if e.setting <= iso), key=lambda e: e.setting)
    above = min((e for e in profile.entries if e.setting >= iso), key=lambda e: e.setting)
    if below.segment == above.segment:
        return iso
    return below.setting if iso**2 < below.setting * above.setting else above.setting


def _tabulate(
    entries: Sequence[SensorNoise], planes: tuple[str, ...], white_level: float | None, black_clamp: float
) -> NoiseParameters:
    """One row an entry."""

    def plane_values(name: str, *, missing: float | None = 0.0) -> Tensor:
        return torch.tensor([[_value(e, p, name, missing) for p in planes] for e in entries], dtype=torch.float64)

    white = plane_values("saturation_dn", missing=white_level)
    if white_level is not None:
        white = white.clamp(max=white_level)
    black = plane_values("black_level_dn")
    if not bool((white.floor() > black.clamp(min=black_clamp)).all()):
        raise ProfileError(
            f"White level {float(white.min()):g} must be above black level {float(black.max()):g} and black clamp "
            f"{black_clamp:g}. Give the white level in DN."
        )
    hot = [entry.hot_pixels for entry in entries]
    return NoiseParameters(
        planes=planes,
        iso=torch.tensor([entry.setting for entry in entries], dtype=torch.float64),
        gain_dn=plane_values("gain", missing=None),
        read_noise_dn=plane_values("read_noise_dn"),
        row_noise_dn=_per_entry([entry.row_noise_dn for entry in entries]),
        column_noise_dn=_per_entry([entry.column_noise_dn for entry in entries]),
        prnu=plane_values("prnu"),
        dsnu_dn=plane_values("dsnu_dn"),
        black_dn=black,
        black_error_dn=torch.zeros_like(black),
        white_dn=white.floor(),
        low_code_dn=torch.full((len(entries),), float(np.ceil(black_clamp)), dtype=torch.float64),
        tail_kind=torch.tensor([TAIL_KINDS.index(entry.tail.kind) for entry in entries]),
        tail_shape=_per_entry([entry.tail.shape for entry in entries]),
        hot_fraction=_per_entry([None if h is None else h.fraction for h in hot]),
        hot_excess_dn=_per_entry([None if h is None else h.excess_dn for h in hot]),
    )


def _value(entry: SensorNoise, plane: str, name: str, missing: float | None) -> float:
    estimate: Estimate | None = getattr(entry.planes[plane], name)
    if estimate is not None:
        return estimate.value
    if missing is None:
        needed = {"gain": "Calibrate with flats.", "saturation_dn": "Give white_level."}[name]
        raise ProfileError(f"The {name} of plane {plane} at ISO {entry.setting:g} is unknown. {needed}")
    return missing


def _per_entry(estimates: Sequence[Estimate | None]) -> Tensor:
    return torch.tensor([0.0 if e is None else e.value for e in estimates], dtype=torch.float64)


def _relative_errors(entry: SensorNoise) -> Tensor:
    """Relative standard errors of K, read noise and row noise, (3,); 0 where unknown."""

    def largest(estimates: Sequence[Estimate | None]) -> float:
        known = [e for e in estimates if e is not None and e.standard_error is not None and e.value > 0]
        return max((min((e.standard_error or 0.0) / e.value, MAX_RELATIVE_SPREAD) for e in known), default=0.0)

    planes = entry.planes.values()
    return torch.tensor(
        [
            largest([plane.gain for plane in planes]),
            largest([plane.read_noise_dn for plane in planes]),
            largest([entry.row_noise_dn]),
        ],
        dtype=torch.float64,
    )


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64).cpu()


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64).cpu()
