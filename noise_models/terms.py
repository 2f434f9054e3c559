"""One small class per physical term of the signal chain: how it is drawn, and which moments it declares.

Order of the chain (docs/noise_model.md): light x PRNU -> shot noise -> read noise -> black level, dark
shading, DSNU -> row and column noise -> rounding -> clipping. All quantities in DN, stds unless called a variance.
Temporal terms are drawn anew for each frame, fixed ones (`Prnu`, `Dsnu`, `DarkShading`, `HotSites`,
`ReadNoise.pixel_std`) once per sensor. Numbers are drawn on the generator's device and follow the input's device and
dtype.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor

from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Tail

# Ten sigma between the mean pixel and a pixel without response: a Gaussian PRNU never turns a response negative.
MAX_PRNU = 0.1
# Tukey-lambda draws have a finite variance above this shape only (Joiner and Rosenblatt, JASA 66 (1971) 394).
TUKEY_MIN_SHAPE = -0.5
# Cosine waves across the frame, per axis, that make the smooth dark shading.
SHADING_ORDER = 3
# The dimmest hot site has this share of the mean excess, so that every one of them stands out.
HOT_FLOOR = 0.5


@dataclass(frozen=True, eq=False)
class ShotNoise:
    """Photon (and dark-electron) arrival: ``K Poisson(mean / K)``.

    Attributes:
        gain: System gain K [DN/e-], a number or a tensor that broadcasts to the mean.
    """

    gain: float | Tensor

    def mean(self, mean_dn: Tensor) -> Tensor:
        """The mean is kept [DN]."""
        return mean_dn

    def variance(self, mean_dn: Tensor) -> Tensor:
        """``K mean`` [DN^2]."""
        return self.gain * mean_dn

    def sample(self, mean_dn: Tensor, *, generator: torch.Generator) -> Tensor:
        """Draw signals [DN] with the given means above black [DN], none of them negative."""
        electrons = (mean_dn / self.gain).to(device=generator.device, dtype=_working(mean_dn.dtype))
        return torch.poisson(electrons, generator=generator).to(mean_dn) * self.gain


@dataclass(frozen=True, eq=False)
class ReadNoise:
    """Temporal dark noise of one pixel, of declared standard deviation whatever its tail.

    Attributes:
        std: Over frames and pixels [DN], a number or a tensor that broadcasts to the frame.
        kind: "gaussian"; "lognormal": pixels are Gaussian with their own fixed std, whose mean square is ``std^2``;
            "tukey": independent Tukey-lambda draws.
        shape: Width of log std (lognormal) or lambda (tukey).

    Raises:
        ValueError: a Tukey-lambda shape without a variance, or a negative lognormal width.
    """

    std: float | Tensor
    kind: Literal["gaussian", "lognormal", "tukey"] = "gaussian"
    shape: float = 0.0

    def __post_init__(self) -> None:
        """Refuse shapes for which the declared std cannot exist."""
        if self.kind == "tukey" and self.shape <= TUKEY_MIN_SHAPE:
            raise ValueError(
                f"A Tukey-lambda tail of shape {self.shape:g} has no variance; the shape must be above "
                f"{TUKEY_MIN_SHAPE}. Refit the tail, or use a lognormal one."
            )
        if self.kind == "lognormal" and self.shape < 0:
            raise ValueError(
                f"The width of log sigma cannot be negative; it is {self.shape:g}. Pass its absolute value."
            )

    @classmethod
    def of(cls, std: float | Tensor, tail: Tail) -> Self:
        """The read noise [DN] with the tail of a profile."""
        return cls(std, tail.kind, 0.0 if tail.shape is None else tail.shape.value)

    def variance(self) -> float | Tensor:
        """``std^2`` [DN^2], over frames and pixels."""
        return self.std**2

    def excess_kurtosis(self) -> float:
        """Over frames and pixels; infinite for Tukey-lambda shapes of -1/4 and below.

        >>> round(ReadNoise(2.0, "lognormal", 0.3).excess_kurtosis(), 3)
        1.3
        """
        if self.kind == "tukey":
            return float(_tukey_lambda().stats(self.shape, moments="k")) if self.shape > -0.25 else math.inf
        return 3.0 * math.expm1(4.0 * self.shape**2) if self.kind == "lognormal" else 0.0

    def pixel_std(self, like: Tensor, *, generator: torch.Generator) -> Tensor:
        """The fixed std of every pixel [DN], with the shape of ``like``; draws only if the tail is lognormal."""
        std = torch.as_tensor(self.std).to(like)
        if self.kind != "lognormal":
            return std.expand_as(like)
        # E[exp(2 (w z - w^2))] = 1: the mean square of the map is the declared variance.
        return _normal(like, like.shape, generator).mul_(self.shape).sub_(self.shape**2).exp_().mul_(std)

    def sample(self, pixel_std: Tensor, *, generator: torch.Generator) -> Tensor:
        """Draw the noise of one frame [DN] from the map that `pixel_std` made."""
        if self.kind != "tukey":
            return _normal(pixel_std, pixel_std.shape, generator).mul_(pixel_std)
        return _tukey(pixel_std, self.shape, generator).mul_(pixel_std)


@dataclass(frozen=True)
class RowNoise:
    """A temporal offset that the pixels of one row share, white from row to row.

    Attributes:
        std: [DN].
    """

    std: float

    def variance(self) -> float:
        """``std^2`` [DN^2]."""
        return self.std**2

    def sample(self, like: Tensor, *, generator: torch.Generator) -> Tensor:
        """One offset a row [DN]: (..., H, 1) for a frame (..., H, W)."""
        return _normal(like, (*like.shape[:-1], 1), generator).mul_(self.std)


@dataclass(frozen=True)
class ColumnNoise:
    """A temporal offset that the pixels of one column share, white from column to column.

    Attributes:
        std: [DN].
    """

    std: float

    def variance(self) -> float:
        """``std^2`` [DN^2]."""
        return self.std**2

    def sample(self, like: Tensor, *, generator: torch.Generator) -> Tensor:
        """One offset a column [DN]: (..., 1, W) for a frame (..., H, W)."""
        return _normal(like, (*like.shape[:-2], 1, like.shape[-1]), generator).mul_(self.std)


@dataclass(frozen=True, eq=False)
class Prnu:
    """Photo-response non-uniformity: the fixed relative sensitivity of every pixel, Gaussian around 1.

    Attributes:
        std: Ratio, a number or a tensor that broadcasts to the frame.

    Raises:
        ValueError: above `MAX_PRNU`.
    """

    std: float | Tensor

    def __post_init__(self) -> None:
        """Refuse spreads at which a Gaussian would make negative sensitivities."""
        largest = float(torch.as_tensor(self.std).max())
        if largest > MAX_PRNU:
            raise ValueError(
                f"A PRNU of {largest:g} is no spread of one sensor (a ratio up to {MAX_PRNU} is); "
                "per cent were perhaps meant as a ratio."
            )

    def sample(self, like: Tensor, *, generator: torch.Generator) -> Tensor:
        """The factor of every pixel, with the shape of ``like``."""
        return _normal(like, like.shape, generator).mul_(self.std).add_(1.0)


@dataclass(frozen=True, eq=False)
class Dsnu:
    """Dark-signal non-uniformity: a fixed offset of every pixel, white over the sensor.

    Attributes:
        std: [DN], a number or a tensor that broadcasts to the frame.
    """

    std: float | Tensor

    def sample(self, like: Tensor, *, generator: torch.Generator) -> Tensor:
        """The offset of every pixel [DN], with the shape of ``like``."""
        return _normal(like, like.shape, generator).mul_(self.std)


@dataclass(frozen=True)
class DarkShading:
    """The smooth fixed part of the dark frame: low cosine waves of zero mean.

    Attributes:
        rms: Over the frame [DN]; met exactly by every draw.
    """

    rms: float

    def sample(self, like: Tensor, *, generator: torch.Generator) -> Tensor:
        """The offset of every pixel [DN], (H, W)."""
        orders = torch.arange(SHADING_ORDER + 1)[:, None]
        waves = [torch.cos(math.pi / n * (torch.arange(n) + 0.5) * orders) for n in like.shape]
        weight = _normal(like, (SHADING_ORDER + 1, SHADING_ORDER + 1), generator)
        weight[0, 0] = 0.0  # the constant is the black level
        smooth = torch.einsum("ij,ih,jw->hw", weight, waves[0].to(like), waves[1].to(like))
        return smooth.mul_(self.rms / float(smooth.double().square().mean().sqrt()))


@dataclass(frozen=True)
class HotSites:
    """Few sites with a large dark signal: uniformly scattered, excess of a shifted exponential law.

    Attributes:
        fraction: Expected share of the sites.
        excess_dn: Mean excess over the black level [DN].
    """

    fraction: float
    excess_dn: float

    def sample(self, like: Tensor, *, generator: torch.Generator) -> Tensor:
        """The mean excess of every site [DN]; 0 where it is not hot."""
        hot = torch.rand(like.shape, generator=generator, device=generator.device) < self.fraction
        excess = torch.zeros(like.shape, device=generator.device, dtype=_working(like.dtype))
        count = int(hot.sum())
        tail = torch.empty(count, device=excess.device, dtype=excess.dtype).exponential_(generator=generator)
        excess[hot] = self.excess_dn * (HOT_FLOOR + (1.0 - HOT_FLOOR) * tail)
        return excess.to(like)


@dataclass(frozen=True)
class Quantisation:
    """Rounding to whole DN."""

    def variance(self) -> float:
        """1/12 DN^2, right to 0.1 % where the noise before rounding has a std of 0.7 DN or more."""
        return QUANTISATION_VARIANCE_DN2

    def apply(self, values_dn: Tensor) -> Tensor:
        """The nearest whole DN."""
        return values_dn.round()


@dataclass(frozen=True, eq=False)
class Clipping:
    """The ends of the scale.

    Attributes:
        low: Lowest code that the camera writes [DN].
        high: Highest code [DN], a number or a tensor that broadcasts to the frame.
    """

    low: float
    high: float | Tensor

    def apply(self, codes_dn: Tensor) -> Tensor:
        """Codes within ``low..high``."""
        return codes_dn.clamp(min=self.low).minimum(torch.as_tensor(self.high).to(codes_dn))


def _working(dtype: torch.dtype) -> torch.dtype:
    """Single precision at least: half floats count electrons up to 2048 only."""
    return torch.promote_types(dtype, torch.float32)


def _normal(like: Tensor, shape: tuple[int, ...] | torch.Size, generator: torch.Generator) -> Tensor:
    """Standard normal numbers on the device and of the dtype of ``like``."""
    return torch.randn(shape, generator=generator, device=generator.device, dtype=_working(like.dtype)).to(like)


def _tukey(like: Tensor, shape: float, generator: torch.Generator) -> Tensor:
    """Tukey-lambda numbers of unit variance, by the quantile function."""
    # Double precision: the 2^-24 grid of single-precision uniforms would cut the tails at 5.5 sigma.
    p = torch.rand(like.shape, generator=generator, device=generator.device, dtype=torch.float64)
    log_p, log_q = p.clamp_(min=torch.finfo(torch.float64).tiny).log(), torch.log1p(-p)
    unit = math.sqrt(float(_tukey_lambda().var(shape)))
    if shape == 0.0:  # the limit is the logistic law
        return ((log_p - log_q) / unit).to(like)
    # (p^shape - q^shape) / shape, without cancellation near shape 0
    return ((torch.expm1(shape * log_p) - torch.expm1(shape * log_q)) / (shape * unit)).to(like)


def _tukey_lambda() -> Any:
    """Scipy's law, imported when a tail has this shape: its package takes half a second of every command's start."""
    from scipy.stats import tukeylambda

    return tukeylambda
