"""Extended and mislabelled ISO: a gain that does not follow the ISO of the file.

K is proportional to ISO for analogue gain and for digital gain alike. A setting that only changes the exposure (ISO
50 of a sensor that starts at 100, dynamic-range modes, Hi and Lo steps) keeps the gain of its neighbour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from noise_models.calibration.traps.dual_gain import IsoPoint
from noise_models.calibration.traps.finding import Finding, normal_limit, unjudged

TRAP = "extended_iso"

# Nominal ISO against true gain of native settings, as a ratio: makers round thirds of a stop (Canon's are 1.297 and
# 0.771 where 1.260 and 0.794 are nominal).
NOMINAL_SCATTER = 0.03
FEWEST_POINTS = 3


def find_extended_iso(points: Sequence[IsoPoint]) -> Finding:
    """Look for ISOs whose gain is off the line K = constant x ISO.

    Args:
        points: Measured ISOs of one camera, at least three, most of them native.

    Returns:
        The largest deviation from the median of K / ISO in standard deviations; ``evidence`` names every ISO off it.
    """
    table = sorted((p for p in points if p.gain > 0.0 and p.iso > 0.0), key=lambda p: p.iso)
    limit = normal_limit(2 * max(1, len(table)))
    if len(table) < FEWEST_POINTS:
        return unjudged(
            TRAP,
            limit,
            f"{len(table)} ISO with known gain; {FEWEST_POINTS} are needed to draw a line.",
            "Calibrate more ISOs.",
        )
    offsets = np.array([math.log(p.gain / p.iso) for p in table])
    errors = np.array([math.hypot(p.gain_error / p.gain, NOMINAL_SCATTER) for p in table])
    ratios = offsets - np.median(offsets)
    # The median of n points adds its own error, pi / 2 of the mean's variance.
    z = np.abs(ratios) / np.sqrt(errors**2 + 0.5 * math.pi * float(np.mean(errors**2)) / len(table))
    off = [f"ISO {p.iso:g} (x {math.exp(r):.2f})" for p, r, one in zip(table, ratios, z, strict=True) if one > limit]
    worst = int(np.argmax(z))
    found = bool(off)
    evidence = (
        f"K / ISO differs from the other settings at {', '.join(off)}."
        if found
        else f"K / ISO is constant; the largest deviation is {math.expm1(ratios[worst]):+.1%} at ISO "
        f"{table[worst].iso:g} ({z[worst]:.1f} sigma, threshold {limit:.1f})."
    )
    return Finding(
        trap=TRAP,
        found=found,
        statistic=float(z[worst]),
        threshold=limit,
        evidence=evidence,
        advice="These settings are not analogue gain at the stated ISO: keep them as entries of their own and "
        "interpolate neither to nor from them."
        if found
        else "",
    )
