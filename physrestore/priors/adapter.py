"""What all adapters share: a prior gets its own channels, values, noise level and image size, tile by tile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from physrestore.errors import PriorError
from physrestore.priors.base import PriorSpec, shaped_like
from physrestore.priors.levels import check_level, root_mean_square
from physrestore.tiling import map_tiles

# Side of a tile without its halo [pixels]: 64 float32 features of a tile are 270 MB.
TILE = 1024

_WHOLE_IMAGE = (1, 2, 3)

Denoiser = Callable[[Tensor, Tensor], Tensor]


class Adapter(ABC):
    """A prior around something that denoises; subclasses write `_denoise_own` alone.

    A map is reduced for a prior that takes one level per image: to its root mean square, which keeps the noise power.
    Priors of one channel see every channel with its own level.

    Attributes:
        spec: What the prior can do.
        tile: Side of the tiles, without halo, of local priors; None: never tile.
        level_axes: Axes over which a noise map is reduced to its root mean square before the prior sees it.
    """

    def __init__(self, spec: PriorSpec, *, tile: int | None = TILE, level_axes: tuple[int, ...] | None = None) -> None:
        self.spec = spec
        self.tile = tile
        per_image = _WHOLE_IMAGE if spec.noise != "map" else ()
        self.level_axes = per_image if level_axes is None else level_axes

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """See `physrestore.priors.base.Prior.denoise`."""
        level = shaped_like(sigma, x)
        check_level(self.spec, level)
        folds = self.spec.channels == 1 and x.shape[1] > 1
        if not folds and self.spec.channels not in (None, x.shape[1]):
            raise PriorError(
                f"This prior takes images of {self.spec.channels} channels, not {x.shape[1]}. Convert the image, or "
                "take a prior of 1 channel, which is applied to each."
            )
        image = x.flatten(0, 1)[:, None] if folds else x
        if folds:
            level = level.expand(*x.shape[:2], *level.shape[2:]).flatten(0, 1)[:, None]
        level = root_mean_square(level, self.level_axes)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.spec.differentiable):
            clean = self._in_own_values(image, level)
        return clean.reshape(x.shape).to(x.dtype)

    @abstractmethod
    def _denoise_own(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise in the prior's own values.

        Args:
            x: (B, C, h, w), sides multiples of ``spec.modulo``.
            sigma: (B|1, C|1, h|1, w|1), already reduced over ``level_axes``.
        """

    def _in_own_values(self, x: Tensor, level: Tensor) -> Tensor:
        black, unit = self.spec.value_range[0], self.spec.unit
        if (black, unit) == (0.0, 1.0):
            return self._in_tiles(x, level)
        return (self._in_tiles(x * unit + black, level * unit) - black) / unit

    def _in_tiles(self, x: Tensor, level: Tensor) -> Tensor:
        if self.tile is None or self.spec.non_local or max(x.shape[-2:]) <= self.tile:
            return self._padded(x, level)
        return apply_in_tiles(self._padded, x, level, tile=self.tile, halo=self.spec.halo, modulo=self.spec.modulo)

    def _padded(self, x: Tensor, level: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        level_sides = [side > 1 for side in level.shape[-2:]]
        x = _extend(x, self.spec.modulo)
        if all(level_sides):
            level = _extend(level, self.spec.modulo)
        elif any(level_sides):
            level = _extend(level.expand(*level.shape[:2], height, width), self.spec.modulo)
        out = self._denoise_own(x, level)
        if out.shape != x.shape:
            raise PriorError(
                f"The denoiser made {tuple(out.shape)} of an image of {tuple(x.shape)}. Needed: the same shape; does "
                f"modulo={self.spec.modulo} suit it?"
            )
        return out[..., :height, :width]


def apply_in_tiles(denoise: Denoiser, x: Tensor, level: Tensor, *, tile: int, halo: int, modulo: int) -> Tensor:
    """Denoise tile by tile; a noise map is cut with the image, and every tile starts at a multiple of ``modulo``.

    Args:
        denoise: Image and noise level to image.
        x: (B, C, H, W).
        level: (B|1, C|1, H|1, W|1).
        tile: Least side of a tile without halo; rounded up to ``modulo``.
        halo: Least width of the border that is read and discarded; rounded up likewise.
        modulo: As in `PriorSpec`.
    """
    batch, channels = x.shape[:2]
    flat = level.shape[-2:] == (1, 1)
    mapped = level.expand(batch, -1, *x.shape[-2:])
    planes = x if flat else torch.cat([x, mapped], dim=1)

    def one(piece: Tensor) -> Tensor:
        parts = piece.reshape(batch, -1, *piece.shape[-2:])
        return denoise(parts[:, :channels], level if flat else parts[:, channels:]).flatten(0, 1)

    tile, halo = (-(-size // modulo) * modulo for size in (tile, halo))
    return map_tiles(one, planes.flatten(0, 1), tile=tile, halo=halo, align=modulo).reshape(x.shape)


def _extend(planes: Tensor, modulo: int) -> Tensor:
    """Mirror about the lower and right edge until both sides are multiples of ``modulo``."""
    for axis in (-2, -1):
        size = planes.shape[axis]
        if size % modulo:
            index = torch.arange(-(-size // modulo) * modulo, device=planes.device) % (2 * size)
            planes = planes.index_select(axis, torch.minimum(index, 2 * size - 1 - index))
    return planes
