"""Overlapping patches of a picture, and the weighted average that puts them back."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def take_patches(x: Tensor, side: int, *, stride: int = 1) -> Tensor:
    """All square patches of a picture, row by row.

    Args:
        x: (B, C, H, W), no side smaller than the patch.
        side: Side of the patches.
        stride: Between neighbouring patches.

    Returns:
        (B, N, C * side * side).
    """
    return F.unfold(x, side, stride=stride).transpose(1, 2)


def add_patches(patches: Tensor, size: tuple[int, int], side: int, *, stride: int = 1) -> Tensor:
    """Sum patches at their places: the adjoint of `take_patches`.

    Args:
        patches: (B, N, C * side * side).
        size: (H, W) of the picture.
        side: As they were taken, like ``stride``.
        stride: See ``side``.

    Returns:
        (B, C, H, W).
    """
    return F.fold(patches.transpose(1, 2), size, side, stride=stride)


def weight_of_pixels(weights: Tensor, size: tuple[int, int]) -> Tensor:
    """Sum of the weights of all patches (stride 1) that cover a pixel.

    Args:
        weights: (side, side), the same in every patch.
        size: (H, W) of the picture.

    Returns:
        (1, 1, H, W): what `add_patches` of the weights alone would give, without making them.
    """
    side = weights.shape[-1]
    places = weights.new_ones(1, 1, size[0] - side + 1, size[1] - side + 1)
    return F.conv_transpose2d(places, weights[None, None])


def average_patches(patches: Tensor, weights: Tensor, size: tuple[int, int]) -> Tensor:
    """Put overlapping patches (stride 1) of one channel back, each pixel the weighted mean of all that cover it.

    Args:
        patches: (B, N, side * side).
        weights: (side, side), of a pixel by its place in the patch.
        size: (H, W) of the picture.

    Returns:
        (B, 1, H, W).

    >>> import torch
    >>> x = torch.arange(20.0).reshape(1, 1, 4, 5)
    >>> bool(torch.allclose(average_patches(take_patches(x, 3), torch.rand(3, 3) + 0.1, (4, 5)), x))
    True
    """
    return add_patches(patches * weights.flatten(), size, weights.shape[-1]) / weight_of_pixels(weights, size)
