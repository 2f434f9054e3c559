"""CSCNet: convolutional sparse coding with a large stride, averaged over all shifts of its grid.

Source:
    Simon, Elad, "Rethinking the CSC model for natural images", NeurIPS 2019. Parameters at the paper's size: 63,700.

With a stride of nearly a filter's side the codes are those of patches that overlap little, which is where sparse coding
works; the average over all positions of the grid then plays the part of the MMSE estimate. It is what the quality hangs
on, and what it costs: stride^2 passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from physrestore.networks.borders import pad_mirrored, require_pictures
from physrestore.networks.dncnn import INITIAL_SEED
from physrestore.networks.patches import add_patches, take_patches
from physrestore.networks.shrinkage import largest_eigenvalue, lista_step, soft_threshold

# Threshold of an untrained network, for pictures in 0..1 (the paper's).
INITIAL_THRESHOLD = 0.01


@dataclass(frozen=True)
class CSCNetConfig:
    """Sizes of a CSCNet; the defaults are those of the paper.

    Attributes:
        channels: Of the picture.
        filters: Of each of the three dictionaries.
        kernel: Side of the filters [pixels].
        stride: Of the grid of codes [pixels], at most ``kernel``.
        unfoldings: Thresholdings.
        level: Std of the noise that it is made for, in the picture's unit.
    """

    channels: int = 1
    filters: int = 175
    kernel: int = 11
    stride: int = 8
    unfoldings: int = 12
    level: float = 25 / 255


class CSCNet(nn.Module):
    """Codes a picture on every shift of a coarse grid, and averages what the codes synthesise; made for one level.

    Args:
        config: Sizes.

    Attributes:
        synthesis: "A" of the paper: from codes to the picture inside the unfolding.
        analysis: "B": from the picture to codes.
        output: "C": from the last codes to the result. All three (filters, channels * kernel * kernel).
        threshold: (filters,), shared by all unfoldings.
    """

    def __init__(self, config: CSCNetConfig) -> None:
        super().__init__()
        self.config = config
        shape = (config.filters, config.channels * config.kernel**2)
        self.synthesis, self.analysis, self.output = (nn.Parameter(torch.empty(shape)) for _ in range(3))
        self.threshold = nn.Parameter(torch.full((config.filters,), INITIAL_THRESHOLD))
        self.reset(torch.Generator().manual_seed(INITIAL_SEED))

    @property
    def halo(self) -> int:
        """Pixels from which an output value can depend on the input; tiles may start anywhere."""
        kernel, stride = self.config.kernel, self.config.stride
        # Codes see each other where their filters overlap: once more in every unfolding after the first.
        neighbours = stride * ((kernel - 1) // stride)
        return kernel - 1 + neighbours * (self.config.unfoldings - 1)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Three copies of one random dictionary, scaled so that the first step of the iteration is stable."""
        config = self.config
        filters = torch.randn(self.analysis.shape, generator=generator)
        side = config.kernel + 4 * config.stride
        start = torch.randn(1, 25, config.filters, generator=generator)

        def normal(codes: Tensor) -> Tensor:
            picture = add_patches(codes @ filters, (side, side), config.kernel, stride=config.stride)
            return take_patches(picture, config.kernel, stride=config.stride) @ filters.T

        filters /= largest_eigenvalue(normal, start) ** 0.5
        for parameter in (self.synthesis, self.analysis, self.output):
            parameter.copy_(filters)
        self.threshold.fill_(INITIAL_THRESHOLD)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: ARG002  (the contract of all networks)
        """Denoise. Memory is that of one shift, as long as no gradient is asked for.

        Args:
            x: (B, C, H, W).
            sigma: Not used: the level is `CSCNetConfig.level`.

        Raises:
            PriorError: ``x`` has another shape.
        """
        require_pictures(x, channels=self.config.channels, network="CSCNet")
        stride = self.config.stride
        total = torch.zeros_like(x)
        for shift in range(stride**2):
            total = total + self.on_grid(x, *divmod(shift, stride))
        return total / stride**2

    def on_grid(self, x: Tensor, down: int, right: int) -> Tensor:
        """Denoise on one grid only: the estimate of one shift, far worse than the average.

        Args:
            x: (B, C, H, W).
            down: Shift of the grid [pixels], 0..stride - 1, like ``right``.
            right: See ``down``.
        """
        height, width = x.shape[-2:]
        top, bottom = self._margins(height, down)
        left, after = self._margins(width, right)
        padded = pad_mirrored(x, left=left, right=after, top=top, bottom=bottom)
        decoded = self._on_padded(padded)
        return decoded[..., top : top + height, left : left + width]

    def _margins(self, size: int, shift: int) -> tuple[int, int]:
        """Mirrored pixels before and behind, so that whole filters cover a shifted line and its first neighbours.

        The published code pads in the same way, which decides the last 0.01 dB near borders.
        """
        stride = self.config.stride
        missing = self.config.kernel - size - stride
        return stride - shift, max(missing, missing % stride) + stride + shift

    def _on_padded(self, y: Tensor) -> Tensor:
        """Code and decode a picture whose sides the grid fills exactly."""
        size = (y.shape[-2], y.shape[-1])
        kernel, stride = self.config.kernel, self.config.stride
        codes = soft_threshold(take_patches(y, kernel, stride=stride) @ self.analysis.T, self.threshold)
        for _ in range(self.config.unfoldings - 1):
            unexplained = y - add_patches(codes @ self.synthesis, size, kernel, stride=stride)
            codes = lista_step(
                codes, take_patches(unexplained, kernel, stride=stride) @ self.analysis.T, self.threshold
            )
        return add_patches(codes @ self.output, size, kernel, stride=stride)
