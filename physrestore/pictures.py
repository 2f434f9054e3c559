"""Ordinary picture files as linear light."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# sRGB transfer function (IEC 61966-2-1): linear below the knee, power 2.4 above.
SRGB_KNEE, SRGB_SLOPE, SRGB_OFFSET, SRGB_POWER = 0.04045, 12.92, 0.055, 2.4

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH_AT = 24  # byte of the header that says how many bits a sample has


def read_linear(path: Path, *, even: bool = True) -> Tensor:
    """A picture as linear light in 0..1: (3, H, W) float32, or (1, H, W) for a grey one.

    Args:
        path: PNG, JPEG or TIFF. 8-bit values are decoded by the sRGB curve; 16-bit values are taken as linear.
        even: Crop the last row and column of odd sizes, so that a Bayer mosaic can be made of it.

    Raises:
        ValueError: not a picture, or neither 8 nor 16 bit, or neither grey nor RGB.
    """
    values = _read(path)
    if values.dtype == np.uint8:
        x = srgb_to_linear(torch.from_numpy(values.astype(np.float32) / 255.0))
    elif values.dtype == np.uint16:
        x = torch.from_numpy(values.astype(np.float32) / 65535.0)
    else:
        raise ValueError(f"{path.name!r} holds {values.dtype} values; needed: 8 bit (sRGB) or 16 bit (linear).")
    x = x[..., None] if x.ndim == 2 else x[..., :3]
    if x.ndim != 3 or x.shape[-1] not in (1, 3):
        raise ValueError(f"{path.name!r} has shape {values.shape}; needed: a grey or RGB picture.")
    height, width = (side // 2 * 2 if even else side for side in x.shape[:2])
    return x[:height, :width].permute(2, 0, 1).contiguous()


def srgb_to_linear(encoded: Tensor) -> Tensor:
    """Invert the sRGB transfer function (IEC 61966-2-1), 0..1 to 0..1.

    >>> srgb_to_linear(torch.tensor([0.0, 0.5, 1.0]))
    tensor([0.0000, 0.2140, 1.0000])
    """
    power = ((encoded + SRGB_OFFSET) / (1 + SRGB_OFFSET)).clamp(min=0) ** SRGB_POWER
    return torch.where(encoded <= SRGB_KNEE, encoded / SRGB_SLOPE, power)


def _read(path: Path) -> np.ndarray:
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        try:
            return np.asarray(tifffile.imread(path))
        except tifffile.TiffFileError as error:
            raise ValueError(f"{path.name!r} cannot be read as TIFF: {error}.") from error
    if _is_deep_png(path):
        import imagecodecs

        try:
            return np.asarray(imagecodecs.png_decode(path.read_bytes()))
        except (imagecodecs.PngError, ValueError) as error:  # its error texts are not always UTF-8
            raise ValueError(f"{path.name!r} cannot be read as PNG: {error}.") from error
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            if picture.mode in ("I;16", "I;16B", "I"):
                return np.asarray(picture).astype(np.uint16)
            return np.asarray(picture.convert("L" if picture.mode in ("L", "1") else "RGB"))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path.name!r} is not a picture that can be read (PNG, JPEG or TIFF).") from error


def _is_deep_png(path: Path) -> bool:
    """A PNG with 16 bits a sample, of which Pillow would keep 8 (W3C PNG specification, 11.2.2)."""
    with path.open("rb") as file:
        head = file.read(_PNG_DEPTH_AT + 1)
    return head.startswith(_PNG_SIGNATURE) and head[_PNG_DEPTH_AT:] == bytes([16])
