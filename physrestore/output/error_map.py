"""The map of expected errors as files: numbers for programs, and a picture with a legend for people."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from physrestore.output.arrays import write_npz
from physrestore.output.develop import upright
from physrestore.output.publish import publish

_LARGEST_SIDE = 1024  # pixels of the picture
_TOP_SHARE = 0.99  # quantile that the brightest colour stands for: a few outliers must not make all else dark
_LEGEND_HEIGHT, _MARGIN, _BAR_HEIGHT, _FONT_SIZE = 64, 12, 16, 15  # pixels
_LEAST_WIDTH = 360  # pixels; below it the legend's text does not fit
_BACKGROUND, _INK, _UNKNOWN = (32, 32, 32), (230, 230, 230), (120, 120, 120)
_TICKS = 5

MEANING = (
    "std: expected error of each restored value, one standard deviation; 90 % of errors are expected within 1.645 std. "
    "NaN: the sensor was saturated there, the error is not known. Channels R, G, B of the linear picture, or one "
    "channel for the mosaic."
)


def write_error_map(
    path: Path, std: Tensor, *, span_dn: float, history: str, overwrite: bool = False, protect: Iterable[Path] = ()
) -> None:
    """Write stds [DN] with their units and meaning as npz.

    Args:
        path: Final name.
        std: (C, H, W), linear, white is 1.
        span_dn: White minus black level [DN].
        history: The record of the restoration.
        overwrite: Replace what is at ``path``.
        protect: Originals that are never replaced.

    Raises:
        OutputExists, UnsafeOutput, WriteError: see `publish`.
    """
    write_npz(
        path,
        overwrite=overwrite,
        protect=protect,
        # Three digits are more than a std is worth, and half the file.
        std=np.stack([(plane * span_dn).half().numpy() for plane in std]),
        units=np.array("DN"),
        span_dn=np.array(span_dn),
        meaning=np.array(MEANING),
        history=np.array(history),
    )


def write_error_picture(
    path: Path,
    std: Tensor,
    *,
    span_dn: float,
    orientation: int = 1,
    overwrite: bool = False,
    protect: Iterable[Path] = (),
) -> None:
    """Write a map of the expected error as PNG: dark is sure, yellow is not, grey is unknown; numbers in a legend.

    Args:
        path: Final name.
        std: As in `write_error_map`.
        span_dn: As there.
        orientation: EXIF orientation of the picture.
        overwrite: Replace what is at ``path``.
        protect: Originals that are never replaced.

    Raises:
        OutputExists, UnsafeOutput, WriteError: see `publish`.
    """
    error = _small(std) * span_dn
    known = np.isfinite(error)
    top = float(np.quantile(error[known], _TOP_SHARE)) if known.any() else 0.0
    top = top if top > 0 else 1.0
    share = np.where(known, error, 0.0) / top
    picture = _colours(share)
    picture[~known] = _UNKNOWN
    sheet = _with_legend(upright(picture, orientation), top)
    publish(path, lambda file: sheet.save(file, format="PNG"), overwrite=overwrite, protect=protect)


def _small(std: Tensor) -> NDArray[np.float32]:
    """Root mean square over colours and blocks of pixels, (h, w); NaN where nothing of a block is known."""
    factor = math.ceil(max(std.shape[-2:]) / _LARGEST_SIDE)
    total, count = torch.zeros(()), torch.zeros(())
    for plane in std:  # one by one: copies of a whole map would be the largest thing in memory
        known = torch.isfinite(plane)
        total = total + F.avg_pool2d(plane.square().masked_fill_(~known, 0.0)[None], factor, ceil_mode=True)[0]
        count = count + F.avg_pool2d(known.float()[None], factor, ceil_mode=True)[0]
    small: NDArray[np.float32] = torch.where(count > 0, total / count, torch.nan).sqrt().numpy()
    return small


def _colours(share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Viridis: equal steps of the value look equally large, in grey, too."""
    from matplotlib import colormaps  # here: loading it takes a second

    coloured: NDArray[np.uint8] = (colormaps["viridis"](np.clip(share, 0.0, 1.0))[..., :3] * 255).astype(np.uint8)
    return coloured


def _with_legend(picture: NDArray[np.uint8], top: float) -> Image.Image:
    height, width = picture.shape[:2]
    sheet = Image.new("RGB", (max(width, _LEAST_WIDTH), height + _LEGEND_HEIGHT), _BACKGROUND)
    sheet.paste(Image.fromarray(np.ascontiguousarray(picture)), (0, 0))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    length = sheet.width - 2 * _MARGIN
    bar = _colours(np.linspace(0.0, 1.0, length)[None].repeat(_BAR_HEIGHT, axis=0))
    sheet.paste(Image.fromarray(bar), (_MARGIN, height + _MARGIN))
    below = height + _MARGIN + _BAR_HEIGHT + _MARGIN // 2
    for k in range(_TICKS):
        last = k + 1 == _TICKS
        text = f"{top * k / (_TICKS - 1):.2g}" + ("+ DN" if last else "")
        x = _MARGIN + length * k // (_TICKS - 1)
        draw.text((x, below), text, fill=_INK, font=font, anchor="ra" if last else "la" if k == 0 else "ma")
    return sheet
