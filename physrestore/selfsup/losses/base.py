"""The contract of the losses: an estimate of the noise-free measurement goes in, its risk at every site comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from physrestore.operators.shapes import fit
from physrestore.selfsup.losses.pixel_noise import PixelNoise

# Measurement (B, C, H, W) and the std of its noise, same shape, to an estimate of the noise-free measurement.
Estimate = Callable[[Tensor, Tensor], Tensor]


class Risk(NamedTuple):
    """Squared error by site, as far as it can be known without the truth.

    Attributes:
        values: (B, C, H, W); of unbiased losses the mean over the noise is the squared error. They can be negative.
        weights: Same shape, not negative; 0 where a value says nothing.
    """

    values: Tensor
    weights: Tensor

    def mean(self) -> Tensor:
        """The weighted mean of every image, (B,).

        Raises:
            ValueError: an image without a site that counts.
        """
        total = self.weights.flatten(1).sum(1)
        if not bool((total > 0).all()):
            raise ValueError("An image has no site that counts: all weights are 0. Give larger images or more weights.")
        return (self.values * self.weights).flatten(1).sum(1) / total


class SelfLoss(ABC):
    """A loss on measurements alone, for an estimate that maps a measurement to a measurement."""

    def __call__(
        self,
        estimate: Estimate,
        y: Tensor,
        noise: PixelNoise,
        *,
        generator: torch.Generator,
        weights: Tensor | None = None,
    ) -> Tensor:
        """The loss of every image, (B,).

        Args:
            estimate: The network, called with a measurement and the std of *its* noise (losses change the noise).
            y: Measurements (B, C, H, W), negative values kept.
            noise: Of ``y``.
            generator: Of everything that is drawn.
            weights: Of the sites, broadcasting to ``y``: 0 for clipped and defective ones. They must not depend on the
                noise of ``y``, or the loss is biased. None: all count the same.

        Raises:
            ValueError: shapes that do not fit, noise that this loss cannot be right for, or no site that counts.
        """
        return self.risk(estimate, y, noise, generator=generator, weights=weights).mean()

    @abstractmethod
    def risk(
        self,
        estimate: Estimate,
        y: Tensor,
        noise: PixelNoise,
        *,
        generator: torch.Generator,
        weights: Tensor | None = None,
    ) -> Risk:
        """The loss by site; arguments as in `__call__`."""


def site_weights(weights: Tensor | None, y: Tensor) -> Tensor:
    """Weights of every value of ``y``, ones if there are none.

    Raises:
        ValueError: negative weights, or weights that do not broadcast.
    """
    if weights is None:
        return torch.ones_like(y)
    shaped = fit(weights.to(y.dtype), y, name="weights")
    if not bool((shaped >= 0).all()):
        raise ValueError(f"Weights must not be negative; the lowest is {float(shaped.min()):g}.")
    return shaped.expand(y.shape)


def refuse_rows(noise: PixelNoise, loss: str) -> None:
    """For losses that take the noise of neighbours for independent.

    Raises:
        ValueError: the noise has row offsets.
    """
    if noise.has_rows:
        raise ValueError(
            f"{loss} takes the noise of pixels for independent, but rows share an offset of std up to "
            f"{float(noise.row.max()):g}: it would be learned as signal. Use Recorrupted, Stein, or Noise2Void with "
            "hide='rows'."
        )


def at_least(value: float, lowest: float, name: str, *, below: float = float("inf")) -> None:
    """Check a setting of a loss.

    Raises:
        ValueError: not above ``lowest``, or not below ``below``.
    """
    if not lowest < value < below:
        limit = "" if below == float("inf") else f" and below {below:g}"
        raise ValueError(f"{name} must be above {lowest:g}{limit}, not {value:g}.")
