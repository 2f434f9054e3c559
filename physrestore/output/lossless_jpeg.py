"""Lossless JPEG tiles as DNG readers expect them.

Tiles of a mosaic are stored as two interleaved components of half the width, so that a pixel is predicted from the
nearest pixel of its own colour. Two facts of readers shape the rest:

- RawSpeed (darktable) accepts predictor 1 only and needs the frame of the JPEG to cover the tile exactly.
- dcraw and LibRaw unpack wrongly, without an error, tiles that are wider than the picture; LibRaw 0.22 also a
  picture that is exactly as many tiles wide as a tile has components (1024 columns in two tiles of two components).

Source: ITU-T T.81, annex H; DNG specification 1.7, chapter 2 ("Compression").
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import imagecodecs
import numpy as np
import torch
from numpy.typing import NDArray

from physrestore.errors import UnwritableImage

_TILE_UNIT = 16  # TIFF 6.0: tile sides are multiples of 16
_TILE_SIDE = 512  # large enough for one Huffman table each, small enough to be decoded in parallel
_PREDICTOR = 1  # the pixel to the left


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut.

    Attributes:
        height: Of the picture.
        width: Of the picture.
        tile_height: Rows of a tile.
        tile_width: Columns of a tile.
        components: JPEG components of a tile.
    """

    height: int
    width: int
    tile_height: int
    tile_width: int
    components: int

    @property
    def count(self) -> int:
        """Number of tiles."""
        return -(-self.height // self.tile_height) * -(-self.width // self.tile_width)


def tiling(height: int, width: int, *, samples: int, interleave: bool) -> Tiling:
    """Cut a picture so that every common reader puts it together again.

    Args:
        height: Rows.
        width: Columns.
        samples: Values per pixel: 1 or 3.
        interleave: Whether neighbouring columns are of different colours (a mosaic).

    Raises:
        UnwritableImage: less than 16 pixels high or wide, the smallest tile of TIFF.
    """
    if min(height, width) < _TILE_UNIT:
        raise UnwritableImage(
            f"A picture of {height} x {width} is smaller than the smallest TIFF tile, {_TILE_UNIT} x {_TILE_UNIT}. "
            "Write it uncompressed."
        )
    tile_height = min(_TILE_SIDE, height // _TILE_UNIT * _TILE_UNIT)
    widest = min(_TILE_SIDE, width // _TILE_UNIT * _TILE_UNIT)
    return next(  # pictures of 17 to 31 columns are the only ones that two components do not suit
        Tiling(height, width, tile_height, tile_width, components)
        for components in ((2, 1) if interleave else (samples,))
        for tile_width in range(widest, 0, -_TILE_UNIT)
        if components == 1 or -(-width // tile_width) != components
    )


def encode_tiles(pixels: NDArray[np.uint16], cut: Tiling) -> Iterator[bytes]:
    """The tiles of (H, W) or (H, W, samples) pixels, left to right, top to bottom.

    As many at a time as torch uses threads: the encoder lets other threads run.
    """
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    frame = (cut.tile_height, cut.tile_width * samples // cut.components, cut.components)

    def encoded(corner: tuple[int, int]) -> bytes:
        top, left = corner
        tile = pixels[top : top + cut.tile_height, left : left + cut.tile_width]
        return _encode(_filled(tile, cut).reshape(frame))

    corners = itertools.product(range(0, cut.height, cut.tile_height), range(0, cut.width, cut.tile_width))
    with ThreadPoolExecutor(torch.get_num_threads(), "encode") as pool:
        yield from pool.map(encoded, corners)


def _filled(tile: NDArray[np.uint16], cut: Tiling) -> NDArray[np.uint16]:
    """A whole tile; what lies outside the picture repeats its border, which costs few bytes."""
    missing = [(0, cut.tile_height - tile.shape[0]), (0, cut.tile_width - tile.shape[1])]
    return np.pad(tile, missing + [(0, 0)] * (tile.ndim - 2), mode="edge")


def _encode(frame: NDArray[np.uint16]) -> bytes:
    data = imagecodecs.jpeg8_encode(
        np.ascontiguousarray(frame.squeeze(-1) if frame.shape[-1] == 1 else frame),
        lossless=True,
        predictor=_PREDICTOR,
        bitspersample=16,
        colorspace="unknown",  # no colour transform and no JFIF or Adobe marker
        outcolorspace="unknown",
    )
    return bytes(data)
