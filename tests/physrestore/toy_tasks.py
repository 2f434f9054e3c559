"""Small tasks for tests of the training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Regression:
    """Find the slope of noisy lines; every batch is another draw."""

    slope: float = 2.0
    count: int = 8

    def build(self) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))

    def batch(self, generator: torch.Generator) -> Any:
        x = torch.randn(self.count, 3, generator=generator)
        return x, self.slope * x.sum(1, keepdim=True)

    def loss(self, network: Callable[..., Tensor], batch: Any) -> Tensor:
        x, y = batch
        return (network(x) - y).square().mean()


@dataclass(frozen=True)
class Union(Regression):
    """What several workers draw, seen by one: the batches of the generators with these seeds, one after the other."""

    seeds: tuple[int, ...] = (1, 2)

    def __post_init__(self) -> None:
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        object.__setattr__(self, "generators", generators)

    def batch(self, generator: torch.Generator) -> Any:
        parts = [super(Union, self).batch(one) for one in self.generators]
        return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))
