"""White noise of variance 1 removed by a sliding-window cosine transform, on several scales.

Every patch of 8x8 values, at every second position, is transformed. A first pass keeps the coefficients that stand out
of the noise; its result is the pilot of a second pass, an empirical Wiener filter. Overlapping estimates are averaged,
weighted by how little noise each lets through. The mean of a patch is always kept, so what is coarser than a patch is
cleaned on a picture of half the size, whose 2x2 means carry white noise again.

Sources: Yaroslavsky, Egiazarian & Astola, "Transform domain image restoration methods", SPIE 4304, 2001 (sliding DCT);
Dabov et al., IEEE TIP 16(8), 2007, section III (two passes, weights); Facciolo, Pierazzo & Morel, "Conservative scale
recomposition for multiscale denoising", SIAM J. Imaging Sci. 10(3), 2017 (several scales).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from physrestore.tiling import map_tiles

PATCH = 8
STRIDE = 2
# First pass: coefficients below so many standard deviations are noise. Measured on Kodak24: 2.5 is 0.02 dB better in
# PSNR, but lets a third more noise through in smooth areas (0.076 of the input's std instead of 0.059).
THRESHOLD = 2.7
SCALES = 3
# What one output value can depend on: two passes of PATCH - 1 values each, rounded up to the tile alignment.
REACH = 2 * PATCH
# A picture this small holds no coarser scale worth a patch grid.
SMALLEST_SIDE = 4 * PATCH
# 1 1 1 1: luminance; then red-blue, green-magenta, and G1-G2, which is almost pure noise. Rows R, G1, G2, B.
COLOUR_TRANSFORM = (
    (0.5, 0.5, 0.5, 0.5),
    (math.sqrt(0.5), 0.0, 0.0, -math.sqrt(0.5)),
    (0.5, -0.5, -0.5, 0.5),
    (0.0, math.sqrt(0.5), -math.sqrt(0.5), 0.0),
)


def remove_white_noise(
    planes: Tensor,
    *,
    tile: int = 192,
    scales: int = SCALES,
    on_pixels: Callable[[int], None] | None = None,
) -> Tensor:
    """Estimate planes that were seen with independent noise of variance 1.

    Four planes are taken for R, G1, G2, B and denoised twice, as they are and after an orthonormal colour transform;
    the mean of both is better than either: the transform gathers what the colours share, the plain planes keep what
    they do not share because their sites lie half a pixel apart.

    Args:
        planes: (C, H, W) float32.
        tile: Side of the tiles in which the patches are processed; the result does not depend on it.
        scales: How many picture sizes, each half of the one before.
        on_pixels: Called with numbers of finished values; they add up to ``work(planes.shape, scales=scales)``.

    Returns:
        (C, H, W), dtype and device of the input.
    """
    report = on_pixels or (lambda _: None)
    estimate = _one_scale(planes, tile=tile, on_pixels=report)
    height, width = (size // 2 * 2 for size in planes.shape[-2:])
    if scales > 1 and min(height, width) >= SMALLEST_SIDE:
        inner = estimate[:, :height, :width]
        coarse = remove_white_noise(_halve(planes[:, :height, :width]), tile=tile, scales=scales - 1, on_pixels=report)
        inner += _double(_smooth(coarse - _halve(inner)))
    return estimate


def work(shape: torch.Size | tuple[int, ...], *, scales: int = SCALES) -> int:
    """Values per plane that `remove_white_noise` reports over all scales."""
    height, width = shape[-2:]
    here = (height + 2 * REACH) * (width + 2 * REACH)
    height, width = height // 2, width // 2
    if scales > 1 and 2 * min(height, width) >= SMALLEST_SIDE:
        return here + work((height, width), scales=scales - 1)
    return here


def _one_scale(planes: Tensor, *, tile: int, on_pixels: Callable[[int], None]) -> Tensor:
    """Tiled estimate; mirrored borders give every value its full set of patches."""
    height, width = planes.shape[-2:]
    padded = _mirror(planes, REACH)
    estimate = map_tiles(_two_views, padded, tile=tile, halo=REACH, align=STRIDE, on_tile=on_pixels)
    return estimate[:, REACH : REACH + height, REACH : REACH + width].contiguous()


def _two_views(planes: Tensor) -> Tensor:
    plain = _two_passes(planes)
    if planes.shape[0] != len(COLOUR_TRANSFORM):
        return plain
    transform = planes.new_tensor(COLOUR_TRANSFORM)
    colours = _two_passes(torch.einsum("ij,jhw->ihw", transform, planes))
    return torch.einsum("ij,ihw->jhw", transform, colours).add_(plain).mul_(0.5)


def _two_passes(planes: Tensor) -> Tensor:
    """Hard threshold, then Wiener filter with the first result as pilot; (C, h, w) without padding."""
    height, width = planes.shape[-2:]
    # An odd side is repeated once, so that the stride meets the end.
    even = F.pad(planes[None], (0, width % STRIDE, 0, height % STRIDE), mode="replicate")[0]
    basis = _basis(planes.dtype, planes.device)
    noisy = basis @ _patches(even)

    kept = noisy.abs() > THRESHOLD
    kept[0] = True
    pilot = _aggregate(basis.T @ (noisy * kept), 1.0 / kept.sum(0, dtype=planes.dtype), even.shape)

    power = (basis @ _patches(pilot)).square_()
    gain = power.div_(power + 1.0)  # the noise has variance 1
    gain[0] = 1.0
    weight = 1.0 / gain.square().sum(0)
    return _aggregate(basis.T @ noisy.mul_(gain), weight, even.shape)[:, :height, :width]


def _patches(planes: Tensor) -> Tensor:
    """(C, h, w) to columns (PATCH^2, number of patches): one row per place in the patch."""
    channels, height, width = planes.shape
    rows, columns = _grid(height), _grid(width)
    columns_of = planes.new_empty((PATCH * PATCH, channels, rows, columns))
    phases = _phases(planes)
    for i in range(PATCH):
        for j in range(PATCH):
            phase = phases[i % STRIDE][j % STRIDE]
            top, left = i // STRIDE, j // STRIDE
            columns_of[i * PATCH + j].copy_(phase[:, top : top + rows, left : left + columns])
    return columns_of.flatten(1)


def _aggregate(estimates: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
    """Weighted mean of overlapping patch estimates; the inverse of `_patches` for equal weights."""
    channels, height, width = shape
    rows, columns = _grid(height), _grid(width)
    estimates = (estimates * weight).view(PATCH, PATCH, channels, rows, columns)
    weight = weight.view(channels, rows, columns)
    total, norm = (weight.new_zeros(channels, height, width) for _ in range(2))
    # Interleaved views are slow to add to: sum each stride phase on its own, then interleave once.
    for a in range(STRIDE):
        for b in range(STRIDE):
            phase_total, phase_norm = (weight.new_zeros(channels, height // STRIDE, width // STRIDE) for _ in range(2))
            for i in range(a, PATCH, STRIDE):
                for j in range(b, PATCH, STRIDE):
                    place = (
                        slice(None),
                        slice(i // STRIDE, i // STRIDE + rows),
                        slice(j // STRIDE, j // STRIDE + columns),
                    )
                    phase_total[place] += estimates[i, j]
                    phase_norm[place] += weight
            total[:, a::STRIDE, b::STRIDE] = phase_total
            norm[:, a::STRIDE, b::STRIDE] = phase_norm
    return total.div_(norm)


def _phases(planes: Tensor) -> list[list[Tensor]]:
    return [[planes[:, a::STRIDE, b::STRIDE].contiguous() for b in range(STRIDE)] for a in range(STRIDE)]


def _grid(size: int) -> int:
    """Number of patch positions along an axis."""
    return (size - PATCH) // STRIDE + 1


@cache
def _basis(dtype: torch.dtype, device: torch.device) -> Tensor:
    """(PATCH^2, PATCH^2): orthonormal two-dimensional DCT-II; row 0 is the mean."""
    k, i = torch.meshgrid(torch.arange(PATCH), torch.arange(PATCH), indexing="ij")
    matrix = torch.cos(math.pi * (2 * i + 1) * k / (2 * PATCH)).double() * math.sqrt(2.0 / PATCH)
    matrix[0] /= math.sqrt(2.0)
    return torch.kron(matrix, matrix).to(device=device, dtype=dtype)


def _mirror(planes: Tensor, border: int) -> Tensor:
    """Extend on all sides by reflection about the edge, as often as a small picture needs."""
    rows, columns = (
        torch.from_numpy(np.pad(np.arange(size), border, mode="symmetric")).to(planes.device)
        for size in planes.shape[-2:]
    )
    return planes.index_select(1, rows).index_select(2, columns)


def _halve(planes: Tensor) -> Tensor:
    """2x2 sums over 2: white noise of variance 1 stays that."""
    return F.avg_pool2d(planes[None], 2)[0].mul_(2.0)


def _double(planes: Tensor) -> Tensor:
    """Back to twice the size; signal scaled as `_halve` undone."""
    size = tuple(2 * side for side in planes.shape[-2:])
    return F.interpolate(planes[None], size=size, mode="bilinear", align_corners=False)[0].mul_(0.5)


def _smooth(planes: Tensor) -> Tensor:
    """3x3 mean: only the coarse part of a correction is trusted, its fine part is aliased."""
    return F.avg_pool2d(F.pad(planes[None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0]
