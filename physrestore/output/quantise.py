"""Linear light to the 16 bits of a file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from physrestore.errors import UnwritableImage

_WHITE = 65_535
_ROWS = 256  # converted at a time, so that a 24 MP picture needs no second copy in float


def to_uint16(image: Tensor | NDArray[np.floating]) -> NDArray[np.uint16]:
    """(C, H, W) linear, 0 black and 1 white, to (H, W, C) uint16 with white at 65535; clipped and rounded.

    Raises:
        UnwritableImage: not three axes, not floating point, or values that are not finite.

    >>> to_uint16(np.array([[[0.0, 0.5, 1.5]]]))[..., 0].tolist()
    [[0, 32768, 65535]]
    """
    is_float = image.is_floating_point() if isinstance(image, Tensor) else np.issubdtype(image.dtype, np.floating)
    if image.ndim != 3 or not is_float:
        raise UnwritableImage(f"A picture must be (C, H, W) floating point, not {tuple(image.shape)} {image.dtype}.")
    channels, height, width = image.shape
    pixels = np.empty((height, width, channels), dtype=np.uint16)
    for top in range(0, height, _ROWS):
        rows = _double(image[:, top : top + _ROWS]).transpose(1, 2, 0)
        if not np.isfinite(rows).all():
            raise UnwritableImage("The picture has values that are not finite; no file format shows those.")
        pixels[top : top + _ROWS] = np.floor(np.clip(rows, 0.0, 1.0) * _WHITE + 0.5)
    return pixels


def _double(planes: Tensor | NDArray[np.floating]) -> NDArray[np.float64]:
    if isinstance(planes, Tensor):
        values: NDArray[np.float64] = planes.detach().cpu().double().numpy()
        return values
    return planes.astype(np.float64)
