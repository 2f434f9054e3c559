"""The contact sheet: every picture whole, telling places enlarged, and maps of what differs with a stated scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from noise_models.frame import RawFrame
from physrestore.compare.measure import LARGE_CHANGE, Comparison
from physrestore.compare.picture import Picture
from physrestore.output.develop import auto_exposure, binned, developed, render, upright
from physrestore.output.preview import Place, choose_places, labelled_grid
from physrestore.output.publish import publish

# A crop: 240 sites, every one 2 x 2 pixels, so that single sites show and three crops fit a screen.
CROP_SITES, _ZOOM = 240, 2
_THUMBNAIL_SIDE = CROP_SITES * _ZOOM
_CELL_SITES = 12  # side of a cell of the map in which the spot of the largest difference is sought
_SPOT_CELLS = 3  # side of such a spot in cells
_BOX_SITES = 4  # side of the means by which a difference is judged there: white noise cancels in them, picture does not
_WHITE_RMS = 2.0  # rms of the difference [std] that is white in the small map
_NAME_LENGTH = 40  # letters of a name that fit above a picture

Region = tuple[int, int, int, int]  # top, left, height, width, in sites
# A part of a picture, or with None the whole of it made small, as sRGB.
_View = Callable[[Region | None], NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Difference:
    """A comparison and what it is called: "B - A"."""

    label: str
    found: Comparison


def contact_sheet(
    path: Path,
    pictures: Sequence[tuple[str, Picture]],
    differences: Sequence[Difference],
    *,
    overwrite: bool = False,
    protect: Iterable[Path] = (),
) -> None:
    """Write pictures of one scene side by side, and how they differ, as PNG.

    All are developed alike: exposure and colours of the first that has them. Places: where the difference is largest in
    units of the noise, a smooth, a detailed and a dark one.

    Args:
        path: Final name.
        pictures: Each with its letter; all of one size.
        differences: Between them.
        overwrite: Replace what is at ``path``.
        protect: Originals that are never replaced.

    Raises:
        OutputExists, UnsafeOutput, WriteError: see `publish`.
    """
    colour = next((one.colour for _, one in pictures if one.colour.as_shot_neutral is not None), pictures[0][1].colour)
    alike = [(letter, replace(one, colour=colour)) for letter, one in pictures]
    first = alike[0][1].as_frame()
    exposure = auto_exposure(replace(first, colour=colour))
    views = [(letter, one.name, _view(one, exposure)) for letter, one in alike]
    maps = [(one, _difference_view(one.found.scaled, first.orientation)) for one in differences]
    whole = [(f"{letter}: {_short(name)}", view(None)) for letter, name, view in views]
    whole += [(f"{one.label}, rms: black 0, white {_scale(one, _WHITE_RMS)}", view(None)) for one, view in maps]
    rows = [whole]
    for place in _places(first, [one.found.scaled for one in differences]):
        where = f"{place.label}, {_ZOOM}00 %, row {place.region[0]}, column {place.region[1]}"
        row = [(f"{letter}: {where}", view(place.region)) for letter, _, view in views]
        row += [(f"{one.label}: grey 0, white +{_scale(one, LARGE_CHANGE)}", view(place.region)) for one, view in maps]
        rows.append(row)
    sheet = labelled_grid(rows)
    publish(path, lambda file: sheet.save(file, format="PNG"), overwrite=overwrite, protect=protect)


def largest_difference(maps: Sequence[Tensor], side: int, taken: Sequence[Place] = ()) -> Place:
    """The surroundings of the spot in which pictures differ most, in units of std, outside of other places.

    What counts is the mean square of means over a few sites: where exactly white noise was removed it is small
    everywhere alike, and a trace of the picture in the difference stands out.

    Args:
        maps: Of differences, (C, H, W) each, all of one size.
        side: Of the square to show [sites].
        taken: Places that show their own spots; they count only where nothing else is left.
    """
    shape = maps[0].shape[1:]
    cell = _CELL_SITES if min(shape) >= _CELL_SITES else min(_BOX_SITES, *shape)
    energy = torch.stack([_energy(one, cell) for one in maps]).amax(0).numpy()
    rows, columns = ((np.arange(size) + 0.5) * cell for size in energy.shape)
    free = np.ones(energy.shape, dtype=bool)
    for place in taken:
        top, left, tall, wide = place.region
        down, right = (rows >= top) & (rows < top + tall), (columns >= left) & (columns < left + wide)
        free &= ~(down[:, None] & right[None, :])
    score = ndimage.uniform_filter(energy * free if free.any() else energy, _SPOT_CELLS, mode="constant")
    spot = np.unravel_index(int(np.argmax(score)), score.shape)
    height, width = (min(side, size) for size in shape)
    top = min(max(0, int(rows[spot[0]]) - height // 2), shape[0] - height)
    left = min(max(0, int(columns[spot[1]]) - width // 2), shape[1] - width)
    return Place("largest difference", (top, left, height, width))


def _energy(scaled: Tensor, cell: int) -> Tensor:
    """Mean square of means over `_BOX_SITES`, of all channels, in cells of that many sites: (h, w)."""
    box = min(_BOX_SITES, cell)
    means = F.avg_pool2d(scaled[None], box)
    return F.avg_pool2d(means.square().mean(1, keepdim=True), cell // box)[0, 0]


def _places(first: RawFrame, maps: Sequence[Tensor]) -> list[Place]:
    others = choose_places(first, side=CROP_SITES)
    return [largest_difference(maps, CROP_SITES, others), *others]


def _view(picture: Picture, exposure: float) -> _View:
    """How a picture looks, whole or in part."""
    frame, orientation = picture.frame, picture.orientation

    def view(region: Region | None) -> NDArray[np.uint8]:
        if frame is not None:
            shown = replace(frame, colour=picture.colour)
            if region is None:
                periods = -(-max(picture.shape) // (_THUMBNAIL_SIDE * frame.cfa.period[0]))
                return upright(
                    developed(binned(shown, periods=periods), picture.colour, exposure=exposure), orientation
                )
            return upright(_enlarged(render(shown, exposure=exposure, region=region)), orientation)
        assert picture.rgb is not None
        part = _shrunk(picture.rgb) if region is None else _cut(picture.rgb, region)
        seen = developed(part.permute(1, 2, 0).numpy(), picture.colour, exposure=exposure)
        return upright(seen if region is None else _enlarged(seen), orientation)

    return view


def _difference_view(scaled: Tensor, orientation: int) -> _View:
    """Whole: the rms of blocks from black. In part: every site about grey, colours where there are three."""

    def view(region: Region | None) -> NDArray[np.uint8]:
        if region is None:
            share = _shrunk(scaled.square().mean(0, keepdim=True)).sqrt() / _WHITE_RMS
        else:
            share = 0.5 + _cut(scaled, region) / (2 * LARGE_CHANGE)
        grey = share.clamp(0, 1).mul(255).round().expand(3, -1, -1).permute(1, 2, 0).numpy().astype(np.uint8)
        return upright(grey if region is None else _enlarged(grey), orientation)

    return view


def _shrunk(values: Tensor) -> Tensor:
    """The whole of (C, H, W) as means of blocks that fit a thumbnail."""
    return F.avg_pool2d(values[None], -(-max(values.shape[1:]) // _THUMBNAIL_SIDE))[0]


def _cut(values: Tensor, region: Region) -> Tensor:
    top, left, height, width = region
    return values[:, top : top + height, left : left + width]


def _enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture.repeat(_ZOOM, 0).repeat(_ZOOM, 1)


def _scale(one: Difference, stds: float) -> str:
    return f"{stds:g} std of the noise" if one.found.in_noise else f"{stds:g} std of the difference"


def _short(name: str) -> str:
    """A name with its middle left out where it is too long.

    >>> _short("a" * 30 + ".DNG" + "b" * 30)
    'aaaaaaaaaaaaaaaaaaaa...bbbbbbbbbbbbbbbbbbb'
    """
    half = _NAME_LENGTH // 2
    return name if len(name) <= _NAME_LENGTH else f"{name[:half]}...{name[1 - half :]}"
