"""A fixed sample of a frame: square tiles, evenly spread, of every CFA site.

Traps concern the whole frame, so a few million sites show them as well as all. The choice is deterministic: the same
frame gives the same finding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame

U16 = NDArray[np.uint16]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Side of a tile in sites of one colour. Light and shading are even over it; neighbourhoods of five sites fit.
SIDE = 32

# Two million sites a frame: a correlation is known to 0.0014 per plane, and 24 megapixels take a tenth of a second.
TILES_PER_FRAME = 2048

# Beyond it a value is a hot, telegraph-noise or cosmic-ray site and no part of the noise's core.
OUTLIER_SIGMA = 6.0

# Standard deviation of a normal distribution over its median absolute deviation.
MAD_TO_STD = 1.4826


@dataclass(frozen=True)
class SiteTiles:
    """Tiles of one CFA site.

    Attributes:
        plane: Name of the colour plane the site belongs to.
        site: (row, column) in the CFA period.
        codes: (tiles, SIDE, SIDE) [DN].
        black: Declared black level [DN].
        white: Declared white level [DN].
    """

    plane: str
    site: tuple[int, int]
    codes: U16
    black: float
    white: float


def site_tiles(frame: RawFrame) -> list[SiteTiles]:
    """Tiles of every CFA site of a frame, at most `TILES_PER_FRAME` together.

    Raises:
        CalibrationError: not one tile fits.
    """
    ph, pw = frame.cfa.period
    limit = max(1, TILES_PER_FRAME // (ph * pw))
    return [
        SiteTiles(
            plane=name,
            site=(i, j),
            codes=cut_tiles(frame.mosaic[i::ph, j::pw], limit=limit),
            black=float(frame.black_level[i, j]),
            white=float(frame.white_level[i, j]),
        )
        for i, row in enumerate(frame.cfa.plane_of_site)
        for j, name in enumerate(row)
    ]


def cut_tiles(image: U16, *, limit: int) -> U16:
    """At most ``limit`` tiles of an image, evenly spread over it: (tiles, SIDE, SIDE).

    Raises:
        CalibrationError: the image is smaller than a tile.
    """
    rows, columns = image.shape[0] // SIDE, image.shape[1] // SIDE
    if rows * columns == 0:
        raise CalibrationError(
            f"Too small to look for traps: {image.shape[0]} x {image.shape[1]} sites of one colour; "
            f"{SIDE} x {SIDE} are needed. Give whole frames."
        )
    grid = image[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE)
    count = min(limit, rows * columns)
    # Steps of count / total through the grid in reading order visit all rows and drift over the columns.
    chosen = (np.arange(count) * (rows * columns)) // count
    return np.ascontiguousarray(grid[chosen // columns, :, chosen % columns, :])


def check_alike(first: RawFrame, second: RawFrame) -> None:
    """Refuse two frames that cannot be compared site by site.

    Raises:
        CalibrationError: different size or CFA.
    """
    if first.shape != second.shape or first.cfa != second.cfa:
        raise CalibrationError(
            f"Two frames of one camera are needed; these are {first.shape} {first.cfa.name} and "
            f"{second.shape} {second.cfa.name}."
        )


def differences(first: RawFrame, second: RawFrame) -> list[tuple[str, F32]]:
    """First minus second frame in tiles, (plane, (tiles, SIDE, SIDE) [DN]) per CFA site.

    Tiles with a clipped site, or with one at code 0, in either frame are left out: their noise is cut.

    Raises:
        CalibrationError: frames that differ in size or CFA, or too small.
    """
    check_alike(first, second)
    pairs = []
    for a, b in zip(site_tiles(first), site_tiles(second), strict=True):
        high = np.maximum(a.codes, b.codes).max(axis=(1, 2)) >= a.white
        low = np.minimum(a.codes, b.codes).min(axis=(1, 2)) == 0
        keep = ~(high | low)
        pairs.append((a.plane, a.codes[keep].astype(np.float32) - b.codes[keep].astype(np.float32)))
    return pairs


def without_lines(tiles: F32) -> F32:
    """Tiles less their row and column means: no light gradient, row noise or column noise is left.

    Outliers are set to their tile's median first: a hot site would shift the means of its row and column.
    """
    result = tiles - np.median(tiles, axis=(1, 2), keepdims=True)
    # One code step is the least spread that whole numbers can show.
    result[np.abs(result) > OUTLIER_SIGMA * max(robust_std(result), 1.0)] = 0.0
    result -= result.mean(axis=2, keepdims=True)
    result -= result.mean(axis=1, keepdims=True)
    return np.asarray(result, dtype=np.float32)


def robust_std(values: F32) -> float:
    """Standard deviation of the core of values about zero: 1.4826 times their median magnitude."""
    return MAD_TO_STD * float(np.median(np.abs(values)))
