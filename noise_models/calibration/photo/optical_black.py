"""Black level and dark noise of one exposure from its masked (optical-black) pixels.

Sensors carry columns and rows under an opaque mask. Where the raw file keeps them they are a dark frame taken at the
very moment, temperature and gain of the photograph: black level, read noise and row noise for free.

Model of the masked area, a two-way layout over rows i and columns j: ``y = black[plane] + row_i + column_j + e_ij``.
The variance of row means also holds 1/width of the pixel noise, which is subtracted: without that, row noise comes out
twice too large where it is weak.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from noise_models.frame import MaskedArea, RawFrame
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Estimate

# Fewer lines than this do not tell a garbage line from a good one.
MIN_LINES = 6
# Below this count the read noise is worse than 2 % (1 / sqrt(2 n)).
MIN_PIXELS = 1200
# A line whose mean or spread is this many robust standard deviations from its neighbours is not dark signal:
# light leaks beside the image, test columns, unconnected columns at the edge.
GARBAGE_LINE_SIGMAS = 6.0
# Single pixels beyond this are hot pixels or cosmic rays; a Gaussian loses 6e-7 of its pixels.
HOT_PIXEL_SIGMAS = 5.0
# If the lowest code holds more than this share, the black level was clamped; a Gaussian whose sigma is 0.5 DN or more
# has at most this share in its lowest code when nothing is clamped.
MAX_SHARE_AT_LOWEST_CODE = 0.2
# Between these a mean feels no hot pixels.
CLIP_QUANTILES = (0.02, 0.98)
# Parts into which an area is cut along its lines to find its slow drift.
DRIFT_PARTS = 8


@dataclass(frozen=True)
class OpticalBlack:
    """What the masked pixels of one frame say.

    Attributes:
        black_level_dn: Plane name -> mean [DN]; the standard error includes row noise and column pattern.
        read_noise_dn: Std of one pixel [DN]; row and column offsets and quantisation removed.
        row_noise_dn: Std of the offset common to one row [DN], slow drift removed. None: the masked area is a strip
            of a few rows above or below the image.
        column_pattern_dn: Std of the offset common to one column [DN], mostly fixed from frame to frame.
        total_std_dn: Plain std about the planes' means [DN], hot pixels included, garbage lines not.
        drift_dn: Mean of each of eight equal parts, minus the overall mean [DN], shape (8,): from top to bottom, or
            from left to right where the area is a strip above or below.
        n_pixels: Number of pixels used.
        rejected_lines: Masked columns (or rows, in strips above or below) left out as garbage.
        rejected_pixels: Hot or dead single pixels left out.
        sides: The sides of the image whose areas were used.
    """

    black_level_dn: Mapping[str, Estimate]
    read_noise_dn: Estimate
    row_noise_dn: Estimate | None
    column_pattern_dn: Estimate | None
    total_std_dn: float
    drift_dn: NDArray[np.float64]
    n_pixels: int
    rejected_lines: int
    rejected_pixels: int
    sides: tuple[str, ...]


def measure_optical_black(frame: RawFrame) -> OpticalBlack | None:
    """Black level, read noise and row noise from a frame's masked pixels.

    Areas left and right of the image are used when they hold enough good columns, for they see every row; else the
    strips above and below. Garbage lines and single hot pixels are left out by robust tests.

    Args:
        frame: A frame with its masked areas, if it has any.

    Returns:
        The measurement, or None if the frame has no usable masked area: none at all, too few pixels, or clamped at
        its lowest code.
    """
    for sides in (("left", "right"), ("top", "bottom")):
        areas = [area for area in frame.masked if area.side in sides and min(area.pixels.shape) > 0]
        strip = _join([strip for strip in map(_good_lines, areas) if strip is not None])
        if strip is not None:
            return _measure(strip, frame.cfa.plane_names)
    return None


class _Strip(NamedTuple):
    """Masked pixels, the short side along axis 1: columns of a side area, rows (transposed) of a top area."""

    sides: tuple[str, ...]
    values: NDArray[np.float64]
    plane: NDArray[np.int64]
    rejected: int


def _good_lines(area: MaskedArea) -> _Strip | None:
    """The area without its garbage lines; None if too few lines remain."""
    values = area.pixels.astype(np.float64)
    plane = area.cfa.plane_index(*area.pixels.shape).numpy()
    if area.side in ("top", "bottom"):
        values, plane = values.T, plane.T
    if values.shape[1] < MIN_LINES or values.size < MIN_PIXELS:
        return None
    # Clipped means: one hot pixel must not condemn its line, and medians know only whole codes.
    level = np.clip(values, *np.quantile(values, CLIP_QUANTILES, axis=0)).mean(axis=0)
    good = ~_outlying(level) & ~_outlying(_robust_std(values, axis=0))
    if good.sum() < MIN_LINES:
        return None
    return _Strip((area.side,), values[:, good], plane[:, good], int((~good).sum()))


def _outlying(statistic: NDArray[np.float64]) -> NDArray[np.bool_]:
    centre = np.median(statistic)
    # A floor of a tenth of a code keeps identical lines from making every other line an outlier.
    scale = max(float(_robust_std(statistic, axis=0)), 0.1)
    return np.asarray(np.abs(statistic - centre) > GARBAGE_LINE_SIGMAS * scale)


def _robust_std(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Half the distance of the 16 % and 84 % quantiles, in which whole codes weigh less than in a MAD."""
    low, high = np.quantile(values, [0.158655, 0.841345], axis=axis)
    return np.asarray((high - low) / 2)


def _join(strips: list[_Strip]) -> _Strip | None:
    """Side by side, so that a row keeps one offset; None if there are too few pixels or they are clamped."""
    if not strips:
        return None
    length = max(strip.values.shape[0] for strip in strips)
    alike = [strip for strip in strips if strip.values.shape[0] == length]
    joined = _Strip(
        tuple(side for strip in alike for side in strip.sides),
        np.concatenate([strip.values for strip in alike], axis=1),
        np.concatenate([strip.plane for strip in alike], axis=1),
        sum(strip.rejected for strip in alike),
    )
    clamped = np.mean(joined.values == joined.values.min()) > MAX_SHARE_AT_LOWEST_CODE
    return None if clamped or joined.values.size < MIN_PIXELS else joined


def _measure(strip: _Strip, names: tuple[str, ...]) -> OpticalBlack:
    good = _not_hot(strip)
    centred = strip.values - _plane_means(strip, good, len(names))[strip.plane]
    layout = _two_way(centred, good)
    long, short = strip.values.shape
    # The mean of a line of n pixels still holds 1/n of the pixels' variance.
    lines = _line_variance(_without_slope(layout.long_offsets), layout.variance / short)
    strips = _line_variance(layout.short_offsets, layout.variance / long)
    beside_image = strip.sides[0] in ("left", "right")
    row, column = (lines, strips) if beside_image else (strips, lines)
    read_variance = layout.variance - QUANTISATION_VARIANCE_DN2
    # The phase may have inflated the variance by which this error is judged: judge it by the smallest that fits.
    smallest = read_variance - math.sqrt(2) * coarse_code_error(max(read_variance, 0.0))
    read_error = math.hypot(layout.variance_error, coarse_code_error(max(smallest, 0.0)))
    parts = np.array_split(np.arange(long), DRIFT_PARTS)
    return OpticalBlack(
        black_level_dn=_black_levels(strip, good, names, layout.variance, lines[0], strips[0]),
        read_noise_dn=_root(read_variance, read_error, "optical black, row and column offsets removed"),
        row_noise_dn=_root(*row, "optical black") if beside_image else None,
        column_pattern_dn=_root(*column, "optical black"),
        total_std_dn=float(centred.std()),
        drift_dn=np.array([float(centred[part][good[part]].mean()) for part in parts]),
        n_pixels=int(good.sum()),
        rejected_lines=strip.rejected,
        rejected_pixels=int((~good).sum()),
        sides=strip.sides,
    )


def coarse_code_error(variance_dn2: float) -> float:
    """Error [DN^2], one sigma over an unknown phase, of ``measured variance - 1/12`` when the noise is under a code.

    Rounding changes the variance by ``(4 s^2 + 1/pi^2) exp(-2 pi^2 s^2) cos(2 pi phase)`` to first order beyond
    1/12 (Widrow & Kollar, "Quantization Noise", 2008, chapter 4): 1.6 % of sigma at sigma = 0.5 DN, 10 % at 0.4.

    >>> round(coarse_code_error(0.25) * 2**0.5 / (2 * 0.25), 3)
    0.016
    """
    amplitude = (4 * variance_dn2 + 1 / math.pi**2) * math.exp(-2 * math.pi**2 * variance_dn2)
    return amplitude / math.sqrt(2)


def _not_hot(strip: _Strip) -> NDArray[np.bool_]:
    """Pixels within five robust sigmas of their row and column."""
    rest = strip.values - np.median(strip.values, axis=0)
    rest = rest - np.clip(rest, *np.quantile(rest, CLIP_QUANTILES)).mean(axis=1, keepdims=True)
    # Whole codes: the spread can be no smaller than that of a uniform error.
    scale = max(float(_robust_std(rest.ravel(), axis=0)), math.sqrt(QUANTISATION_VARIANCE_DN2))
    return np.asarray(np.abs(rest) <= HOT_PIXEL_SIGMAS * scale)


def _plane_means(strip: _Strip, good: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    total = np.bincount(strip.plane[good], weights=strip.values[good], minlength=count)
    return np.asarray(total / np.maximum(np.bincount(strip.plane[good], minlength=count), 1))


class _Layout(NamedTuple):
    long_offsets: NDArray[np.float64]
    short_offsets: NDArray[np.float64]
    variance: float
    variance_error: float


def _two_way(values: NDArray[np.float64], good: NDArray[np.bool_]) -> _Layout:
    """Offsets along both axes by alternating means, and the variance of what remains."""
    long, short = np.zeros(values.shape[0]), np.zeros(values.shape[1])
    for _ in range(3):  # exact after one pass but for the few missing pixels
        short = _mean(values - long[:, None], good, axis=0)
        long = _mean(values - short, good, axis=1)
        long -= long.mean()
    rest = (values - long[:, None] - short)[good]
    dof = good.sum() - sum(values.shape) + 1
    variance = float(np.sum(rest**2) / dof)
    # Var(s^2) = (m4 - m2^2) / n: heavy tails make a variance less certain.
    error = math.sqrt(max(float(np.mean(rest**4)) - variance**2, 0.0) / dof)
    return _Layout(long, short, variance, error)


def _mean(values: NDArray[np.float64], good: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    return np.asarray(np.sum(values * good, axis=axis) / np.maximum(good.sum(axis=axis), 1))


def _without_slope(offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """A slow drift of the black level is not row noise."""
    position = np.linspace(-1.0, 1.0, offsets.size)
    return np.asarray(offsets - position * float(position @ offsets) / float(position @ position))


def _line_variance(offsets: NDArray[np.float64], noise_of_mean: float) -> tuple[float, float]:
    """Variance [DN^2] of line offsets beyond the noise of a line's mean, and its standard error."""
    measured = float(offsets.var(ddof=1))
    return measured - noise_of_mean, measured * math.sqrt(2 / (offsets.size - 1))


def _root(variance: float, error: float, method: str) -> Estimate:
    """A standard deviation from a variance; where that is not above its own error, the error bounds it."""
    value = math.sqrt(max(variance, 0.0))
    return Estimate(value=value, standard_error=error / (2 * value) if variance > error else error**0.5, method=method)


def _black_levels(
    strip: _Strip,
    good: NDArray[np.bool_],
    names: tuple[str, ...],
    pixel_variance: float,
    long_variance: float,
    short_variance: float,
) -> dict[str, Estimate]:
    means = _plane_means(strip, good, len(names))
    levels = {}
    for index, name in enumerate(names):
        here = good & (strip.plane == index)
        if not here.any():
            continue
        variance = pixel_variance / here.sum()
        variance += max(long_variance, 0.0) / here.any(axis=1).sum() + max(short_variance, 0.0) / here.any(axis=0).sum()
        levels[name] = Estimate(value=float(means[index]), standard_error=math.sqrt(variance), method="optical black")
    return levels
