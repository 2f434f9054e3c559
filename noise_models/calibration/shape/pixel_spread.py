"""Do pixels differ in their noise? Measures of the spread of per-pixel sigma over a sensor.

A fixed spread of sigma and heavy tails of every draw give the same histogram. They differ in one thing: with a fixed
spread, a pixel that is noisy in one frame is noisy in the next.

Throughout, r is a dark frame without its median and without what its rows and columns have in common.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from noise_models.calibration.fits import std_from_variance
from noise_models.errors import CalibrationError
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Estimate

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

# Values beyond this many robust sigma are hot pixels, blinking pixels or particle hits, not the body of the noise.
OUTLIER_SIGMA = 8.0
# Standard deviation of a normal distribution over its median absolute deviation.
_MAD_TO_STD = 1.4826
_SMALLEST_START_DN = 0.5
_SCALE_PIXELS = 1 << 20
_CLIP_SIGMA = 4.0  # takes 0.05 % off a Gaussian's standard deviation
# Family-wise probability of taking a single value of any pixel for a particle hit by chance.
_HIT_PROBABILITY = 0.01
_FEWEST_FRAMES = 4


def without_lines(frame: NDArray[np.generic]) -> F32:
    """Subtract median, row means and column means (h, w); outliers count only up to 8 robust sigma in the means."""
    residual = frame.astype(np.float32)
    residual -= np.float32(np.median(_sampled(residual)))
    limit = np.float32(OUTLIER_SIGMA * robust_std(residual))
    residual -= np.clip(residual, -limit, limit).mean(axis=1, keepdims=True)
    residual -= np.clip(residual, -limit, limit).mean(axis=0, keepdims=True)
    return residual


def robust_std(residual: F32) -> float:
    """Standard deviation of the body of a distribution of codes around zero: clipped at 4 sigma, twice.

    Raises:
        CalibrationError: all values are equal.
    """
    residual = _sampled(residual)
    # The median of whole codes is itself a whole code: good enough to start from, and never below half a code.
    std = max(_MAD_TO_STD * float(np.median(np.abs(residual))), _SMALLEST_START_DN)
    for _ in range(2):
        std = float(np.std(residual[np.abs(residual) <= _CLIP_SIGMA * std], dtype=np.float64))
        if std == 0.0:
            raise CalibrationError(
                "Nearly all pixels have the same value: the noise is far below one code, or the frames are clamped. "
                "Fit the code counts themselves (fit_gaussian_codes), or use a higher ISO."
            )
    return std


def _sampled(residual: F32) -> F32:
    """Rows of a frame, evenly spread, with about a million pixels: a scale to 0.1 % needs no more."""
    return residual[:: max(1, residual.size // _SCALE_PIXELS)]


def spread_correlation(frames: NDArray[np.generic], *, exclude: Bool | None = None) -> Estimate:
    """Correlation of r^2 between two frames that a fixed spread of pixel sigma makes; 0 for independent draws.

    A fixed offset of every pixel correlates squares too. Its part is measured and removed whatever its distribution:
    with r = f + e, f independent of sigma,

        kappa(r1, r1, r2, r2) - kappa(r1, r1, r1, r2) = Var(sigma^2)      (joint cumulants)

    The result is nu / (3 nu + 2) with nu = Var(sigma^2) / mean(sigma^2)^2: the correlation that frames without fixed
    pattern would show. Frames are taken two by two in their order; an odd last one is not used.

    Args:
        frames: (n, h, w) [DN], n >= 2 darks of one CFA site.
        exclude: (h, w), True: leave the pixel out. Values beyond 8 robust sigma are left out anyway.

    Raises:
        CalibrationError: fewer than two frames.
    """
    require_frames(frames, 2)
    keep = np.ones(frames.shape[1:], dtype=bool) if exclude is None else ~exclude
    values: list[float] = []
    influences = np.zeros(frames.shape[1:])
    pairs = len(frames) // 2
    for k in range(pairs):
        value, influence = _relative_variance(without_lines(frames[2 * k]), without_lines(frames[2 * k + 1]), keep)
        values.append(value)
        influences += influence / pairs
    nu, count = float(np.mean(values)), int(keep.sum())
    error = float(np.sqrt(np.sum(influences**2))) / count
    # Noise can make nu slightly negative; the map is smooth there (its pole is at -2/3).
    slope = 2.0 / (3.0 * nu + 2.0) ** 2
    return Estimate(
        value=nu / (3.0 * nu + 2.0), standard_error=slope * error, method=f"joint cumulants of {pairs} dark pair(s)"
    )


def correlation_of_width(width: float) -> float:
    """The correlation of squares that a lognormal spread of this width makes: (E - 1) / (3 E - 1), E = exp(4 w^2).

    >>> round(correlation_of_width(0.3), 3)
    0.131
    """
    nu = math.expm1(4.0 * width**2)
    return nu / (3.0 * nu + 2.0)


def _relative_variance(r1: F32, r2: F32, keep: Bool) -> tuple[float, F64]:
    """Var(sigma^2) / mean(sigma^2)^2 and its influence function, zero where a pixel is left out (h, w)."""
    limit = OUTLIER_SIGMA * robust_std(r1)
    inside = keep & (np.abs(r1) <= limit) & (np.abs(r2) <= limit)
    a, b = r1[inside].astype(np.float64), r2[inside].astype(np.float64)
    a -= a.mean()
    b -= b.mean()
    va, vb, c = float(np.mean(a**2)), float(np.mean(b**2)), float(np.mean(a * b))
    ab = a * b
    square = (a**2 - va) * (b**2 - vb) - 4.0 * c * ab
    cubic = 0.5 * (a**2 + b**2) * ab - 1.5 * (va + vb) * ab - 1.5 * c * (a**2 + b**2)
    raw = square - cubic
    # raw's mean is not the cumulant itself: products of sample moments are counted once too often.
    numerator = float(np.mean(raw)) + 2.0 * c**2 - 1.5 * c * (va + vb)
    scale = 0.5 * (va + vb) - c  # mean sigma^2: the fixed pattern has gone
    nu = numerator / scale**2
    influence = (raw - raw.mean()) / scale**2 - 2.0 * nu * (0.5 * (a**2 + b**2) - ab - scale) / scale
    result = np.zeros(r1.shape)
    result[inside] = influence
    return nu, result


def split_half_correlation(frames: NDArray[np.generic], *, trim: float = 0.01) -> Estimate:
    """Correlation over pixels of the temporal variance in even frames with that in odd frames.

    Args:
        frames: (n, h, w) [DN], n >= 4 darks of one CFA site.
        trim: Share of pixels with the largest variance in either half to leave out: particle hits and blinking
            pixels decide the correlation otherwise.

    Raises:
        CalibrationError: fewer than four frames.
    """
    require_frames(frames, _FEWEST_FRAMES)
    halves = []
    for start in (0, 1):
        half = np.stack([without_lines(frame) for frame in frames[start::2]])
        halves.append(half.var(axis=0, ddof=1, dtype=np.float64))
    inside = np.ones(halves[0].shape, dtype=bool)
    for half in halves:
        inside &= half <= np.quantile(half, 1.0 - trim)
    a, b = (stats.zscore(half[inside]) for half in halves)
    value = float(np.mean(a * b))
    influence = a * b - 0.5 * value * (a**2 + b**2)
    method = f"variance of even and odd of {len(frames)} darks"
    return Estimate(value=value, standard_error=float(influence.std() / math.sqrt(len(a))), method=method)


@dataclass(frozen=True)
class SigmaMap:
    """Temporal noise of every pixel.

    Attributes:
        std_dn: (h, w) [DN], rounding not included.
        relative_error: Standard error of each entry divided by it, ``1 / sqrt(2 (n - 1))``.
        variance_spread: Var over pixels of sigma^2 [DN^4], the scatter of n-frame variances removed.
        width: Width of log sigma that a lognormal with this spread has.
        hits: Values left out as particle hits.
    """

    std_dn: F32
    relative_error: float
    variance_spread: Estimate
    width: Estimate
    hits: int


def pixel_sigma_map(frames: NDArray[np.generic]) -> SigmaMap:
    """Per-pixel sigma from n darks, single particle hits left out.

    A value is a hit where it stands out of the other values of the same pixel (externally studentised, Student's t
    with n - 2 degrees of freedom, Bonferroni over all values). A pixel that blinks in one frame only looks the same.

    Args:
        frames: (n, h, w) [DN], n >= 4 darks of one CFA site.

    Raises:
        CalibrationError: fewer than four frames.

    Source: ``Var(sigma^2) = Var(v) - 2 mean(v^2) / (n + 1)``, v the sample variance: E[v^2 | sigma] =
    sigma^4 (n + 1) / (n - 1).
    """
    require_frames(frames, _FEWEST_FRAMES)
    n = len(frames)
    residual = np.stack([without_lines(frame) for frame in frames])
    v, hits = _variance_without_hits(residual)
    mean_square = float(np.mean(v**2))
    spread = float(v.var()) - 2.0 * mean_square / (n + 1)
    influence = (v - v.mean()) ** 2 - 2.0 * v**2 / (n + 1)
    error = float(influence.std() / math.sqrt(v.size))
    temporal = float(v.mean()) - QUANTISATION_VARIANCE_DN2
    log_ratio = math.log1p(max(spread, 0.0) / temporal**2)
    width = std_from_variance(
        log_ratio / 4.0, error / (4.0 * (temporal**2 + max(spread, 0.0))), method=f"variance map of {n} darks"
    )
    return SigmaMap(
        std_dn=np.sqrt(np.maximum(v - QUANTISATION_VARIANCE_DN2, 0.0)).astype(np.float32),
        relative_error=1.0 / math.sqrt(2.0 * (n - 1)),
        variance_spread=Estimate(value=spread, standard_error=error, method=width.method),
        width=width,
        hits=hits,
    )


def _variance_without_hits(residual: F32) -> tuple[F64, int]:
    """Sample variance over frames (h, w), the most extreme value of a pixel left out where it is a hit."""
    n = len(residual)
    mean = residual.mean(axis=0, dtype=np.float64)
    variance = residual.var(axis=0, ddof=1, dtype=np.float64)
    extreme = np.abs(residual - mean.astype(np.float32)).max(axis=0).astype(np.float64)
    # Leaving out a value at distance d from the mean of n: S' = S - d^2 n / (n - 1).
    rest = ((n - 1) * variance - extreme**2 * n / (n - 1)) / (n - 2)
    rest = np.maximum(rest, QUANTISATION_VARIANCE_DN2)  # equal codes do not mean no noise
    distance = extreme * n / (n - 1)
    t = distance / np.sqrt(rest * n / (n - 1))
    hit = t > stats.t.isf(_HIT_PROBABILITY / (2.0 * residual.size), n - 2)
    return np.where(hit, rest, variance), int(hit.sum())


def require_frames(frames: NDArray[np.generic], fewest: int) -> None:
    """Raise unless there are (n, h, w) frames, at least ``fewest`` of them."""
    if frames.ndim != 3 or len(frames) < fewest:
        raise CalibrationError(
            f"Dark frames of one CFA site in an array (n, h, w) with n >= {fewest} are needed; given: {frames.shape}. "
            f"Take at least {fewest} darks at the same exposure and ISO."
        )
