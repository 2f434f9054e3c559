"""A masked first convolution, then only steps that can never lead back: a blind spot in one pass.

The first k x k convolution leaves out its centre; every further 3x3 convolution steps s = (k + 1) / 2 pixels at a
time. A path of such steps ends on the pixel only if it started there, or a multiple of s away, and those taps are
zero. One pass, no rotations, but no pooling either: the receptive field grows by s a layer.

Source: Wu, Liu, Cao, Ren, Zuo, Unpaired learning of deep image denoising, ECCV 2020, section 3.2 (written anew from
the paper; the hole of any size and of whole rows is ours).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from physrestore.networks.blind_spot.layers import LEAK, PixelHead, check_positive, checked_hole


@dataclass(frozen=True)
class DilatedConfig:
    """The shape of a dilated blind-spot network.

    Attributes:
        in_channels: Of the values.
        context_channels: Of what is known un-blinded.
        out_channels: Of the output.
        width: Channels.
        blocks: Dilated convolutions of each branch.
        kernels: Sides of the masked convolutions, odd and at least 3, one branch each.
        own_row: Whether an output sees other pixels of its own row; False: the hole is a band of whole rows.
        hole: Side of the square, or height of the band; odd.

    Raises:
        ValueError: sizes below 1, an even hole, or a hole that leaves a kernel nothing to see.
    """

    in_channels: int
    context_channels: int
    out_channels: int
    width: int = 32
    blocks: int = 4
    kernels: tuple[int, ...] = (3, 5)
    own_row: bool = True
    hole: int = 1

    def __post_init__(self) -> None:
        """Check the sizes once."""
        check_positive(
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            width=self.width,
            blocks=self.blocks,
            kernels=len(self.kernels),
        )
        for kernel in self.kernels:
            visible_taps(kernel, hole=self.hole, own_row=self.own_row)


def visible_taps(kernel: int, *, hole: int, own_row: bool) -> Tensor:
    """Which taps of the first convolution may be used, (k, k) bool.

    Raises:
        ValueError: an even kernel or hole, or no tap left.

    >>> visible_taps(3, hole=1, own_row=True).int().tolist()
    [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    if kernel < 3 or kernel % 2 == 0:
        raise ValueError(f"A masked convolution has an odd side of at least 3, not {kernel}.")
    reach, step = kernel // 2, kernel // 2 + 1
    offsets = torch.arange(-reach, reach + 1)
    half = checked_hole(hole) // 2
    # Steps of `step` pixels can carry a tap at distance d to any d + n step: it is unsafe if one of those is inside.
    remainder = offsets % step
    unsafe = (remainder <= half) | (remainder >= step - half)
    visible = ~(unsafe[:, None] & (unsafe if own_row else torch.ones_like(unsafe)))
    if not bool(visible.any()):
        raise ValueError(
            f"A hole of {hole} hides all of a {kernel}x{kernel} convolution, for its steps of {step} lead back into "
            f"the hole. Use kernels of {4 * half + 3} or more, or a smaller hole."
        )
    return visible


class _Branch(nn.Module):
    """A masked convolution and the dilated ones after it."""

    def __init__(self, config: DilatedConfig, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        step = kernel // 2 + 1
        self.first = nn.Conv2d(config.in_channels, config.width, kernel, padding=kernel // 2)
        self.steps = nn.ModuleList(
            nn.Conv2d(config.width, config.width, 3, padding=step, dilation=step) for _ in range(config.blocks)
        )
        self.mixes = nn.ModuleList(nn.Conv2d(config.width, config.width, 1) for _ in range(config.blocks))

    def forward(self, values: Tensor, taps: Tensor) -> Tensor:
        weight = self.first.weight * taps.to(self.first.weight)
        x = F.leaky_relu(F.conv2d(values, weight, self.first.bias, padding=self.kernel // 2), LEAK)
        for step, mix in zip(self.steps, self.mixes, strict=True):
            x = x + mix(F.leaky_relu(step(x), LEAK))
        return x


class DilatedBlindSpot(nn.Module):
    """The network; see the module's text.

    Attributes:
        config: Its shape.

    >>> network = DilatedBlindSpot(DilatedConfig(in_channels=1, context_channels=1, out_channels=2, width=4))
    >>> network(torch.rand(1, 1, 9, 7), torch.ones(1, 1, 9, 7)).shape
    torch.Size([1, 2, 9, 7])
    """

    def __init__(self, config: DilatedConfig) -> None:
        super().__init__()
        self.config = config
        self.branches = nn.ModuleList(_Branch(config, kernel) for kernel in config.kernels)
        seen = len(config.kernels) * config.width + config.context_channels
        self.head = PixelHead(seen, 2 * config.width, config.out_channels)

    @property
    def grid(self) -> int:
        """Tiles that start on multiples of it predict what the whole frame does."""
        return 1

    def reach(self, hole: int) -> int:  # noqa: ARG002 (the same question is asked of every architecture)
        """Pixels beyond which nothing changes an output; a hole takes away within."""
        return max(kernel // 2 + self.config.blocks * (kernel // 2 + 1) for kernel in self.config.kernels)

    def forward(self, values: Tensor, context: Tensor, *, hole: int | None = None) -> Tensor:
        """Predict every pixel from the others: (B, C, H, W) and (B, K, H, W) to (B, out_channels, H, W).

        Raises:
            ValueError: an even hole, or one that leaves nothing to see.
        """
        hole = self.config.hole if hole is None else hole
        features = [
            branch(values, visible_taps(kernel, hole=hole, own_row=self.config.own_row))
            for branch, kernel in zip(self.branches, self.config.kernels, strict=True)
        ]
        out: Tensor = self.head(torch.cat([*features, context], dim=1))
        return out
