"""Plane geometry of frames: homographies in several pixel sizes, and sampling a plane where they point."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def apply(matrix: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Where a homography (3, 3), acting on (column, row, 1), takes points: (row, column), float64."""
    x, y = column.double(), row.double()
    u, v, depth = (matrix[k, 0] * x + matrix[k, 1] * y + matrix[k, 2] for k in range(3))
    return v / depth, u / depth


def in_coarser_pixels(matrix: Tensor, factor: float) -> Tensor:
    """The same homography between grids whose pixels are ``factor`` fine pixels wide; below 1: finer.

    Pixel k covers the fine pixels from ``factor k`` to ``factor k + factor - 1``, so its centre is at
    ``factor k + (factor - 1) / 2``.

    >>> shift = torch.tensor([[1.0, 0, 3], [0, 1, -1], [0, 0, 1]], dtype=torch.float64)
    >>> in_coarser_pixels(shift, 2.0)[:2, 2].tolist()
    [1.5, -0.5]
    """
    middle = (factor - 1) / 2
    fine = torch.tensor([[factor, 0, middle], [0, factor, middle], [0, 0, 1]], dtype=torch.float64)
    moved: Tensor = torch.linalg.inv(fine) @ matrix @ fine
    return moved / moved[2, 2]


def grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Row and column of every pixel, (h, w) float64."""
    rows, columns = (torch.arange(size, dtype=torch.float64) for size in (height, width))
    return rows[:, None].expand(height, width), columns[None, :].expand(height, width)


def sample(planes: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Bilinear values at places.

    Bilinear, because it reproduces straight ramps and so has no bias of position; on planes that were smoothed first
    its error of curvature is small.

    Args:
        planes: (C, h, w).
        row: Places, (m, n).
        column: The same.

    Returns:
        (C, m, n), and (m, n) bool: the place is inside.
    """
    height, width = planes.shape[-2:]
    inside = (row >= 0) & (row <= height - 1) & (column >= 0) & (column <= width - 1)
    across = 2 * column / max(width - 1, 1) - 1
    down = 2 * row / max(height - 1, 1) - 1
    where = torch.stack([across, down], dim=-1).to(planes.dtype)[None]
    return F.grid_sample(planes[None], where, padding_mode="border", align_corners=True)[0], inside
