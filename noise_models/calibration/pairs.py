"""Two frames of the same light: their difference holds the temporal noise and nothing that is fixed.

A mosaic is measured site by site: the sub-lattice of one CFA site is an ordinary image of one colour. In the
difference of two frames PRNU, DSNU, shading and uneven light cancel. What rows and columns have in common is taken
out by removing line means, and an exact linear correction gives back the variance this removes, also where the light,
and with it the variance, changes over the frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.defects import mean_without
from noise_models.cfa import Cfa
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame
from noise_models.sensor import QUANTISATION_VARIANCE_DN2

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U16 = NDArray[np.uint16]
Bool = NDArray[np.bool_]

# Side of a tile in sites of one colour: 1,024 differences give a variance to 4 %, and light that a lens or a screen
# leaves uneven changes little over it.
TILE = 32

# Removing line means needs lines: below this the correction's matrix is nearly singular.
SMALLEST_SIDE = 6

# A ratio of two frames' means is flicker only where it stands out of its own error.
_FLICKER_SIGMA = 3.0


@dataclass(frozen=True)
class SitePair:
    """Difference of two frames at one CFA site, line means removed, in tiles.

    Attributes:
        mean: Mean of the two frames above black [DN], per tile (th, tw).
        variance: Temporal variance of one pixel [DN^2], rounding included, line noise excluded, per tile (th, tw).
        fourth: Mean fourth power of the difference in units of ``variance`` squared: 3 times that for a Gaussian, per
            tile.
        count: Measured sites per tile: neither clipped nor defective.
        clipped: Share of clipped sites per tile, defects not counted.
        dof_share: Degrees of freedom that line removal leaves, as a share of the sites.
        residual: The difference with line means removed (h, w) float32 [DN]; variance twice that of one frame.
        row_means: Line means of the difference, one a row of the sub-lattice [DN].
        column_means: The same for columns.
    """

    mean: F64
    variance: F64
    fourth: F64
    count: F64
    clipped: F64
    dof_share: float
    residual: F32
    row_means: F64
    column_means: F64


def sublattice(mosaic: U16, site: tuple[int, int], period: tuple[int, int]) -> U16:
    """The sites of a mosaic that share one place in the CFA period: a view, (h, w)."""
    return mosaic[site[0] :: period[0], site[1] :: period[1]]


def all_sites(cfa: Cfa) -> list[tuple[int, int]]:
    """Every place of the CFA period, plane by plane."""
    return [site for plane in cfa.plane_names for site in cfa.sites(plane)]


def site_means(raw: RawFrame, plane: str, defects: Mapping[tuple[int, int], Bool]) -> F64:
    """Mean of every CFA site of a plane [DN], defects left out."""
    period = raw.cfa.period
    return np.array([mean_without(sublattice(raw.mosaic, s, period), defects.get(s)) for s in raw.cfa.sites(plane)])


def tile_edges(length: int, side: int = TILE) -> NDArray[np.intp]:
    """Starts of near-equal tiles that cover a line without remainder.

    >>> tile_edges(70).tolist()
    [0, 35]
    """
    tiles = max(1, length // side)
    return np.linspace(0, length, tiles, endpoint=False).astype(np.intp)


def light_ratio(first: F64, second: F64, error: float) -> float:
    """Mean signal of the first frame over that of the second; 1 where they agree within their errors.

    Args:
        first: Mean above black of one plane [DN], one value a site of the CFA period.
        second: The same of the second frame.
        error: Standard error of the difference of the two averages [DN].
    """
    a, b = float(first.mean()), float(second.mean())
    if abs(a - b) <= _FLICKER_SIGMA * error or min(a, b) <= 0.0:
        return 1.0
    return a / b


def measure_site(
    first: U16, second: U16, *, black: float, clip: float, ratio: float = 1.0, defects: Bool | None = None
) -> SitePair:
    """Temporal noise of one CFA site from two frames.

    Args:
        first: Sub-lattice of one frame (h, w) [DN].
        second: Of the other frame, same light.
        black: Black level [DN].
        clip: Level [DN] at and above which a site counts as clipped.
        ratio: Light of the first frame over that of the second; both are scaled to their geometric mean.
        defects: (h, w), True: leave the site out.

    Raises:
        CalibrationError: the area is too small to remove its line means.
    """
    height, width = first.shape
    if min(height, width) < SMALLEST_SIDE:
        raise CalibrationError(
            f"Frames are too small: {height} x {width} sites of one colour, needed {SMALLEST_SIDE} x {SMALLEST_SIDE}."
        )
    clipped = (first >= clip) | (second >= clip)
    masked = clipped if defects is None else clipped | defects
    root = math.sqrt(ratio)
    a = (first.astype(np.float32) - np.float32(black)) / np.float32(root)
    b = (second.astype(np.float32) - np.float32(black)) * np.float32(root)
    rows, columns = tile_edges(height), tile_edges(width)
    count = _tile_sum(~masked, rows, columns)
    lost = _tile_sum(clipped if defects is None else clipped & ~defects, rows, columns)
    size = np.outer(np.diff([*rows, height]), np.diff([*columns, width])).astype(np.float64)
    mean = _tile_sum(np.where(masked, 0, a + b), rows, columns) / np.maximum(2.0 * count, 1.0)
    residual, row_means, column_means = remove_lines(a - b, masked)
    squared = residual.astype(np.float32) ** 2
    raw = _tile_sum(squared, rows, columns) / np.maximum(count, 1.0)
    # Scaling by the root of the light ratio leaves shot noise 1/2 (root + 1/root) times that at the mean light.
    scale = root + 1.0 / root
    dof_share = (1.0 - 1.0 / height) * (1.0 - 1.0 / width)
    return SitePair(
        mean=mean,
        variance=_undo_line_removal(raw, np.diff([*rows, height]), np.diff([*columns, width])) / scale,
        fourth=_tile_sum(squared**2, rows, columns) / np.maximum(count, 1.0) / (scale * dof_share) ** 2,
        count=count,
        clipped=lost / size,
        dof_share=dof_share,
        residual=residual,
        row_means=row_means,
        column_means=column_means,
    )


def remove_lines(difference: F32, masked: Bool | None = None) -> tuple[F32, F64, F64]:
    """Subtract what rows and columns have in common (two-way means).

    Args:
        difference: Of two frames (h, w) [DN].
        masked: (h, w), True: the site counts for nothing, and its residual is 0.

    Returns:
        Residual (h, w), row means (h,), column means (w,).
    """
    height, width = difference.shape
    used = difference if masked is None else np.where(masked, np.float32(0), difference)
    in_row, in_column = (
        (width, height)
        if masked is None
        else (np.maximum(n - masked.sum(axis=k), 1) for n, k in ((width, 1), (height, 0)))
    )
    row_means = used.sum(axis=1, dtype=np.float64) / in_row
    column_means = used.sum(axis=0, dtype=np.float64) / in_column
    residual = used - row_means.astype(np.float32)[:, None]
    residual -= (column_means - column_means.mean()).astype(np.float32)[None, :]
    if masked is not None:
        residual[masked] = 0.0
    return residual, row_means, column_means


def resolved(variance: float) -> bool:
    """Whether a temporal variance [DN^2], rounding included, is that of a noise of at least half a code step.

    Below it ``sqrt(v - 1/12)`` is biased by up to 25 % at 0.35 DN (it depends on where the mean lies between codes).
    """
    return variance - QUANTISATION_VARIANCE_DN2 >= _SMALLEST_RESOLVED_DN**2


_SMALLEST_RESOLVED_DN = 0.5


def _tile_sum(values: NDArray[np.generic], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> F64:
    # Columns first: sums of at most 63 float32 values, then rows in double precision.
    partial = np.add.reduceat(values, columns, axis=1, dtype=np.float64)
    result: F64 = np.add.reduceat(partial, rows, axis=0)
    return result


def _undo_line_removal(raw: F64, heights: NDArray[np.intp], widths: NDArray[np.intp]) -> F64:
    """Tile variances before line means were removed, from the mean squares after.

    With independent pixels of variance s, the residual's expected square is ``P s Q^T`` where
    ``P = (1 - 2/h) I + 1 h_k^T / h^2`` (h rows, h_k of them in tile k), and Q the same for columns.
    """
    left, right = _removal_matrix(heights), _removal_matrix(widths)
    result: F64 = np.linalg.solve(right, np.linalg.solve(left, raw).T).T
    return result


def _removal_matrix(sizes: NDArray[np.intp]) -> F64:
    total = float(sizes.sum())
    result: F64 = (1.0 - 2.0 / total) * np.eye(len(sizes)) + sizes[None, :] / total**2
    return result
