"""Noisier2Noise: predict the measurement from a noisier copy; serves every noise that can be drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.sampling.parameters import NoiseParameters
from noise_models.sampling.sampler import NoiseSampler
from physrestore.selfsup.losses.base import Estimate, Risk, SelfLoss, at_least, site_weights
from physrestore.selfsup.losses.pixel_noise import PixelNoise

# Mean image (B, C, H, W) to a measurement of it, drawn with a generator.
Measure = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Noisier(SelfLoss):
    """``|f(y + alpha n) - y|^2`` with n drawn by a sampler: row noise, tails, rounding, clipping and all.

    This is no estimate of the squared error. Its minimiser is the mean of ``y`` given its noisier copy, from which
    `average` makes that of the clean image: exact for Gaussian noise, and for ``alpha`` = 1 wherever both noises have
    the same law. Noise that grows with the signal is drawn around a stand-in for the clean image: the measurement, or
    better the estimate of it.

    Attributes:
        measure: Draws a measurement of a mean image; None: normal numbers of the given variance, rows included.
        alpha: Share of the noise that is added.
        around_estimate: Whether the noise is drawn around the network's estimate, without gradient, not around ``y``.

    Source:
        Moran, Schmidt, Zhong & Coady, "Noisier2Noise", CVPR 2020, eq. (9).
    """

    measure: Measure | None = None
    alpha: float = 1.0
    around_estimate: bool = False

    def __post_init__(self) -> None:
        """Refuse a share that adds no noise."""
        at_least(self.alpha, 0.0, "alpha")

    def risk(
        self,
        estimate: Estimate,
        y: Tensor,
        noise: PixelNoise,
        *,
        generator: torch.Generator,
        weights: Tensor | None = None,
    ) -> Risk:
        """As in `SelfLoss`; the mean over the noise is no squared error."""
        noisier, std = self._noisier(estimate, y, noise, generator)
        return Risk((estimate(noisier, std) - y).square(), site_weights(weights, y))

    def average(
        self, estimate: Estimate, y: Tensor, noise: PixelNoise, *, samples: int, generator: torch.Generator
    ) -> Tensor:
        """The clean image by a network trained with this loss: ``((1 + alpha^2) f(y') - y') / alpha^2``, averaged.

        Args:
            estimate: As in `SelfLoss`.
            y: As there.
            noise: As there.
            samples: Noisier copies.
            generator: Of the draws.
        """
        square = self.alpha**2
        total = torch.zeros_like(y)
        for _ in range(samples):
            noisier, std = self._noisier(estimate, y, noise, generator)
            total = total + ((1.0 + square) * estimate(noisier, std) - noisier) / square
        return total / samples

    def _noisier(
        self, estimate: Estimate, y: Tensor, noise: PixelNoise, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            mean = estimate(y, noise.std(y)) if self.around_estimate else y
            if self.measure is None:
                added = noise.draw(mean, generator=generator)
            else:
                added = self.measure(mean, generator) - mean
            std = (noise.variance(y) + self.alpha**2 * noise.variance(mean)).sqrt()
        return y + self.alpha * added, std


def of_sampler(sampler: NoiseSampler, *, cfa: Cfa, parameters: NoiseParameters) -> Measure:
    """Measurements by the calibrated chain with the noise of one setting.

    Args:
        sampler: Best without clipping at white: a clipped stand-in is clipped twice.
        cfa: Of the images.
        parameters: One set for all images, or one for each.
    """

    def measure(mean: Tensor, generator: torch.Generator) -> Tensor:
        one_for_all = len(parameters) == 1 and len(mean) > 1
        chosen = parameters.take([0] * len(mean)) if one_for_all else parameters
        return sampler.sample(mean, cfa=cfa, generator=generator, parameters=chosen).noisy

    return measure
