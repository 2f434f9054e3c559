"""What decides a training besides its task: length, learning rate, precision, seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of `fit`.

    Attributes:
        steps: Updates of the weights at most.
        budget_seconds: Wall time at most, over all resumed runs; None: only ``steps`` ends it.
        learning_rate: At its peak.
        optimiser: "adam", or "muon" (`physrestore.training.muon`), which needs fewer steps.
        warm_up: Share of the training over which the rate rises to its peak.
        final_rate: Rate at the end as a share of the peak; a cosine leads there.
        ema: Decay of the running mean of the weights, which is the result. Early on the mean follows faster.
        clip: Largest norm of the gradient.
        precision: "bfloat16" computes the network in it where the device can, and keeps weights and loss in float32.
        seed: Of the initial weights and all draws.
        save_every: Steps between checkpoints.
        log_every: Steps between rows of the log.

    Raises:
        ValueError: numbers that cannot be.
    """

    steps: int = 10_000
    budget_seconds: float | None = None
    learning_rate: float = 1e-3
    optimiser: Literal["adam", "muon"] = "adam"
    warm_up: float = 0.02
    final_rate: float = 0.01
    ema: float = 0.999
    clip: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    save_every: int = 500
    log_every: int = 50

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        shares = (self.warm_up, self.final_rate, self.ema)
        if self.steps < 1 or self.learning_rate <= 0 or self.clip <= 0 or not all(0 <= s <= 1 for s in shares):
            raise ValueError(
                f"steps >= 1, positive learning_rate and clip, and shares between 0 and 1 are needed: {self}"
            )
        if self.save_every < 1 or self.log_every < 1 or (self.budget_seconds is not None and self.budget_seconds <= 0):
            raise ValueError(f"save_every, log_every and budget_seconds must be positive: {self}")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the training that is done, 0..1: the larger of the shares of steps and time."""
        time_share = 0.0 if self.budget_seconds is None else seconds / self.budget_seconds
        return min(1.0, max(step / self.steps, time_share))

    def rate(self, progress: float) -> float:
        """Learning rate at a share of the training."""
        if progress < self.warm_up:
            return self.learning_rate * max(progress / self.warm_up, 0.01)
        turn = (progress - self.warm_up) / max(1.0 - self.warm_up, 1e-9)
        return self.learning_rate * (
            self.final_rate + (1.0 - self.final_rate) * 0.5 * (1.0 + math.cos(math.pi * min(turn, 1.0)))
        )

    def decay(self, step: int) -> float:
        """Decay of the running mean at a step: a mean over the last tenth at most."""
        return min(self.ema, 1.0 - 1.0 / (1.0 + 0.1 * step))
