"""Stein's unbiased risk estimate (SURE) for std maps, and for noise that grows with the signal (PG-SURE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from physrestore.selfsup.losses.base import Estimate, Risk, SelfLoss, at_least, site_weights
from physrestore.selfsup.losses.pixel_noise import PixelNoise

# The share of the high value in a two-valued number of mean 0, variance 1 and third moment 1: 1/2 - 1/sqrt(20).
RARE = 0.5 - 20.0**-0.5
# A std below this share of the image's largest is raised to it: the probe divides by it.
LEAST_STD = 1e-3


class Derivative(NamedTuple):
    """The derivative of an estimate, at every site; noisy, only means over sites count.

    Attributes:
        own: Of a value by the measurement at its own site.
        rows: ``row^2`` times that of a value by all measurements of its row.
    """

    own: Tensor
    rows: Tensor


@dataclass(frozen=True)
class Stein(SelfLoss):
    """``|f(y) - y|^2 + 2 div - variance``, whose mean over the noise is the squared error of f itself.

    The divergence is taken by finite differences along one random probe that has the covariance of the noise, so that
    row noise is counted right. For noise that grows with the signal it is weighted by ``gain y + sigma^2`` (not
    clamped: that would bias it), and f must be nearly straight within one electron. ``second_order`` adds the next
    term, ``-(gain^2 y + 2 gain sigma^2) tr f''``, and makes the loss exact for quadratic f, at two more calls.

    Attributes:
        step: Of the probe, in units of the noise: local, yet larger than the rounding of single precision.
        second_order: Whether the term with the second derivative is added.
        second_step: Of the probe for it.

    Source:
        Stein, Annals of Statistics 9(6), 1981; Ramani, Blu & Unser, IEEE TIP 17(9), 2008, eq. (14); Le Montagner,
        Angelini & Olivo-Marin, IEEE TIP 23(3), 2014, eq. (12). Their second-order term is that of the read noise alone;
        expanding ``E[x f(y)] = E[y f(y - gain)] - sigma^2 E[f'(y - gain)]`` to second order gives the one above.
    """

    step: float = 0.1
    second_order: bool = False
    second_step: float = 0.5

    def __post_init__(self) -> None:
        """Refuse steps that go nowhere."""
        at_least(self.step, 0.0, "step")
        at_least(self.second_step, 0.0, "second_step")

    def risk(
        self,
        estimate: Estimate,
        y: Tensor,
        noise: PixelNoise,
        *,
        generator: torch.Generator,
        weights: Tensor | None = None,
    ) -> Risk:
        """As in `SelfLoss`."""
        law, std = noise.fitted(y), noise.std(y)
        seen = estimate(y, std)
        slope = derivative(estimate, y, noise, seen=seen, std=std, step=self.step, generator=generator)
        values = (seen - y).square() - noise.expected_variance(y)
        values = values + 2.0 * ((law.gain * y + law.sigma**2) * slope.own + slope.rows)
        if self.second_order and noise.grows:
            values = values - self._curvature(estimate, y, noise, seen, std, generator)
        return Risk(values, site_weights(weights, y))

    def _curvature(
        self, estimate: Estimate, y: Tensor, noise: PixelNoise, seen: Tensor, std: Tensor, generator: torch.Generator
    ) -> Tensor:
        """``(gain^2 y + 2 gain sigma^2) f''`` at every site.

        Of the products ``c_i c_j c_k`` of the probe only those of one site have a mean, which is their third moment.
        """
        law = noise.fitted(y)
        device = generator.device
        rare = torch.rand(y.shape, generator=generator, device=device, dtype=y.dtype).to(y.device) < RARE
        probe = torch.where(rare, ((1.0 - RARE) / RARE) ** 0.5, -((RARE / (1.0 - RARE)) ** 0.5)).to(y)
        spread = _floored(std)
        move = self.second_step * spread * probe
        bend = estimate(y + move, std) + estimate(y - move, std) - 2.0 * seen
        weight = law.gain * (law.gain * y + 2.0 * law.sigma**2)
        return weight * probe * bend / (self.second_step * spread).square()


def derivative(
    estimate: Estimate,
    y: Tensor,
    noise: PixelNoise,
    *,
    seen: Tensor,
    std: Tensor,
    step: float,
    generator: torch.Generator,
) -> Derivative:
    """How the estimate follows its measurement, along one random probe with the covariance of the noise.

    Args:
        estimate: As in `SelfLoss`.
        y: As there.
        noise: As there.
        seen: ``estimate(y, std)``, called already.
        std: Given to the estimate; it stays the same while ``y`` moves.
        step: Of the probe, in units of the noise.
        generator: Of the probe.
    """
    law = noise.fitted(y)
    spread = _floored((law.gain * y.clamp(min=0.0) + law.sigma**2).sqrt().expand(y.shape))
    device = generator.device
    signs = (2 * torch.randint(0, 2, y.shape, generator=generator, device=device) - 1).to(y)
    move, rows = spread * signs, torch.zeros_like(y)
    if law.has_rows:
        rows = law.row * law.row_pattern(y, generator=generator, signs=True)
        move = move + rows
    response = (estimate(y + step * move, std) - seen) / step
    return Derivative(signs / spread * response, rows * response)


def _floored(std: Tensor) -> Tensor:
    return std.maximum(LEAST_STD * std.amax(dim=(1, 2, 3), keepdim=True))
