"""A pair of photos of one static scene in small tiles: level, temporal noise, and how much scene there is to move.

Each tile is centred along rows and columns by itself, so that an object that moves or a light that changes elsewhere
in the frame does not reach it, and row noise, column noise and slow changes of light drop out of its variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from noise_models.cfa import Cfa
from noise_models.frame import RawFrame

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

# Side of a tile in sites of one lattice: 225 degrees of freedom tell its variance to 9 %, and few tiles hold an edge.
SIDE = 16
TILE_DOF = (SIDE - 1) ** 2
# A level this many standard deviations from both ends loses nothing that matters to clipping.
CLIP_SIGMAS = 4.0
# The lowest code holds more than this multiple of the next one, and this many sites: the camera clamps there.
_CLAMP_STEP = 2.0
_CLAMP_SITES = 20


@dataclass(frozen=True)
class BurstTiles:
    """Tiles of one or several pairs; L lattices, N tiles each, the same places in all lattices.

    Attributes:
        plane: Plane name of each lattice, length L.
        phase: Row and column of each lattice inside the period, (L, 2).
        mean: Mean above black of both frames [DN], (L, N).
        variance: Temporal variance of one pixel [DN^2], rounding included, line noise excluded, (L, N).
        fourth: Mean fourth power of the centred difference in the unit of ``variance`` squared, (L, N).
        gradient: Mean squared steps to the next site right and below in the mean of the two frames, noise subtracted
            [DN^2], (L, N); may be negative.
        coherent: What the differences of a lattice and the next have in common, as a variance [DN^2], (L - 1, N): noise
            has nothing, what moves nearly all.
        row_offsets: Means of the tile's rows in the difference, the tile's own removed, in the unit of one frame [DN],
            (L, N, SIDE).
        column_offsets: The same of columns.
        tile_row: Row of tiles, counted on over the pairs, (N,).
        tile_column: Column of tiles, counted on over the pairs, (N,).
        room: Distance of the mean from the nearer end of the codes [DN], (L, N).
        usable: No sample of any lattice is at either end, (N,).
        ratios: Light of the first over the second frame, one a pair and plane.
    """

    plane: tuple[str, ...]
    phase: NDArray[np.int64]
    mean: F64
    variance: F64
    fourth: F64
    gradient: F64
    coherent: F64
    row_offsets: F32
    column_offsets: F32
    tile_row: NDArray[np.int64]
    tile_column: NDArray[np.int64]
    room: F64
    usable: Bool
    ratios: tuple[float, ...]


def burst_tiles(first: RawFrame, second: RawFrame, blacks: tuple[F64, F64]) -> BurstTiles:
    """Tiles of one pair.

    Args:
        first: One photo.
        second: Another photo of the same scene, of the same shape and CFA.
        blacks: Black level of each per CFA site [DN], shape ``cfa.period``.
    """
    cfa = first.cfa
    step = (2, 2) if cfa.is_mono else cfa.period
    lattices = [(i, j) for i in range(step[0]) for j in range(step[1])]
    planes = tuple(cfa.plane_of_site[i % cfa.period[0]][j % cfa.period[1]] for i, j in lattices)
    ratios = {name: light_change(first, second, blacks, cfa, name) for name in cfa.plane_names}
    parts = []
    low = max(_low_end(first), _low_end(second))
    for (i, j), name in zip(lattices, planes, strict=True):
        site = i % cfa.period[0], j % cfa.period[1]
        codes = [_tiles(frame.mosaic[i :: step[0], j :: step[1]]) for frame in (first, second)]
        levels = (float(blacks[0][site]), float(blacks[1][site]))
        parts.append(_lattice(codes, levels, ratios[name], low, float(first.white_level[site])))
    rows = first.shape[0] // step[0] // SIDE
    columns = first.shape[1] // step[1] // SIDE
    return BurstTiles(
        plane=planes,
        phase=np.array(lattices),
        mean=np.stack([part.mean for part in parts]),
        variance=np.stack([part.variance for part in parts]),
        fourth=np.stack([part.fourth for part in parts]),
        gradient=np.stack([part.gradient for part in parts]),
        coherent=np.stack([_common(one, other) for one, other in pairwise(parts)]),
        row_offsets=np.stack([part.rows for part in parts]),
        column_offsets=np.stack([part.columns for part in parts]),
        tile_row=np.repeat(np.arange(rows), columns),
        tile_column=np.tile(np.arange(columns), rows),
        room=np.stack([part.room for part in parts]),
        usable=np.all([part.usable for part in parts], axis=0),
        ratios=tuple(ratios.values()),
    )


def join_pairs(parts: Sequence[BurstTiles]) -> BurstTiles:
    """Tiles of several pairs of one camera as one; lines of different pairs stay different lines."""
    rows = np.cumsum([0, *(int(part.tile_row.max(initial=-1)) + 1 for part in parts)])
    columns = np.cumsum([0, *(int(part.tile_column.max(initial=-1)) + 1 for part in parts)])

    def together(name: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(part, name) for part in parts], axis=1)

    arrays = {
        name: together(name)
        for name in ("mean", "variance", "fourth", "gradient", "coherent", "room", "row_offsets", "column_offsets")
    }
    return BurstTiles(
        plane=parts[0].plane,
        phase=parts[0].phase,
        **arrays,  # type: ignore[arg-type]
        tile_row=np.concatenate([part.tile_row + start for part, start in zip(parts, rows, strict=False)]),
        tile_column=np.concatenate([part.tile_column + start for part, start in zip(parts, columns, strict=False)]),
        usable=np.concatenate([part.usable for part in parts]),
        ratios=tuple(ratio for part in parts for ratio in part.ratios),
    )


def light_change(first: RawFrame, second: RawFrame, blacks: tuple[F64, F64], cfa: Cfa, plane: str) -> float:
    """Light of the first over that of the second frame in one plane; blind to what moves in less than half the frame.

    The weighted median of the ratios of tile means, weights the means: least absolute deviations of a line through 0.
    """
    means = []
    for frame, black in zip((first, second), blacks, strict=True):
        parts = [
            _tiles(frame.mosaic[i :: cfa.period[0], j :: cfa.period[1]]).mean(axis=(1, 2), dtype=np.float64)
            - black[i, j]
            for i, j in cfa.sites(plane)
        ]
        means.append(np.concatenate(parts))
    lit = (means[0] > 0) & (means[1] > 0)
    if not lit.any():
        return 1.0
    ratio = means[0][lit] / means[1][lit]
    order = np.argsort(ratio)
    weight = np.cumsum(means[1][lit][order])
    return float(ratio[order][np.searchsorted(weight, weight[-1] / 2)])


@dataclass(frozen=True)
class _Lattice:
    residual: F32
    mean: F64
    variance: F64
    fourth: F64
    gradient: F64
    rows: F32
    columns: F32
    room: F64
    usable: Bool


def _lattice(
    codes: Sequence[NDArray[np.uint16]], blacks: tuple[float, float], ratio: float, low: float, white: float
) -> _Lattice:
    """One lattice of a pair; ``codes`` are the tiles (N, SIDE, SIDE) of both frames."""
    root = math.sqrt(ratio)
    # Scaling by the root of the light ratio leaves shot noise 1/2 (root + 1/root) times that at the mean light.
    scale = root + 1.0 / root
    first = (codes[0].astype(np.float32) - np.float32(blacks[0])) / np.float32(root)
    second = (codes[1].astype(np.float32) - np.float32(blacks[1])) * np.float32(root)
    middle, difference = (first + second) / 2, first - second
    centre = difference.mean(axis=(1, 2))
    rows = difference.mean(axis=2) - centre[:, None]
    columns = difference.mean(axis=1) - centre[:, None]
    residual = difference - centre[:, None, None] - rows[:, :, None] - columns[:, None, :]
    squared = residual**2
    variance = squared.sum(axis=(1, 2), dtype=np.float64) / (TILE_DOF * scale)
    share = TILE_DOF / SIDE**2
    steps = np.diff(middle, axis=1) ** 2, np.diff(middle, axis=2) ** 2
    gradient = sum(step.mean(axis=(1, 2), dtype=np.float64) for step in steps) - scale * variance
    mean = middle.mean(axis=(1, 2), dtype=np.float64)
    inside = np.all([(tile > low) & (tile < white) for tile in codes], axis=(0, 2, 3))
    black = max(blacks)
    return _Lattice(
        residual=residual / np.float32(math.sqrt(scale)),
        mean=mean,
        variance=variance,
        fourth=(squared**2).mean(axis=(1, 2), dtype=np.float64) / (scale * share) ** 2,
        gradient=np.asarray(gradient),
        rows=rows / np.float32(math.sqrt(scale)),
        columns=columns / np.float32(math.sqrt(scale)),
        room=np.minimum(mean - (low - black), white - black - mean),
        usable=inside,
    )


def _common(one: _Lattice, other: _Lattice) -> F64:
    """Covariance of two lattices' differences in every tile."""
    return np.asarray(np.einsum("nij,nij->n", one.residual, other.residual, dtype=np.float64) / TILE_DOF)


def _tiles(lattice: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """(h, w) to (N, SIDE, SIDE); incomplete tiles at the right and bottom are left out."""
    rows, columns = lattice.shape[0] // SIDE, lattice.shape[1] // SIDE
    cropped = lattice[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE)
    return cropped.transpose(0, 2, 1, 3).reshape(-1, SIDE, SIDE)


def _low_end(frame: RawFrame) -> float:
    """Code at and below which values are cut off: 0, or the code at which the camera clamps its black."""
    counts = np.bincount(frame.mosaic.ravel(), minlength=2)
    lowest = int(np.flatnonzero(counts)[0])
    following = int(counts[lowest + 1]) if lowest + 1 < len(counts) else 0
    piled = counts[lowest] >= _CLAMP_SITES and counts[lowest] > _CLAMP_STEP * following
    return float(lowest) if piled else 0.0
