"""Lossy coding by a curve: a code step that grows with the level.

Lossy raw formats (Nikon's compressed NEF, Sony's cRAW, DNG LinearizationTable) store fewer codes at bright levels,
where shot noise hides the step. The noise of rounding is then step^2 / 12 instead of 1 / 12 and depends on the level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.traps.code_comb import growth_limit, plane_combs
from noise_models.calibration.traps.finding import Finding, unjudged
from noise_models.frame import RawFrame

TRAP = "lossy"

ADVICE = (
    "Use the camera's lossless or uncompressed raw format for calibration. In lossy files the rounding noise grows "
    "with level (step^2 / 12) and the gain measured at bright levels is too high or too low."
)


def find_lossy(frames: Sequence[RawFrame]) -> Finding:
    """Look for a code step that grows with the level.

    Args:
        frames: One photo with many levels, or a dark and flats; of one camera and format.

    Returns:
        The largest rise of the mean code step over the level, in codes.

    Raises:
        CalibrationError: a frame is too small.
    """
    combs = {plane: comb for plane, comb in plane_combs(frames).items() if len(comb.windows) >= 2}
    if not combs:
        return unjudged(
            TRAP,
            growth_limit(),
            "Too few levels to compare the code step of dark and bright ones.",
            "Give a dark and a bright flat, or a photo.",
        )
    plane, comb = max(combs.items(), key=lambda item: item[1].growth)
    (low, fine), (high, coarse) = (pick(comb.windows, key=lambda window: window[1]) for pick in (min, max))
    return Finding(
        trap=TRAP,
        found=comb.grows,
        statistic=comb.growth,
        threshold=growth_limit(),
        evidence=f"Codes of {plane} lie {fine:.2f} apart at {low:.0f} DN and {coarse:.2f} at {high:.0f} DN.",
        advice=ADVICE if comb.grows else "",
    )


def find_companding(table: NDArray[np.uint16]) -> Finding:
    """Look at a linearisation table (DNG tag 50712) for steps that grow with the level.

    Args:
        table: Linear value of every stored code (n,) [DN].

    Raises:
        ValueError: fewer than two entries, or a table that falls.
    """
    steps = np.diff(table.astype(np.int64))
    if len(steps) < 1 or (steps < 0).any():
        raise ValueError(f"A linearisation table has two or more rising entries; this one has {len(table)}.")
    rising = steps[steps > 0]
    # The end of a table is often one constant; the start may be.
    span = max(1, len(rising) // 4)
    dark, bright = (float(part.mean()) if len(part) else 0.0 for part in (rising[:span], rising[-span:]))
    growth = bright - dark
    found = growth > growth_limit()
    return Finding(
        trap="companding",
        found=found,
        statistic=growth,
        threshold=growth_limit(),
        evidence=f"The file's linearisation table has steps of {dark:.2f} in its darkest and {bright:.2f} in its "
        f"brightest quarter of {len(table)} codes.",
        advice=ADVICE if found else "",
    )
