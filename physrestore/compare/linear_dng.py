"""Linear DNGs, which hold camera colours at every pixel: read to be compared, never to be restored.

Source: Adobe DNG specification 1.7.1.0, chapters 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noise_models.errors import DamagedRaw, RawTooLarge
from noise_models.frame import Colour

_LINEAR_RAW = 34892  # PhotometricInterpretation
_ORIENTATION, _BLACK, _WHITE, _MATRIX, _NEUTRAL = 274, 50714, 50717, 50721, 50728
# What a hostile or broken file can make tifffile and its codecs raise.
_BROKEN = (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, AttributeError)


@dataclass(frozen=True, eq=False)
class LinearDng:
    """What a linear DNG holds.

    Attributes:
        rgb: (3, H, W) float32, linear camera RGB, 0 black, 1 white.
        colour: White balance and matrix.
        orientation: EXIF orientation 1..8.
    """

    rgb: Tensor
    colour: Colour
    orientation: int


def read_linear_dng(path: Path, *, max_megapixels: float) -> LinearDng | None:
    """Read a linear DNG of three colours and 16-bit integers; None for any other file.

    Raises:
        RawTooLarge: more pixels than the ceiling; nothing was unpacked.
        DamagedRaw: its tags contradict each other, or its pixels cannot be decoded.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            pages = [page for page in _pages(file.pages) if _is_linear_rgb(page)]
            if not pages:
                return None
            page = max(pages, key=lambda one: one.imagewidth * one.imagelength)
            if page.imagewidth * page.imagelength > max_megapixels * 1e6:
                size = f"{page.imagewidth} x {page.imagelength} pixels"
                raise RawTooLarge(path, f"It has {size}; the limit is {max_megapixels:g} megapixels.")
            black, white = _levels(page, _BLACK, 0.0), _levels(page, _WHITE, 65535.0)
            if not (np.isfinite(black).all() and np.isfinite(white).all() and (white > black).all()):
                raise DamagedRaw(
                    path, f"Its white level {white.tolist()} is not above its black level {black.tolist()}."
                )
            values = (page.asarray().astype(np.float32) - black) / (white - black)
            first: Any = file.pages[0]
            return LinearDng(torch.from_numpy(values).permute(2, 0, 1).contiguous(), _colour(first), _turned(first))
    except tifffile.TiffFileError as error:
        raise DamagedRaw(path, f"Its directories cannot be read ({error}).") from error
    except _BROKEN as error:
        raise DamagedRaw(path, f"Its pixels cannot be decoded ({type(error).__name__}: {error}).") from error


def _pages(pages: Any) -> Iterator[Any]:  # tifffile's pages have no common type
    for page in pages:
        yield page
        if page.subifds:
            yield from _pages(page.pages)


def _is_linear_rgb(page: Any) -> bool:
    return int(page.photometric) == _LINEAR_RAW and page.samplesperpixel == 3 and page.dtype == np.uint16


def _levels(page: Any, tag: int, default: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """One level [DN] per colour.

    Raises:
        ValueError: neither one value nor one per colour: a level that changes from pixel to pixel is not known here.
    """
    values = _numbers(page, tag) or [default]
    if len(values) not in (1, 3):
        raise ValueError(f"tag {tag} has {len(values)} values; 1 or 3 can be read")
    return np.array(values, dtype=np.float32)


def _colour(page: Any) -> Colour:
    neutral, matrix = _numbers(page, _NEUTRAL), _numbers(page, _MATRIX)
    return Colour(
        (neutral[0], neutral[1], neutral[2]) if len(neutral) == 3 and min(neutral) > 0 else None,
        (
            ((matrix[0], matrix[1], matrix[2]), (matrix[3], matrix[4], matrix[5]), (matrix[6], matrix[7], matrix[8]))
            if len(matrix) == 9
            else None
        ),
    )


def _turned(page: Any) -> int:
    stated = [int(value) for value in _numbers(page, _ORIENTATION)]
    return stated[0] if stated and stated[0] in range(1, 9) else 1


def _numbers(page: Any, tag: int) -> list[float]:
    """The values of a tag; of fractions their quotients. Empty if it is not there."""
    if tag not in page.tags:
        return []
    entry = page.tags[tag]
    values = [float(value) for value in np.atleast_1d(np.asarray(entry.value, dtype=np.float64))]
    if int(entry.dtype) not in (5, 10):  # TIFF's RATIONAL and SRATIONAL
        return values
    return [above / below for above, below in zip(values[::2], values[1::2], strict=True)]
