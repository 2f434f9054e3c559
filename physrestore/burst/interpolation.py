"""What a picture holds between its pixels, sharp: Lanczos' kernel of three lobes.

A kernel that blurs would make every site look sharper than the picture, by more than the noise of many frames. On
pictures of Kodak24, moved by fractions of a pixel, three lobes err half as much as Keys' cubic.

Source:
    Duchon, "Lanczos filtering in one and two dimensions", J. Applied Meteorology 18, 1979; normalised to a sum of one,
    so that flat areas stay flat.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

LOBES = 3
# Pixels that a place may need: from the one before it, and from the nearest one with half a pixel to spare.
TAPS, WIDE_TAPS = tuple(range(1 - LOBES, LOBES + 1)), tuple(range(-LOBES, LOBES + 1))
# Distances below which the kernel is 1 to double precision's last digits [pixels].
NEAR = 1e-7


def kernel(rest: Tensor, taps: Sequence[int]) -> Tensor:
    """Lanczos' kernel at distances ``rest - tap`` in pixels, one row a tap: three sines a place, however many taps.

    >>> kernel(torch.tensor([0.0, 0.5], dtype=torch.float64), [0, 1, 3]).abs().round(decimals=4).tolist()
    [[1.0, 0.6079], [0.0, 0.6079], [0.0, 0.0243]]
    """
    angle = math.pi / LOBES
    whole, sine, cosine = torch.sin(math.pi * rest), torch.sin(angle * rest), torch.cos(angle * rest)
    rows = []
    for tap in taps:
        distance = rest - tap
        turned = math.cos(angle * tap) * sine - math.sin(angle * tap) * cosine  # sin(angle (rest - tap))
        value = (-1) ** tap * LOBES / math.pi**2 * whole * turned / distance.square()
        inside = torch.where(distance.abs() < LOBES, value, 0.0)
        rows.append(torch.where(distance.abs() < NEAR, 1.0, inside))
    return torch.stack(rows)


def look_up(planes: Tensor, plane: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Values of planes between their pixels; beyond the border, that of the border.

    Args:
        planes: (C, H, W) float32.
        plane: Which of the C planes each place asks for, (m,) int64.
        row: Places, (m,) float64; whole numbers are looked up exactly.
        column: See ``row``.

    Returns:
        (m,) float32.
    """
    first_row, first_column = row.floor(), column.floor()
    of_rows, of_columns = _normal(row - first_row, TAPS), _normal(column - first_column, TAPS)
    total = torch.zeros(row.shape)
    for of_row, line in zip(of_rows, _lines(planes, plane, first_row, first_column, TAPS), strict=True):
        total.addcmul_(of_row, _weighted(line, of_columns))
    return total


def look_up_with_slopes(planes: Tensor, plane: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `look_up`, and by how much values rise from half a pixel before to half a pixel after, down and to the right.

    A third of the work of looking up all five.
    """
    near_row, near_column = row.round(), column.round()
    of_rows, down_rows = _normal_and_slope(row - near_row)
    of_columns, right_columns = _normal_and_slope(column - near_column)
    value, down, right = torch.zeros(3, *row.shape)
    lines = _lines(planes, plane, near_row, near_column, WIDE_TAPS)
    for of_row, down_row, line in zip(of_rows, down_rows, lines, strict=True):
        here = _weighted(line, of_columns)
        value.addcmul_(of_row, here)
        down.addcmul_(down_row, here)
        right.addcmul_(of_row, _weighted(line, right_columns))
    return value, down, right


def _normal(rest: Tensor, taps: Sequence[int]) -> Tensor:
    weights = kernel(rest, taps)
    return (weights / weights.sum(0)).float()


def _normal_and_slope(rest: Tensor) -> tuple[Tensor, Tensor]:
    after, before = (_normal(rest + half, WIDE_TAPS) for half in (0.5, -0.5))
    return _normal(rest, WIDE_TAPS), after - before


def _lines(planes: Tensor, plane: Tensor, row: Tensor, column: Tensor, taps: Sequence[int]) -> Iterator[list[Tensor]]:
    """Values of the pixels around places, row by row; each a list along the columns."""
    height, width = planes.shape[-2:]
    flat = planes.reshape(-1)
    columns = [(column.long() + tap).clamp(0, width - 1) for tap in taps]
    for tap in taps:
        start = (plane * height + (row.long() + tap).clamp(0, height - 1)) * width
        yield [flat.index_select(0, start + one) for one in columns]


def _weighted(line: Sequence[Tensor], weights: Tensor) -> Tensor:
    total = line[0] * weights[0]
    for value, weight in zip(line[1:], weights[1:], strict=True):
        total.addcmul_(value, weight)
    return total
