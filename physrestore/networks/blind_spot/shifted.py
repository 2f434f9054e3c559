"""Half-plane U-Nets looking up from every side: an exact blind spot with an unlimited receptive field.

Each branch sees only rows above a pixel: convolutions are padded at the top, pooling takes the row above along, and a
last shift hides the pixel's own row. Four branches, one per quarter turn, see all around the pixel. Two branches, one
upright and one upside down, see all but its own row, which is what noise shared by a row asks for. The last shift sets
the size of the hole: it is a slice, not a weight, and may be changed after training.

Source: Laine, Karras, Lehtinen, Aila, High-quality self-supervised deep image denoising, NeurIPS 2019, section 2 (the
architecture, written anew from the paper); hole sizes after Chen et al., Exploring asymmetric tunable blind-spots for
self-supervised denoising, NeurIPS 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from physrestore.networks.blind_spot.layers import HalfPlaneConv, PixelHead, check_positive, checked_hole, shift_down


@dataclass(frozen=True)
class ShiftedConfig:
    """The shape of a shifted blind-spot network.

    Attributes:
        in_channels: Of the values.
        context_channels: Of what is known un-blinded.
        out_channels: Of the output.
        width: Channels of every convolution.
        depth: Times the resolution is halved.
        rotations: 4: the hole is a square; 2: it is a band of whole rows.
        hole: Side of the square, or height of the band; odd.

    Raises:
        ValueError: sizes below 1, an even hole, or another number of rotations.
    """

    in_channels: int
    context_channels: int
    out_channels: int
    width: int = 24
    depth: int = 2
    rotations: Literal[2, 4] = 4
    hole: int = 1

    def __post_init__(self) -> None:
        """Check the sizes once."""
        check_positive(in_channels=self.in_channels, out_channels=self.out_channels, width=self.width, depth=self.depth)
        checked_hole(self.hole)
        if self.rotations not in (2, 4):
            raise ValueError(f"rotations is 4 (square hole) or 2 (own row hidden), not {self.rotations}.")

    @property
    def own_row(self) -> bool:
        """Whether an output sees other pixels of its own row."""
        return self.rotations == 4


class HalfPlaneUNet(nn.Module):
    """A U-Net whose output in a row depends on this row and those above it."""

    def __init__(self, in_channels: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.first = nn.Sequential(HalfPlaneConv(in_channels, width), HalfPlaneConv(width, width))
        self.down = nn.ModuleList(HalfPlaneConv(width, width) for _ in range(depth))
        self.up = nn.ModuleList(
            nn.Sequential(HalfPlaneConv(2 * width, width), HalfPlaneConv(width, width)) for _ in range(depth)
        )

    @property
    def reach(self) -> int:
        """Rows above (and columns beside) a pixel that its output depends on, at most."""
        rows = 4  # two convolutions
        for level in range(self.depth):
            step = 2**level
            # Down: the shift, the pool, a convolution at the coarser level. Up: the coarser pixel, two convolutions.
            rows += (step + step + 4 * step) + (step + 4 * step)
        return rows

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) of any size to (B, width, H, W)."""
        height, width = x.shape[-2:]
        step = 2**self.depth
        # Below and to the right nothing is invented that a row above could see.
        x = self.first(F.pad(x, (0, -width % step, 0, -height % step)))
        skips = []
        for layer in self.down:
            skips.append(x)
            # Rows 2k and 2k+1 become one; moved down first, they hold nothing below row 2k.
            x = layer(F.max_pool2d(shift_down(x, 1), 2))
        for layer in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = layer(torch.cat([x, skips.pop()], dim=1))
        return x[..., :height, :width]


class ShiftedBlindSpot(nn.Module):
    """The network; see the module's text.

    Attributes:
        config: Its shape.

    >>> network = ShiftedBlindSpot(ShiftedConfig(in_channels=1, context_channels=1, out_channels=2, width=4))
    >>> network(torch.rand(1, 1, 9, 7), torch.ones(1, 1, 9, 7)).shape
    torch.Size([1, 2, 9, 7])
    """

    def __init__(self, config: ShiftedConfig) -> None:
        super().__init__()
        self.config = config
        self.branch = HalfPlaneUNet(config.in_channels, width=config.width, depth=config.depth)
        seen = config.rotations * config.width + config.context_channels
        self.head = PixelHead(seen, 2 * config.width, config.out_channels)

    def forward(self, values: Tensor, context: Tensor, *, hole: int | None = None) -> Tensor:
        """Predict every pixel from the others.

        Args:
            values: (B, C, H, W).
            context: (B, K, H, W).
            hole: Side of the hole; None: the configuration's.

        Returns:
            (B, out_channels, H, W).

        Raises:
            ValueError: an even hole.
        """
        hidden = (checked_hole(self.config.hole if hole is None else hole) + 1) // 2
        features = [*self._looking(values, 0, hidden)]
        if self.config.rotations == 4:
            features += self._looking(values, 1, hidden)
        out: Tensor = self.head(torch.cat([*features, context], dim=1))
        return out

    @property
    def grid(self) -> int:
        """Tiles that start on multiples of it, in frames whose sides are, predict what the whole frame does."""
        return 1 << self.config.depth

    def reach(self, hole: int) -> int:
        """Pixels beyond which nothing changes an output, at most."""
        return self.branch.reach + (hole + 1) // 2

    def _looking(self, values: Tensor, turns: int, hidden: int) -> tuple[Tensor, Tensor]:
        """Features from two opposite sides: turned by ``turns`` and by ``turns + 2`` quarters."""
        turned = torch.cat([torch.rot90(values, turns, (-2, -1)), torch.rot90(values, turns + 2, (-2, -1))])
        one, other = shift_down(self.branch(turned), hidden).chunk(2)
        return torch.rot90(one, -turns, (-2, -1)), torch.rot90(other, -turns - 2, (-2, -1))
