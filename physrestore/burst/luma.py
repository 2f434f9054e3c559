"""What frames are aligned by: small cells of sites, averaged per colour, with noise that is known.

A cell is the smallest block that holds every colour: 2x2 sites of Bayer, 3x3 of X-Trans, 4x4 of quad-Bayer. Values are
white-balanced square roots of linear light (`physrestore.working_space`), all frames' in the space of the reference, so
that their noise hardly depends on the light and a grey object is equal in all colours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore.burst.frames import LinearFrame
from physrestore.working_space import COLOURS, WorkingSpace


@dataclass(frozen=True)
class Cells:
    """A frame at the resolution of its cells.

    Attributes:
        luma: (h, w), mean of all sites weighted by their precision.
        luma_variance: Of its noise, (h, w).
        colours: (3, h, w), mean of each colour's sites.
        colour_variance: Of their noise, (3, h, w).
        side: Sites along a cell. Cell k covers the sites from ``side k`` to ``side k + side - 1``.
    """

    luma: Tensor
    luma_variance: Tensor
    colours: Tensor
    colour_variance: Tensor
    side: int


def cell_side(cfa: Cfa) -> int:
    """Sites along the smallest square block that holds every colour."""
    if cfa.is_bayer:
        return 2
    return 3 if cfa.is_xtrans else 4


def cells_of(frame: LinearFrame, space: WorkingSpace) -> Cells:
    """Average a frame to cells.

    Args:
        frame: Linear values in the exposure of the reference.
        space: Of the reference.
    """
    side = cell_side(frame.cfa)
    colour = frame.colour_index()
    known = ~frame.defective
    counts, sums, linear = [], [], []
    values = space.root(frame.values, colour)
    for k in range(len(COLOURS)):
        mask = ((colour == k) & known).float()
        counts.append(_block_sum(mask, side))
        sums.append(_block_sum(values * mask, side))
        linear.append(_block_sum(frame.values * mask, side))
    count = torch.stack(counts)
    # A cell whose only site of a colour is defective borrows from its neighbours.
    lacking = count == 0
    mean, light = (_filled(torch.stack(total), count) for total in (sums, linear))
    variance = space.root_variance(_smooth(light), frame.gain, frame.dark_variance) / count.clamp(min=1)
    precision = torch.where(lacking, 0.0, 1.0 / variance)
    total = precision.sum(0)
    return Cells((precision * mean).sum(0) / total, 1.0 / total, mean, variance, side)


def _block_sum(values: Tensor, side: int) -> Tensor:
    height, width = (size // side * side for size in values.shape)
    return F.avg_pool2d(values[None, None, :height, :width], side)[0, 0] * side**2


def _filled(total: Tensor, count: Tensor) -> Tensor:
    wide, number = (F.avg_pool2d(x[None], 3, stride=1, padding=1)[0] for x in (total, count))
    return torch.where(count > 0, total / count.clamp(min=1), wide / number.clamp(min=1e-6))


def _smooth(values: Tensor) -> Tensor:
    """Mean over 5x5 cells: the noise's variance changes slowly, and its own noise must not."""
    return F.avg_pool2d(F.pad(values[None], (2, 2, 2, 2), mode="replicate"), 5, stride=1)[0]
