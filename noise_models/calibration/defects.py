"""Defective sites: hot, dead and stuck pixels, found before anything is averaged over a frame.

A pixel of 800 DN too much among five thousand lifts the mean by 0.16 DN, and its shot noise adds a hundredth to the
noise of all. A defect is fixed: it stands out of its neighbourhood in both frames of a pair, on the same side. Noise
does that at the square of the odds of one frame, so that a pair already finds what matters; the mean of all frames
finds the fainter rest.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U16 = NDArray[np.uint16]
Bool = NDArray[np.bool_]

# A site of a pair is a defect where both frames lie this far off: one Gaussian site in 10^11.
PAIR_SIGMA = 4.5
# Side of the neighbourhood [sites]: dark shading and amplifier glow change little over it.
_SIDE = 32
# Every such row of a neighbourhood enters its median, which 256 values give to 0.08 sigma.
_STRIDE = 4
# Whole codes have no spread smaller than this [DN].
_SMALLEST_STD_DN = 0.5
_MAD_TO_STD = 1.4826
_CLIP_SIGMA = 4.0
# Shares of a clamped frame between which its noise is seen; the lower one lies this far above the clamped share.
_QUANTILE_MARGIN = 0.05
_HIGHEST_QUANTILE = 0.9


def neighbourhood(image: NDArray[np.generic]) -> F32:
    """Median of the tile of 32 x 32 sites that a site lies in, (h, w); sites beyond the last whole tile take its."""
    height, width = image.shape
    side = min(_SIDE, height, width)
    rows, columns = height // side, width // side
    tiles = image[: rows * side, : columns * side].reshape(rows, side, columns, side)
    medians = np.median(tiles[:, ::_STRIDE].astype(np.float32), axis=(1, 3))
    down, across = (np.minimum(np.arange(n) // side, m - 1) for n, m in ((height, rows), (width, columns)))
    return np.asarray(medians[down[:, None], across[None, :]], dtype=np.float32)


def pair_defects(first: U16, second: U16, *, clamp: int | None = None) -> Bool:
    """Sites that stand out in both of two darks.

    Args:
        first: One CFA site of a dark (h, w) [DN].
        second: Of another dark with the same settings.
        clamp: Lowest code that the camera writes, where it cuts the noise off; then only hot sites can be seen.
    """
    if clamp is not None:
        both = np.minimum(first, second)
        return np.asarray(both > max(_upper_limit(frame, clamp) for frame in (first, second)))
    residuals = [frame.astype(np.float32) - neighbourhood(frame) for frame in (first, second)]
    limit = np.float32(PAIR_SIGMA * max(_body_std(residual) for residual in residuals))
    one, other = residuals
    result: Bool = (np.minimum(one, other) > limit) | (np.maximum(one, other) < -limit)
    return result


def beyond(mean_frame: F32, limit_dn: float) -> Bool:
    """Sites of a mean frame (h, w) that lie further than a limit [DN] from their neighbourhood."""
    result: Bool = np.abs(mean_frame - neighbourhood(mean_frame)) > np.float32(limit_dn)
    return result


def mean_without(image: NDArray[np.generic], defects: Bool | None) -> float:
    """Mean [DN] over the sites that are no defects; over all where every one is, or none is known."""
    total, count = float(image.sum(dtype=np.float64)), image.size
    if defects is None:
        return total / count
    bad = image[defects]
    if len(bad) == count:
        return total / count
    return (total - float(bad.sum(dtype=np.float64))) / (count - len(bad))


def _upper_limit(frame: U16, clamp: int) -> float:
    """Level [DN] that unclamped noise passes at `PAIR_SIGMA`, from two quantiles above the clamp."""
    sample = frame[::_STRIDE]
    lowest = max(0.5, float((sample <= clamp).mean()) + _QUANTILE_MARGIN)
    if lowest >= _HIGHEST_QUANTILE:
        return math.inf  # nearly all sites are held: what stands out may be ordinary noise
    shares = np.array([lowest, 0.5 * (lowest + 1.0)])
    low, high = np.quantile(sample, shares)
    z = stats.norm.ppf(shares)
    std = max(float(high - low) / float(z[1] - z[0]), _SMALLEST_STD_DN)
    return float(low) + (PAIR_SIGMA - float(z[0])) * std


def _body_std(residual: F32) -> float:
    """Standard deviation of the body of whole codes around zero [DN], outliers clipped."""
    sample = residual[::_STRIDE]
    std = max(_MAD_TO_STD * float(np.median(np.abs(sample))), _SMALLEST_STD_DN)
    for _ in range(2):
        inside = sample[np.abs(sample) <= _CLIP_SIGMA * std]
        std = max(float(inside.std(dtype=np.float64)), _SMALLEST_STD_DN)
    return std
