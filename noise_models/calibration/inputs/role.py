"""Dark, flat, or neither: what the pixels of a frame say."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.pairs import sublattice
from noise_models.frame import RawFrame

Role = Literal["dark", "flat"]

# A dark's mean lies within this share of the range from its file's black level: 49 DN of 14 bits, several times the
# drift of a warm sensor. Flats begin at 1 %.
DARK_SHARE = 0.003
# Tile means that differ by more than noise and this share of the level are structure; lens falloff is 100 times less.
STRUCTURE_SHARE = 0.003
STRUCTURE_SIGMAS = 5.0
# Dust and hot pixels mark a few tiles, a scene most of them.
STRUCTURED_TILES = 0.1
_LARGEST_TILE = 16
_SMALLEST_STD = 0.3  # of rounding [DN]: frames that are clipped flat have no noise
_MAD_TO_STD = 1.4826


def role_of(raw: RawFrame) -> Role | None:
    """The role of a calibration frame by its content.

    Args:
        raw: A dark, a flat of even or smoothly uneven light, or anything else.

    Returns:
        None for a frame with structure, or one too dark for a flat and too bright for a dark.
    """
    site = (0, 0)
    image = sublattice(raw.mosaic, site, raw.cfa.period).astype(np.float32)
    black, white = (float(level[site]) for level in (raw.black_level, raw.white_level))
    level = float(image.mean(dtype=np.float64)) - black
    if _structured_share(image, level) > STRUCTURED_TILES:
        return None
    if abs(level) <= DARK_SHARE * (white - black):
        return "dark"
    return "flat" if level > 0 else None


def _structured_share(image: NDArray[np.float32], level: float) -> float:
    """Share of places where four neighbouring tiles do not lie on a plane (row and column offsets cancel)."""
    side = max(1, min(_LARGEST_TILE, min(image.shape) // 4))
    rows, columns = image.shape[0] // side, image.shape[1] // side
    tiles = image[: rows * side, : columns * side].reshape(rows, side, columns, side).mean(axis=(1, 3))
    noise = max(_MAD_TO_STD * float(np.median(np.abs(_mixed(image)))), _SMALLEST_STD)
    limit = STRUCTURE_SIGMAS * noise / side + STRUCTURE_SHARE * max(level, 0.0)
    return float(np.mean(np.abs(_mixed(tiles)) > limit))


def _mixed(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Half the mixed second difference: as noisy as a pixel, blind to anything that only rows or columns share."""
    return np.asarray((image[1:, 1:] - image[1:, :-1] - image[:-1, 1:] + image[:-1, :-1]) / 2)
