"""When to stop: rules that read the last two iterates, joined by ``|``.

>>> rule = RelativeChange(1e-4) | MaxSteps(200)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from physrestore.quality import residual_correlation
from physrestore.solvers.iterate import Iterate, Rule, Stop, StopReason

# Correlations of a white residual stay within this many standard errors 99.7 % of the time.
WHITE_ERRORS = 3.0


class StoppingRule(ABC):
    """A rule without memory: the same two iterates give the same verdict."""

    @abstractmethod
    def __call__(self, previous: Iterate | None, current: Iterate) -> Stop | None:
        """The verdict on ``current``; ``previous`` is None at the first step."""

    def __or__(self, other: Rule) -> AnyOf:
        """Stop as soon as one of both rules does; the left one is asked first."""
        return AnyOf((self, other))


@dataclass(frozen=True)
class AnyOf(StoppingRule):
    """The first of several rules that fires."""

    rules: tuple[Rule, ...]

    def __call__(self, previous: Iterate | None, current: Iterate) -> Stop | None:
        """The first verdict."""
        return next((v for rule in self.rules if (v := rule(previous, current)) is not None), None)


@dataclass(frozen=True)
class MaxSteps(StoppingRule):
    """Stop after ``count`` steps."""

    count: int

    def __call__(self, previous: Iterate | None, current: Iterate) -> Stop | None:  # noqa: ARG002 (a rule's signature)
        """Fires at step ``count - 1``, the first being 0."""
        if current.step + 1 < self.count:
            return None
        return Stop(StopReason.MAX_STEPS, f"{current.step + 1} steps of at most {self.count}.")


@dataclass(frozen=True)
class RelativeChange(StoppingRule):
    """Stop when ``|x - previous x| <= tolerance |x|`` in every image of the batch."""

    tolerance: float

    def __call__(self, previous: Iterate | None, current: Iterate) -> Stop | None:
        """Fires on the worst image."""
        if previous is None:
            return None
        change = (current.x - previous.x).flatten(1).norm(dim=1)
        size = current.x.flatten(1).norm(dim=1)
        if not bool((change <= self.tolerance * size).all()):
            return None
        return Stop(
            StopReason.CONVERGED, f"largest change {float(change.max()):.3g}, tolerance {self.tolerance:g} of |x|."
        )


@dataclass(frozen=True)
class Discrepancy(StoppingRule):
    """Stop when the mean square of the whitened residual crosses its expectation for the true image.

    Morozov's principle. It works from both sides: from an estimate that explains too little, and from the data
    themselves, which explain the noise as well. All images of the batch are judged together.

    Attributes:
        whitened: x -> (y - A x) / std, zero where nothing was measured.
        level: Expected mean square: 1, times the share of sites that were measured.
    """

    whitened: Callable[[Tensor], Tensor]
    level: float = 1.0

    def __call__(self, previous: Iterate | None, current: Iterate) -> Stop | None:
        """Fires at the first iterate on the other side of ``level``."""
        if previous is None:
            return None
        before, now = (float(self.whitened(i.x).double().square().mean()) for i in (previous, current))
        if (before - self.level) * (now - self.level) > 0:
            return None
        return Stop(StopReason.DISCREPANCY, f"whitened mean square went from {before:.4g} to {now:.4g}.")


@dataclass(frozen=True)
class ResidualWhiteness(StoppingRule):
    """Stop when neighbours in the whitened residual no longer resemble each other: no picture is left in it.

    Attributes:
        whitened: x -> (y - A x) / std, (B, C, H, W).
        errors: Standard errors of a white residual's correlation that count as none.
    """

    whitened: Callable[[Tensor], Tensor]
    errors: float = WHITE_ERRORS

    def __call__(self, previous: Iterate | None, current: Iterate) -> Stop | None:  # noqa: ARG002 (a rule's signature)
        """Fires on the worst plane; a residual of zero is not white."""
        residual = self.whitened(current.x)
        lags = residual_correlation(residual.flatten(0, 1))
        correlations = [abs(value) for value in (*lags.horizontal, *lags.vertical)]
        allowed = self.errors * lags.standard_error
        if not all(value <= allowed for value in correlations):  # not: any above, which NaN would pass
            return None
        return Stop(StopReason.WHITE, f"largest correlation of neighbours {max(correlations):.3g} of {allowed:.3g}.")
