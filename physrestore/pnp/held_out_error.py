"""How far off the expected error of an unfamiliar prior is: measured on the picture itself, at sites hidden from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from physrestore.pnp.expected_error import ErrorLaw, error_std
from physrestore.pnp.joint import Measured
from physrestore.working_space import one_hot

# Of the measured sites, this share is hidden: few enough that the others restore the picture as before.
HIDDEN_SHARE = 0.03
# Window of the first guess at a hidden site [sites]; holds several sites of every colour of every array.
GUESS_WINDOW = 7
# The excess of a squared error over the noise is itself noisy. A factor is told apart from nothing only above so many
# standard errors; and no factor is smaller than this, however quiet the picture.
CLEAR_ERRORS = 2.0
LEAST_FACTOR = 0.25


@dataclass(frozen=True)
class HeldOut:
    """Excess of squared errors over the noise at hidden sites, and what the law had expected; sums.

    Attributes:
        excess: Of ``(value - restored)^2 - noise^2``.
        excess_variance: Of that sum.
        expected: Of the law's variances.
        count: Hidden sites.
    """

    excess: float = 0.0
    excess_variance: float = 0.0
    expected: float = 0.0
    count: int = 0

    def __add__(self, other: HeldOut) -> HeldOut:
        """Both together."""
        return HeldOut(
            self.excess + other.excess,
            self.excess_variance + other.excess_variance,
            self.expected + other.expected,
            self.count + other.count,
        )

    @property
    def factor(self) -> float:
        """By which to multiply the law's stds.

        Where the excess is lost in the noise, its upper limit (`CLEAR_ERRORS`) is taken: never more sure than shown.
        """
        if self.expected == 0.0:
            return 1.0
        limit = CLEAR_ERRORS * math.sqrt(self.excess_variance)
        return max(LEAST_FACTOR, math.sqrt(max(self.excess, limit) / self.expected))


def held_out(
    data: Measured, *, restore: Callable[[Measured], Tensor], law: ErrorLaw, generator: torch.Generator
) -> HeldOut:
    """Hide sites, restore without them, compare.

    Args:
        data: A piece of the picture.
        restore: Data to picture of the working space, (1, 3, H, W).
        law: Of the expected error.
        generator: Chooses the sites, on the CPU.
    """
    lottery = torch.rand(data.values.shape[-2:], generator=generator).to(data.values)
    hidden = (lottery < HIDDEN_SHARE) & data.known & ~data.clipped
    known = data.known & ~hidden
    sites = one_hot(data.cfa, *data.values.shape[-2:]).to(data.values)
    guessed = (_neighbours(data.values * sites * known, sites * known) * sites).sum(1, keepdim=True)
    blind = replace(data, values=data.values.where(~hidden, guessed), known=known)
    v = restore(blind)[0]
    variance = error_std(v, blind, law).square()
    noise = (data.noise[None].square() * sites).sum(1)[0]
    error = (data.values[0] - v).square()
    own = sites[0] > 0
    excess = torch.where(own, error, 0.0).sum(0)[hidden] - noise[hidden]
    expected = torch.where(own, variance, 0.0).sum(0)[hidden]
    return HeldOut(
        excess=float(excess.double().sum()),
        excess_variance=float(excess.double().var() * excess.numel()) if excess.numel() > 1 else 0.0,
        expected=float(expected.double().sum()),
        count=int(hidden.sum()),
    )


def _neighbours(planes: Tensor, counts: Tensor) -> Tensor:
    """Mean of the sites that count in a window, per colour."""
    total, weight = (F.avg_pool2d(p, GUESS_WINDOW, 1, GUESS_WINDOW // 2) for p in (planes, counts))
    return total / weight.clamp(min=1.0 / GUESS_WINDOW**2)
