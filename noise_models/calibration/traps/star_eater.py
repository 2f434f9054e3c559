"""The "star eater": a spatial filter that caps every site at the largest of its neighbours.

Sony's bulb mode and others replace a site that outshines all neighbours of its colour by the largest of them; stars
go with the hot sites. In a scatter plot of site against largest neighbour no point is left above the slope-1
diagonal. Independent noise puts one site in 25 above its 24 neighbours of a 5 x 5 window; only ties between whole
codes make it fewer, which the histogram predicts.

Source: M. Shelley's analysis of Sony's spatial filtering (scatter against the neighbours' maximum).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from noise_models.calibration.traps.finding import FALSE_ALARM, Finding, unjudged
from noise_models.calibration.traps.tiles import U16, site_tiles
from noise_models.frame import RawFrame

TRAP = "star_eater"

# Row and column reach of the window in sites of one colour: 24 neighbours.
REACH = 2
NEIGHBOURS = (2 * REACH + 1) ** 2 - 1

# A plane must expect this many peaks: none of 50 has a chance of exp(-50).
FEWEST_EXPECTED = 50.0
# Smoothing filters and row noise also lower the share of peaks, to about a half; a cap removes practically all.
_LARGEST_SHARE = 0.2


def find_star_eater(frame: RawFrame) -> Finding:
    """Look for a filter that caps sites at their neighbours, in one dark or flat.

    Args:
        frame: Not a photo: structure changes the expected number.

    Returns:
        Sites above all their neighbours, as a share of those that independent noise has; the lowest plane.

    Raises:
        CalibrationError: the frame is too small.
    """
    observed: dict[str, float] = {}
    expected: dict[str, float] = {}
    for tiles in site_tiles(frame):
        seen, predicted = count_peaks(tiles.codes)
        observed[tiles.plane] = observed.get(tiles.plane, 0.0) + seen
        expected[tiles.plane] = expected.get(tiles.plane, 0.0) + predicted
    usable = [plane for plane, value in expected.items() if value >= FEWEST_EXPECTED]
    if not usable:
        return unjudged(
            TRAP,
            _LARGEST_SHARE,
            f"Independent noise would put at most {max(expected.values()):.0f} sites above their neighbours; "
            f"{FEWEST_EXPECTED:.0f} are needed to judge.",
            "Use whole frames, or darks at a higher ISO.",
        )
    share, plane = min((observed[plane] / expected[plane], plane) for plane in usable)
    null = float(stats.poisson.ppf(FALSE_ALARM / len(usable), expected[plane])) / expected[plane]
    threshold = min(_LARGEST_SHARE, null)
    found = share < threshold
    return Finding(
        trap=TRAP,
        found=found,
        statistic=share,
        threshold=threshold,
        evidence=f"{observed[plane]:.0f} {plane} sites exceed their {NEIGHBOURS} neighbours where independent noise "
        f"has {expected[plane]:.0f}: a share of {share:.3f} (below {threshold:.3f} counts as capped).",
        advice="The camera caps bright sites at their neighbours: stars and noise peaks are gone. Use single-shot "
        "mode instead of bulb, shorter exposures, or another firmware; do not calibrate from these frames."
        if found
        else "",
    )


def count_peaks(tiles: U16) -> tuple[int, float]:
    """Sites of tiles (n, SIDE, SIDE) that exceed their 24 neighbours, and how many independent noise would have.

    The expected number is the sum over tiles and codes c of ``n p(c) F(c - 1)^24``, with p and F the share at and up
    to a code in the tile's own row of the frame sample; it accounts for ties between codes.
    """
    side = tiles.shape[1]
    inner = tiles[:, REACH : side - REACH, REACH : side - REACH]
    largest = np.zeros_like(inner)
    for dy in range(2 * REACH + 1):
        for dx in range(2 * REACH + 1):
            if (dy, dx) != (REACH, REACH):
                shifted = tiles[:, dy : dy + inner.shape[1], dx : dx + inner.shape[2]]
                np.maximum(largest, shifted, out=largest)
    return int(np.count_nonzero(inner > largest)), _expected_peaks(tiles) * inner.size


def _expected_peaks(tiles: U16) -> float:
    """Share of sites of independent noise that exceed `NEIGHBOURS` others, from the spread about the tile medians."""
    medians = np.median(tiles, axis=(1, 2))
    centred = (tiles.astype(np.int32) - np.floor(medians).astype(np.int32)[:, None, None]).ravel()
    counts: NDArray[np.int64] = np.bincount(centred - centred.min())
    share = counts / counts.sum()
    below = np.concatenate(([0.0], np.cumsum(share)[:-1]))
    return float(np.sum(share * below**NEIGHBOURS))
