"""Single sites that are wrong: found against the calibrated noise, replaced from their own colour.

A defect stands alone in its own colour plane *and* leaves the sites around it cold. Light cannot do that: even a star
reaches the neighbouring sites, which have other colours, through the blur of lens and anti-aliasing filter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.cfa import Cfa

# A value this far above the largest of its eight neighbours of one colour (or below the smallest) occurs in flat noise
# of variance 1 with probability 1e-6: solves 2 * integral of phi(z) Phi(z - t)^8 dz = 1e-6 for t.
ISOLATION = 4.14
# The range of eight normal values exceeds this once in 200; what lies above is texture, and texture raises the bar.
FLAT_RANGE = 5.0
# How much: in foliage, isolated dark gaps are as common as defects are rare, and a defect does little harm there.
TEXTURE_FACTOR = 2.0
# A defect's neighbourhood rises by less than this share of its height; a lens spreads far more (a Gaussian of
# 0.5 pixels, sharper than any lens and filter, still puts 14 % of the peak on the next site).
SUPPORT_SHARE = 0.08
# Mean excess of eight neighbours that their own noise does not explain: 2 of its standard deviations.
SUPPORT_FLOOR = 0.8
BORDER = 4
AROUND = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0))


@dataclass(frozen=True)
class HotPixelRepair:
    """A mosaic without isolated defects.

    Attributes:
        mosaic: (H, W), stabilised; defects replaced by the median of their eight neighbours of the same colour.
        defective: (H, W) bool.
    """

    mosaic: Tensor
    defective: Tensor


def repair_hot_pixels(mosaic: Tensor, cfa: Cfa) -> HotPixelRepair:
    """Find and replace isolated hot and dead sites.

    Args:
        mosaic: (H, W) values of the Anscombe transform (noise of variance about 1, not negative), at least 5x5.
        cfa: Bayer or monochrome.
    """
    step = cfa.period[0]
    padded = F.pad(mosaic[None, None], (BORDER,) * 4, mode="reflect")[0, 0]  # reflection keeps the Bayer phase
    highest, lowest = _extremes(padded, mosaic.shape, step)
    bar = (highest - lowest).sub_(FLAT_RANGE).clamp_(min=0).mul_(TEXTURE_FACTOR).add_(ISOLATION)
    # Downwards the root stretches the tail of the noise: there the distance counts in units of the noise at the
    # neighbours' level, (z_n^2 - z^2) / 4 electrons over z_n / 2, as it does before stabilisation.
    dead = (lowest - mosaic) * (lowest + mosaic) > 2 * bar * lowest
    sign = ((mosaic - highest) > bar).to(torch.int8) - dead.to(torch.int8)

    defective = torch.zeros_like(mosaic, dtype=torch.bool)
    repaired = mosaic.clone()
    rows, columns = sign.nonzero(as_tuple=True)
    if rows.numel():
        direction = sign[rows, columns].to(mosaic)
        background = _median_around(padded, rows, columns, step)
        height = direction * (mosaic[rows, columns] - background)
        support = torch.stack(
            [
                direction * (_at(padded, rows + i, columns + j) - _median_around(padded, rows + i, columns + j, 2))
                for i, j in AROUND
            ]
        ).mean(0)
        alone = support < (SUPPORT_SHARE * height).clamp(min=SUPPORT_FLOOR)
        rows, columns = rows[alone], columns[alone]
        defective[rows, columns] = True
        repaired[rows, columns] = background[alone]
    return HotPixelRepair(mosaic=repaired, defective=defective)


def _extremes(padded: Tensor, shape: torch.Size, step: int) -> tuple[Tensor, Tensor]:
    """Largest and smallest of the eight neighbours of the same colour."""
    height, width = shape
    views = [
        padded[BORDER + i * step : BORDER + i * step + height, BORDER + j * step : BORDER + j * step + width]
        for i, j in AROUND
    ]
    highest, lowest = views[0].clone(), views[0].clone()
    for view in views[1:]:
        torch.maximum(highest, view, out=highest)
        torch.minimum(lowest, view, out=lowest)
    return highest, lowest


def _at(padded: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return padded[rows + BORDER, columns + BORDER]


def _median_around(padded: Tensor, rows: Tensor, columns: Tensor, step: int) -> Tensor:
    """Median (mean of the middle two) of the eight neighbours at a distance."""
    values = torch.stack([_at(padded, rows + i * step, columns + j * step) for i, j in AROUND])
    ordered = values.sort(dim=0).values
    return (ordered[3] + ordered[4]) / 2
