"""Parts that the blind-spot networks share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# Slope of the activation below zero: no unit can fall silent for good.
LEAK = 0.1
# The last layer starts this much below its usual size, so that training starts near what the caller adds to it.
LAST_LAYER_GAIN = 0.1


def checked_hole(hole: int) -> int:
    """The side of a hole: odd and at least 1.

    Raises:
        ValueError: any other number.
    """
    if hole < 1 or hole % 2 == 0:
        raise ValueError(f"A hole has an odd side of at least 1 pixel, not {hole}: it is centred on its pixel.")
    return hole


def check_positive(**sizes: int) -> None:
    """Refuse sizes below 1.

    Raises:
        ValueError: names the first one.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}.")


class HalfPlaneConv(nn.Module):
    """A 3x3 convolution that sees its own row and the two above it, followed by a leaky rectifier."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, D, H, W)."""
        return F.leaky_relu(self.conv(F.pad(x, (1, 1, 2, 0))), LEAK)


def shift_down(x: Tensor, rows: int) -> Tensor:
    """Move a picture down; zeros come in at the top, what leaves at the bottom is lost."""
    height = x.shape[-2]
    return F.pad(x, (0, 0, rows, 0))[..., :height, :]


class PixelHead(nn.Sequential):
    """1x1 layers from what was seen, and what is known of the pixel anyway, to the output."""

    def __init__(self, in_channels: int, width: int, out_channels: int) -> None:
        last = nn.Conv2d(width, out_channels, 1)
        super().__init__(
            nn.Conv2d(in_channels, width, 1),
            nn.LeakyReLU(LEAK),
            nn.Conv2d(width, width, 1),
            nn.LeakyReLU(LEAK),
            last,
        )
        last.weight.data.mul_(LAST_LAYER_GAIN)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
