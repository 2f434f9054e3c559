"""What an image is taken to be beyond its edge, and the adjoint of assuming it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Boundary = Literal["circular", "reflect", "unobserved", "symmetric"]
BOUNDARIES: tuple[Boundary, ...] = ("circular", "reflect", "unobserved", "symmetric")


def checked_boundary(name: str, *, known: tuple[Boundary, ...] = BOUNDARIES) -> Boundary:
    """A boundary's name.

    Raises:
        ValueError: not one of ``known``.
    """
    for boundary in known:
        if name == boundary:
            return boundary
    raise ValueError(f"A boundary is one of {', '.join(known)}, not {name!r}.")


def extend(x: Tensor, margins: tuple[int, int, int, int], boundary: Boundary) -> Tensor:
    """An image with margins filled by the boundary's rule.

    Args:
        x: (B, C, H, W).
        margins: Sites added before the first row, after the last row, before the first column, after the last.
        boundary: "reflect" mirrors about the outermost site, which is not repeated; "symmetric" mirrors about the edge
            beyond it, so that it is; "circular" repeats the image; "unobserved" adds nothing.

    Returns:
        (B, C, H + margins, W + margins).
    """
    if boundary == "unobserved":
        return x
    rows, columns = _sources(x.shape[-2:], margins, boundary, x.device)
    return x.index_select(-2, rows).index_select(-1, columns)


def fold(extended: Tensor, margins: tuple[int, int, int, int], boundary: Boundary) -> Tensor:
    """Adjoint of `extend`: what lies in the margins is added to the sites it came from."""
    if boundary == "unobserved":
        return extended
    height = extended.shape[-2] - margins[0] - margins[1]
    width = extended.shape[-1] - margins[2] - margins[3]
    rows, columns = _sources((height, width), margins, boundary, extended.device)
    narrow = extended.new_zeros(*extended.shape[:-1], width).index_add(-1, columns, extended)
    return extended.new_zeros(*extended.shape[:-2], height, width).index_add(-2, rows, narrow)


def _sources(
    size: tuple[int, ...], margins: tuple[int, int, int, int], boundary: Boundary, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The row and the column of the image that every row and column of the extended image is a copy of."""
    (height, width), (top, bottom, left, right) = size, margins
    rows = torch.arange(-top, height + bottom, device=device)
    columns = torch.arange(-left, width + right, device=device)
    return _inside(rows, height, boundary), _inside(columns, width, boundary)


def _inside(index: Tensor, size: int, boundary: Boundary) -> Tensor:
    if boundary == "circular" or size == 1:
        return index % size
    if boundary == "symmetric":
        folded = index % (2 * size)
        return torch.where(folded < size, folded, 2 * size - 1 - folded)
    period = 2 * (size - 1)
    folded = index % period
    return torch.where(folded < size, folded, period - folded)


def mirrored(x: Tensor) -> Tensor:
    """The image and its mirror images, (..., 2 H, 2 W): one period of the "symmetric" boundary."""
    wide = torch.cat([x, x.flip(-1)], dim=-1)
    return torch.cat([wide, wide.flip(-2)], dim=-2)
