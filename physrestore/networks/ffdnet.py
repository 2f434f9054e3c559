"""FFDNet: convolutions at half resolution that are told the noise level as one more plane.

Source:
    Zhang, Zuo, Zhang, "FFDNet: toward a fast and flexible solution for CNN-based image denoising", IEEE TIP 2018.
    Parameters, normalisation folded: 485,316 (gray, 15 layers of 64), 852,108 (colour, 12 layers of 96).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from physrestore.networks.borders import level_in_blocks, pad_to_multiple, require_pictures
from physrestore.networks.dncnn import INITIAL_SEED, channels_last_on_cpu, reset_convolutions

# Side of the blocks that become planes: half resolution, as in the paper.
BLOCK = 2


@dataclass(frozen=True)
class FFDNetConfig:
    """Sizes of an FFDNet; the defaults are those of the paper for gray pictures.

    Attributes:
        channels: Of the picture.
        features: Of the hidden layers.
        layers: Convolutions.
    """

    channels: int = 1
    features: int = 64
    layers: int = 15

    @classmethod
    def published(cls, *, channels: int = 1) -> FFDNetConfig:
        """Gray (15 layers of 64) or colour (12 layers of 96)."""
        return cls() if channels == 1 else cls(channels=channels, features=96, layers=12)


class FFDNet(nn.Module):
    """Estimates the clean picture from the noisy one and a map of the noise level.

    Args:
        config: Sizes.
    """

    def __init__(self, config: FFDNetConfig) -> None:
        super().__init__()
        self.config = config
        planes = config.channels * BLOCK**2
        widths = [planes + 1, *[config.features] * (config.layers - 1), planes]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(widths[k], widths[k + 1], 3, padding=1) for k in range(config.layers)
        )
        self.reset(torch.Generator().manual_seed(INITIAL_SEED))

    @property
    def multiple(self) -> int:
        """Sides that are multiples of it need no padding; tiles that start at multiples of it see the same grid."""
        return BLOCK

    @property
    def halo(self) -> int:
        """Pixels around a tile (that starts at a multiple) from which its output can depend on the input."""
        return BLOCK * self.config.layers

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights, on the CPU."""
        reset_convolutions(self, generator)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise.

        Args:
            x: (B, C, H, W).
            sigma: Std of the noise, broadcasts to (B, 1, H, W).

        Raises:
            PriorError: ``x`` has another shape.
        """
        require_pictures(x, channels=self.config.channels, network="FFDNet")
        height, width = x.shape[-2:]
        planes = F.pixel_unshuffle(pad_to_multiple(x, BLOCK), BLOCK)
        level = level_in_blocks(sigma.to(x), (height, width), BLOCK).expand(x.shape[0], 1, *planes.shape[-2:])
        hidden = channels_last_on_cpu(torch.cat([planes, level], dim=1))
        for layer in self.convolutions[:-1]:
            hidden = F.relu(layer(hidden))
        clean = F.pixel_shuffle(self.convolutions[-1](hidden), BLOCK)
        return clean[..., :height, :width]
