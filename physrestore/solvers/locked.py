"""A solver whose every parameter is the noise's: schedule from its level in the image, weights from its variance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from physrestore.solvers.hqs import hqs
from physrestore.solvers.iterate import Denoise, Iterate, Solution, Step
from physrestore.solvers.noise_level import Operator, image_noise_level
from physrestore.solvers.schedule import noise_locked
from physrestore.solvers.solve import solve

# Side of the window that takes the noise out of the first estimate before variances are read from it.
SMOOTHING = 5


@dataclass(frozen=True)
class NoiseLocked:
    """Half-quadratic splitting locked to a noise model; what is left open is the strength.

    Attributes:
        operator: Forward operator.
        variance: Mean of the data -> variance of its noise, positive, same shape.
        denoise: The prior.
        start: Data -> first image.
        steps: Of the schedule.
        first: Std of its first level.
        on_iterate: Called with every iterate.
    """

    operator: Operator
    variance: Callable[[Tensor], Tensor]
    denoise: Denoise
    start: Callable[[Tensor], Tensor]
    steps: int
    first: float
    on_iterate: Callable[[Iterate], None] | None = None

    def solve(self, y: Tensor, measured: Tensor, strength: float) -> tuple[Solution, Tensor]:
        """The solution, and the std of the data's noise in the image that the schedule is locked to.

        Args:
            y: Data, (B, C, H, W).
            measured: Sites that count, bool.
            strength: As in `noise_locked`.
        """

        def weights(x: Tensor) -> Tensor:
            return measured / self.variance(self.operator.A(x))

        def prox(x: Tensor, gamma: Step) -> Tensor:
            return self.operator.prox_weighted(x, y, weights(x), gamma)

        x0 = self.start(y)
        smooth = F.avg_pool2d(x0, SMOOTHING, 1, SMOOTHING // 2, count_include_pad=False)
        noise = image_noise_level(self.operator, weights(smooth), x0)
        schedule = noise_locked(noise, steps=self.steps, strength=strength, first=self.first)
        iterates = hqs(x0, prox_fidelity=prox, denoise=self.denoise, schedule=schedule)
        return solve(iterates, on_iterate=self.on_iterate), noise

    def predict(self, y: Tensor, measured: Tensor, strength: float) -> Tensor:
        """``A x`` of the solution."""
        return self.operator.A(self.solve(y, measured, strength)[0].x)
