"""Optical-black pixels: the covered borders of the sensor, cut down to what sees no light.

A border is kept only where it behaves like one dark sensor: camera makers leave rows of start-up noise, test
patterns and light leaking over the edge in it. Lines (rows of a top or bottom border, columns of a left or right
one) are compared with each other, bad ones at either side are cut off, and what remains must lie at the black level.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noise_models.cfa import Cfa
from noise_models.frame import MaskedArea
from noise_models.reading.decoder import Report

# Fewer lines say nothing about a black level, and are often the sensor's edge.
MIN_LINES = 4
# Lines next to the visible area catch light that leaks under the cover (Canon 30D: the last column is 0.7 to 1.1 DN
# brighter). Two, so that the colours' phase is kept.
GUARD_LINES = 2
# A line is like the others if its level is within this many sigma of the line levels' own scatter, or a share of
# the pixel noise: fixed column patterns are of that size.
_LEVEL_SIGMAS = 6.0
_LEVEL_PIXEL_SHARE = 0.3
# ... and its noise within these ratios. Start-up rows are quieter or much noisier.
_NOISE_RATIO = (0.6, 1.6)
# The border's level must be the black level within this many sigma of pixel noise, or DN.
_BLACK_SIGMAS = 3.0
_BLACK_DN = 4.0
# Standard deviation of a normal distribution over half the distance of its 16th and 84th percentile, and over its
# median absolute deviation.
_PERCENTILES = (16.0, 84.0)
_MAD_TO_SIGMA = 1.4826


def masked_areas(
    frame: NDArray[np.uint16], report: Report, cfa: Cfa, black: NDArray[np.float64]
) -> tuple[MaskedArea, ...]:
    """The usable optical-black areas of a frame.

    Args:
        frame: Whole mosaic, borders included [DN].
        report: LibRaw's margins.
        cfa: From the top-left of the visible area.
        black: Black level per CFA site [DN].
    """
    top, left, height, width = report.margins
    bottom, right = top + height, left + width
    # Side: rows, columns, and whether lines are columns; each with the visible side named for the guard.
    borders = {
        "left": (slice(top, bottom), slice(0, left)),
        "right": (slice(top, bottom), slice(right, frame.shape[1])),
        "top": (slice(0, top), slice(left, right)),
        "bottom": (slice(bottom, frame.shape[0]), slice(left, right)),
    }
    areas = []
    for side, (rows, cols) in borders.items():
        pixels = frame[rows, cols]
        lines = pixels.T if side in ("left", "right") else pixels
        kept = _like_each_other(lines, guard_last=side in ("left", "top"))
        if kept is None or not _at_black(lines[kept], float(black.mean())):
            continue
        i0 = rows.start + (kept.start if side in ("top", "bottom") else 0)
        j0 = cols.start + (kept.start if side in ("left", "right") else 0)
        good = lines[kept].T if side in ("left", "right") else lines[kept]
        good = np.ascontiguousarray(good)
        good.flags.writeable = False
        areas.append(MaskedArea(side, good, cfa.shifted(i0 - top, j0 - left)))
    return tuple(areas)


def _like_each_other(lines: NDArray[np.uint16], *, guard_last: bool) -> slice | None:
    """The longest run of lines with a common level and noise; None if shorter than `MIN_LINES`."""
    count = len(lines)
    first, last = (0, count - GUARD_LINES) if guard_last else (GUARD_LINES, count)
    if last - first < MIN_LINES:
        return None
    level, noise = _level_and_noise(lines)
    inner_level, inner_noise = level[first:last], noise[first:last]
    sigma = float(np.median(inner_noise))
    middle = float(np.median(inner_level))
    scatter = _MAD_TO_SIGMA * float(np.median(np.abs(inner_level - middle)))
    near = np.abs(level - middle) <= max(_LEVEL_SIGMAS * scatter, _LEVEL_PIXEL_SHARE * sigma)
    alike = (noise >= _NOISE_RATIO[0] * sigma) & (noise <= _NOISE_RATIO[1] * sigma)
    good = near & alike & (noise > 0)
    good[:first] = good[last:] = False
    return _longest_run(good)


def _longest_run(good: NDArray[np.bool_]) -> slice | None:
    edges = np.diff(np.concatenate(([0], good.astype(np.int8), [0])))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    if len(starts) == 0:
        return None
    best = int(np.argmax(ends - starts))
    if ends[best] - starts[best] < MIN_LINES:
        return None
    return slice(int(starts[best]), int(ends[best]))


def _level_and_noise(lines: NDArray[np.uint16]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each line without its outliers (hot pixels), [DN]."""
    values = lines.astype(np.float64)
    low, middle, high = np.percentile(values, [_PERCENTILES[0], 50.0, _PERCENTILES[1]], axis=1)
    # One DN at least: percentiles of whole numbers collapse when the noise is below one.
    reach = 4.0 * np.maximum((high - low) / 2, 1.0)
    inside = np.abs(values - middle[:, None]) <= reach[:, None]
    n = inside.sum(axis=1)
    mean = np.where(inside, values, 0.0).sum(axis=1) / n
    square = np.where(inside, (values - mean[:, None]) ** 2, 0.0).sum(axis=1) / n
    return mean, np.sqrt(square)


def _at_black(lines: NDArray[np.uint16], black: float) -> bool:
    level, noise = _level_and_noise(lines)
    return abs(float(np.median(level)) - black) <= max(_BLACK_DN, _BLACK_SIGMAS * float(np.median(noise)))
