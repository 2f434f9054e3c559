"""The baseline: an ordinary network that is shown the picture with holes cut into it, once for every lattice of holes.

Slow, since all ``spacing^2`` lattices must be run to predict every pixel, and each run misses the other holes too; but
any architecture works inside. Training runs one lattice at a time.

Source: Krull, Buchholz, Jug, Noise2Void, CVPR 2019; Batson, Royer, Noise2Self, ICML 2019 (predicting on the hidden
pixels only, which makes the spot blind exactly).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from physrestore.networks.blind_spot.layers import LEAK, PixelHead, check_positive, checked_hole


@dataclass(frozen=True)
class MaskedConfig:
    """The shape of a masked-centre network.

    Attributes:
        in_channels: Of the values.
        context_channels: Of what is known un-blinded.
        out_channels: Of the output.
        width: Channels.
        depth: Times the resolution is halved.
        spacing: Rows and columns between the holes of one lattice.
        own_row: False: whole rows are hidden instead of squares.
        hole: Side of a square, or height of a band; odd, below the spacing.

    Raises:
        ValueError: sizes below 1, an even hole, or one that leaves nothing between the holes.
    """

    in_channels: int
    context_channels: int
    out_channels: int
    width: int = 24
    depth: int = 2
    spacing: int = 4
    own_row: bool = True
    hole: int = 1

    def __post_init__(self) -> None:
        """Check the sizes once."""
        check_positive(in_channels=self.in_channels, out_channels=self.out_channels, width=self.width, depth=self.depth)
        _room(self.hole, self.spacing)

    @property
    def lattices(self) -> int:
        """Lattices that together cover every pixel."""
        return self.spacing**2 if self.own_row else self.spacing


def _room(hole: int, spacing: int) -> int:
    if checked_hole(hole) >= spacing:
        raise ValueError(f"Holes of {hole} pixels every {spacing} pixels leave nothing to see. Raise the spacing.")
    return hole


class MaskedBlindSpot(nn.Module):
    """The network; see the module's text.

    Attributes:
        config: Its shape.

    >>> network = MaskedBlindSpot(MaskedConfig(in_channels=1, context_channels=1, out_channels=2, width=4))
    >>> network(torch.rand(1, 1, 9, 7), torch.ones(1, 1, 9, 7)).shape
    torch.Size([1, 2, 9, 7])
    """

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        # One more channel tells a hole from a dark pixel.
        self.first = nn.Sequential(_conv(config.in_channels + 1, width), _conv(width, width))
        self.down = nn.ModuleList(_conv(width, width) for _ in range(config.depth))
        self.up = nn.ModuleList(
            nn.Sequential(_conv(2 * width, width), _conv(width, width)) for _ in range(config.depth)
        )
        self.head = PixelHead(width + config.context_channels, 2 * width, config.out_channels)

    def forward(
        self, values: Tensor, context: Tensor, *, hole: int | None = None, lattices: tuple[int, ...] | None = None
    ) -> Tensor:
        """Predict pixels from those outside their lattice's holes.

        Args:
            values: (B, C, H, W).
            context: (B, K, H, W).
            hole: Side of the holes; None: the configuration's.
            lattices: Those to run; pixels of the others stay 0. None: all.

        Returns:
            (B, out_channels, H, W).

        Raises:
            ValueError: an even hole, or one that leaves nothing between the holes.
        """
        hole = _room(self.config.hole if hole is None else hole, self.config.spacing)
        out: Tensor | None = None
        for lattice in range(self.config.lattices) if lattices is None else lattices:
            centres = self.centres(lattice, values)
            hidden = F.max_pool2d(centres.to(values), (hole, hole), stride=1, padding=hole // 2)
            visible = (1.0 - hidden).expand(values.shape[0], -1, -1, -1)
            predicted = self.head(torch.cat([self._features(torch.cat([values * visible, visible], 1)), context], 1))
            chosen = torch.where(centres, predicted, torch.zeros_like(predicted))
            out = chosen if out is None else out + chosen
        if out is None:
            raise ValueError("lattices is empty: give at least one, or None for all.")
        return out

    @property
    def grid(self) -> int:
        """Tiles that start on multiples of it predict what the whole frame does."""
        return math.lcm(1 << self.config.depth, self.config.spacing)

    def reach(self, hole: int) -> int:  # noqa: ARG002 (the same question is asked of every architecture)
        """Pixels beyond which nothing changes an output, at most; tiles must start on the holes' lattice."""
        # Two convolutions, then at every level the pool, one convolution down, and on the way up three roundings.
        return 2 + sum((1 + 2 + 1 + 2) << level for level in range(self.config.depth))

    def centres(self, lattice: int, like: Tensor) -> Tensor:
        """Pixels that a lattice predicts: (1, 1, H, W) bool."""
        height, width = like.shape[-2:]
        spacing = self.config.spacing
        rows = torch.arange(height, device=like.device) % spacing == lattice % spacing
        columns = torch.arange(width, device=like.device) % spacing == lattice // spacing
        chosen = rows[:, None] & columns if self.config.own_row else rows[:, None].expand(height, width)
        return chosen[None, None]

    def _features(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        step = 2**self.config.depth
        x = self.first(F.pad(x, (0, -width % step, 0, -height % step)))
        skips = []
        for layer in self.down:
            skips.append(x)
            x = layer(F.max_pool2d(x, 2))
        for layer in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = layer(torch.cat([x, skips.pop()], dim=1))
        return x[..., :height, :width]


def _conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.LeakyReLU(LEAK))
