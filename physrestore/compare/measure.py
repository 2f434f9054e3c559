"""The numbers of a comparison: per colour, in DN, in dB and in units of the calibrated noise.

Sites that are clipped in either picture count for nothing but the number of clipped sites: there a sensor knows only
a lower bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.sensor import SensorNoise
from physrestore.compare.lattice import Pair
from physrestore.compare.whiteness import Whiteness, plane_whiteness
from physrestore.quality import SMOOTH_BLOCK, psnr, smooth_areas

# A change beyond this many std of the noise: 0.27 % of the sites where exactly Gaussian noise was removed.
LARGE_CHANGE = 3.0
# Side [periods] of the box whose mean says how bright a site is: 25 values of a Bayer plane.
_BRIGHTNESS_BOX = 5
# Side [periods] of the squares of `smooth_areas` for arrays whose period is longer than Bayer's: 32 or 48 sites.
_SMOOTH_BLOCK_OF_LONG_PERIOD = 8
_BAYER_PERIOD = 2
# Median of |N(0, 1)|.
_MEDIAN_ABSOLUTE = 0.6744897501960817
_WHITE_16_BIT = 65535.0


@dataclass(frozen=True)
class PlaneDifference:
    """One colour; every number is of sites clipped in neither picture, and None where there are too few.

    Attributes:
        plane: "R", "G1", "G2", "B"; "R", "G", "B"; or "M".
        sites: How many sites counted.
        mean_dn: Mean of second minus first [DN].
        psnr_db: Of linear light, peak 1 = white; infinite where both are equal.
        over_noise: Std of the difference over the std of the noise; None without a known noise.
        over_noise_smooth: The same on smooth areas: 1 if exactly the noise of one picture is missing from the other.
        large_changes: Share of sites that differ by more than `LARGE_CHANGE` std of the noise; None without one.
        whiteness: Of the difference on smooth areas.
    """

    plane: str
    sites: int
    mean_dn: float | None
    psnr_db: float | None
    over_noise: float | None
    over_noise_smooth: float | None
    large_changes: float | None
    whiteness: Whiteness | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """What differs between two pictures.

    Attributes:
        planes: One a colour.
        psnr_db: Of all colours together.
        white_dn: White above black [DN], mean over the sites: the unit of the differences. 65535 without a mosaic.
        smooth_share: Share of the picture that is smooth.
        clipped: Sites at white in the first picture.
        unclipped: Of these, sites below white in the second.
        newly_clipped: Sites at white in the second picture only.
        in_noise: Whether ``scaled`` is in units of a known noise; else of the difference's own robust std.
        scaled: Second minus first, (C, H, W), in units of std; 0 where either picture is clipped.
    """

    planes: tuple[PlaneDifference, ...]
    psnr_db: float | None
    white_dn: float
    smooth_share: float
    clipped: int
    unclipped: int
    newly_clipped: int
    in_noise: bool
    scaled: Tensor


def compare(pair: Pair, noise: SensorNoise | None = None) -> Comparison:
    """Measure what differs.

    Args:
        pair: From `pair_up`.
        noise: Of the frame as recorded, row and column noise included. Without it, or where no picture is a mosaic,
            what is smooth and what the residual looks like are judged by the difference's own std.

    Raises:
        ProfileError: the noise describes other planes, or its gain is unknown.
    """
    lattice = pair.lattice
    valid = ~(pair.clipped_first | pair.clipped_second)
    delta = pair.second - pair.first
    means = lattice.means((pair.first + pair.second) / 2)
    in_noise = noise is not None and pair.frame is not None
    std = _noise_std(pair, noise, means) if noise is not None and in_noise else _own_std(delta, valid, pair, means)
    smooth = _smooth(means, std, lattice.period[0])
    scaled = (delta / lattice.spread(std)).masked_fill(~valid, 0.0)
    inside = valid & lattice.spread(smooth.expand(len(lattice.names), -1, -1))
    spans = _spans_dn(pair)
    return Comparison(
        planes=tuple(
            _plane(pair, index, delta, scaled, valid, inside, in_noise=in_noise, span_dn=spans[index])
            for index in range(len(lattice.names))
        ),
        psnr_db=_psnr(pair.second[valid], pair.first[valid]),
        white_dn=float(np.mean(spans)),
        smooth_share=float(smooth.float().mean()),
        clipped=int(pair.clipped_first.sum()),
        unclipped=int((pair.clipped_first & ~pair.clipped_second).sum()),
        newly_clipped=int((pair.clipped_second & ~pair.clipped_first).sum()),
        in_noise=in_noise,
        scaled=scaled,
    )


def _plane(
    pair: Pair,
    index: int,
    delta: Tensor,
    scaled: Tensor,
    valid: Tensor,
    inside: Tensor,
    *,
    in_noise: bool,
    span_dn: float,
) -> PlaneDifference:
    lattice = pair.lattice
    chosen = lattice.plane(valid, index)
    first, second, change = (lattice.plane(x, index)[chosen] for x in (pair.first, pair.second, delta))
    in_std = lattice.plane(scaled, index)[chosen]
    on_smooth = lattice.plane(scaled, index)[lattice.plane(inside, index)]
    return PlaneDifference(
        plane=lattice.names[index],
        sites=first.numel(),
        mean_dn=float(change.double().mean()) * span_dn if change.numel() else None,
        psnr_db=_psnr(second, first),
        over_noise=_std(in_std) if in_noise else None,
        over_noise_smooth=_std(on_smooth) if in_noise else None,
        large_changes=float((in_std.abs() > LARGE_CHANGE).double().mean()) if in_noise and in_std.numel() else None,
        whiteness=plane_whiteness(scaled, inside, lattice, index),
    )


def _noise_std(pair: Pair, noise: SensorNoise, means: Tensor) -> Tensor:
    """Std of the noise of every plane and period, (planes, h, w), at the mean brightness of both pictures around it."""
    frame = pair.frame
    assert frame is not None
    affine = noise.affine(frame.cfa, frame.black_level, frame.white_level)
    lines = noise.line_variance() / (frame.white_level - frame.black_level) ** 2
    sites = [tuple(zip(*[place[1:] for place in places], strict=True)) for places in pair.lattice.places]
    a, b = (torch.tensor([values[at].mean() for at in sites]).float() for values in (affine.a, affine.b + lines))
    light = F.avg_pool2d(means[None], _BRIGHTNESS_BOX, stride=1, padding=_BRIGHTNESS_BOX // 2, count_include_pad=False)[
        0
    ]
    return (a[:, None, None] * light.clamp(min=0) + b[:, None, None]).sqrt()


def _own_std(delta: Tensor, valid: Tensor, pair: Pair, means: Tensor) -> Tensor:
    """Std of the difference itself, per plane: by its median, or plainly where half of the sites did not change."""
    stds = []
    for index in range(len(means)):
        values = pair.lattice.plane(delta, index)[pair.lattice.plane(valid, index)]
        if values.numel() == 0:
            stds.append(1.0)
            continue
        robust = float((values - values.median()).abs().median()) / _MEDIAN_ABSOLUTE
        stds.append(robust or float(values.double().square().mean().sqrt()) or 1.0)
    return torch.tensor(stds)[:, None, None].expand_as(means)


def _smooth(means: Tensor, std: Tensor, period: int) -> Tensor:
    """(h, w) bool: periods in a smooth square; nowhere in a picture smaller than one square."""
    block = SMOOTH_BLOCK if period <= _BAYER_PERIOD else _SMOOTH_BLOCK_OF_LONG_PERIOD
    if min(means.shape[1:]) < block:
        return torch.zeros(means.shape[1:], dtype=torch.bool)
    return smooth_areas(means, std, block=block)


def _spans_dn(pair: Pair) -> list[float]:
    """White above black of every plane [DN]."""
    if pair.frame is None:
        return [_WHITE_16_BIT] * len(pair.lattice.names)
    span = pair.frame.white_level - pair.frame.black_level
    return [float(np.mean([span[row, column] for _, row, column in places])) for places in pair.lattice.places]


def _psnr(second: Tensor, first: Tensor) -> float | None:
    return psnr(second, first) if first.numel() else None


def _std(values: Tensor) -> float | None:
    if values.numel() < 2:
        return None
    deviation = float(values.double().std())
    assert math.isfinite(deviation)
    return deviation
