"""Hiding sites of a mosaic or image, and filling them with what sites of the same colour measured."""

from __future__ import annotations

import torch
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.frame import tile_to

# The nearest sites of the same colour lie within two sites of each other in every supported array.
REACH = 2


def random_sites(like: Tensor, *, share: float, generator: torch.Generator) -> Tensor:
    """Independent sites of every image and channel, bool, shape of ``like`` (B, C, H, W)."""
    return (torch.rand(like.shape, generator=generator, device=generator.device) < share).to(like.device)


def random_rows(like: Tensor, *, share: float, generator: torch.Generator) -> Tensor:
    """That share of whole rows of every image, at least one, in all channels, bool, shape of ``like`` (B, C, H, W)."""
    batch, _, height, _ = like.shape
    order = torch.rand((batch, height), generator=generator, device=generator.device).argsort(1).argsort(1)
    drawn = order < max(1, round(share * height))
    return drawn[:, None, :, None].to(like.device).expand(like.shape)


def replaced(
    y: Tensor, hidden: Tensor, *, cfa: Cfa | None, generator: torch.Generator, reach: int = REACH
) -> tuple[Tensor, Tensor]:
    """The measurement with hidden sites filled from visible ones of the same colour, and the sites that were filled.

    Donors are never hidden themselves: no value of a hidden site is left anywhere, so that whatever is made of the
    result is independent of the noise there. Hidden sites without a visible donor in reach stay as they are and are
    not among the filled ones.

    Args:
        y: (B, C, H, W).
        hidden: Bool, same shape.
        cfa: Of a mosaic (C = 1), from its top-left; None: every channel is a picture of its own.
        generator: Chooses among the donors.
        reach: Farthest donor, in sites along rows and columns.

    Returns:
        Filled measurement, and where it was filled (bool, same shape).

    Raises:
        ValueError: a mosaic of several channels.
    """
    if cfa is not None and y.shape[1] != 1:
        raise ValueError(f"A {cfa.name} mosaic has one channel (B, 1, H, W), not {tuple(y.shape)}.")
    colour = _colours(y, cfa)
    result, best = y.clone(), torch.zeros_like(y)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            if down == right == 0:
                continue
            visible = _shifted(~hidden, down, right, fill=False) & (_shifted(colour, down, right, fill=-1) == colour)
            chance = torch.rand(y.shape, generator=generator, device=generator.device, dtype=y.dtype).to(y.device)
            # Between 0 and 1, so that the zero of "no donor yet" loses against every donor.
            better = visible & (chance + torch.finfo(y.dtype).tiny > best)
            result = torch.where(hidden & better, _shifted(y, down, right, fill=0.0), result)
            best = torch.where(better, chance + torch.finfo(y.dtype).tiny, best)
    return result, hidden & (best > 0)


def _colours(y: Tensor, cfa: Cfa | None) -> Tensor:
    """Number of the colour of every site, (1, 1, H, W)."""
    height, width = y.shape[-2:]
    if cfa is None:
        return torch.zeros(1, 1, height, width, dtype=torch.int64, device=y.device)
    letters = sorted({letter for row in cfa.rows for letter in row})
    period = torch.tensor([[letters.index(letter) for letter in row] for row in cfa.rows], device=y.device)
    return tile_to(period, height, width)[None, None]


def _shifted(values: Tensor, down: int, right: int, *, fill: float) -> Tensor:
    """``values[..., i + down, j + right]`` at (i, j); ``fill`` outside."""
    height, width = values.shape[-2:]
    result = torch.full_like(values, fill)
    if abs(down) >= height or abs(right) >= width:
        return result
    to_rows, from_rows = _overlap(down, height)
    to_columns, from_columns = _overlap(right, width)
    result[..., to_rows, to_columns] = values[..., from_rows, from_columns]
    return result


def _overlap(shift: int, length: int) -> tuple[slice, slice]:
    here = slice(max(-shift, 0), length - max(shift, 0))
    return here, slice(here.start + shift, here.stop + shift)
