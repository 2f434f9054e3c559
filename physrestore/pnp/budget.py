"""A time budget becomes a number of steps: measured on a piece of the picture, before the work begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Below this, demosaicking leaves fringes: fewer steps are not offered.
FEWEST_STEPS = 3
# Side of the piece that is timed [pixels]: large enough that its halo does not dominate.
TRIAL_SIDE = 192


@dataclass(frozen=True)
class Plan:
    """What the budget buys.

    Attributes:
        steps: Of the solver.
        seconds: What they are expected to take.
    """

    steps: int
    seconds: float

    def note(self, *, wanted: int, budget_seconds: float) -> str:
        """For the user; "" where nothing was given up and nothing is late."""
        if self.seconds > budget_seconds:
            return (
                f"The fewest steps ({self.steps}) are expected to take {self.seconds:.0f} s, longer than the budget of "
                f"{budget_seconds:g} s."
            )
        return (
            "" if self.steps >= wanted else f"{self.steps} of {wanted} steps, for the budget of {budget_seconds:g} s."
        )


def plan_steps(
    solve: Callable[[Tensor, int], object],
    planes: Tensor,
    *,
    pixels: int,
    most: int,
    budget_seconds: float,
    beside: Callable[[Tensor], object] | None = None,
) -> Plan:
    """How many steps fit.

    Args:
        solve: (planes of a piece, steps) to anything.
        planes: Of the whole picture, (C, H, W).
        pixels: That the solve will read, halos counted.
        most: Steps without a budget.
        budget_seconds: Wall time.
        beside: Work that is done once, whatever the number of steps.
    """
    top, left = (max(0, (size - TRIAL_SIDE) // 2) // 24 * 24 for size in planes.shape[-2:])
    piece = planes[:, top : top + TRIAL_SIDE, left : left + TRIAL_SIDE]
    share = piece[0].numel() / pixels
    solve(piece, 2)  # the first call also loads and plans
    per_step = _seconds(lambda: solve(piece, 2)) / 2 / share
    fixed = 0.0 if beside is None else _seconds(lambda: beside(piece)) / share
    steps = min(most, max(FEWEST_STEPS, int((budget_seconds - fixed) / per_step)))
    return Plan(steps, fixed + steps * per_step)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
