"""The loop around a solver: draw iterates until a rule stops it or it ends by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from physrestore.errors import RestoreError
from physrestore.solvers.iterate import Iterate, Rule, Solution, StopReason


class SolverDiverged(RestoreError):
    """An iterate that is not finite."""


def solve(
    iterates: Iterator[Iterate],
    *,
    stop: Rule | None = None,
    on_iterate: Callable[[Iterate], None] | None = None,
    differentiable: bool = False,
) -> Solution:
    """Draw iterates until the rule fires or the solver ends.

    Args:
        iterates: A solver of this package, or any iterator of `Iterate`.
        stop: Rule of `physrestore.solvers.stopping`; None: the solver's own end.
        on_iterate: Called with every iterate, e.g. for progress or a log.
        differentiable: Keep the graph for autograd. False: no iterate remembers how it was made.

    Raises:
        SolverDiverged: an iterate holds values that are not finite.
        ValueError: not one step was made.
    """
    last = None
    with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
        while True:
            try:
                current = next(iterates)
            except StopIteration as end:
                return _ended(last, end.value)
            if not bool(torch.isfinite(current.x).all()):
                raise SolverDiverged(
                    f"Step {current.step} gave values that are not finite. Needed: a step below 2 / curvature (see "
                    "largest_curvature), finite data, and a prior that is stable at the noise levels it is given."
                )
            if on_iterate is not None:
                on_iterate(current)
            verdict = None if stop is None else stop(last, current)
            last = current
            if verdict is not None:
                return Solution(last, verdict.reason, verdict.evidence)


def _ended(last: Iterate | None, reason: StopReason | None) -> Solution:
    """The solution of a solver that ended by itself."""
    if last is None:
        raise ValueError("The solver made no step: give at least one level or max_steps of at least 1.")
    reason = reason or StopReason.ENDED
    return Solution(last, reason, f"{reason.value} after {last.step + 1} steps.")
