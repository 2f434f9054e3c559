"""What all frames together say of a picture, in two arrays that do not grow with their number.

With every frame a row-sparse linear map of the picture (`Warp` with Keys' cubic, then `Mosaic`), the weighted data term
``sum_i |y_i - A_i x|^2_{W_i}`` is, up to a constant, ``x^T N x - 2 b^T x`` with ``N = sum A_i^T W_i A_i`` and
``b = sum A_i^T W_i y_i``. A site measures one colour at one place, so N couples only pixels of one colour no further
apart than the cubic is wide: it is a stencil of 7x7, of which symmetry leaves 25 planes. `Stacked` is the same operator
written out; a test holds both against each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from physrestore.operators.kernels import keys_cubic
from physrestore.working_space import COLOURS

# Pixels before and after a place that the cubic looks at.
TAPS = (-1, 0, 1, 2)
REACH = len(TAPS) - 1
# Half of the stencil, the diagonal first: the rest is its transpose.
OFFSETS = tuple(
    (down, right) for down in range(REACH + 1) for right in range(-REACH, REACH + 1) if down > 0 or right >= 0
)


@dataclass(frozen=True, eq=False)
class Sites:
    """Measured sites, of any frame, in the pixels of the picture.

    Attributes:
        row: Where they look, (m,) float64.
        column: The same.
        colour: Which of R, G, B they measure, (m,) int64.
        values: (m,) float32.
        weights: Inverse variances, (m,) float32; zero: not observed.
    """

    row: Tensor
    column: Tensor
    colour: Tensor
    values: Tensor
    weights: Tensor


@dataclass(eq=False)
class NormalEquations:
    """N and b of a picture of three colours, filled frame by frame.

    Attributes:
        shape: (H, W).
        stencil: N, (25, 3, H, W): entry k of pixel p is N between p and ``p + OFFSETS[k]``.
        right: b, (3, H, W).
        density: Row sums of N, (3, H, W): the precision that smooth light is known with.
    """

    shape: tuple[int, int]
    stencil: Tensor = field(init=False)
    right: Tensor = field(init=False)
    density: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing known."""
        self.stencil = torch.zeros(len(OFFSETS), len(COLOURS), *self.shape)
        self.right = torch.zeros(len(COLOURS), *self.shape)
        self.density = torch.zeros(len(COLOURS), *self.shape)

    def add(self, sites: Sites) -> None:
        """Add measurements; sites that would need pixels from outside the picture are left out, as in `Warp`."""
        height, width = self.shape
        first_row, first_column = sites.row.floor(), sites.column.floor()
        rows, row_inside = _taps(sites.row - first_row, first_row, height)
        columns, column_inside = _taps(sites.column - first_column, first_column, width)
        weight = torch.where(row_inside & column_inside, sites.weights, 0.0)
        used = (weight > 0).nonzero()[:, 0]
        if not used.numel():
            return
        base = ((sites.colour * height + first_row.long()) * width + first_column.long())[used]
        along = [tap[used].float() for tap in rows], [tap[used].float() for tap in columns]
        self._add_right(base, along, weight[used], sites.values[used])
        self._add_stencil(base, along, weight[used])

    def apply(self, x: Tensor) -> Tensor:
        """``N x``, (..., 3, H, W)."""
        height, width = self.shape
        out = self.stencil[0] * x
        for values, (down, right) in zip(self.stencil[1:], OFFSETS[1:], strict=True):
            here = (slice(0, height - down), slice(max(-right, 0), width - max(right, 0)))
            there = (slice(down, height), slice(max(right, 0), width + min(right, 0)))
            between = values[(..., *here)]
            out[(..., *here)] += between * x[(..., *there)]
            out[(..., *there)] += between * x[(..., *here)]
        return out

    @property
    def diagonal(self) -> Tensor:
        """Of N, (3, H, W)."""
        return self.stencil[0]

    @property
    def is_diagonal(self) -> bool:
        """All sites fall on pixels."""
        return not bool(self.stencil[1:].any())

    def _add_right(self, base: Tensor, along: tuple[list[Tensor], list[Tensor]], weight: Tensor, y: Tensor) -> None:
        for i, j, share in _products(*along):
            at = base + TAPS[i] * self.shape[1] + TAPS[j]
            self.right.view(-1).index_add_(0, at.clamp(0, self.right.numel() - 1), share * weight * y)
            self.density.view(-1).index_add_(0, at.clamp(0, self.right.numel() - 1), share * weight)

    def _add_stencil(self, base: Tensor, along: tuple[list[Tensor], list[Tensor]], weight: Tensor) -> None:
        """Every pair of taps once; a tap that is zero for all sites (whole-pixel motion) costs nothing."""
        flat = {offset: self.stencil[k].view(-1) for k, offset in enumerate(OFFSETS)}
        rows, columns = along
        for i, k, down in _pairs(rows):
            of_rows = weight * rows[i] * rows[k]
            for j, m, right in _pairs(columns):
                target = flat.get((down, right))
                if target is None:
                    continue
                at = base + TAPS[i] * self.shape[1] + TAPS[j]
                target.index_add_(0, at.clamp(0, target.numel() - 1), of_rows * columns[j] * columns[m])


def _taps(fraction: Tensor, first: Tensor, size: int) -> tuple[list[Tensor], Tensor]:
    """Weight of every tap, and where none with weight lies outside."""
    inside = torch.ones_like(fraction, dtype=torch.bool)
    taps = []
    for offset in TAPS:
        weight = keys_cubic(fraction - offset)
        inside &= (weight == 0) | ((first + offset >= 0) & (first + offset < size))
        taps.append(weight)
    return taps, inside


def _products(rows: list[Tensor], columns: list[Tensor]) -> Iterator[tuple[int, int, Tensor]]:
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            if bool(row.any()) and bool(column.any()):
                yield i, j, row * column


def _pairs(taps: list[Tensor]) -> list[tuple[int, int, int]]:
    """Ordered pairs of taps that are not zero everywhere, and how far the second lies from the first."""
    present = [k for k, tap in enumerate(taps) if bool(tap.any())]
    return [(first, second, second - first) for first in present for second in present]
