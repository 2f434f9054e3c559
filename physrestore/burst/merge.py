"""All frames in one picture, around a guess of it: what the sites say beyond the guess, averaged where they lie.

Averaging noisy sites over places would blur the picture. Averaged is only what a site differs by from the guess, looked
up sharply at its place: a right guess is not blurred, and its picture plus the mean difference is unbiased, with the
noise of all frames together and a variance that is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore.burst.interpolation import look_up
from physrestore.burst.root import Root
from physrestore.burst.sites import Look
from physrestore.working_space import COLOURS

# Pixels over which light and the number of frames are averaged: every array has all its colours in it.
AROUND = 7
# Stds of the kernel over which a site is spread, and pixels beyond its nearest one at most.
WIDTHS, REACH = 3, 2
# Frames of the reference that a pixel must be worth for its mean difference to count.
LEAST_FRAMES = 1e-3


@dataclass(frozen=True, eq=False)
class Merged:
    """A noisy picture of three colours at every pixel.

    Attributes:
        light: (3, H, W), linear.
        difference: What the frames added to the guess, (3, H, W).
        share: Variance of the noise over that of one site of the reference, (3, H, W); 1 where nothing was measured.
        sites: How many such sites decide each pixel, the nearest counting most, (3, H, W): low between the sites.
    """

    light: Tensor
    difference: Tensor
    share: Tensor
    sites: Tensor


def spreads(cfa: Cfa) -> Tensor:
    """Std [pixels] of the Gaussian that averages each colour, (3,): its area is that of one site of the colour.

    So values that lie a site of the array apart carry nearly independent noise, as a mosaic's do.
    """
    letters = cfa.name
    area = [len(letters) / letters.count(colour) for colour in COLOURS]
    return torch.tensor([math.sqrt(one / (4 * math.pi)) for one in area])


def merge(guide: Tensor, looks: Sequence[Look], cfa: Cfa, root: Root) -> Merged:
    """The guide, corrected by the mean of what all sites differ by from it.

    Args:
        guide: (3, H, W), linear light.
        looks: Sites of every frame.
        cfa: Of the frames, any phase.
        root: Of the reference.
    """
    light = around(guide)
    unit = root.reference_variance(light)
    # Weighted differences, weights, squared weights times variance; weights are inverse variances in units of the
    # reference's noise.
    total, weight, energy = torch.zeros(3, *guide.shape)
    spread = spreads(cfa)
    for look in looks:
        at = look.nearest((guide.shape[-2], guide.shape[-1]))
        difference = look.values - look_up(guide, look.colour, look.row, look.column)
        precision = look.trust * unit.view(-1)[at] / look.variance(light.view(-1)[at])
        # What clipped says nothing but that light is not less.
        precision = torch.where(look.clipped & (difference < 0), 0.0, precision)
        for colour, std in enumerate(spread.tolist()):
            mine = (look.colour == colour).nonzero()[:, 0]
            sites = (look.row, look.column, precision, difference, look.trust)
            row, column, certain, differs, trusted = (part[mine] for part in sites)
            for place, kernel in _around_sites(row, column, guide.shape, std):
                used = kernel * certain
                total[colour].view(-1).index_add_(0, place, used * differs)
                weight[colour].view(-1).index_add_(0, place, used)
                energy[colour].view(-1).index_add_(0, place, used * kernel * trusted)
    known = weight > LEAST_FRAMES
    safe = weight.clamp(min=LEAST_FRAMES)
    mean = torch.where(known, total / safe, 0.0)
    share = torch.where(known, energy / safe.square(), 1.0).clamp(max=1.0)
    return Merged(guide + mean, mean, share, weight)


def effective_frames(looks: Sequence[Look], guide: Tensor, root: Root, *, clipped: bool = True) -> Tensor:
    """How many frames like the reference the sites around every pixel are worth, (H, W).

    Args:
        looks: Sites of some frames.
        guide: Linear light, (3, H, W).
        root: Of the reference.
        clipped: Whether clipped sites count: they bound the light.
    """
    light = around(guide)
    unit, worth = root.reference_variance(light), torch.zeros(guide.shape)
    for look in looks:
        at = look.nearest((guide.shape[-2], guide.shape[-1]))
        trust = look.trust if clipped else look.trust * ~look.clipped
        worth.view(-1).index_add_(0, at, trust * unit.view(-1)[at] / look.variance(light.view(-1)[at]))
    return around(worth.sum(0)[None])[0]


def around(planes: Tensor) -> Tensor:
    """Mean over a window, (C, H, W)."""
    return F.avg_pool2d(planes[None], AROUND, stride=1, padding=AROUND // 2, count_include_pad=False)[0]


def _around_sites(row: Tensor, column: Tensor, shape: torch.Size, std: float) -> list[tuple[Tensor, Tensor]]:
    """Index of a pixel near each site and the weight that the site has there, pixel by pixel of the window.

    A pixel beyond the border gets the weight zero.
    """
    height, width = shape[-2:]
    # The first pixel left out is at least half a pixel beyond.
    reach = min(REACH, math.ceil(WIDTHS * std - 0.5))
    middle_row, middle_column = row.round(), column.round()
    rows, columns = (
        [torch.exp(-(place - middle - step).square() / (2 * std**2)).float() for step in range(-reach, reach + 1)]
        for place, middle in ((row, middle_row), (column, middle_column))
    )
    found = []
    for i, of_row in enumerate(rows):
        r = middle_row.long() + i - reach
        for j, of_column in enumerate(columns):
            c = middle_column.long() + j - reach
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            place = r.clamp(0, height - 1) * width + c.clamp(0, width - 1)
            found.append((place, of_row * of_column * inside))
    return found
