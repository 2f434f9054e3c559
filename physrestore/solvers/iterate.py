"""What a solver is given, what it yields, and why it ends."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

# A number, or a tensor that broadcasts to the image: a diagonal preconditioner.
Step = float | Tensor
# prox(x, gamma) = argmin_u f(u) + 1/2 (u - x)^T diag(1 / gamma) (u - x)
Prox = Callable[[Tensor, Step], Tensor]
# denoise(x, noise_level): both in the units of the image; the level broadcasts to it.
Denoise = Callable[[Tensor, Tensor], Tensor]
Gradient = Callable[[Tensor], Tensor]
# One number per image, (B,).
Value = Callable[[Tensor], Tensor]


class StopReason(Enum):
    """Why a solver ended."""

    SCHEDULE = "the schedule came to its end"
    CONVERGED = "the iterates no longer change"
    DISCREPANCY = "the residual is as large as the noise"
    WHITE = "the residual is white"
    MAX_STEPS = "the number of steps was used up"
    NO_DESCENT = "no step lowers the objective in this precision"
    ENDED = "the solver ended by itself"


@dataclass(frozen=True)
class Iterate:
    """One step of a solver.

    Attributes:
        x: The estimate after the prior, (B, C, H, W). Never changed later.
        step: Counted from 0.
        z: What the prior was given: the estimate after the data step. None: the solver has none.
        noise_level: Std that the prior was told ``z`` (or ``x``) has; broadcasts to ``x``. None: the solver has none.
        objective: Of ``x``, (B,), where the solver has one.
    """

    x: Tensor
    step: int
    z: Tensor | None = None
    noise_level: Tensor | None = None
    objective: Tensor | None = None


# A solver: it yields iterates and returns why there are no more.
Iterates = Generator[Iterate, None, StopReason]


@dataclass(frozen=True)
class Stop:
    """A rule's verdict: the reason, and the numbers it was read from in one sentence."""

    reason: StopReason
    evidence: str


# rule(previous iterate or None, this iterate): a `Stop`, or None to go on.
Rule = Callable[[Iterate | None, Iterate], Stop | None]


@dataclass(frozen=True)
class Solution:
    """Where a solver stopped.

    Attributes:
        last: The last iterate.
        reason: Why it stopped there.
        evidence: One sentence with the numbers.
    """

    last: Iterate
    reason: StopReason
    evidence: str

    @property
    def x(self) -> Tensor:
        """The estimate, (B, C, H, W)."""
        return self.last.x

    @property
    def steps(self) -> int:
        """How many steps were made."""
        return self.last.step + 1
