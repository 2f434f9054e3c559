"""Noisy pictures to learn from, cut into windows of one phase, the informative ones first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore.selfsup.losses.pixel_noise import PixelNoise

# Contrast is judged on means of squares this wide where there is no colour filter array: fine detail still counts.
POOLED = 2


@dataclass(frozen=True, eq=False)
class NoisyImage:
    """One photo, or one frame of a burst, as the network sees it.

    Attributes:
        values: (1, C, H, W); a mosaic has C = 1.
        noise: Its noise; maps are (1, 1 or C, H, W).
        cfa: Of a mosaic, from its top-left; None: every channel is a picture of its own.
        weights: Broadcasts to ``values``; 0 for clipped and defective sites, which are neither learned from nor judged
            by. None: all count.
        black: (3, 1, 1), of a mosaic in the working space: what its values lie above, R, G, B. It differs from photo to
            photo with ISO, camera and white balance. None: the task knows.

    Raises:
        ValueError: a batch, a mosaic of several channels, or a black that is not one number a colour.
    """

    values: Tensor
    noise: PixelNoise
    cfa: Cfa | None = None
    weights: Tensor | None = None
    black: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse batches, for which places would be ambiguous."""
        if self.values.dim() != 4 or len(self.values) != 1:
            raise ValueError(f"A noisy image is (1, C, H, W), not {tuple(self.values.shape)}. Give a list of images.")
        if self.cfa is not None and self.values.shape[1] != 1:
            raise ValueError(f"A {self.cfa.name} mosaic is (1, 1, H, W), not {tuple(self.values.shape)}.")
        if self.black is not None and self.black.shape != (3, 1, 1):
            raise ValueError(f"black is one number a colour, (3, 1, 1), not {tuple(self.black.shape)}.")
        self.noise.fitted(self.values)

    @property
    def period(self) -> tuple[int, int]:
        """Rows and columns after which the mosaic repeats."""
        return (1, 1) if self.cfa is None else self.cfa.period

    def window(self, rows: slice, columns: slice) -> NoisyImage:
        """A piece of it, copied, so that the whole can be let go of; slices have a start and an end."""
        cfa = None if self.cfa is None else self.cfa.shifted(rows.start, columns.start)
        part, weights = self.noise.window(rows, columns), self.weights
        noise = replace(part, gain=part.gain.clone(), sigma=part.sigma.clone(), row=part.row.clone())
        if weights is not None:
            weights = weights.expand(self.values.shape)[..., rows, columns].clone()
        return NoisyImage(self.values[..., rows, columns].clone(), noise, cfa, weights, self.black)

    def to(self, device: torch.device | str) -> NoisyImage:
        """On a device; its noise follows the values."""
        weights = None if self.weights is None else self.weights.to(device)
        return replace(self, values=self.values.to(device), weights=weights)


class Place(NamedTuple):
    """A window: which image, and its top-left."""

    image: int
    top: int
    left: int


class Batch(NamedTuple):
    """Windows of equal size.

    Attributes:
        y: (B, C, side, side).
        noise: Of them, maps of the same shape.
        weights: The same shape.
        black: Of every window's photo, (B, 3, 1, 1); None: the task knows.
    """

    y: Tensor
    noise: PixelNoise
    weights: Tensor
    black: Tensor | None = None


def window_side(side: int, period: tuple[int, int]) -> int:
    """The largest multiple of the period that is at most ``side``.

    Raises:
        ValueError: there is none.
    """
    step = lcm(*period)
    if side < step:
        raise ValueError(f"Windows of {side} hold no period of {period}. Use larger ones.")
    return side // step * step


def windows(images: Sequence[NoisyImage], side: int) -> list[Place]:
    """Windows that do not overlap, all of the phase of their image; a border narrower than a window is shared.

    Args:
        images: Of any sizes of at least ``side``.
        side: A multiple of the periods.

    Raises:
        ValueError: an image is smaller.
    """
    places = []
    for number, image in enumerate(images):
        height, width = image.values.shape[-2:]
        if min(height, width) < side:
            raise ValueError(f"Image {number + 1} is {height}x{width}, smaller than a window of {side}.")
        rows, columns = (_starts(n, side, p) for n, p in zip((height, width), image.period, strict=True))
        places += [Place(number, top, left) for top in rows for left in columns]
    return places


def cut(images: Sequence[NoisyImage], places: Sequence[Place], side: int, masks: Sequence[Tensor]) -> Batch:
    """The windows at some places.

    Args:
        images: As in `windows`.
        places: Of them.
        side: As there.
        masks: (H, W) factor of the weights of every image.
    """
    y, weights, laws = [], [], []
    for place in places:
        image = images[place.image]
        rows, columns = slice(place.top, place.top + side), slice(place.left, place.left + side)
        y.append(image.values[..., rows, columns])
        law = image.noise.fitted(image.values).window(rows, columns)
        laws.append([value.expand(y[-1].shape) for value in (law.gain, law.sigma, law.row)])
        counted = masks[place.image][rows, columns].to(y[-1]).expand(y[-1].shape)
        if image.weights is not None:
            counted = counted * image.weights.expand(image.values.shape)[..., rows, columns]
        weights.append(counted)
    gain, sigma, row = (torch.cat(parts) for parts in zip(*laws, strict=True))
    noise = PixelNoise(gain, sigma, row, images[places[0].image].noise.row_groups)
    levels = [images[place.image].black for place in places]
    blacks = [level.to(y[0]) for level in levels if level is not None]
    black = torch.stack(blacks) if len(blacks) == len(places) else None
    return Batch(torch.cat(y), noise, torch.cat(weights), black)


def contrast(batch: Batch, period: tuple[int, int]) -> Tensor:
    """How much neighbouring means differ, in units of what their noise lets them differ, less one; (B,).

    A mean spans whole periods, so that a flat area has no contrast in any colour filter array.
    """
    pool = (POOLED, POOLED) if period == (1, 1) else period
    counted = (batch.weights > 0).to(batch.y)
    means = F.avg_pool2d(batch.y * counted, pool)
    full = F.avg_pool2d(counted, pool) == 1
    noise = F.avg_pool2d(batch.noise.variance(batch.y), pool) / (pool[0] * pool[1])
    total = power = batch.y.new_zeros(len(batch.y))
    for axis in (-2, -1):
        length = means.shape[axis] - 1
        (a, b), (first, second), (here, there) = (
            (values.narrow(axis, 0, length), values.narrow(axis, 1, length)) for values in (means, full, noise)
        )
        both = (first & second).to(means)
        power = power + ((a - b).square() / (here + there) * both).flatten(1).sum(1)
        total = total + both.flatten(1).sum(1)
    return power / total.clamp(min=1.0) - 1.0


def _starts(length: int, side: int, period: int) -> list[int]:
    last = (length - side) // period * period
    starts = list(range(0, last + 1, side))
    return starts if starts[-1] == last else [*starts, last]
