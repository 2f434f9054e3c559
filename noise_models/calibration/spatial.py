"""Fixed patterns: what stays in the mean of many frames, parted into pixel-to-pixel and smooth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.pairs import TILE

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

# Standard deviation of a normal distribution over its median absolute deviation.
_MAD_TO_STD = 1.4826

# A site beyond this many robust standard deviations of its neighbourhood is a defect, not part of the non-uniformity.
# Among 24 million normal sites one in twenty sets would show a single false one.
DEFECT_SIGMA = 6.0
# Defects are looked for again after those found have left the tile's mean and slope.
_ROUNDS = 2
# A lens's fall-off is a parabola over a tile, to a part in a thousand even in small frames; that surface has six terms.
_DEGREE = 2
_TERMS = 6
# Every such row of a tile enters a median.
_STRIDE = 4


@dataclass(frozen=True)
class Pattern:
    """The fixed pattern of one CFA site.

    Attributes:
        variance: Within tiles, defects excluded [DN^2]; temporal noise left in the mean frame included.
        error: Standard error of ``variance``.
        tile_means: (th, tw) [DN].
        tile_variance: Between tiles [DN^2].
        pixels_per_tile: Sites.
        defects: Signed excess of every defect over its tile [DN].
        limit: Excess [DN] from which a site was a defect.
        count: Sites looked at.
    """

    variance: float
    error: float
    tile_means: F64
    tile_variance: float
    pixels_per_tile: int
    defects: F64
    limit: float
    count: int


def measure_pattern(
    mean_frame: F32, *, detrend: bool, exclude: Bool | None = None, most_sites: int | None = None
) -> Pattern:
    """Spatial variance of one site's mean frame.

    Args:
        mean_frame: Mean over frames of one CFA site (h, w) [DN].
        detrend: Remove a quadratic surface from every tile (flats: light that falls off), not only its mean.
        exclude: (h, w), True: known to be a defect.
        most_sites: Look at so many sites, in rows of tiles evenly spread over the frame; None: at all.
    """
    tiles = _tiles(mean_frame, most_sites).astype(np.float64)
    known = np.zeros(tiles.shape, dtype=bool) if exclude is None else _tiles(exclude, most_sites)
    side = tiles.shape[1]
    # From the median: one hot site would shift the mean of its tile, and with it all its neighbours.
    start = tiles - np.median(tiles[:, ::_STRIDE], axis=(1, 3), keepdims=True)
    keep = ~known
    for _ in range(_ROUNDS):
        residual = _centred(start, keep, detrend=detrend)
        scale = _MAD_TO_STD * float(np.median(np.abs(residual[:, ::_STRIDE])))
        # A mean frame of whole numbers can have a MAD of zero; one step of it is then the scale.
        limit = DEFECT_SIGMA * max(scale, _smallest_step(residual[keep]))
        keep = (np.abs(residual) <= limit) & ~known
    residual = _centred(start, keep, detrend=detrend)
    variance, error = _moments(residual, keep, share=1.0 - (_TERMS if detrend else 1) / side**2)
    means = _kept_mean(tiles, keep)[:, 0, :, 0]
    return Pattern(
        variance=variance,
        error=error,
        tile_means=means,
        tile_variance=float(np.var(means, ddof=1)) if means.size > 1 else 0.0,
        pixels_per_tile=side**2,
        defects=residual[~keep],
        limit=limit,
        count=residual.size,
    )


def _tiles(image: NDArray[Any], most_sites: int | None) -> NDArray[Any]:
    """Whole tiles of an image (rows, side, columns, side)."""
    side = min(TILE, *image.shape)
    rows, columns = image.shape[0] // side, image.shape[1] // side
    tiles = image[: rows * side, : columns * side].reshape(rows, side, columns, side)
    wanted = rows if most_sites is None else max(1, most_sites // (columns * side**2))
    return tiles if wanted >= rows else tiles[(np.arange(wanted) * rows) // wanted]


def flattened(mean_frame: F32) -> F32:
    """A mean frame above black (h, w) over the smooth surface of its tile; NaN beyond the last whole tile."""
    tiles = _tiles(mean_frame, None).astype(np.float64)
    rows, side, columns, _ = tiles.shape
    start = tiles - np.median(tiles, axis=(1, 3), keepdims=True)
    keep = np.ones(tiles.shape, dtype=bool)
    for _ in range(_ROUNDS):
        residual = _centred(start, keep, detrend=True)
        keep = np.abs(residual) <= DEFECT_SIGMA * max(
            _MAD_TO_STD * float(np.median(np.abs(residual))), _smallest_step(residual[keep])
        )
    level = tiles - _centred(start, keep, detrend=True)
    result = np.full(mean_frame.shape, np.nan, dtype=np.float32)
    # A tile without light has no response.
    ratio = np.divide(tiles, level, out=np.full(tiles.shape, np.nan), where=level > 0.0)
    result[: rows * side, : columns * side] = ratio.reshape(rows * side, columns * side)
    return result


def _centred(tiles: F64, keep: Bool, *, detrend: bool) -> F64:
    """Tiles less the mean of their kept sites, and less the quadratic surface through them."""
    residual: F64 = tiles - _kept_mean(tiles, keep)
    return residual - _bows(np.where(keep, residual, 0.0)) if detrend else residual


def _kept_mean(tiles: F64, keep: Bool) -> F64:
    """Mean of the kept sites of every tile (rows, 1, columns, 1); of all where a tile keeps none."""
    count = keep.sum(axis=(1, 3), keepdims=True)
    kept = np.where(keep, tiles, 0.0).sum(axis=(1, 3), keepdims=True) / np.maximum(count, 1)
    result: F64 = np.where(count > 0, kept, tiles.mean(axis=(1, 3), keepdims=True))
    return result


def _moments(residual: F64, keep: Bool, *, share: float) -> tuple[float, float]:
    """Variance and its standard error, from the residual's own fourth moment."""
    squared = residual[keep] ** 2
    count = max(len(squared), 1)
    second = float(squared.mean()) if len(squared) else 0.0
    error = float(np.sqrt(max(float((squared**2).mean()) - second**2, 0.0) / count)) if len(squared) else 0.0
    return second / share, error / share


def _bows(residual: F64) -> F64:
    """Least-squares quadratic surface of every tile of a mean-free (rows, side, columns, side) array."""
    basis = _polynomials(residual.shape[1])
    # Coefficients of products of the three polynomials down and across; those of total degree one and two are taken.
    across = np.einsum("aibj,qj->aibq", residual, basis)
    coefficients = np.einsum("aibq,pi->abpq", across, basis)
    degree = np.add.outer(np.arange(3), np.arange(3))
    coefficients *= (degree > 0) & (degree <= _DEGREE)
    half = np.einsum("abpq,pi->aibq", coefficients, basis)
    return np.asarray(np.einsum("aibq,qj->aibj", half, basis), dtype=np.float64)


def _polynomials(side: int) -> F64:
    """Constant, line and parabola over a tile, orthonormal, (3, side)."""
    ramp = np.linspace(-1.0, 1.0, side)
    return np.asarray(np.linalg.qr(np.stack([np.ones(side), ramp, ramp**2], axis=1))[0].T, dtype=np.float64)


def _smallest_step(residual: F64) -> float:
    spread = float(residual.std()) if residual.size else 0.0
    return 0.1 * spread if spread > 0 else 1.0
