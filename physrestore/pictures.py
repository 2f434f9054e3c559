"""Ordinary picture files as linear light."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# sRGB transfer function (IEC 61966-2-1): linear below the knee, power 2.4 above.
SRGB_KNEE, SRGB_SLOPE, SRGB_OFFSET, SRGB_POWER = 0.04045, 12.92, 0.055, 2.4


def read_linear(path: Path) -> Tensor:
    """A picture as linear light in 0..1: (3, H, W) float32, or (1, H, W) for a grey one; odd edges are cropped.

    Args:
        path: PNG, JPEG or TIFF. 8-bit values are decoded by the sRGB curve; 16-bit values are taken as linear.

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
    height, width = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
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
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            if picture.mode in ("I;16", "I;16B", "I"):
                return np.asarray(picture).astype(np.uint16)
            return np.asarray(picture.convert("L" if picture.mode in ("L", "1") else "RGB"))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path.name!r} is not a picture that can be read (PNG, JPEG or TIFF).") from error
