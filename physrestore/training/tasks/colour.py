"""The colour sibling's task: Gaussian noise of any level on white-balanced pictures, for use as a prior."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from physrestore.networks.colour_net import ColourNet, ColourNetConfig
from physrestore.training.pictures import Pictures
from physrestore.training.unprocess import Unprocessing

# Colours have different noise after white balance: spread (std of the logarithm) of each about the common level.
COLOUR_SPREAD = 0.3
# As in the mosaic's task: makes all noise levels count alike.
ERROR_POWER = 0.7


@dataclass(frozen=True)
class ColourTask:
    """See `physrestore.training.fit.Task`.

    Attributes:
        pictures: sRGB scenes.
        network: Size of the network.
        sigma: Range of the noise, log-uniform; white is about 1.
        side: Of a patch, pixels.
        count: Patches a batch.
        unprocessing: Of the scenes; the root of linear light after white balance is what is denoised.
    """

    pictures: Pictures = field(repr=False)
    network: ColourNetConfig = field(default_factory=ColourNetConfig)
    sigma: tuple[float, float] = (0.002, 0.3)
    side: int = 128
    count: int = 16
    unprocessing: Unprocessing = field(default_factory=lambda: Unprocessing(exposure=(0.1, 1.3)))

    def build(self) -> nn.Module:
        """The network."""
        return ColourNet(self.network)

    def batch(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Noisy pictures, the noise's std per colour, clean pictures."""
        display = self.pictures.crops(self.count, self.side, generator=generator)
        light, balance = self.unprocessing.draw(display, generator=generator)
        clean = (light * balance[..., None, None]).sqrt()
        low, high = (math.log(end) for end in self.sigma)
        level = low + (high - low) * torch.rand(self.count, 1, 1, 1, generator=generator)
        sigma = (level + COLOUR_SPREAD * torch.randn(self.count, 3, 1, 1, generator=generator)).exp()
        return clean + sigma * torch.randn(clean.shape, generator=generator), sigma, clean

    def loss(self, network: Callable[..., Tensor], batch: tuple[Tensor, ...]) -> Tensor:
        """Mean absolute error, every noise level with the same weight."""
        noisy, sigma, clean = batch
        error = (network(noisy, sigma).float() - clean).abs()
        return (error / sigma.mean(dim=1, keepdim=True) ** ERROR_POWER).mean()
