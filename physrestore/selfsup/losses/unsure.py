"""SURE without a noise level (UNSURE): the level is the multiplier of a constraint, and is found on the way."""

from __future__ import annotations

import torch
from torch import Tensor

from physrestore.selfsup.losses.base import Estimate, Risk, SelfLoss, at_least, site_weights
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from physrestore.selfsup.losses.stein import Stein, derivative


class Unsure(SelfLoss):
    """``|f(y) - y|^2 + 2 eta div``, minimised over f and maximised over eta: f ends without mean divergence.

    Only the *shape* of the std map must be known, as with a profile whose gain is off by a factor: eta multiplies the
    variance of the given law and adapts with every call that is differentiated (evaluation leaves it alone). What f
    loses by it is what a pixel's own measurement says beyond its neighbours. eta ends near the true factor from above:
    for a mean of k neighbours over a flat area at ``1 + 1 / k``.

    Attributes:
        multiplier: eta of the part that grows with the signal and of the constant part, (2,) float64.
        velocity: Running mean of their gradients, (2,).
        separate: Whether the two adapt apart (gain and read noise unknown) or as one factor.
        rate: Step of the ascent, in units of the given variance.
        momentum: Of the running mean, 0 to 1.
        step: Of the probe, in units of the given noise.

    Raises:
        ValueError: settings out of range.

    Source:
        Tachella, Davies & Jacques, "UNSURE: self-supervised learning with unknown noise level", ICLR 2025.
    """

    def __init__(
        self, *, separate: bool = False, rate: float = 0.1, momentum: float = 0.9, step: float = Stein.step
    ) -> None:
        at_least(rate, 0.0, "rate")
        at_least(step, 0.0, "step")
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum must be at least 0 and below 1, not {momentum:g}.")
        self.separate, self.rate, self.momentum, self.step = separate, rate, momentum, step
        self.multiplier = torch.ones(2, dtype=torch.float64)
        self.velocity = torch.zeros(2, dtype=torch.float64)
        self._started = False

    def risk(
        self,
        estimate: Estimate,
        y: Tensor,
        noise: PixelNoise,
        *,
        generator: torch.Generator,
        weights: Tensor | None = None,
    ) -> Risk:
        """As in `SelfLoss`; differentiated calls move the multiplier afterwards."""
        law, std = noise.fitted(y), noise.std(y)
        seen = estimate(y, std)
        slope = derivative(estimate, y, noise, seen=seen, std=std, step=self.step, generator=generator)
        grows = 2.0 * law.gain * y * slope.own
        constant = 2.0 * (law.sigma**2 * slope.own + slope.rows)
        first, second = self.multiplier.tolist()
        variance = first * law.gain * y + second * (law.sigma**2 + law.row**2)
        values = (seen - y).square() + first * grows + second * constant - variance
        counted = site_weights(weights, y)
        if torch.is_grad_enabled():
            unit = Risk(noise.variance(y), counted).mean().mean()
            self._ascend(*(Risk(part, counted).mean().mean() / unit for part in (grows, constant)))
        return Risk(values, counted)

    def _ascend(self, grows: Tensor, constant: Tensor) -> None:
        gradient = torch.stack([grows, constant]).detach().double().cpu()
        if not self.separate:
            gradient = gradient.sum().expand(2)
        # The first gradient starts the running mean: from zero it would begin too small.
        keep = self.momentum if self._started else 0.0
        self.velocity = keep * self.velocity + (1.0 - keep) * gradient
        self.multiplier = (self.multiplier + self.rate * self.velocity).clamp(min=0.0)
        self._started = True
