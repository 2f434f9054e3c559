"""CDLNet: an unrolled convolutional dictionary whose thresholds grow with the noise; a mask makes it demosaic too.

Source:
    Janjusevic, Khalilian-Gourtani, Wang, "CDLNet: noise-adaptive convolutional dictionary learning network for blind
    denoising and demosaicing", IEEE OJSP 2022. Parameters: 64,000 (32 filters, 20 unfoldings), 507,000 (169 filters,
    30 unfoldings).

Strided convolutions are computed as dense ones on the blocks of the stride (pixel-unshuffled planes): the same numbers
at half of the time on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from physrestore.errors import PriorError
from physrestore.networks.borders import level_in_blocks, pad_to_multiple, require_pictures
from physrestore.networks.dncnn import INITIAL_SEED
from physrestore.networks.shrinkage import largest_eigenvalue, lista_step

# Thresholds of an untrained network (the paper's): a constant for pictures in 0..1, as much again per unit of noise.
INITIAL_THRESHOLD = 0.01
# The same without the constant: about the std that noise of 1 has in the codes of such a dictionary.
INITIAL_FACTOR = 0.3
# Side of the picture on which the untrained dictionary's norm is measured: wider than any filter, small enough to be
# quick.
NORM_SIDE = 32


@dataclass(frozen=True)
class CDLNetConfig:
    """Sizes of a CDLNet; the defaults are those of the paper's small gray network.

    Attributes:
        channels: Of the picture.
        filters: Of each dictionary.
        kernel: Side of the filters, odd [pixels].
        stride: Of the codes' grid [pixels].
        unfoldings: Thresholdings, each with its own analysis and synthesis.
        constant_thresholds: Whether thresholds have a part that does not grow with the noise, as in the paper. Without
            it the map is homogeneous: ``D(c x, c sigma) = c D(x, sigma)``.
    """

    channels: int = 1
    filters: int = 32
    kernel: int = 7
    stride: int = 1
    unfoldings: int = 20
    constant_thresholds: bool = True

    @classmethod
    def published(cls, *, large: bool = False) -> CDLNetConfig:
        """The paper's gray networks."""
        return cls(filters=169, unfoldings=30) if large else cls()


class CDLNet(nn.Module):
    """Denoises, and fills in what a mask says was not measured.

    Call `project` after every step of an optimiser.

    Args:
        config: Sizes.

    Attributes:
        analysis: (unfoldings, filters, channels, kernel, kernel).
        synthesis: Same shape; the first, which no unfolding uses, makes the result of the last codes.
        threshold: (unfoldings, 2, filters): a constant, and a factor of the noise's std.
    """

    def __init__(self, config: CDLNetConfig) -> None:
        super().__init__()
        if config.kernel % 2 == 0:
            raise PriorError(f"The filters of CDLNet have a middle: kernel must be odd, not {config.kernel}.")
        self.config = config
        shape = (config.unfoldings, config.filters, config.channels, config.kernel, config.kernel)
        self.analysis, self.synthesis = (nn.Parameter(torch.empty(shape)) for _ in range(2))
        self.threshold = nn.Parameter(torch.empty(config.unfoldings, 2, config.filters))
        self.reset(torch.Generator().manual_seed(INITIAL_SEED))

    @property
    def multiple(self) -> int:
        """Sides that are multiples of it need no padding; tiles that start at multiples of it see the same grid."""
        return self.config.stride

    @property
    def halo(self) -> int:
        """Pixels from which an output value can depend on the input, beside the mean (see `forward`); whole blocks."""
        # Once to the first codes, there and back in every further unfolding, and back to the picture.
        reach = 2 * self.config.unfoldings * (self.config.kernel // 2)
        return reach + -reach % self.config.stride

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Copies of one random dictionary, scaled so that the first step of the iteration is stable."""
        config = self.config
        filters = torch.randn(self.analysis.shape[1:], generator=generator)
        side = NORM_SIDE - NORM_SIDE % config.stride
        start = torch.randn(1, config.channels, side, side, generator=generator)

        def normal(picture: Tensor) -> Tensor:
            return synthesise(analyse(picture, filters, config.stride), filters, config.stride)

        filters /= largest_eigenvalue(normal, start) ** 0.5
        self.analysis.copy_(filters.expand_as(self.analysis))
        self.synthesis.copy_(filters.expand_as(self.synthesis))
        self.threshold.fill_(INITIAL_THRESHOLD if config.constant_thresholds else INITIAL_FACTOR)
        self.project()

    @torch.no_grad()
    def project(self) -> None:
        """Bring filters to a length of at most 1 and thresholds to at least 0."""
        for filters in (self.analysis, self.synthesis):
            filters.div_(filters.flatten(2).norm(dim=2).clamp(min=1.0).reshape(*filters.shape[:2], 1, 1, 1))
        self.threshold.clamp_(min=0.0)
        if not self.config.constant_thresholds:
            self.threshold[:, 0] = 0.0

    def forward(self, x: Tensor, sigma: Tensor, mask: Tensor | None = None, *, mean: Tensor | None = None) -> Tensor:
        """Denoise, or denoise and fill in.

        Args:
            x: (B, C, H, W); where the mask is 0, values do not matter.
            sigma: Std of the noise, broadcasts to (B, 1, H, W).
            mask: 1 where ``x`` was measured, 0 elsewhere, broadcasts to ``x``. For a mosaic: three channels, of which
                each site has one.
            mean: What is subtracted before coding, broadcasts to ``x``; by default each channel's mean over what was
                measured. Give the mean of the whole picture to tiles of it, or they differ from the whole.

        Raises:
            PriorError: ``x`` has another shape.
        """
        require_pictures(x, channels=self.config.channels, network="CDLNet")
        size = (x.shape[-2], x.shape[-1])
        measured = torch.ones_like(x) if mask is None else mask.to(x).expand_as(x)
        if mean is None:
            mean = (x * measured).sum((2, 3), keepdim=True) / measured.sum((2, 3), keepdim=True).clamp(min=1.0)
        signal = self._blocks((x - mean) * measured)
        weights = None if mask is None else self._blocks(measured)
        codes = self._codes(signal, weights, level_in_blocks(sigma.to(x), size, self.config.stride))
        clean = synthesise(codes, self.synthesis[0], self.config.stride)
        return mean + clean[..., : size[0], : size[1]]

    def _codes(self, signal: Tensor, weights: Tensor | None, level: Tensor) -> Tensor:
        """Sparse codes (B, filters, h, w) of a signal in blocks; ``weights``: the mask in blocks, or none."""
        stride, unexplained = self.config.stride, signal
        codes = signal.new_zeros(signal.shape[0], self.config.filters, *signal.shape[-2:])
        for k in range(self.config.unfoldings):
            if k > 0:
                explained = _synthesise_blocks(codes, self.synthesis[k], stride)
                unexplained = signal - (explained if weights is None else explained * weights)
            correlation = _analyse_blocks(unexplained, self.analysis[k], stride)
            codes = lista_step(codes, correlation, self._threshold(k, level))
        return codes

    def _threshold(self, unfolding: int, level: Tensor) -> Tensor:
        """(B or 1, filters, h or 1, w or 1)."""
        constant, factor = self.threshold[unfolding].reshape(2, 1, -1, 1, 1).unbind()
        return constant + factor * level if self.config.constant_thresholds else factor * level

    def _blocks(self, x: Tensor) -> Tensor:
        """Pixel-unshuffled by the stride, mirrored to whole blocks."""
        return F.pixel_unshuffle(pad_to_multiple(x, self.config.stride), self.config.stride)


def analyse(x: Tensor, filters: Tensor, stride: int) -> Tensor:
    """Strided correlation with zeros around: (B, C, H, W) to (B, filters, H / stride, W / stride).

    The code at (i, j) sees the filter's middle at pixel (i stride, j stride).

    Args:
        x: Sides are multiples of the stride.
        filters: (filters, C, kernel, kernel), kernel odd.
        stride: In pixels.
    """
    return _analyse_blocks(F.pixel_unshuffle(x, stride), filters, stride)


def synthesise(codes: Tensor, filters: Tensor, stride: int) -> Tensor:
    """The adjoint of `analyse`."""
    return F.pixel_shuffle(_synthesise_blocks(codes, filters, stride), stride)


def kernels_on_blocks(filters: Tensor, stride: int) -> Tensor:
    """Filters of pixels as filters of blocks: zeros fill what the outer blocks have beyond the filter.

    Args:
        filters: (filters, C, kernel, kernel), kernel odd.
        stride: Side of the blocks.

    Returns:
        (filters, C stride^2, n, n), n the blocks of `_blocks_around` and the one whose first pixel is the middle.
    """
    number, channels, kernel, _ = filters.shape
    early, late = _blocks_around(kernel // 2, stride)
    before, behind = early * stride - kernel // 2, late * stride + stride - 1 - kernel // 2
    blocks = early + 1 + late
    padded = F.pad(filters, (before, behind, before, behind))
    parts = padded.reshape(number, channels, blocks, stride, blocks, stride).permute(0, 1, 3, 5, 2, 4)
    return parts.reshape(number, channels * stride**2, blocks, blocks)


def _blocks_around(radius: int, stride: int) -> tuple[int, int]:
    """Blocks that a filter touches before and behind the one that starts with its middle."""
    return -(-radius // stride), radius // stride


def _analyse_blocks(blocks: Tensor, filters: Tensor, stride: int) -> Tensor:
    early, late = _blocks_around(filters.shape[-1] // 2, stride)
    return F.conv2d(F.pad(blocks, (early, late, early, late)), kernels_on_blocks(filters, stride))


def _synthesise_blocks(codes: Tensor, filters: Tensor, stride: int) -> Tensor:
    # A transposed convolution with few output channels is slow on a CPU; this is the same sum.
    early, late = _blocks_around(filters.shape[-1] // 2, stride)
    kernels = kernels_on_blocks(filters, stride).flip(2, 3).transpose(0, 1)
    return F.conv2d(F.pad(codes, (late, early, late, early)), kernels)
