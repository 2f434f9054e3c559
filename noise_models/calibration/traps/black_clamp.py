"""Black clamp: dark noise cut off at the lowest code.

Where a camera writes no code below some level, the lower side of the noise is piled up on that code (or missing). The
share of sites up to a code is not changed by the clamp above it: on normal-probability paper these shares lie on
the line of the unclamped noise, and its continuation tells how many sites should lie below the lowest code.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from noise_models.calibration.traps.code_comb import Counts
from noise_models.calibration.traps.finding import Finding, unjudged
from noise_models.calibration.traps.tiles import site_tiles
from noise_models.frame import RawFrame

TRAP = "black_clamp"

# Missing share from which a clamp matters: cut at -2.75 sigma the measured noise changes by less than 0.3 %.
SMALLEST_MISSING = 0.003

# Shares that define the line: below, counts are few; above the median hot sites bend it.
_LOWEST_SHARE = 0.005
_MEDIAN_SHARE = 0.5
_HIGHEST_SHARE = 0.98
_FEWEST_EDGES = 3
# A share of 0.005 of these sites is 20 sites, known to 0.08 sigma.
_FEWEST_SITES = 4096


def find_black_clamp(dark: RawFrame) -> Finding:
    """Look for noise cut off at the lowest code of a dark.

    Args:
        dark: A dark frame.

    Returns:
        The share of sites that were lifted to the lowest code; the largest of the planes.

    Raises:
        CalibrationError: the frame is too small.
    """
    counts: dict[str, Counts] = {}
    for tiles in site_tiles(dark):
        histogram = np.bincount(tiles.codes.ravel(), minlength=1 << 16)
        counts[tiles.plane] = counts.get(tiles.plane, 0) + histogram
    measured = {plane: share for plane, c in counts.items() if (share := clamped_share(c)) is not None}
    if not measured:
        return unjudged(
            TRAP,
            SMALLEST_MISSING,
            "Noise too small against the code step, or too few sites, to see where it is cut.",
            "Give a dark at a higher ISO.",
        )
    plane = max(measured, key=lambda name: measured[name])
    share, lowest = measured[plane], int(np.flatnonzero(counts[plane])[0])
    found = share > SMALLEST_MISSING
    at_lowest = counts[plane][lowest] / counts[plane].sum()
    return Finding(
        trap=TRAP,
        found=found,
        statistic=share,
        threshold=SMALLEST_MISSING,
        evidence=f"{at_lowest:.2%} of {plane} sites have the lowest code {lowest}; noise without a clamp would "
        f"put {share:.2%} below it.",
        advice="Dark noise is cut at black: use an estimator that models the clamp (censored likelihood), and do not "
        "average darks or trust their mean."
        if found
        else "",
    )


def clamped_share(counts: Counts) -> float | None:
    """Share of sites that unclamped noise has below the lowest occupied code, at most what that code holds.

    None: cannot be told.

    Args:
        counts: Sites per code, from code 0.
    """
    occupied = np.flatnonzero(counts)
    total = int(counts.sum())
    if total < _FEWEST_SITES:
        return None
    if len(occupied) == 1:
        return 1.0
    lowest, highest = int(occupied[0]), int(occupied[-1])
    shares = np.cumsum(counts[lowest : highest + 1]) / total
    edges = np.arange(lowest, highest + 1) + 0.5
    usable = (shares >= _LOWEST_SHARE) & (shares <= _HIGHEST_SHARE)
    if np.count_nonzero(usable) < _FEWEST_EDGES:
        return None
    edges, shares = edges[usable], shares[usable]
    # The lower half of the noise, and as much of the upper as the line needs.
    count = max(_FEWEST_EDGES, int(np.count_nonzero(shares <= _MEDIAN_SHARE)))
    slope, offset = np.polyfit(edges[:count], stats.norm.ppf(shares[:count]), 1)
    missing = float(stats.norm.cdf(slope * (lowest - 0.5) + offset))
    return min(missing, float(counts[lowest]) / total)
