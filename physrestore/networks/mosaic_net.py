"""The workhorse: a mosaic of any colour filter array in, three clean colours at every site out, in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physrestore.networks.unet import UNet

# Bilinear interpolation where one site in four (two) is measured; a measured site itself is kept outside the kernel.
_QUINCUNX_OF_FOUR = ((0.25, 0.5, 0.25), (0.5, 0.0, 0.5), (0.25, 0.5, 0.25))
_QUINCUNX_OF_TWO = ((0.0, 0.25, 0.0), (0.25, 0.0, 0.25), (0.0, 0.25, 0.0))


@dataclass(frozen=True)
class MosaicNetConfig:
    """Size of a `MosaicNet`.

    Attributes:
        channels: Of every level of the trunk, the finest first.
        blocks: Residual blocks a level, on each way.
        unshuffle: 1: the finest level of the trunk works on sites, so that one filter serves all phases; 2: on quads.
    """

    channels: tuple[int, ...] = (12, 32, 48, 64)
    blocks: int = 1
    unshuffle: int = 1


class MosaicNet(nn.Module):
    """Joint demosaicking and denoising, conditioned on the noise of every site.

    It sees six planes: the mosaic's values and the noise's standard deviation, each spread over R, G, B by the colour
    filter array, so that one set of weights serves every Bayer phase and X-Trans. Values are those of
    `physrestore.working_space`: white-balanced, about the square root of light, with noise that depends on the colour
    only. The map is homogeneous: values and noise times c give the result times c.

    Attributes:
        config: Its size.
    """

    def __init__(self, config: MosaicNetConfig) -> None:
        super().__init__()
        self.config = config
        area = config.unshuffle**2
        self.trunk = UNet(6 * area, 3 * area, channels=config.channels, blocks=config.blocks)
        # The linear part of interpolation, which the trunk then corrects.
        self.interpolation = nn.Conv2d(3 * area, 3 * area, 5, padding=2, bias=False)
        self._start_bilinear()
        nn.init.normal_(self.trunk.tail.weight, std=1e-3)

    @torch.no_grad()
    def _start_bilinear(self) -> None:
        """At full resolution, begin as bilinear interpolation of a Bayer mosaic, whatever its phase."""
        nn.init.zeros_(self.interpolation.weight)
        if self.config.unshuffle == 1:
            for colour, kernel in enumerate((_QUINCUNX_OF_FOUR, _QUINCUNX_OF_TWO, _QUINCUNX_OF_FOUR)):
                self.interpolation.weight[colour, colour, 1:4, 1:4] = torch.tensor(kernel)

    @property
    def multiple(self) -> int:
        """Sides that are multiples of it need no padding; tiles that start at multiples of it see the same grid."""
        return self.config.unshuffle * self.trunk.factor

    @property
    def halo(self) -> int:
        """Pixels from which an output value can depend on the input."""
        reach, scale = 2, self.config.unshuffle  # head and tail
        for level in range(len(self.config.channels)):
            ways = 1 if level == len(self.config.channels) - 1 else 2
            reach += (2 * self.config.blocks * ways + 1) * 2**level
        return scale * reach

    def forward(self, mosaic: Tensor, noise: Tensor, colours: Tensor) -> Tensor:
        """Restore.

        Args:
            mosaic: (B, 1, H, W), values of the working space.
            noise: Std of the noise, broadcastable to (B, 1, H, W), same units.
            colours: One-hot R, G, B of every site, broadcastable to (B, 3, H, W).

        Returns:
            (B, 3, H, W).
        """
        height, width = mosaic.shape[-2:]
        values = (mosaic * colours).to(mosaic)
        planes = torch.cat([values, (noise * colours).to(mosaic).expand_as(values)], dim=1)
        below, right = -height % self.multiple, -width % self.multiple
        if below or right:
            planes = F.pad(planes, (0, right, 0, below), mode="constant")
        packed = planes if self.config.unshuffle == 1 else F.pixel_unshuffle(planes, self.config.unshuffle)
        if packed.device.type == "cpu":
            packed = packed.to(memory_format=torch.channels_last)
        kept = packed[:, : 3 * self.config.unshuffle**2]
        with torch.autocast(packed.device.type, enabled=False):  # whole values; only corrections may be rounded
            linear = self.interpolation(kept) + kept
        out = self.trunk(packed) + linear
        sites = out if self.config.unshuffle == 1 else F.pixel_shuffle(out, self.config.unshuffle)
        return sites[..., :height, :width]
