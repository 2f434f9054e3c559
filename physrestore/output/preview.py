"""Before and after, side by side: the whole picture small, and telling places at 100 %."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from torch import Tensor

from noise_models.frame import RawFrame
from physrestore.errors import UnwritableImage
from physrestore.output.develop import Float, auto_exposure, binned, developed, render, upright
from physrestore.output.publish import publish

CROP_SIDE = 480  # pixels of a crop at 100 %: large enough to judge, small enough that two fit a laptop screen
_THUMBNAIL_SIDE = 480
_GAP = 12  # pixels between pictures
_LABEL_HEIGHT = 24
_FONT_SIZE = 15
_BACKGROUND, _INK = (32, 32, 32), (230, 230, 230)

_CELL_SITES = 12  # side of a cell of the map from which places are chosen; divides by periods 1, 2 and 6
_FLOOR = 1e-3  # linear; below it relative contrast is only noise
_CLIPPED = 0.98  # linear; cells above it show nothing
_DARK_SHARE = 0.15  # the dark crop has about this quantile of brightness: dark, but not the lens cap

Region = tuple[int, int, int, int]  # top, left, height, width, in sites
# A part of a picture, or with None the whole of it made small, as sRGB.
_View = Callable[[Region | None], NDArray[np.uint8]]


@dataclass(frozen=True)
class Place:
    """A part of a picture worth looking at.

    Attributes:
        label: "smooth", "detail" or "dark".
        region: (top, left, height, width) in sites.
    """

    label: str
    region: tuple[int, int, int, int]


def choose_places(frame: RawFrame, *, side: int = CROP_SIDE) -> list[Place]:
    """A smooth, a detailed and a dark place, as far apart as the content allows.

    They are chosen from the frame averaged over cells of 12 x 12 sites, where noise hardly shows.

    Args:
        frame: The picture before restoration.
        side: Of the square places [sites]; a smaller picture gives smaller, overlapping places.
    """
    height, width = (min(side, size) for size in frame.shape)
    cells = binned(frame, periods=_CELL_SITES // frame.cfa.period[0])
    if min(cells.shape[:2]) < 3:  # too small to choose from
        return [Place("whole picture", (0, 0, height, width))]
    scores = _scores(cells.mean(axis=2), (height // _CELL_SITES or 1, width // _CELL_SITES or 1))
    places: list[Place] = []
    for label, score in scores.items():
        allowed = _where_free(score, places, height, width, frame.shape)
        row, column = np.unravel_index(int(np.argmax(allowed)), allowed.shape)
        top = min(max(0, int(row) * _CELL_SITES - height // 2), frame.shape[0] - height)
        left = min(max(0, int(column) * _CELL_SITES - width // 2), frame.shape[1] - width)
        places.append(Place(label, (top, left, height, width)))
    return places


def before_after_png(
    path: Path,
    before: RawFrame,
    after: NDArray[np.uint16],
    *,
    rgb: Tensor | None = None,
    exposure: float | None = None,
    overwrite: bool = False,
    protect: Iterable[Path] = (),
) -> None:
    """Write a picture of a frame before and after restoration, both developed alike.

    Args:
        path: Final name.
        before: The frame.
        after: (H, W) [DN], the restored mosaic with the same levels.
        rgb: (3, sH, sW) linear camera RGB to show instead of ``after``, where the restoration demosaicked; with s of 2
            the frame before is shown enlarged.
        exposure: Factor on linear light for both. None: `auto_exposure` of the frame before.
        overwrite: Replace what is at ``path``.
        protect: Originals that are never replaced; the frame's own source always is one.

    Raises:
        UnwritableImage: the mosaics differ in size or type.
        OutputExists, UnsafeOutput, WriteError: see `publish`.
    """
    if after.shape != before.shape or after.dtype != np.uint16:
        raise UnwritableImage(f"The mosaic must be {before.shape} uint16, not {after.shape} {after.dtype}.")
    factor = auto_exposure(before) if exposure is None else exposure
    scale = 1 if rgb is None else rgb.shape[-1] // before.shape[1]
    restored = _of_mosaic(before, after, factor) if rgb is None else _of_rgb(before, rgb, factor, scale)
    views = (("before", _of_mosaic(before, before.mosaic, factor, scale)), ("after", restored))
    rows = [[(f"{name}, whole picture", view(None)) for name, view in views]]
    for place in choose_places(before, side=CROP_SIDE // scale):
        top, left = place.region[:2]
        label = f"{place.label}, {scale}00 %, row {top}, column {left}"
        rows.append([(f"{name}: {label}", view(place.region)) for name, view in views])
    sheet = labelled_grid(rows)
    originals = [*protect, *([] if before.source.path is None else [before.source.path])]
    publish(path, lambda file: sheet.save(file, format="PNG"), overwrite=overwrite, protect=originals)


def labelled_grid(rows: list[list[tuple[str, NDArray[np.uint8]]]]) -> Image.Image:
    """Pictures in a grid, each below its label; all columns are as wide as the widest picture."""
    column = max(picture.shape[1] for row in rows for _, picture in row)
    heights = [_LABEL_HEIGHT + max(picture.shape[0] for _, picture in row) for row in rows]
    columns = max(len(row) for row in rows)
    size = (_GAP + columns * (column + _GAP), _GAP + sum(height + _GAP for height in heights))
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_SIZE)
    y = _GAP
    for row, height in zip(rows, heights, strict=True):
        for k, (label, picture) in enumerate(row):
            x = _GAP + k * (column + _GAP)
            draw.text((x, y), label, fill=_INK, font=font)
            sheet.paste(Image.fromarray(np.ascontiguousarray(picture)), (x, y + _LABEL_HEIGHT))
        y += height + _GAP
    return sheet


def _scores(luminance: NDArray[np.floating], window: tuple[int, int]) -> dict[str, NDArray[np.floating]]:
    """Maps that are large where a crop centred there is smooth, detailed, dark; clipped places score low."""
    light = np.maximum(luminance, _FLOOR)
    mean = ndimage.uniform_filter(light, window, mode="nearest")
    seen = np.sqrt(light)  # roughly as the eye weighs it, and noise is about equal everywhere
    steps = np.hypot(ndimage.sobel(seen, 0, mode="nearest"), ndimage.sobel(seen, 1, mode="nearest"))
    contrast = ndimage.uniform_filter(steps, window, mode="nearest")
    clipped = ndimage.uniform_filter((light > _CLIPPED).astype(np.float64), window, mode="nearest")
    middle = abs(np.log(mean / np.median(mean)))
    dark = abs(np.log(mean / np.quantile(mean, _DARK_SHARE)))
    return {
        "smooth": -contrast - 0.1 * middle - clipped,
        "detail": contrast - 0.1 * middle - 10 * clipped,
        "dark": -dark - clipped,
    }


def _where_free(
    score: NDArray[np.floating], places: list[Place], height: int, width: int, shape: tuple[int, int]
) -> NDArray[np.floating]:
    """``score`` at centres whose crop lies inside the picture and overlaps no earlier place, if there are any."""
    rows = np.arange(score.shape[0])[:, None] * _CELL_SITES
    columns = np.arange(score.shape[1])[None, :] * _CELL_SITES
    inside = (abs(rows - shape[0] / 2) <= (shape[0] - height) / 2) & (
        abs(columns - shape[1] / 2) <= (shape[1] - width) / 2
    )
    free = inside
    for place in places:
        top, left = place.region[:2]
        free = free & ((abs(rows - height / 2 - top) >= height) | (abs(columns - width / 2 - left) >= width))
    for candidates in (free, inside):
        if candidates.any():
            return np.where(candidates, score, -np.inf)
    return score


def _of_mosaic(frame: RawFrame, mosaic: NDArray[np.uint16], exposure: float, scale: int = 1) -> _View:
    """The view of a mosaic, every site ``scale`` pixels wide."""

    def view(region: Region | None) -> NDArray[np.uint8]:
        if region is None:
            small: Float = binned(frame, mosaic, periods=_thumbnail_step(frame))
            return upright(developed(small, frame.colour, exposure=exposure), frame.orientation)
        picture = render(frame, mosaic, exposure=exposure, region=region).repeat(scale, 0).repeat(scale, 1)
        return upright(picture, frame.orientation)

    return view


def _of_rgb(frame: RawFrame, rgb: Tensor, exposure: float, scale: int) -> _View:
    """The view of linear camera RGB, (3, sH, sW)."""

    def view(region: Region | None) -> NDArray[np.uint8]:
        if region is None:
            block = scale * _thumbnail_step(frame) * frame.cfa.period[0]
            part = F.avg_pool2d(rgb[None], block)[0]
        else:
            top, left, height, width = (scale * side for side in region)
            part = rgb[:, top : top + height, left : left + width]
        return upright(developed(part.permute(1, 2, 0).numpy(), frame.colour, exposure=exposure), frame.orientation)

    return view


def _thumbnail_step(frame: RawFrame) -> int:
    """Periods of the array that one pixel of the thumbnail stands for."""
    side = max(-(-size // period) for size, period in zip(frame.shape, frame.cfa.period, strict=True))
    return -(-side // _THUMBNAIL_SIDE)
