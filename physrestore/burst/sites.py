"""The sites of one frame, in the pixels of a piece of the reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physrestore.burst.align import Aligned
from physrestore.burst.frames import LinearFrame
from physrestore.burst.warping import sample
from physrestore.tiling import Slices

# Pixels beyond a piece from which sites are looked for: the reach of what weighs them, and of a slight turn.
SLACK = 3


@dataclass(frozen=True, eq=False)
class Look:
    """Sites of one frame that look at a piece of the picture.

    Attributes:
        row: In the piece, (m,) float64; column alike.
        column: See ``row``.
        colour: (m,) int64.
        values: (m,) float32.
        trust: Weight of agreement, (m,); zero: defective.
        clipped: (m,) bool.
        frame: Whose.
    """

    row: Tensor
    column: Tensor
    colour: Tensor
    values: Tensor
    trust: Tensor
    clipped: Tensor
    frame: LinearFrame

    def nearest(self, shape: tuple[int, int]) -> Tensor:
        """Index of the nearest pixel in flat planes (3, H, W)."""
        row = self.row.round().long().clamp(0, shape[0] - 1)
        column = self.column.round().long().clamp(0, shape[1] - 1)
        return (self.colour * shape[0] + row) * shape[1] + column

    def variance(self, light: Tensor) -> Tensor:
        """Of the sites, for their light, (m,)."""
        frame = self.frame
        return frame.gain[self.colour] * light.clamp(min=0.0) + frame.dark_variance[self.colour]


def sites_of(frame: LinearFrame, aligned: Aligned, where: Slices, *, side: int) -> Look:
    """The sites of a frame that fall on a tile or so near that they count."""
    rows, columns = _window(aligned, where, frame.values.shape)
    row, column = torch.meshgrid(
        torch.arange(rows.start, rows.stop, dtype=torch.float64),
        torch.arange(columns.start, columns.stop, dtype=torch.float64),
        indexing="ij",
    )
    row, column = aligned.motion.to_reference(row, column)
    middle = (side - 1) / 2
    height, width = aligned.weight.shape
    (trust,), _ = sample(
        aligned.weight[None],
        ((row - middle) / side).clamp(0, height - 1),
        ((column - middle) / side).clamp(0, width - 1),
    )
    trust = trust * ~frame.defective[rows, columns]
    row, column = row - where[0].start, column - where[1].start
    height, width = (one.stop - one.start for one in where)
    near = (row > -1) & (row < height) & (column > -1) & (column < width) & (trust > 0)
    return Look(
        row=row[near],
        column=column[near],
        colour=frame.colour_index()[rows, columns][near],
        values=frame.values[rows, columns][near],
        trust=trust[near],
        clipped=frame.clipped[rows, columns][near],
        frame=frame,
    )


def _window(aligned: Aligned, where: Slices, shape: torch.Size) -> Slices:
    """Rows and columns of a frame that hold everything of a tile: homographies keep straight lines straight."""
    corners = [(r, c) for r in (where[0].start, where[0].stop) for c in (where[1].start, where[1].stop)]
    row, column = (torch.tensor([[corner[k] for corner in corners]], dtype=torch.float64) for k in (0, 1))
    slack = SLACK + 2 * aligned.motion.largest_offset()
    window = []
    for place, size in zip(aligned.motion.to_frame(row, column), shape, strict=True):
        start = min(max(int(float(place.min()) - slack), 0), size)
        window.append(slice(start, min(max(int(float(place.max()) + slack) + 1, start), size)))
    return window[0], window[1]
