"""What a trap detector answers, and how its threshold is set."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats

# Chance that one call raises an alarm on a clean set: ten detectors on one set together stay below 1 %.
FALSE_ALARM = 1e-3


@dataclass(frozen=True)
class Finding:
    """The answer of one detector.

    Attributes:
        trap: Stable identifier, e.g. "digital_gain".
        found: The data carry the trap.
        statistic: What was compared with the threshold, in the unit ``evidence`` names; None: the data cannot tell.
        threshold: The value beyond which the trap counts as found.
        evidence: One sentence with the numbers.
        advice: What to do; empty where there is nothing to do.
    """

    trap: str
    found: bool
    statistic: float | None
    threshold: float
    evidence: str
    advice: str = ""

    @property
    def judged(self) -> bool:
        """Whether the data were enough to decide; ``found=False`` of an unjudged finding is no clean bill."""
        return self.statistic is not None


def unjudged(trap: str, threshold: float, evidence: str, advice: str) -> Finding:
    """The answer where the data cannot tell."""
    return Finding(trap=trap, found=False, statistic=None, threshold=threshold, evidence=evidence, advice=advice)


def normal_limit(tests: int) -> float:
    """Standard deviations that the largest of ``tests`` normal statistics passes, upwards, with chance `FALSE_ALARM`.

    >>> round(normal_limit(1), 2)
    3.09
    """
    return float(stats.norm.isf(FALSE_ALARM / tests))


def student_limit(tests: int, dof: int) -> float:
    """The same for statistics whose standard error was itself measured with ``dof`` degrees of freedom."""
    return float(stats.t.isf(FALSE_ALARM / tests, dof))
