"""Variance stabilisation of Poisson-Gaussian noise, and its exact unbiased inverse.

The law is ``y = K p + n`` with ``p ~ Poisson(x)``, ``n ~ N(0, sigma^2)``: `y` in DN above black, `x` in electrons.
Everything depends on `x` and on the read noise in electrons ``s = sigma / K`` alone. The generalised Anscombe transform

    f(y) = 2 sqrt(max(y / K + 3/8 + s^2, 0))

makes the noise nearly white with variance 1. Because f is not linear, the algebraic inverse of a mean of f is biased;
the exact unbiased inverse maps ``E[f(y) | x]`` back to `x` (Mäkitalo & Foi, "Optimal inversion of the generalized
Anscombe transformation for Poisson-Gaussian noise", IEEE TIP 22(1), 2013). Here that expectation is integrated
numerically, once for all gains and read noises; far from zero it approaches ``z^2/4 - 1/8 - s^2``, so only the
difference to this asymptote is tabulated.

Below zero electrons no photons remain and the law continues as pure read noise, ``E[f(x + n)]``. Without that
continuation every average of a dark area would be clamped on one side, and black would turn grey.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

# Anscombe's constant: with 3/8 the variance is 1 + O(1/x^2) (Anscombe 1948).
ANSCOMBE_OFFSET = 3.0 / 8.0
# The asymptotically unbiased inverse is z^2/4 - 1/8 - s^2.
ASYMPTOTIC_OFFSET = 1.0 / 8.0

# The inverse ends this many read noises below zero: an average that low is an outlier, and f is nearly flat there.
LOWEST_READ_NOISES = 1.5

# Range of the table. Outside it the nearest entry serves: a smaller s changes nothing against Anscombe's 3/8, and for
# a larger s or x the difference to the asymptote is below 0.001 e-.
TABLE_READ_NOISE = (0.03, 64.0)  # s [e-]
TABLE_HIGHEST_MEAN = 400.0  # x [e-]
READ_NOISE_NODES = 48
MEAN_NODES = 160
LEVEL_NODES = 640

# Quadrature: half-width of a Gaussian or Poisson law in standard deviations (tails below 1e-15), nodes across it.
TAIL_DEVIATIONS = 8.0
QUADRATURE_NODES = 96


@dataclass(frozen=True)
class Anscombe:
    """The generalised Anscombe transform of one gain and read noise, or of a map of them.

    Where ``x + s^2 >= 2`` e- the transformed variance is 1 within 12 %, where ``x + s^2 >= 15`` e- within 4 %. Darker
    than 2 e- with a read noise below 1 e- it falls below 1: there the promise of variance 1 is cautious.

    Attributes:
        gain: K [DN/e-], positive; any shape that broadcasts against the data.
        read_noise_dn: Std of everything in a pixel that is not shot noise [DN], quantisation included; same rule.

    Raises:
        ValueError: a gain that is not positive, a negative read noise, or values that are not finite.
    """

    gain: Tensor
    read_noise_dn: Tensor

    def __post_init__(self) -> None:
        """Refuse values for which the transform does not exist."""
        if not bool(torch.isfinite(self.gain).all() and (self.gain > 0).all()):
            raise ValueError(f"gain must be finite and positive [DN/e-], not {self.gain}.")
        if not bool(torch.isfinite(self.read_noise_dn).all() and (self.read_noise_dn >= 0).all()):
            raise ValueError(f"read_noise_dn must be finite and not negative [DN], not {self.read_noise_dn}.")

    def forward(self, signal_dn: Tensor) -> Tensor:
        """Values with noise of variance about 1.

        Args:
            signal_dn: DN above black, negative values welcome; (..., H, W), floating point.

        Returns:
            ``f(y) >= 0``, dtype and device of the input.
        """
        gain, read_noise = self._electrons_like(signal_dn)
        return (signal_dn / gain + (ANSCOMBE_OFFSET + read_noise**2)).clamp_(min=0).sqrt_().mul_(2)

    def inverse(self, stabilised: Tensor) -> Tensor:
        """The signal whose expected transform is ``stabilised``: exact unbiased inverse.

        Args:
            stabilised: Means (or estimates of means) of transformed values; (..., H, W), floating point.

        Returns:
            DN above black, not below ``-1.5 read_noise_dn``.
        """
        gain, read_noise = self._electrons_like(stabilised)
        asymptote = stabilised.clamp(min=0).square_().mul_(0.25).sub_(ASYMPTOTIC_OFFSET + read_noise**2)
        electrons = asymptote + _difference(asymptote, read_noise)
        return torch.maximum(electrons, -LOWEST_READ_NOISES * read_noise).mul_(gain)

    def _electrons_like(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Gain [DN/e-] and read noise [e-], dtype and device of the data."""
        gain = self.gain.to(data)
        return gain, self.read_noise_dn.to(data) / gain


def expected_stabilised(mean: NDArray[np.float64], read_noise: float) -> NDArray[np.float64]:
    """``E[f(y) | x]`` by numerical integration over the Poisson-Gaussian law.

    Args:
        mean: x [e-], one-dimensional; below zero the law is pure read noise.
        read_noise: s [e-], positive.

    Returns:
        Expectations, same shape; relative error below 1e-8.
    """
    result = np.empty_like(mean)
    dark = mean <= 0.0
    result[dark] = _expected_over_read_noise(mean[dark], read_noise)
    lit = mean[~dark]
    half = TAIL_DEVIATIONS * np.sqrt(lit) + TAIL_DEVIATIONS**2
    counts = np.arange(np.floor((lit + half).max(initial=0.0)) + 1.0)
    of_count = _expected_over_read_noise(counts, read_noise)
    log_factorial = special.gammaln(counts + 1.0)
    for k, x in zip(np.flatnonzero(~dark), lit, strict=True):
        result[k] = float(np.exp(special.xlogy(counts, x) - log_factorial - x) @ of_count)  # Poisson's law
    return result


def _expected_over_read_noise(centre: NDArray[np.float64], read_noise: float) -> NDArray[np.float64]:
    """``E[f(centre + n)]`` [e-]; integrated over t = f/2, in which the kink of the clamped root is no kink."""
    shifted = centre + (ANSCOMBE_OFFSET + read_noise**2)
    reach = TAIL_DEVIATIONS * read_noise
    low, high = (np.sqrt(np.maximum(shifted + sign * reach, 0.0)) for sign in (-1.0, 1.0))
    nodes = np.linspace(0.0, 1.0, QUADRATURE_NODES)
    t = low[:, None] + (high - low)[:, None] * nodes
    deviation = (t**2 - shifted[:, None]) / read_noise
    density = np.exp(-0.5 * deviation**2) / (read_noise * math.sqrt(2.0 * math.pi))
    # dy = 2 t dt and f = 2 t; the trapezium rule converges exponentially for an integrand that vanishes at both ends.
    integrand: NDArray[np.float64] = 4.0 * t**2 * density
    return np.asarray(np.trapezoid(integrand, dx=nodes[1], axis=1) * (high - low))


def _difference(asymptote: Tensor, read_noise: Tensor) -> Tensor:
    """Exact inverse minus asymptote [e-], bilinear in the table."""
    table = _table(asymptote.dtype, asymptote.device)
    unit = (read_noise**2 + ANSCOMBE_OFFSET).sqrt()
    column = _position(_warp(asymptote / unit), _LEVELS, LEVEL_NODES)
    row = _position(read_noise.clamp(min=TABLE_READ_NOISE[0]).log(), _LOG_READ_NOISE, READ_NOISE_NODES)
    j, i = column.floor().clamp_(max=LEVEL_NODES - 2), row.floor().clamp_(max=READ_NOISE_NODES - 2)
    u, v = column - j, row - i
    index = (i * LEVEL_NODES).long() + j.long()
    flat = table.reshape(-1)
    upper = torch.lerp(flat[index], flat[index + 1], u)
    lower = torch.lerp(flat[index + LEVEL_NODES], flat[index + LEVEL_NODES + 1], u)
    return torch.lerp(upper, lower, v.expand_as(upper)).mul_(unit)


def _position(value: Tensor, limits: tuple[float, float], nodes: int) -> Tensor:
    """Fractional index into equally spaced nodes."""
    low, high = limits
    return ((value - low) * ((nodes - 1) / (high - low))).clamp_(0, nodes - 1)


def _warp(level: Tensor) -> Tensor:
    """Compress levels so that equal steps resolve the dark end: linear around zero, logarithmic far from it."""
    return torch.asinh(level * _WARP)


_WARP = 2.0
_LOG_READ_NOISE = (float(np.log(TABLE_READ_NOISE[0])), float(np.log(TABLE_READ_NOISE[1])))
_LEVELS = (
    float(np.arcsinh(-_WARP * (LOWEST_READ_NOISES + 1.0))),
    float(np.arcsinh(_WARP * TABLE_HIGHEST_MEAN / np.sqrt(ANSCOMBE_OFFSET))),
)


@cache
def _table(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.from_numpy(_differences()).to(device=device, dtype=dtype)


@cache
def _differences() -> NDArray[np.float64]:
    """(read noise, level) -> (exact - asymptote) / unit; rows over log s, columns over warped asymptote / unit."""
    levels = np.sinh(np.linspace(*_LEVELS, LEVEL_NODES)) / _WARP
    rows = []
    for s in np.exp(np.linspace(*_LOG_READ_NOISE, READ_NOISE_NODES)):
        unit = np.sqrt(s**2 + ANSCOMBE_OFFSET)
        above = np.geomspace(1e-3 * unit, TABLE_HIGHEST_MEAN, MEAN_NODES)
        mean = np.concatenate([np.linspace(-LOWEST_READ_NOISES * s, 0.0, MEAN_NODES // 4), above])
        asymptote = expected_stabilised(mean, float(s)) ** 2 / 4.0 - ASYMPTOTIC_OFFSET - s**2
        rows.append(np.interp(levels * unit, asymptote, mean - asymptote) / unit)
    return np.array(rows)
