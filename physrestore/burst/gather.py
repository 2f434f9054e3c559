"""The sites of all frames that look at one tile of the picture, weighted and summed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from physrestore.burst.align import Aligned
from physrestore.burst.frames import LinearFrame
from physrestore.burst.joint import Together
from physrestore.burst.normal import NormalEquations, Sites
from physrestore.burst.root import Root
from physrestore.burst.sites import Look, sites_of
from physrestore.tiling import Slices
from physrestore.working_space import COLOURS

# Pixels over which light and the number of frames are averaged: every array has all its colours in it.
AROUND = 7
# A pixel whose colour was measured with this share of the mean diagonal of N counts half as measured.
HALF_MEASURED = 0.1


def gather_tile(
    frames: Sequence[LinearFrame], aligned: Sequence[Aligned], where: Slices, *, side: int, root: Root
) -> Together:
    """What all frames say of a tile.

    Two passes: the first, with the noise of each frame's mean light, finds the light around every pixel; the second
    weighs every site by the noise it has in that light. So the weights do not follow the noise of single sites, which
    would bias the result towards dark.

    Args:
        frames: The reference first.
        aligned: In their order.
        where: Rows and columns of the tile.
        side: Sites along a cell of the weights of agreement.
        root: Of the reference.
    """
    shape = (where[0].stop - where[0].start, where[1].stop - where[1].start)
    looks = [sites_of(f, a, where, side=side) for f, a in zip(frames, aligned, strict=True) if a.used]
    light = _light_around(looks, shape)
    data = NormalEquations(shape)
    bound, bound_weight = torch.zeros(2, len(COLOURS), *shape)
    for look in looks:
        at = look.nearest(shape)
        precision = look.trust / look.variance(light.view(-1)[at])
        clipped = precision * look.clipped
        data.add(Sites(look.row, look.column, look.colour, look.values, precision - clipped))
        bound_weight.view(-1).index_add_(0, at, clipped)
        bound.view(-1).index_add_(0, at, clipped * look.values)
    reference = frames[0]
    colour = reference.colour_index()[where]
    repaired = torch.where(reference.defective[where], light.gather(0, colour[None])[0], reference.values[where])
    # In frames of the reference; clipped sites count, for they bound.
    known = (data.density.clamp(min=0.0) + bound_weight) * root.reference_variance(light)
    # Not the row sums: a pixel that sites only touch is not measured.
    held = data.diagonal + bound_weight
    measured = held / (held + HALF_MEASURED * held.mean((1, 2), keepdim=True))
    return Together(
        data=data,
        bound=torch.where(bound_weight > 0, bound / bound_weight.clamp(min=1e-30), 0.0),
        bound_weight=bound_weight,
        reference=repaired,
        measured=measured,
        effective=_around(known.sum(0)[None])[0],
        cfa=reference.cfa.shifted(where[0].start, where[1].start),
    )


def _light_around(looks: Sequence[Look], shape: tuple[int, int]) -> Tensor:
    """Mean light of each colour around every pixel, (3, H, W)."""
    total, weight = torch.zeros(2, len(COLOURS), *shape)
    for look in looks:
        at = look.nearest(shape)
        precision = look.trust / look.variance(look.values.mean())
        weight.view(-1).index_add_(0, at, precision)
        total.view(-1).index_add_(0, at, precision * look.values)
    return _around(total) / _around(weight).clamp(min=torch.finfo(weight.dtype).tiny)


def _around(planes: Tensor) -> Tensor:
    """Mean over a window, (C, H, W)."""
    reach = AROUND // 2
    return F.avg_pool2d(planes[None], AROUND, stride=1, padding=reach, count_include_pad=False)[0]
