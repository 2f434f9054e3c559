"""The colour sibling of the workhorse: a denoiser of RGB pictures for use inside plug-and-play solvers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physrestore.networks.local_mean import LocalMean
from physrestore.networks.mosaic_net import bounded
from physrestore.networks.unet import UNet, as_trunks_input


@dataclass(frozen=True)
class ColourNetConfig:
    """Size of a `ColourNet`; as `physrestore.networks.mosaic_net.MosaicNetConfig`."""

    channels: tuple[int, ...] = (48, 64, 96)
    blocks: int = 1
    unshuffle: int = 2


class ColourNet(nn.Module):
    """Removes Gaussian noise of a known standard deviation, per pixel and colour, from a three-colour picture.

    Its trunk sees the picture's contrast, the noise, and the local means (`LocalMean`). A value is corrected by at most
    `LARGEST_CORRECTION` standard deviations of its noise, smoothly bounded, as in `MosaicNet`. Homogeneous: picture and
    noise times c give the result times c.

    Attributes:
        config: Its size.
    """

    def __init__(self, config: ColourNetConfig) -> None:
        super().__init__()
        self.config = config
        area = config.unshuffle**2
        self.trunk = UNet(9 * area, 3 * area, channels=config.channels, blocks=config.blocks)
        nn.init.normal_(self.trunk.tail.weight, std=1e-3)
        self.local_mean = LocalMean()

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
        levels, mean = sigma.to(x).expand_as(x), self.local_mean(x, torch.ones_like(x[:1]))
        planes = as_trunks_input([x - mean, levels, mean])
        below, right = -height % self.multiple, -width % self.multiple
        if below or right:
            planes = F.pad(planes, (0, right, 0, below), mode="replicate")
        packed = F.pixel_unshuffle(planes, self.config.unshuffle)
        correction = F.pixel_shuffle(self.trunk(packed), self.config.unshuffle)[..., :height, :width].to(x)
        return x + bounded(correction, levels)
