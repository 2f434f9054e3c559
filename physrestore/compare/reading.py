"""A file becomes a `Picture`: a raw, a result of physrestore in any format, or an ordinary picture."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from noise_models.cfa import Cfa
from noise_models.errors import CfaError, UnsupportedRaw
from noise_models.frame import RawFrame, Source
from noise_models.rawfile import DEFAULT_MAX_MEGAPIXELS, Decoder, read_raw
from physrestore.compare.linear_dng import read_linear_dng
from physrestore.compare.picture import Picture, grey_as_rgb
from physrestore.errors import CompareError
from physrestore.pictures import read_linear
from physrestore.results import read_record

_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_BYTES_PER_SITE = 2
_NPZ_MOSAIC = "mosaic"


def read_picture(
    path: Path, *, decoder: Decoder | None = None, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
) -> Picture:
    """Read a file for a comparison.

    Args:
        path: A camera raw or CFA DNG; a linear DNG; an npz that ``restore`` wrote; PNG, JPEG or TIFF (8 bit is taken
            as sRGB, 16 bit as linear).
        decoder: Of a series of raws.
        max_megapixels: Larger raws are refused before anything is unpacked.

    Raises:
        RawFileError: a raw that cannot be used, or no known file at all.
        CompareError: another file that holds no picture.
        OSError: a picture file that cannot be opened.
    """
    ending = path.suffix.lower()
    if ending in _PICTURES:
        try:
            return Picture(name=path.name, rgb=grey_as_rgb(read_linear(path, even=False)), record=read_record(path))
        except ValueError as error:
            raise CompareError(str(error)) from error
    if ending == ".npz":
        frame = _frame_of_npz(path, max_megapixels)
        return Picture(name=path.name, frame=frame, record=read_record(path))
    try:
        frame = read_raw(path, decoder=decoder, max_megapixels=max_megapixels)
    except UnsupportedRaw:
        found = read_linear_dng(path, max_megapixels=max_megapixels)
        if found is None:
            raise
        return Picture(
            name=path.name,
            rgb=found.rgb,
            colour=found.colour,
            orientation=found.orientation,
            record=read_record(path),
        )
    return Picture(
        name=path.name, frame=frame, colour=frame.colour, orientation=frame.orientation, record=read_record(path)
    )


def _frame_of_npz(path: Path, max_megapixels: float) -> RawFrame:
    """The mosaic that ``restore --output npz`` wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo(f"{_NPZ_MOSAIC}.npy").file_size
        if size > max_megapixels * 1e6 * _BYTES_PER_SITE:
            raise CompareError(f"{path.name!r} holds {size >> 20} MiB of pixels; the limit is {max_megapixels:g} MP.")
        with np.load(path, allow_pickle=False) as arrays:
            cfa, black, white = Cfa.parse(str(arrays["cfa"])), arrays["black_level"], arrays["white_level"]
            return RawFrame(arrays[_NPZ_MOSAIC], cfa, black, white, source=Source(path=path))
    except (zipfile.BadZipFile, KeyError, ValueError, CfaError) as error:
        raise CompareError(
            f"{path.name!r} is not an npz of a restored mosaic ({error}). Give one that 'restore --output npz' wrote."
        ) from error
