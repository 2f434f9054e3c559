"""Mean and standard deviation of samples, gathered as they come, with the error of having only so many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from physrestore.solvers.iterate import Iterate


@dataclass(frozen=True)
class PosteriorMoments:
    """What a chain says of the posterior.

    Attributes:
        mean: (B, C, H, W).
        std: Same shape, in the units of the image.
        n_samples: How many samples were gathered.
        split_rhat: Per value: how much wider the halves of the chain are together than each alone. 1 for a chain
            that has forgotten its start; above about 1.1 it was too short there.
    """

    mean: Tensor
    std: Tensor
    n_samples: int
    split_rhat: Tensor


class _Moments:
    """Running mean and sum of squares (Welford), which do not cancel."""

    def __init__(self) -> None:
        self.n, self.mean, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, x: Tensor) -> None:
        if self.n == 0:
            self.mean, self.squares = torch.zeros_like(x), torch.zeros_like(x)
        self.n += 1
        away = x - self.mean
        self.mean = self.mean + away / self.n
        self.squares = self.squares + away * (x - self.mean)


def posterior_moments(
    chain: Iterator[Iterate], *, n_samples: int, burn_in: int | None = None, thin: int = 1
) -> PosteriorMoments:
    """Gather moments of a sampler's iterates; memory does not grow with the number of samples.

    Args:
        chain: From `physrestore.solvers.langevin.langevin`.
        n_samples: To gather, even, at least 4.
        burn_in: Steps to pass over first; None: as many as are then used.
        thin: Use every so-manieth step.

    Raises:
        ValueError: impossible counts, or the chain ended too early.

    Source:
        Gelman et al., "Bayesian Data Analysis", 3rd edition, section 11.4 (split R-hat, one chain in two halves).
    """
    if n_samples < 4 or n_samples % 2 or thin < 1:
        raise ValueError(f"Needed: an even n_samples of at least 4 and thin >= 1, not {n_samples} and {thin}.")
    halves = (_Moments(), _Moments())
    half, skip = n_samples // 2, n_samples * thin if burn_in is None else burn_in
    with torch.no_grad():
        for iterate in chain:
            taken = halves[0].n + halves[1].n
            if iterate.step >= skip and (iterate.step - skip) % thin == 0:
                halves[taken // half].add(iterate.x)
                if taken + 1 == n_samples:
                    return _joined(*halves)
    raise ValueError(
        f"The chain ended after {halves[0].n + halves[1].n} of {n_samples} samples. Needed: max_steps of at least "
        f"burn_in + n_samples * thin = {skip + n_samples * thin}."
    )


def _joined(first: _Moments, second: _Moments) -> PosteriorMoments:
    """Moments of both halves of a chain together, and how far they differ."""
    n = first.n + second.n
    mean = (first.mean + second.mean) / 2
    apart = (first.mean - second.mean).square()
    squares = first.squares + second.squares + first.n * apart / 2
    within = (first.squares + second.squares) / (n - 2)
    between = apart / 2  # variance of two means about their own mean
    # A value that never moved has no spread to compare: it is 1 where both halves agree, infinite where they do not.
    rhat = torch.where(apart == 0, 1.0, 1 - 1 / first.n + between / within).sqrt()
    return PosteriorMoments(mean, (squares / (n - 1)).sqrt(), n, rhat)
