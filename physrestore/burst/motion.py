"""Where the sites of one frame lie in the reference: a homography, and a small offset that varies over the picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physrestore.burst.lucas_kanade import Fit
from physrestore.burst.warping import apply, in_coarser_pixels, sample


@dataclass(frozen=True, eq=False)
class Motion:
    """From the reference to one frame, in sites.

    Attributes:
        matrix: (3, 3) float64, acting on (column, row, 1) of the reference.
        offsets: (2, m, n) float64, what is added to row and column of the frame; at the middles of squares of ``pitch``
            sites that begin at the reference's corner, linear between them.
        pitch: Side of those squares.
        std: Of the displacement that ``matrix`` gives, at the worst corner [sites]; infinite: not determined, and
            ``matrix`` is the identity.
        model: "translation", "affine", "homography"; "none" where nothing is determined.
    """

    matrix: Tensor
    offsets: Tensor
    pitch: int
    std: float
    model: str

    @classmethod
    def still(cls) -> Motion:
        """No motion: that of the reference itself."""
        return cls(torch.eye(3, dtype=torch.float64), torch.zeros(2, 1, 1, dtype=torch.float64), 1, 0.0, "none")

    @classmethod
    def of(cls, fit: Fit | None, offsets: Tensor, *, pitch: int, side: int) -> Motion:
        """In sites, of a fit and offsets in cells.

        Args:
            fit: None: not determined.
            offsets: (2, m, n) [cells].
            pitch: Cells along a square.
            side: Sites along a cell.
        """
        if fit is None:
            return cls(torch.eye(3, dtype=torch.float64), offsets * side, pitch * side, torch.inf, "none")
        matrix = in_coarser_pixels(fit.matrix, 1 / side)
        return cls(matrix, offsets * side, pitch * side, fit.worst_std() * side, fit.model.name.lower())

    def to_frame(self, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column in the frame of points of the reference, 2-D float64."""
        down, right = self._offset(row, column)
        moved_row, moved_column = apply(self.matrix, row, column)
        return moved_row + down, moved_column + right

    def to_reference(self, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column in the reference of points of the frame, 2-D float64.

        Offsets change little over their own length, so two substitutions invert them to a hundredth of that change.
        """
        inverse = torch.linalg.inv(self.matrix)
        place = apply(inverse, row, column)
        if not bool(self.offsets.any()):
            return place
        for _ in range(2):
            down, right = self._offset(*place)
            place = apply(inverse, row - down, column - right)
        return place

    def largest_offset(self) -> float:
        """The longest component of any offset [sites]."""
        return float(self.offsets.abs().max())

    def shift_at(self, row: float, column: float) -> tuple[float, float]:
        """Displacement (down, right) of one point of the reference [sites]."""
        point = torch.tensor([[row]], dtype=torch.float64), torch.tensor([[column]], dtype=torch.float64)
        moved = self.to_frame(*point)
        return float(moved[0] - row), float(moved[1] - column)

    def _offset(self, row: Tensor, column: Tensor) -> Tensor:
        if not bool(self.offsets.any()):
            return torch.zeros(2, *row.shape, dtype=torch.float64)
        middle = (self.pitch - 1) / 2
        values, _ = sample(self.offsets, *_held((row - middle) / self.pitch, (column - middle) / self.pitch, self))
        return values


def _held(row: Tensor, column: Tensor, motion: Motion) -> tuple[Tensor, Tensor]:
    """Beyond the outermost middles the offset stays what it is there."""
    height, width = motion.offsets.shape[-2:]
    return row.clamp(0, height - 1), column.clamp(0, width - 1)
