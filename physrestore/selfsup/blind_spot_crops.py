"""Crops for the training of blind spots: in one phase of the filter array, mirrored, from bounded memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from noise_models.cfa import Cfa
from physrestore.errors import RestoreError
from physrestore.selfsup.blind_spot_data import Observed

# Side of the windows that stand for a frame too large to be kept; a multiple of every array's period.
WINDOW = 528


def windows(observed: Observed, *, sites: int, generator: torch.Generator) -> list[Observed]:
    """The frame itself if it is small, else random windows of it with about so many sites in all, at least one."""
    height, width = observed.shape
    if height * width <= max(sites, WINDOW**2):
        return [observed]
    pieces = []
    for _ in range(max(1, sites // WINDOW**2)):
        window = []
        for size, period in zip(observed.shape, observed.cfa.period, strict=True):
            side = min(WINDOW, size)
            start = period * int(torch.randint((size - side) // period + 1, (), generator=generator))
            window.append(slice(start, start + side))
        piece = observed.crop(*window)
        pieces.append(Observed(piece.planes.clone(), piece.cfa))  # lets go of the whole frame
    return pieces


class Crops:
    """Random crops of random frames, all in the phase of the first, mirrored at random.

    Raises:
        RestoreError: frames of several kinds of array, or smaller than a crop.
    """

    def __init__(self, observed: Sequence[Observed], *, batch: int, crop: int, generator: torch.Generator) -> None:
        self.observed, self.batch, self.generator = observed, batch, generator
        self.cfa = observed[0].cfa
        period = math.lcm(2, self.cfa.period[0])
        self.side = -(-crop // period) * period
        for one in observed:
            phase_shift(one.cfa, self.cfa)
        smallest = min(min(one.shape) for one in observed)
        if smallest < self.side + period:
            raise RestoreError(
                f"Crops of {self.side} sites in any phase need frames of {self.side + period}; one has {smallest}. "
                "Use smaller crops."
            )

    def __call__(self) -> Observed:
        """The next batch."""
        return Observed.batch([self._one() for _ in range(self.batch)])

    def _one(self) -> Observed:
        frame = self.observed[self._integer(len(self.observed))]
        window = []
        for size, period in zip(frame.shape, self.cfa.period, strict=True):
            # One period more than the crop, in which a mirror image finds its phase again.
            length = self.side + period
            start = period * self._integer((size - length) // period + 1)
            window.append(slice(start, start + length))
        piece = frame.crop(*window)
        for axis in (-1, -2):
            if self._integer(2):
                piece = mirrored(piece, axis)
        top, left = phase_shift(piece.cfa, self.cfa)
        return piece.crop(slice(top, top + self.side), slice(left, left + self.side))

    def _integer(self, below: int) -> int:
        return int(torch.randint(below, (), generator=self.generator))


def mirrored(observed: Observed, axis: int) -> Observed:
    """Upside down (axis -2) or left to right (-1); the array is that of the mirrored mosaic."""
    height, width = observed.shape
    ph, pw = observed.cfa.period
    rows = observed.cfa.shifted(height % ph, 0).rows[::-1] if axis == -2 else observed.cfa.rows
    if axis == -1:
        rows = tuple(row[::-1] for row in observed.cfa.shifted(0, width % pw).rows)
    return Observed(observed.planes.flip(axis), Cfa(tuple(rows)))


def phase_shift(have: Cfa, want: Cfa) -> tuple[int, int]:
    """Rows and columns to drop at the top-left so that ``have`` becomes ``want``.

    Raises:
        RestoreError: arrays of two kinds.

    >>> phase_shift(Cfa.parse("RGGB"), Cfa.parse("GBRG"))
    (1, 0)
    """
    ph, pw = have.period
    for i in range(ph):
        for j in range(pw):
            if have.shifted(i, j) == want:
                return i, j
    raise RestoreError(f"The frames mix the arrays {have.name!r} and {want.name!r}. Train one model for each sensor.")
