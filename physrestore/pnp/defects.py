"""Isolated wrong sites of any colour filter array; Bayer has its own search in the classic method."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.cfa import BAYER_PLANES, Cfa
from physrestore.classic.hot_pixels import (
    FLAT_RANGE,
    ISOLATION,
    SUPPORT_FLOOR,
    SUPPORT_SHARE,
    TEXTURE_FACTOR,
    HotPixelRepair,
    repair_hot_pixels,
)

# Sites of one colour are compared within this distance: an X-Trans window of 7x7 holds 9 or more of every colour.
REACH = 3
# Sites nearer than this touch the candidate: they hold its light if it is a picture, and none if it is a defect.
TOUCHING = 1


def repair_defects(stabilised: Tensor, cfa: Cfa) -> HotPixelRepair:
    """Find and replace isolated hot and dead sites.

    A defect stands out from every site of its colour around it, by more than noise and local texture explain, while
    the sites that touch it, of whatever colour, are as dark (or bright) as those further off.

    Args:
        stabilised: (H, W) values of the Anscombe transform, at least 16x16.
        cfa: Not monochrome.
    """
    if cfa.is_bayer:
        return repair_hot_pixels(stabilised, cfa)
    values, colours = _mirrored(stabilised), _mirrored(_colours(cfa, stabilised).float())
    highest, lowest = _extremes(values, colours, stabilised.shape)
    bar = (highest - lowest).sub_(FLAT_RANGE).clamp_(min=0).mul_(TEXTURE_FACTOR).add_(ISOLATION)
    # Downwards in units of the noise at the neighbours' level, as in the classic search.
    dead = (lowest - stabilised) * (lowest + stabilised) > 2 * bar * lowest
    sign = ((stabilised - highest) > bar).to(torch.int8) - dead.to(torch.int8)
    rows, columns = sign.nonzero(as_tuple=True)
    defective, repaired = torch.zeros_like(stabilised, dtype=torch.bool), stabilised.clone()
    if rows.numel():
        background, support = _judge(values, colours, rows, columns)
        direction = sign[rows, columns].to(stabilised)
        height = direction * (stabilised[rows, columns] - background)
        alone = direction * support < (SUPPORT_SHARE * height).clamp(min=SUPPORT_FLOOR)
        rows, columns = rows[alone], columns[alone]
        defective[rows, columns] = True
        repaired[rows, columns] = background[alone]
    return HotPixelRepair(mosaic=repaired, defective=defective)


def _colours(cfa: Cfa, like: Tensor) -> Tensor:
    """A number per colour, (H, W); the two greens of quad-Bayer are one."""
    index = cfa.plane_index(*like.shape, device=like.device)
    return torch.tensor([ord(name[0]) for name in cfa.plane_names], device=like.device)[index]


def _mirrored(plane: Tensor) -> Tensor:
    return F.pad(plane[None, None], (REACH,) * 4, mode="reflect")[0, 0]


def _extremes(values: Tensor, colours: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Largest and smallest of the other sites of the same colour in the window."""
    height, width = shape
    own = colours[REACH : REACH + height, REACH : REACH + width]
    highest = torch.full_like(own, -torch.inf)
    lowest = torch.full_like(own, torch.inf)
    for i in range(2 * REACH + 1):
        for j in range(2 * REACH + 1):
            if (i, j) == (REACH, REACH):
                continue
            view = values[i : i + height, j : j + width]
            same = colours[i : i + height, j : j + width] == own
            highest = torch.maximum(highest, view.where(same, view.new_tensor(-torch.inf)))
            lowest = torch.minimum(lowest, view.where(same, view.new_tensor(torch.inf)))
    return highest, lowest


def _judge(values: Tensor, colours: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Of each candidate: median of its colour around it, and mean excess of the eight sites that touch it."""
    steps = torch.arange(-REACH, REACH + 1, device=values.device)
    at = (rows[:, None, None] + REACH + steps[:, None], columns[:, None, None] + REACH + steps)
    window, colour = values[at], colours[at]
    near = (steps[:, None].abs() <= TOUCHING) & (steps.abs() <= TOUCHING)
    centre = (steps[:, None] == 0) & (steps == 0)
    excess = torch.zeros_like(window)
    background = window[:, REACH, REACH].clone()
    for one in {ord(name[0]) for name in BAYER_PLANES}:
        ring = (colour == one) & ~near
        level = window.where(ring, window.new_tensor(torch.nan)).flatten(1).nanmedian(dim=1).values
        excess = torch.where(colour == one, window - level[:, None, None], excess)
        background = torch.where(colour[:, REACH, REACH] == one, level, background)
    touching = near & ~centre
    return background, excess[:, touching].mean(dim=1)
