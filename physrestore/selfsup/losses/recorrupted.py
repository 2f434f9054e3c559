"""Recorrupted to recorrupted (R2R): two measurements with independent noise made of one, for any known covariance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from physrestore.selfsup.losses.base import Estimate, Risk, SelfLoss, at_least, site_weights
from physrestore.selfsup.losses.pixel_noise import PixelNoise


@dataclass(frozen=True)
class Recorrupted(SelfLoss):
    """``|f(y + alpha n) - (y - n / alpha)|^2`` with n drawn from the law of the noise, less what n adds by itself.

    Input and target have independent noise, so the loss is the squared error of ``f(y + alpha n)`` plus a constant. The
    constant is subtracted as it was drawn, not on average: the same gradient with ``1 / alpha^2`` less variance.

    Exact for Gaussian noise of any std map and with row noise. Noise that grows with the signal is drawn with the
    variance that ``y`` itself suggests: exact for linear f while no signal lies within the noise of zero; otherwise the
    bias is of the order of gain^2 times the second derivative of f, negligible above some ten electrons.

    Attributes:
        alpha: Share of the noise that is added to the input: its variance grows by ``1 + alpha^2``.

    Source:
        Pang et al., "Recorrupted-to-Recorrupted", CVPR 2021; Monroy, Bacca & Tachella, "Generalized
        Recorrupted-to-Recorrupted", CVPR 2025.
    """

    alpha: float = 0.5

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
        """As in `SelfLoss`."""
        drawn = noise.draw(y, generator=generator)
        residual = estimate(y + self.alpha * drawn, self._std(y, noise)) - y
        # (f - y + n / alpha)^2 - n^2 / alpha^2, written without the cancellation.
        values = residual * (residual + (2.0 / self.alpha) * drawn) - noise.expected_variance(y)
        return Risk(values, site_weights(weights, y))

    def average(
        self, estimate: Estimate, y: Tensor, noise: PixelNoise, *, samples: int, generator: torch.Generator
    ) -> Tensor:
        """What a network trained by this loss knows of ``y``: its mean over recorruptions of ``y``.

        Args:
            estimate: As in `SelfLoss`.
            y: As there.
            noise: As there.
            samples: Recorruptions; the noise that was added averages out with their number.
            generator: Of the draws.
        """
        std = self._std(y, noise)
        total = sum(estimate(y + self.alpha * noise.draw(y, generator=generator), std) for _ in range(samples))
        return torch.as_tensor(total) / samples

    def _std(self, y: Tensor, noise: PixelNoise) -> Tensor:
        return noise.std(y) * math.sqrt(1.0 + self.alpha**2)
