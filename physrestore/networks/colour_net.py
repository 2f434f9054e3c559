"""The colour sibling of the workhorse: a denoiser of RGB pictures for use inside plug-and-play solvers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physrestore.networks.unet import UNet


@dataclass(frozen=True)
class ColourNetConfig:
    """Size of a `ColourNet`; as `physrestore.networks.mosaic_net.MosaicNetConfig`."""

    channels: tuple[int, ...] = (48, 64, 96)
    blocks: int = 1
    unshuffle: int = 2


class ColourNet(nn.Module):
    """Removes Gaussian noise of a known standard deviation, per pixel and colour, from a three-colour picture.

    Homogeneous: picture and noise times c give the result times c.

    Attributes:
        config: Its size.
    """

    def __init__(self, config: ColourNetConfig) -> None:
        super().__init__()
        self.config = config
        area = config.unshuffle**2
        self.trunk = UNet(6 * area, 3 * area, channels=config.channels, blocks=config.blocks)
        nn.init.normal_(self.trunk.tail.weight, std=1e-3)

    @property
    def multiple(self) -> int:
        """Sides that are multiples of it need no padding."""
        return self.config.unshuffle * self.trunk.factor

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise.

        Args:
            x: (B, 3, H, W).
            sigma: Std of the noise, broadcastable to x, same units.

        Returns:
            (B, 3, H, W).
        """
        height, width = x.shape[-2:]
        planes = torch.cat([x, sigma.to(x).expand_as(x)], dim=1)
        below, right = -height % self.multiple, -width % self.multiple
        if below or right:
            planes = F.pad(planes, (0, right, 0, below), mode="replicate")
        packed = F.pixel_unshuffle(planes, self.config.unshuffle)
        if packed.device.type == "cpu":
            packed = packed.to(memory_format=torch.channels_last)
        return x + F.pixel_shuffle(self.trunk(packed), self.config.unshuffle)[..., :height, :width]
