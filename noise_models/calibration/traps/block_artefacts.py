"""Lossy coding in blocks: noise that depends on the place in a block of 8 or 16.

Transform and block codecs treat the border of a block unlike its inside. In the difference of two frames of the same
light the mean step from a site to the next must not depend on its place modulo 8 or 16.

A codec that rounds all frequencies of white noise alike leaves no such mark; the usual ones round high frequencies more
coarsely, and do.
"""

from __future__ import annotations

import numpy as np

from noise_models.calibration.traps.finding import Finding, student_limit, unjudged
from noise_models.calibration.traps.lossy import ADVICE
from noise_models.calibration.traps.tiles import F32, F64, OUTLIER_SIGMA, differences, robust_std
from noise_models.frame import RawFrame

TRAP = "block_artefacts"

PERIODS = (8, 16)
# Smallest relative change of a step that a codec makes and read-out does not (column amplifiers in groups of
# eight differ by a per mille in gain).
SMALLEST_CHANGE = 0.03
# Independent parts of the sample from whose scatter the error is measured.
PARTS = 32


def find_block_artefacts(first: RawFrame, second: RawFrame) -> Finding:
    """Look for blocks in the noise of two frames of the same light.

    Args:
        first: One frame.
        second: Another with the same settings.

    Returns:
        The largest relative deviation of a step from the mean over all places in the block.

    Raises:
        CalibrationError: frames that differ in size or CFA, or are too small.
    """
    usable = [(plane, tiles) for plane, tiles in differences(first, second) if len(tiles) >= PARTS]
    if not usable or not all(np.any(part) for _, tiles in usable for part in np.array_split(tiles, PARTS)):
        return unjudged(
            TRAP,
            SMALLEST_CHANGE,
            f"Fewer than {PARTS} unclipped tiles, or no noise, to compare places in a block.",
            "Use whole frames below saturation.",
        )
    # 8 and 16 places along two axes; planes are averaged, as codecs treat them alike.
    limit = student_limit(2 * sum(PERIODS) * 2, len(usable) * (PARTS - 1))
    results = []
    for axis, name in ((2, "columns"), (1, "rows")):
        for period in PERIODS:
            measured = [phase_deviations(tiles, axis=axis, period=period) for _, tiles in usable]
            deviation = np.mean([one for one, _ in measured], axis=0)
            error = np.sqrt(np.sum([one**2 for _, one in measured], axis=0)) / len(measured)
            threshold = np.maximum(SMALLEST_CHANGE, limit * error)
            worst = int(np.argmax(np.abs(deviation) - threshold))
            size, bound = float(np.abs(deviation[worst])), float(threshold[worst])
            results.append((size - bound, size, bound, f"{name}, period {period}"))
    excess, size, bound, where = max(results)
    return Finding(
        trap=TRAP,
        found=excess > 0.0,
        statistic=size,
        threshold=bound,
        evidence=f"The noise step between neighbours changes by {size:.1%} with the place in a block "
        f"({where}); equal places stay below {bound:.1%}.",
        advice=ADVICE if excess > 0.0 else "",
    )


def phase_deviations(tiles: F32, *, axis: int, period: int) -> tuple[F64, F64]:
    """Relative deviation of the mean step at each place of a period, and its standard error: two (period,).

    Args:
        tiles: Difference of two frames (tiles, SIDE, SIDE) [DN]; SIDE is a multiple of ``period``, so that places in a
            tile are places in the frame.
        axis: 1 along columns of a tile (rows of blocks), 2 along rows.
        period: In sites of one colour.
    """
    steps = np.diff(tiles, axis=axis)
    limit = OUTLIER_SIGMA * max(robust_std(steps), 1.0)
    # Magnitudes: their scatter, and so the error, is smaller than that of squares for a codec's heavy-tailed noise.
    per_tile = np.minimum(np.abs(steps), limit).mean(axis=2 if axis == 1 else 1, dtype=np.float64)
    places = np.arange(per_tile.shape[1]) % period
    parts = np.array_split(per_tile, PARTS)
    table = np.array([[part[:, places == k].mean() for k in range(period)] for part in parts])
    # Every part against its own mean: brighter parts are noisier as a whole.
    relative = table / table.mean(axis=1, keepdims=True) - 1.0
    return relative.mean(axis=0), relative.std(axis=0, ddof=1) / np.sqrt(len(parts))
