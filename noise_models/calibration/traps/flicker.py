"""Flicker and unequal light in a pair of flats.

A lamp on mains power is brighter in some rows of a rolling shutter than in others, and at another phase in the next
frame. The ratio of two flats' row means keeps that wave and loses vignetting and fixed pattern; independent noise has
a flat periodogram, against which a wave stands out.

Source: the test is Fisher's for a hidden periodicity (1929), with the noise level from the upper frequencies.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from noise_models.calibration.traps.finding import FALSE_ALARM, Finding, normal_limit, unjudged
from noise_models.calibration.traps.masked_rows import light
from noise_models.calibration.traps.tiles import F64, check_alike
from noise_models.frame import RawFrame

FLICKER = "flicker"
LIGHT_MISMATCH = "light_mismatch"

# A wave below 0.1 % of the light moves neither the gain nor the linearity by more than that.
SMALLEST_AMPLITUDE = 1e-3
# Shutters and lamps repeat to about 1 %; two frames of one group beyond 2 % did not get the same light.
LARGEST_MISMATCH = 0.02

# Row means below this many times their own noise have no logarithm to speak of.
_SMALLEST_SNR = 20.0
# Least light of a row [DN]: below, an error of the black level is a large part of it.
_SMALLEST_LIGHT_DN = 10.0
_FEWEST_ROWS = 64


def find_flicker(first: RawFrame, second: RawFrame) -> Finding:
    """Look for a wave along the rows in the ratio of two flats.

    Args:
        first: One flat.
        second: Another of the same light and settings.

    Returns:
        The largest amplitude of a wave, as a ratio of the light.

    Raises:
        CalibrationError: frames that differ in size or CFA.
    """
    rows = log_row_ratio(first, second)
    if rows is None:
        return unjudged(FLICKER, SMALLEST_AMPLITUDE, "Too dark, or too few rows, for a ratio of rows.", _BRIGHTER)
    amplitude, cycles, threshold = strongest_wave(rows)
    found = amplitude > threshold
    return Finding(
        trap=FLICKER,
        found=found,
        statistic=amplitude,
        threshold=threshold,
        evidence=f"The ratio of the two flats has a wave of {cycles} cycles over the rows with an amplitude of "
        f"{amplitude:.3%}; noise stays below {threshold:.3%}.",
        advice="Use daylight or a direct-current lamp, or an exposure of many mains periods; pair differences after "
        "removing line means are still usable."
        if found
        else "",
    )


def find_light_mismatch(first: RawFrame, second: RawFrame) -> Finding:
    """Compare the mean light of two flats of one group.

    Args:
        first: One flat.
        second: Another of the same light and settings.

    Returns:
        The ratio of their light less 1, without sign.

    Raises:
        CalibrationError: frames that differ in size or CFA.
    """
    rows = log_row_ratio(first, second)
    if rows is None:
        return unjudged(LIGHT_MISMATCH, LARGEST_MISMATCH, "Too dark to compare the light of two flats.", _BRIGHTER)
    size = abs(math.expm1(float(rows.mean())))
    threshold = LARGEST_MISMATCH + normal_limit(2) * float(rows.std()) / math.sqrt(len(rows))
    found = size > threshold
    return Finding(
        trap=LIGHT_MISMATCH,
        found=found,
        statistic=size,
        threshold=threshold,
        evidence=f"The light of the two flats differs by {size:.2%} (threshold {threshold:.2%}).",
        advice="Scale the pair to its mean light before taking differences, or take it again with a steady lamp."
        if found
        else "",
    )


def log_row_ratio(first: RawFrame, second: RawFrame) -> F64 | None:
    """Logarithm of the ratio of row means above black (H,); None where there is too little light or height."""
    check_alike(first, second)
    a, b = (light(frame).mean(axis=1, dtype=np.float64) for frame in (first, second))
    noise = float(np.std(np.diff(a - b))) / 2.0
    if len(a) < _FEWEST_ROWS or min(a.min(), b.min()) <= max(_SMALLEST_SNR * noise, _SMALLEST_LIGHT_DN):
        return None
    result: F64 = np.log(a / b)
    return result


def strongest_wave(rows: F64) -> tuple[float, int, float]:
    """Amplitude and number of cycles of the strongest wave in the lower half of the frequencies, and its threshold.

    Args:
        rows: A sequence with a linear trend at most beside its waves and white noise.
    """
    count = len(rows)
    index = np.arange(count) - (count - 1) / 2.0
    slope = float(index @ rows) / float(index @ index)
    power = np.abs(np.fft.rfft(rows - rows.mean() - slope * index)) ** 2
    half = len(power) // 2
    low, high = power[1:half], power[half:-1]
    # A line's power over the mean of m others is F-distributed with 2 and 2 m degrees of freedom.
    limit = float(stats.f.isf(FALSE_ALARM / len(low), 2, 2 * len(high))) * float(high.mean())
    strongest = int(np.argmax(low))
    to_amplitude = 2.0 / count
    threshold = max(SMALLEST_AMPLITUDE, to_amplitude * math.sqrt(limit))
    return to_amplitude * math.sqrt(float(low[strongest])), strongest + 1, threshold


_BRIGHTER = "Give brighter flats of whole frames."
