"""Which values of two pictures stand at the same place and have the same colour."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.frame import RawFrame
from physrestore.compare.picture import Picture
from physrestore.errors import CompareError

Place = tuple[int, int, int]  # channel, row, column in the period


@dataclass(frozen=True)
class Lattice:
    """The planes of a picture as regular grids of sites in a (C, H, W) tensor whose sides are whole periods.

    Attributes:
        names: Of the planes: those of the colour filter array, or R, G, B.
        period: Rows and columns after which the arrangement repeats.
        places: The sites of each plane in one period.
    """

    names: tuple[str, ...]
    period: tuple[int, int]
    places: tuple[tuple[Place, ...], ...]

    @classmethod
    def of(cls, cfa: Cfa | None) -> Lattice:
        """The lattice of a mosaic (1, H, W), or with None of three colours at every pixel (3, H, W).

        >>> Lattice.of(Cfa.parse("GRBG")).places[0]
        ((0, 0, 1),)
        """
        if cfa is None:
            return cls(("R", "G", "B"), (1, 1), (((0, 0, 0),), ((1, 0, 0),), ((2, 0, 0),)))
        places = tuple(tuple((0, i, j) for i, j in cfa.sites(name)) for name in cfa.plane_names)
        return cls(cfa.plane_names, cfa.period, places)

    def view(self, x: Tensor, place: Place) -> Tensor:
        """The values (h, w) at one place of every period: a view of ``x`` (C, H, W)."""
        channel, row, column = place
        return x[channel, row :: self.period[0], column :: self.period[1]]

    def plane(self, x: Tensor, index: int) -> Tensor:
        """All values of one plane, (n, h, w), n of a period."""
        return torch.stack([self.view(x, place) for place in self.places[index]])

    def means(self, x: Tensor) -> Tensor:
        """The mean of every plane over each period, (planes, h, w)."""
        return torch.stack([self.plane(x, index).mean(0) for index in range(len(self.names))])

    def spread(self, planes: Tensor) -> Tensor:
        """(planes, h, w) back to all sites, (C, H, W); `means` undoes it."""
        channels = 1 + max(place[0] for places in self.places for place in places)
        height, width = (side * period for side, period in zip(planes.shape[1:], self.period, strict=True))
        out = planes.new_empty(channels, height, width)
        for places, values in zip(self.places, planes, strict=True):
            for place in places:
                self.view(out, place).copy_(values)
        return out


@dataclass(frozen=True, eq=False)
class Pair:
    """Two pictures at the sites they have in common; what does not fill a period at the edges is left out.

    Attributes:
        first: (C, H, W) linear light: one channel where one of both is a mosaic, else three.
        second: Same shape.
        clipped_first: Sites at white, same shape, bool.
        clipped_second: See ``clipped_first``.
        lattice: Of both.
        frame: The mosaic that gives levels and noise; None where both have colours at every pixel.
    """

    first: Tensor
    second: Tensor
    clipped_first: Tensor
    clipped_second: Tensor
    lattice: Lattice
    frame: RawFrame | None


def pair_up(first: Picture, second: Picture) -> Pair:
    """Bring two pictures of one scene to common sites; colours at every pixel are sampled where the other is a mosaic.

    Raises:
        CompareError: sizes or colour filter arrays differ.
    """
    check_alike(first, second)
    frame = first.frame or second.frame
    cfa = None if frame is None else frame.cfa
    lattice = Lattice.of(cfa)
    height, width = (side // period * period for side, period in zip(first.shape, lattice.period, strict=True))
    if min(height, width) == 0:
        raise CompareError(f"Pictures of {first.shape} pixels are smaller than one period of the colour filter array.")
    inner = (slice(None), slice(height), slice(width))
    return Pair(
        first.values(cfa)[inner],
        second.values(cfa)[inner],
        first.clipped(cfa)[inner],
        second.clipped(cfa)[inner],
        lattice,
        frame,
    )


def check_alike(first: Picture, second: Picture) -> None:
    """Refuse pictures that do not stand on the same sites.

    Raises:
        CompareError: sizes or colour filter arrays differ.
    """
    if first.shape != second.shape:
        sizes = " and ".join(f"{one.name!r} has {one.shape[1]} x {one.shape[0]} pixels" for one in (first, second))
        raise CompareError(
            f"{sizes}. Needed are pictures of one size: compare the uncropped files, and no result of --scale 2."
        )
    if first.frame is None or second.frame is None:
        return
    if first.frame.cfa != second.frame.cfa:
        arrays = " and ".join(f"{one.name!r} has {one.frame.cfa.name}" for one in (first, second) if one.frame)
        raise CompareError(
            f"{arrays}: their sites have different colours. Needed is one array: give files of one camera, "
            "or a linear DNG, which has every colour at every pixel."
        )
