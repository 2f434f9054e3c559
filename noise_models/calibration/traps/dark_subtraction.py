"""Long-exposure noise reduction: the camera subtracted a dark frame of its own.

The difference of two darks has twice the variance, and a hot site is as often below the median as above it: its fixed
part cancels and the shot noise of both exposures stays. A dark that only has dark current is noisier too, but its hot
sites are all bright. Heavy-tailed read noise has outliers on both sides, but in short exposures as well.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from noise_models.calibration.traps.finding import FALSE_ALARM, Finding, normal_limit, unjudged
from noise_models.calibration.traps.tiles import (
    OUTLIER_SIGMA,
    SIDE,
    U16,
    check_alike,
    cut_tiles,
    robust_std,
    site_tiles,
    without_lines,
)
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame

TRAP = "dark_subtraction"

# Of 60 outliers, half below, the test against a fifth finds 98 %.
FEWEST_OUTLIERS = 60
# Share of outliers below the median that a dark without subtraction may have (dead and unstable sites); with
# subtraction it is one half.
LARGEST_DARK_SHARE = 0.2
# Halfway, as a ratio, between a variance that is the reference's and one that is twice as large.
VARIANCE_RATIO = math.sqrt(2.0)


def find_dark_subtraction(dark: RawFrame, *, reference: RawFrame | None = None) -> Finding:
    """Look for a dark frame subtracted in the camera.

    Args:
        dark: A dark of a second or more.
        reference: A short dark of the same camera and ISO. None: the optical black of ``dark`` (which some cameras
            subtract too: a short dark is the better reference).

    Returns:
        The share of outliers that lie below the median, judged where the variance has about doubled.

    Raises:
        CalibrationError: frames that are too small, or of different ISO, size or CFA.
    """
    outliers = _Outliers.of(dark)
    ratio = _variance_ratio(dark, reference)
    if outliers.number < FEWEST_OUTLIERS or ratio is None:
        missing = (
            "no short dark and no optical black to compare with"
            if ratio is None
            else (f"{outliers.number} outliers of {FEWEST_OUTLIERS} that are needed")
        )
        return unjudged(
            TRAP,
            LARGEST_DARK_SHARE,
            f"Dark subtraction cannot be judged: {missing}.",
            "Give one dark of several seconds and one of a short exposure at the same ISO.",
        )
    value, error = ratio
    share = outliers.low / outliers.number
    most = stats.binom.isf(FALSE_ALARM, outliers.number, LARGEST_DARK_SHARE)
    threshold = float(most) / outliers.number
    doubled = value - normal_limit(1) * error > VARIANCE_RATIO
    found = share > threshold and doubled
    return Finding(
        trap=TRAP,
        found=found,
        statistic=share,
        threshold=threshold,
        evidence=f"{outliers.low} of {outliers.number} outliers lie below the median ({share:.0%}; threshold "
        f"{threshold:.0%}) and the variance is {value:.2f} times the reference's "
        f"(doubled: above {VARIANCE_RATIO:.2f}).",
        advice="Switch long-exposure noise reduction off and take the frames again: each has the noise of two, and "
        "dark current and hot sites cannot be measured."
        if found
        else "",
    )


class _Outliers:
    """Isolated sites far from the median of their tile.

    Attributes:
        low: Below it.
        number: On either side.
    """

    def __init__(self, low: int, number: int) -> None:
        self.low, self.number = low, number

    @classmethod
    def of(cls, frame: RawFrame) -> _Outliers:
        low = number = 0
        for tiles in site_tiles(frame):
            values = tiles.codes.astype(np.float32)
            values -= np.median(values, axis=(1, 2), keepdims=True)
            # One code step is the least spread that whole numbers can show.
            limit = OUTLIER_SIGMA * max(robust_std(values), 1.0)
            low += int(np.count_nonzero(values < -limit))
            number += int(np.count_nonzero(np.abs(values) > limit))
        return cls(low, number)


def _variance_ratio(dark: RawFrame, reference: RawFrame | None) -> tuple[float, float] | None:
    """Core variance of the dark over the reference's, with standard error; None without a reference."""
    own = _core_variance([tiles.codes for tiles in site_tiles(dark)])
    if reference is not None:
        check_alike(dark, reference)
        if dark.shot.iso != reference.shot.iso:
            raise CalibrationError(
                f"The darks were taken at ISO {dark.shot.iso} and {reference.shot.iso}; dark subtraction shows only "
                "against a short dark of the same ISO."
            )
        other = _core_variance([tiles.codes for tiles in site_tiles(reference)])
    else:
        areas = []
        for area in dark.masked:
            ph, pw = area.cfa.period
            sites = [area.pixels[i::ph, j::pw] for i in range(ph) for j in range(pw)]
            areas += [cut_tiles(site, limit=64) for site in sites if min(site.shape) >= SIDE]
        if not areas:
            return None
        other = _core_variance(areas)
    if min(own[0], other[0]) <= 0.0:
        return None
    ratio = own[0] / other[0]
    return ratio, ratio * math.hypot(own[1] / own[0], other[1] / other[0])


def _core_variance(sites: list[U16]) -> tuple[float, float]:
    """Variance [DN^2] within tiles without outliers and line means, and its standard error."""
    squares = []
    for codes in sites:
        residual = without_lines(codes.astype(np.float32))
        squares.append(residual.ravel() ** 2)
    values = np.concatenate(squares)
    scale = (1.0 - 1.0 / SIDE) ** 2
    return float(values.mean(dtype=np.float64)) / scale, float(values.std(dtype=np.float64)) / math.sqrt(len(values))
