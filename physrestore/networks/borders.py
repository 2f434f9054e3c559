"""Pictures of any size for networks that want a certain one: mirrored borders, and a check of what comes in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from physrestore.errors import PriorError


def require_pictures(x: Tensor, *, channels: int, network: str) -> None:
    """Refuse what is not a batch of pictures with the network's channels.

    Raises:
        PriorError: another shape, or an empty picture.
    """
    if x.dim() != 4 or x.shape[1] != channels or 0 in x.shape:
        raise PriorError(
            f"{network} takes pictures of shape (B, {channels}, H, W), not {tuple(x.shape)}. "
            "Give each channel as a picture of its own, or a network made for these channels."
        )


def mirror_indices(before: int, size: int, after: int) -> Tensor:
    """Where a mirrored line takes its values from; the mirror stands on the outermost value, which is not repeated.

    Args:
        before: Values wanted in front of the line.
        size: Values of the line, at least 1.
        after: Values wanted behind it.

    Returns:
        (before + size + after,) indices in 0..size - 1; the border may be longer than the line.

    >>> mirror_indices(2, 4, 3).tolist()
    [2, 1, 0, 1, 2, 3, 2, 1, 0]
    """
    period = max(2 * (size - 1), 1)
    phase = torch.arange(-before, size + after).remainder(period)
    return torch.minimum(phase, period - phase).clamp(max=size - 1)


def pad_mirrored(x: Tensor, *, left: int = 0, right: int = 0, top: int = 0, bottom: int = 0) -> Tensor:
    """Mirror a picture over its borders, by any width (`torch.nn.functional.pad` stops at the picture's own size).

    Args:
        x: (..., H, W).
        left: Columns in front, like ``right``, ``top``, ``bottom``.
        right: See ``left``.
        top: See ``left``.
        bottom: See ``left``.
    """
    rows = mirror_indices(top, x.shape[-2], bottom).to(x.device)
    columns = mirror_indices(left, x.shape[-1], right).to(x.device)
    return x.index_select(-2, rows).index_select(-1, columns)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Mirror a picture (..., H, W) at the bottom and the right until both sides are multiples."""
    bottom, right = (-x.shape[-2]) % multiple, (-x.shape[-1]) % multiple
    return x if bottom == right == 0 else pad_mirrored(x, bottom=bottom, right=right)


def level_in_blocks(sigma: Tensor, size: tuple[int, int], block: int) -> Tensor:
    """A noise level at the resolution of blocks: the root of the mean variance inside each.

    Args:
        sigma: Std of the noise, broadcasts to (B, 1, H, W).
        size: (H, W).
        block: Side of the blocks; sides that are no multiple are mirrored.

    Returns:
        (B or 1, 1, ceil(H / block), ceil(W / block)), or (B or 1, 1, 1, 1) if the level does not vary inside a picture.
    """
    sigma = sigma.reshape(*[1] * (4 - sigma.dim()), *sigma.shape)
    if sigma.shape[-2:] == (1, 1):
        return sigma
    variance = sigma.square().expand(*sigma.shape[:2], *size)
    return F.avg_pool2d(pad_to_multiple(variance, block), block).sqrt()
