"""What frames are aligned and compared by: small cells of sites, averaged per colour, with noise that is known.

A cell is the smallest block that holds every colour: 2x2 sites of Bayer, 3x3 of X-Trans, 4x4 of quad-Bayer. Values are
white-balanced square roots of linear light (`physrestore.burst.root`), all frames' in the space of the reference, so
that their noise hardly depends on the light and a grey object is equal in all colours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore.burst.frames import LinearFrame
from physrestore.burst.root import Root
from physrestore.working_space import COLOURS


@dataclass(frozen=True, eq=False)
class Grey:
    """One plane of a frame, at the resolution of its cells or coarser.

    Attributes:
        values: (h, w).
        variance: Of their white noise, (h, w).
        good: (h, w) bool: no site is clipped.
    """

    values: Tensor
    variance: Tensor
    good: Tensor

    def halved(self) -> Grey:
        """Means of 2x2; an odd last row or column is left out."""
        values, variance, good = (
            F.avg_pool2d(plane[None, None], 2)[0, 0] for plane in (self.values, self.variance, self.good.float())
        )
        return Grey(values, variance / 4, good == 1)


@dataclass(frozen=True, eq=False)
class Cells:
    """A frame at the resolution of its cells.

    Attributes:
        colours: (3, h, w), v of the mean of each colour's sites.
        variance: Of their noise, (3, h, w).
        good: (h, w) bool: no site is clipped.
        side: Sites along a cell: cell k covers the sites from ``side k`` to ``side k + side - 1``.
    """

    colours: Tensor
    variance: Tensor
    good: Tensor
    side: int

    def weights(self) -> Tensor:
        """Share of each colour in the grey mean with the least noise, (3,)."""
        precision = (1.0 / self.variance).mean((1, 2))
        return precision / precision.sum()

    def grey(self, weights: Tensor) -> Grey:
        """Mean of the colours.

        Args:
            weights: Of R, G, B, (3,), those of the reference: frames are compared in the same mixture.
        """
        share = weights.reshape(3, 1, 1)
        return Grey((share * self.colours).sum(0), (share.square() * self.variance).sum(0), self.good)


def cell_side(cfa: Cfa) -> int:
    """Sites along the smallest square block that holds every colour."""
    if cfa.is_bayer:
        return 2
    return 3 if cfa.is_xtrans else 4


def cells_of(frame: LinearFrame, root: Root) -> Cells:
    """Average a frame to cells.

    Args:
        frame: In the exposure of the reference.
        root: Of the reference.
    """
    side = cell_side(frame.cfa)
    colour = frame.colour_index()
    masks = torch.stack([((colour == k) & ~frame.defective).float() for k in range(len(COLOURS))])
    count = _block_sum(masks, side)
    light = _filled(_block_sum(masks * frame.values, side), count)
    # A colour that a cell lacks, for its only site is defective, has a neighbourhood's mean and counts as one site.
    of_site = root.variance(_smooth(light), frame.gain, frame.dark_variance)
    clipped = _block_sum(frame.clipped.float()[None], side)[0] > 0
    return Cells(root.value(light), of_site / count.clamp(min=1), ~clipped, side)


def _block_sum(planes: Tensor, side: int) -> Tensor:
    height, width = (size // side * side for size in planes.shape[-2:])
    return F.avg_pool2d(planes[None, :, :height, :width], side)[0] * side**2


def _filled(total: Tensor, count: Tensor) -> Tensor:
    wide, number = (F.avg_pool2d(x[None], 3, stride=1, padding=1)[0] for x in (total, count))
    mean = torch.where(number > 0, wide / number.clamp(min=torch.finfo(wide.dtype).tiny), 0.0)
    return torch.where(count > 0, total / count.clamp(min=1), mean)


def _smooth(planes: Tensor) -> Tensor:
    """Mean over 5x5 cells: the noise's variance changes slowly, and its own noise must not."""
    return F.avg_pool2d(F.pad(planes[None], (2, 2, 2, 2), mode="replicate"), 5, stride=1)[0]
