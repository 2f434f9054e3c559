"""Muon: momentum whose singular values are made equal before a step, so that no direction of a filter bank lags behind.

Adam weighs every number alone; filters are matrices, and their gradients have few large singular values. Here the
workhorse needed about a tenth fewer steps than with Adam (`docs/training.md`).

Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024 (momentum, Newton-Schulz with
these coefficients); Liu et al., arXiv:2502.16982, section 2.2 (scale that makes a step as large as Adam's).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Of the quintic iteration: steep at zero, and singular values end between about 0.7 and 1.2 instead of at 1.
_QUINTIC, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5
MOMENTUM = 0.95
# Root mean square of Adam's steps, in learning rates (Liu et al.).
ADAMS_STEP = 0.2
# Filter banks with fewer rows or columns, such as heads and tails of few channels, have no spectrum to speak of.
SMALLEST_SIDE = 12


class Muon(torch.optim.Adam):
    """Muon for filter banks, Adam for every other weight; one learning rate for both.

    Convolutions (out, in, h, w) count as matrices of out rows; `torch.optim.Muon` takes matrices only, and no others.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; see `torch.optim.Optimizer.step`."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        banks = [(p, group["lr"]) for group in self.param_groups for p in group["params"] if _is_bank(p)]
        slopes = [p.grad for p, _ in banks]
        for bank, _ in banks:
            bank.grad = None  # Adam passes it over
        super().step()
        for (bank, rate), slope in zip(banks, slopes, strict=True):
            assert slope is not None
            bank.grad = slope
            state = self.state[bank]
            state.setdefault("step", torch.tensor(0.0))  # not used; Adam looks for it when a state is loaded
            momentum = state.setdefault("momentum", torch.zeros_like(bank))
            momentum.lerp_(slope, 1.0 - MOMENTUM)
            ahead = slope.lerp(momentum, MOMENTUM).flatten(1)  # Nesterov's
            size = ADAMS_STEP * max(ahead.shape) ** 0.5
            bank.sub_((rate * size * orthogonal(ahead)).view_as(bank))
        return loss


def optimiser_of(name: str, weights: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """The optimiser of a name, adam or muon."""
    return (Muon if name == "muon" else torch.optim.Adam)(weights, lr=learning_rate)


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix (m, n) with nearly the same singular vectors and singular values of about 1."""
    a, b, c = _QUINTIC
    wide = matrix.shape[0] <= matrix.shape[1]
    x: Tensor = matrix if wide else matrix.mT
    x = x / x.norm().clamp(min=torch.finfo(x.dtype).tiny)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


def _is_bank(weight: Tensor) -> bool:
    return weight.grad is not None and weight.ndim >= 2 and min(weight.flatten(1).shape) >= SMALLEST_SIDE
