"""Dual conversion gain: a step of the input-referred read noise between two ISOs.

With one conversion gain the read noise in electrons is ``sqrt(s0^2 + (s1 / K)^2)``: noise before and after the gain.
Where a second, higher conversion gain takes over, both fall at once. The table is fitted with one law and with one on
either side of every gap; a step is a gap where two laws fit better than chance allows (likelihood ratio) and the
noise falls by more than a fifth against the law of the lower ISOs.

Source: the segments of tables such as the Sony A7S II's between ISO 1600 and 2000 (4.1 to 1.4 e-; PMN, Feng
et al., ACM MM 2022); the likelihood ratio's distribution after Wilks (1938).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from noise_models.calibration.traps.finding import FALSE_ALARM, Finding, unjudged

TRAP = "dual_gain"

# Scatter of measured read noise about the law, as a ratio (0.3-1.8 % from frame to frame in PMN's table, 3-5 % of the
# law itself).
LAW_SCATTER = 0.03
# Conversion gains of one sensor differ by a factor of 1.5 and more, and so does their read noise; a smaller fall is
# the law's own curvature.
SMALLEST_FALL = 1.2


@dataclass(frozen=True)
class IsoPoint:
    """One row of the table ISO -> gain and read noise.

    Attributes:
        iso: As the file states it.
        gain: System gain K [DN/e-].
        gain_error: Its standard error.
        read_noise: Input-referred read noise [e-].
        read_error: Its standard error.
    """

    iso: float
    gain: float
    gain_error: float
    read_noise: float
    read_error: float


@dataclass(frozen=True)
class _Step:
    """A gap of the table and what two laws gain over one there.

    Attributes:
        index: Of the first point after the gap.
        ratio: Likelihood ratio, as a difference of chi^2; 0 where the noise does not fall.
    """

    index: int
    ratio: float


def find_dual_gain(points: Sequence[IsoPoint]) -> Finding:
    """Look for steps of the conversion gain between neighbouring ISOs.

    Args:
        points: Measured ISOs of one camera in any order.

    Returns:
        The likelihood ratio of the strongest step; ``evidence`` names every step.
    """
    table = sorted((p for p in points if p.gain > 0.0 and p.read_noise > 0.0), key=lambda p: p.gain)
    # Two parameters more, looked for in every gap.
    limit = float(stats.chi2.isf(FALSE_ALARM / max(1, len(table) - 1), 2))
    if len(table) < 2:
        return unjudged(
            TRAP, limit, f"{len(table)} ISO with known gain and read noise; two are needed.", "Calibrate more ISOs."
        )
    strongest = max(_steps(table), key=lambda step: step.ratio)
    edges = _segment_edges(table, limit)
    gaps = [f"ISO {table[k - 1].iso:g} and {table[k].iso:g}" for k in edges]
    found = bool(gaps)
    verb, where = ("falls", f" between {'; '.join(gaps)}") if found else ("does not fall", "")
    return Finding(
        trap=TRAP,
        found=found,
        statistic=strongest.ratio,
        threshold=limit,
        evidence=f"Read noise in electrons {verb} faster than one conversion gain allows{where} (likelihood ratio "
        f"{strongest.ratio:.1f}, threshold {limit:.1f}).",
        advice="Keep one law per segment, never interpolate across the step, and calibrate both ISOs beside it."
        if found
        else "",
    )


def _segment_edges(table: Sequence[IsoPoint], limit: float) -> list[int]:
    """Indices at which a new segment starts: the strongest step, then those inside either side."""
    if len(table) < 2:
        return []
    step = max(_steps(table), key=lambda one: one.ratio)
    if step.ratio <= limit:
        return []
    before = _segment_edges(table[: step.index], limit)
    after = _segment_edges(table[step.index :], limit)
    return [*before, step.index, *(step.index + k for k in after)]


def _steps(table: Sequence[IsoPoint]) -> list[_Step]:
    """Every gap of the table, sorted by gain."""
    _, _, whole = _law(table)
    steps = []
    for k in range(1, len(table)):
        low, high = table[:k], table[k:]
        before, after, misfit = _law(low)
        fall = math.hypot(before, after / high[0].gain) / high[0].read_noise
        gained = whole - misfit - _law(high)[2]
        steps.append(_Step(k, gained if fall > SMALLEST_FALL else 0.0))
    return steps


def _law(points: Sequence[IsoPoint]) -> tuple[float, float, float]:
    """s0 [e-], s1 [DN] and chi^2 of ``read_noise^2 = s0^2 + (s1 / K)^2``, neither negative.

    One point alone is given to s1, the law that falls fastest.
    """
    if len(points) == 1:
        return 0.0, points[0].read_noise * points[0].gain, 0.0
    inverse = np.array([1.0 / p.gain**2 for p in points])
    squared = np.array([p.read_noise**2 for p in points])
    weight = np.array([1.0 / (2.0 * p.read_noise**2 * _relative_error(p)) for p in points])
    design = np.stack([np.ones_like(inverse), inverse / inverse.max()], axis=1)
    solution, residual = optimize.nnls(design * weight[:, None], squared * weight)
    return math.sqrt(solution[0]), math.sqrt(solution[1] / inverse.max()), float(residual) ** 2


def _relative_error(point: IsoPoint) -> float:
    """Of the read noise: gain and read noise as measured, and the law's own scatter."""
    return math.hypot(point.gain_error / point.gain, point.read_error / point.read_noise, LAW_SCATTER)
