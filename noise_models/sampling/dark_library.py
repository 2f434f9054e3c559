"""Real dark frames as a source of noise: patches that keep CFA phase and rows, with rounding undone.

Everything that a sensor adds in the dark is in its dark frames, known or not: banding, tails, blinking pixels, black
error. Sampled darks beat the parametric model of ELD (45.4 against 44.4 dB on its own set).

Source: Zhang, Qin, Wang, Li, "Rethinking noise synthesis and modeling in raw denoising" (ICCV 2021): patches aligned
with the sensor's pattern, high-bit reconstruction of the codes, Poisson noise added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame
from noise_models.sensor import QUANTISATION_VARIANCE_DN2

Subtract = Literal["level", "plane_mean", "mean_frame"]

# A darkest code that holds more of the sites than this, and more than this share of the next code's, is a clamp: the
# lower side of the noise is missing there. An end that noise fades into holds a small share of the next code's.
CLAMPED_SHARE = 0.01
CLAMPED_OF_NEXT = 0.5
# Codes farther from the mean than this many sigma are no Gaussian's; their rounding error is drawn uniformly.
GAUSSIAN_REACH = 4.0
# Codes within this many median deviations (six sigma, about) make the Gaussian core.
CORE_REACH = 9.0
# Below this std [DN] the shape of the noise inside a code is not in the codes (camera-noise: valid down to 0.4 LSB).
MIN_STD_DN = 0.4


@dataclass(frozen=True, eq=False)
class _Stack:
    """The frames of one ISO.

    Attributes:
        frames: (H, W) uint16 each, or files of such.
        cfa: From the top-left.
        level: What is subtracted, per CFA site [DN].
        mean_frame: (H, W) float32 [DN], subtracted instead, or None.
        centre: Mean code per CFA site, hot sites aside [DN].
        std: Std of the codes per CFA site, hot sites and rounding aside [DN].
    """

    frames: tuple[NDArray[np.uint16] | Path, ...]
    cfa: Cfa
    level: NDArray[np.float64]
    mean_frame: NDArray[np.float32] | None
    centre: NDArray[np.float64]
    std: NDArray[np.float64]

    def codes(self, index: int) -> NDArray[np.uint16]:
        """The pixels of one frame; a file is mapped, not read."""
        frame = self.frames[index]
        if isinstance(frame, Path):
            mapped: NDArray[np.uint16] = np.load(frame, mmap_mode="r", allow_pickle=False)
            return mapped
        return frame


@dataclass(eq=False)
class _Sums:
    """Running sums of the frames of one ISO."""

    cfa: Cfa
    shape: tuple[int, int]
    frames: list[NDArray[np.uint16] | Path] = field(default_factory=list)
    levels: list[NDArray[np.float64]] = field(default_factory=list)
    means: list[NDArray[np.float64]] = field(default_factory=list)
    variances: list[NDArray[np.float64]] = field(default_factory=list)
    total: NDArray[np.float32] | None = None


class DarkLibrary:
    """Dark frames by ISO, from which noise patches are cut.

    Attributes:
        isos: The ISOs it holds.
        cfa: Of the frames.

    Raises:
        CalibrationError: no frames; frames without ISO, or of several sizes or CFAs; clamped darks;
            darks whose noise lies inside one code; a mean frame of a single dark.

    >>> from noise_models.frame import Shot
    >>> rng = np.random.default_rng(0)
    >>> darks = [
    ...     RawFrame(rng.normal(512, 4, (64, 64)).round().astype(np.uint16), Cfa.parse("RGGB"),
    ...              np.full((2, 2), 512.0), np.full((2, 2), 16383.0), shot=Shot(iso=800.0))
    ...     for _ in range(2)
    ... ]
    >>> library = DarkLibrary(darks)
    >>> generator = torch.Generator().manual_seed(0)
    >>> patches = library.patches([800.0, 800.0], (16, 16), cfa=Cfa.parse("GRBG"), generator=generator)
    >>> patches.shape, library.isos
    (torch.Size([2, 1, 16, 16]), (800.0,))
    """

    def __init__(
        self, darks: Iterable[RawFrame], *, subtract: Subtract = "level", folder: Path | str | None = None
    ) -> None:
        """Take in dark frames, one at a time: ``darks`` may be a generator that decodes files.

        Args:
            darks: Dark frames of one sensor, at one or several ISOs.
            subtract: "level": the black level that the file states, so that its error stays in the noise;
                "plane_mean": the mean of every site of the CFA over the frames of the ISO, hot sites aside;
                "mean_frame": the mean of every pixel, which removes dark shading and fixed pattern (the noise is
                rescaled for its own share in it).
            folder: Where to put the pixels (one ``.npy`` a frame), to be mapped on use; None: they stay in memory, 2
                bytes a site.
        """
        sums: dict[float, _Sums] = {}
        for number, dark in enumerate(darks):
            if dark.shot.iso is None:
                raise CalibrationError(f"Dark {number + 1} states no ISO. Set shot.iso of the frames.")
            first = next(iter(sums.values()), None)
            if first is not None and (dark.cfa, dark.shape) != (first.cfa, first.shape):
                raise CalibrationError(
                    f"Dark {number + 1} is {dark.cfa.name} {dark.shape}, those before are {first.cfa.name} "
                    f"{first.shape}. Give darks of one sensor."
                )
            self._add(sums.setdefault(dark.shot.iso, _Sums(dark.cfa, dark.shape)), dark, number, subtract, folder)
        if not sums:
            raise CalibrationError("A library needs dark frames; there are none.")
        self.cfa = next(iter(sums.values())).cfa
        self._shape = next(iter(sums.values())).shape
        self._stacks = {iso: _finish(sums[iso], iso, subtract) for iso in sorted(sums)}

    @property
    def isos(self) -> tuple[float, ...]:
        """The ISOs it holds, rising."""
        return tuple(self._stacks)

    def patches(
        self,
        isos: Sequence[float],
        shape: tuple[int, int],
        *,
        cfa: Cfa,
        generator: torch.Generator,
        corners: Tensor | None = None,
    ) -> Tensor:
        """Dark noise above the black level [DN], before rounding.

        Args:
            isos: Of every patch.
            shape: (H, W) of a patch.
            cfa: That the patches must have from their top-left; every site then has noise of its own kind of site, and
                rows stay rows.
            generator: Of places and rounding errors.
            corners: (B, 2) top-left of every patch; None: any place of the right phase.

        Returns:
            (B, 1, H, W) float32 on the CPU.

        Raises:
            CalibrationError: an ISO without frames; patches larger than the frames or of another phase.
        """
        places = self._places(len(isos), shape, cfa, generator) if corners is None else corners.tolist()
        patches = []
        for iso, (top, left) in zip(isos, places, strict=True):
            if iso not in self._stacks:
                raise CalibrationError(
                    f"There are no darks of ISO {iso:g}, only of {', '.join(f'{known:g}' for known in self.isos)}."
                )
            inside = 0 <= top <= self._shape[0] - shape[0] and 0 <= left <= self._shape[1] - shape[1]
            if not inside or self.cfa.shifted(int(top), int(left)) != cfa:
                raise CalibrationError(
                    f"A {shape[0]}x{shape[1]} patch at row {top}, column {left} of {self._shape[0]}x{self._shape[1]} "
                    f"{self.cfa.name} darks is no {cfa.name} patch of theirs. Choose corners of the same phase."
                )
            patches.append(self._patch(self._stacks[iso], (int(top), int(left)), shape, generator))
        return torch.stack(patches)[:, None]

    def _places(self, count: int, shape: tuple[int, int], cfa: Cfa, generator: torch.Generator) -> list[list[int]]:
        """Random corners of the right phase."""
        period = self.cfa.period
        phases = [(i, j) for i in range(period[0]) for j in range(period[1]) if self.cfa.shifted(i, j) == cfa]
        fits = [[(self._shape[k] - shape[k] - phase[k]) // period[k] + 1 for k in (0, 1)] for phase in phases]
        usable = [(phase, fit) for phase, fit in zip(phases, fits, strict=True) if min(fit) > 0]
        if not usable:
            raise CalibrationError(
                f"{self._shape[0]}x{self._shape[1]} {self.cfa.name} darks hold no {cfa.name} patch of "
                f"{shape[0]}x{shape[1]}. Cut smaller patches, or give the CFA of this sensor."
            )
        draws = torch.rand((count, 3), generator=generator, device=generator.device, dtype=torch.float64).tolist()
        places = []
        for which, down, right in draws:
            (i, j), (rows, columns) = usable[int(which * len(usable))]
            places.append([i + period[0] * int(down * rows), j + period[1] * int(right * columns)])
        return places

    def _patch(
        self, stack: _Stack, corner: tuple[int, int], shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        (top, left), (height, width) = corner, shape
        window = (slice(top, top + height), slice(left, left + width))
        which = int(torch.randint(len(stack.frames), (), generator=generator, device=generator.device))
        codes = torch.from_numpy(stack.codes(which)[window].astype(np.float32))
        per_site = (_over(v, corner, shape) for v in (stack.centre, stack.std, stack.level))
        centre, std, level = per_site
        values = codes + rounding_error(codes, centre, std, generator=generator)
        if stack.mean_frame is None:
            return values - level
        mean = torch.from_numpy(stack.mean_frame[window])
        # The mean holds 1/n of every frame: what is left has (1 - 1/n) of the variance.
        return (values - mean) * math.sqrt(len(stack.frames) / (len(stack.frames) - 1))

    @staticmethod
    def _add(sums: _Sums, dark: RawFrame, number: int, subtract: Subtract, folder: Path | str | None) -> None:
        """Measure a frame and keep its pixels."""
        sites = _site_values(dark.mosaic, dark.cfa)
        lowest = int(dark.mosaic.min())
        clamped, above = (float(np.mean(dark.mosaic == code)) for code in (lowest, lowest + 1))
        if clamped > max(CLAMPED_SHARE, CLAMPED_OF_NEXT * above):
            raise CalibrationError(
                f"{100 * clamped:.0f} % of dark {number + 1} have its lowest code, {lowest}: the camera clamps its "
                "darks, and the lower side of the noise is missing. Use the modelled noise of a calibration instead."
            )
        sums.levels.append(dark.black_level)
        moments = np.array([[_core(s) for s in row] for row in sites])
        sums.means.append(moments[..., 0])
        sums.variances.append(moments[..., 1])
        if subtract == "mean_frame":
            sums.total = dark.mosaic.astype(np.float32) if sums.total is None else sums.total + dark.mosaic
        if folder is None:
            sums.frames.append(dark.mosaic)
            return
        target = Path(folder) / f"dark-{number:05d}.npy"
        np.save(target, dark.mosaic, allow_pickle=False)
        sums.frames.append(target)


def rounding_error(codes: Tensor, centre: Tensor, std: Tensor, *, generator: torch.Generator) -> Tensor:
    """What rounding took from Gaussian values: drawn from the part of the Gaussian inside every code.

    A uniform error would add 1/6 DN^2 to the variance before rounding, a third of the noise at a std of 0.7 DN.

    Args:
        codes: Whole numbers.
        centre: Mean of the values; broadcasts.
        std: Of the values before rounding [DN]; broadcasts.
        generator: Of the draws.

    Returns:
        Between -1/2 and 1/2 [DN], shape of ``codes``.
    """
    u = torch.rand(codes.shape, generator=generator, device=generator.device, dtype=torch.float64).to(codes.device)
    middle, std = (codes - centre).double(), std.double()
    low, high = torch.special.ndtr((middle - 0.5) / std), torch.special.ndtr((middle + 0.5) / std)
    inside = torch.special.ndtri(low + u * (high - low)) * std - middle
    far = middle.abs() > GAUSSIAN_REACH * std
    return torch.where(far, u - 0.5, inside).clamp(-0.5, 0.5).to(codes.dtype)


def _finish(sums: _Sums, iso: float, subtract: Subtract) -> _Stack:
    means = np.mean(sums.means, axis=0)
    # The mean of the variances inside frames, not of all pixels: jitter between frames is no noise of a pixel.
    variance = np.mean(sums.variances, axis=0) - QUANTISATION_VARIANCE_DN2
    if not (variance > MIN_STD_DN**2).all():
        raise CalibrationError(
            f"The darks of ISO {iso:g} vary by less than {MIN_STD_DN} DN: rounding hides their noise. Use darks of a "
            "higher ISO or of more bits."
        )
    mean_frame = None
    if subtract == "mean_frame":
        if len(sums.frames) < 2 or sums.total is None:
            raise CalibrationError(f"A mean frame needs 2 darks at least; ISO {iso:g} has {len(sums.frames)}.")
        mean_frame = sums.total / np.float32(len(sums.frames))
    return _Stack(
        frames=tuple(sums.frames),
        cfa=sums.cfa,
        level=np.mean(sums.levels, axis=0) if subtract == "level" else means,
        mean_frame=mean_frame,
        centre=means,
        std=np.sqrt(variance),
    )


def _core(codes: NDArray[np.uint16]) -> tuple[float, float]:
    """Mean [DN] and variance [DN^2] of the codes without hot sites, which say nothing of the law of the others."""
    counts = np.bincount(codes.ravel()).astype(np.float64)
    values = np.arange(len(counts), dtype=np.float64)
    median = float(np.searchsorted(counts.cumsum(), codes.size / 2))
    inner = np.searchsorted(np.bincount(np.abs(values - median).astype(int), counts).cumsum(), codes.size / 2)
    core = np.abs(values - median) <= CORE_REACH * (float(inner) + 1.0)
    mean = np.average(values[core], weights=counts[core])
    return float(mean), float(np.average((values[core] - mean) ** 2, weights=counts[core]))


def _site_values(mosaic: NDArray[np.uint16], cfa: Cfa) -> list[list[NDArray[np.uint16]]]:
    height, width = cfa.period
    return [[mosaic[i::height, j::width] for j in range(width)] for i in range(height)]


def _over(period: NDArray[np.float64], corner: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """Values per CFA site of the frame over a patch, (H, W) float32."""
    rolled = torch.from_numpy(np.roll(period, (-corner[0], -corner[1]), axis=(0, 1)).astype(np.float32))
    ph, pw = rolled.shape
    return rolled.repeat(-(-shape[0] // ph), -(-shape[1] // pw))[: shape[0], : shape[1]]
