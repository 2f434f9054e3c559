"""From loose darks and flats to `CalibrationFrame`s that know their roles and partners."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np

from noise_models.calibration.frames import CalibrationFrame
from noise_models.calibration.inputs.role import Role, role_of
from noise_models.errors import CalibrationError, RawFileError, UnsupportedRaw
from noise_models.frame import RawFrame
from noise_models.rawfile import read_raw

# Sorted mean levels that differ by more than this ratio are different light. Flicker stays below it, and levels of a
# photon-transfer set are at least a third of a stop (1.26) apart.
LEVEL_GAP = 1.12
# Decoded frames that are kept between sorting and measuring: all of a small sensor's, the first few of a large one's.
KEPT_BYTES = 200 << 20

Reader = Callable[[Path], RawFrame]


@dataclass(frozen=True)
class FrameFile:
    """A frame in a file that has its own way of being read: one page of a stack, levels that the file does not state.

    Attributes:
        path: The file.
        load: Reads the frame.
        label: Added to the file's name in messages, e.g. " page 3".
    """

    path: Path
    load: Callable[[], RawFrame]
    label: str = ""


FrameItem = RawFrame | str | Path | FrameFile


@dataclass(frozen=True)
class _Seen:
    """What sorting needs of a frame."""

    load: Callable[[], RawFrame]
    role: Role
    name: str
    sha256: str
    iso: float
    exposure_s: float | None
    setting: Hashable
    level: float


@dataclass(frozen=True)
class _Lost:
    """A file that cannot be used."""

    role: Role
    name: str
    error: RawFileError


def frames_from(
    darks: Sequence[FrameItem],
    flats: Sequence[FrameItem],
    *,
    unsorted: Sequence[FrameItem] = (),
    read: Reader = read_raw,
    iso: float | None = None,
) -> list[CalibrationFrame]:
    """Describe and group frames for `calibrate`.

    Darks group by exposure. Flats group by exposure and aperture, or by folder where the files name no exposure, and
    inside such a group by measured level. Every file is decoded once here; as many frames as fit into 200 MB are kept,
    the others are decoded once more in `calibrate`. A file that cannot be used stays in the list: `calibrate` leaves it
    out with a note that says why.

    Args:
        darks: Frames in memory, or files.
        flats: The same with light.
        unsorted: Darks and flats mixed: their content tells which is which (`role_of`).
        read: Decodes one file; e.g. `read_raw` bound to a `Decoder` that is reused.
        iso: For frames that state none.

    Raises:
        CalibrationError: a frame without ISO, and none was given; not one usable frame; darks brighter than flats.
    """
    kept = _Kept()
    given: list[tuple[Role | None, str, FrameItem]] = [
        *(("dark", f"dark {index + 1}", item) for index, item in enumerate(darks)),
        *(("flat", f"flat {index + 1}", item) for index, item in enumerate(flats)),
        *((None, f"frame {index + 1}", item) for index, item in enumerate(unsorted)),
    ]
    looks = [_look(item, role, label, read, iso, kept) for role, label, item in given]
    seen = [look for look in looks if isinstance(look, _Seen)]
    lost = [look for look in looks if isinstance(look, _Lost)]
    if lost and not seen:
        raise CalibrationError(f"None of the {len(lost)} frames can be used. {lost[0].error}") from lost[0].error
    _refuse_swapped(seen)
    lit = [frame for frame in seen if frame.role == "flat"]
    frames = [_frame(frame, frame.exposure_s) for frame in seen if frame.role == "dark"]
    levels = _levels(lit)
    frames += [
        _frame(frame, (frame.setting, level), light)
        for frame, level, light in zip(lit, levels, _lights(lit, levels), strict=True)
    ]
    return frames + [_unusable(one, seen[0].iso, index) for index, one in enumerate(lost)]


def load_item(item: FrameItem, read: Reader = read_raw) -> RawFrame:
    """The frame of an item.

    Raises:
        RawFileError: a file that cannot be read.
    """
    if isinstance(item, RawFrame):
        return item
    return item.load() if isinstance(item, FrameFile) else read(Path(item))


def item_name(item: FrameItem, otherwise: str) -> str:
    """File name of an item, without folders; ``otherwise`` for a frame made in memory."""
    if isinstance(item, FrameFile):
        return f"{item.path.name}{item.label}"
    path = item.source.path if isinstance(item, RawFrame) else Path(item)
    return otherwise if path is None else path.name


def iso_of(raw: RawFrame, name: str, iso: float | None) -> float:
    """The ISO that a frame states, else the given one.

    Raises:
        CalibrationError: neither.
    """
    stated = raw.shot.iso if raw.shot.iso is not None and raw.shot.iso > 0 else iso
    if stated is None:
        raise CalibrationError(f"{name!r} states no ISO. Give the ISO of these frames.")
    return stated


class _Kept:
    """Hands out loaders: of the frame itself while there is room, of its file after that."""

    def __init__(self) -> None:
        self._left = KEPT_BYTES

    def loader(self, raw: RawFrame, again: Callable[[], RawFrame]) -> Callable[[], RawFrame]:
        size = raw.mosaic.nbytes + sum(area.pixels.nbytes for area in raw.masked)
        if size > self._left:
            return again
        self._left -= size
        return lambda: raw


def _look(
    item: FrameItem, role: Role | None, label: str, read: Reader, iso: float | None, kept: _Kept
) -> _Seen | _Lost:
    name = item_name(item, label)
    try:
        raw = load_item(item, read)
    except RawFileError as error:
        return _Lost(role or "flat", name, error)
    found = role or role_of(raw)
    if found is None:
        reason = (
            "It is neither a dark (near black, without structure) nor a flat (bright, even). "
            "Name its role with --darks or --flats."
        )
        return _Lost("flat", name, UnsupportedRaw(Path(name), reason))
    path = item.path if isinstance(item, FrameFile) else raw.source.path if isinstance(item, RawFrame) else Path(item)
    exposure = raw.shot.exposure_s
    in_memory = isinstance(item, RawFrame)
    return _Seen(
        load=(lambda: raw) if in_memory else kept.loader(raw, partial(load_item, item, read)),
        role=found,
        name=name,
        sha256=raw.source.sha256,
        iso=iso_of(raw, name, iso),
        exposure_s=exposure,
        setting=("" if path is None else str(path.parent)) if exposure is None else (exposure, raw.shot.aperture),
        level=_level(raw),
    )


def _level(raw: RawFrame) -> float:
    """Mean above the file's black level [DN]."""
    return float(raw.mosaic.mean(dtype=np.float64) - raw.black_level.mean())


def _levels(frames: Sequence[_Seen]) -> list[int]:
    """A number for every frame: equal within an ISO and setting where the light is equal."""
    groups: dict[Hashable, list[int]] = {}
    for index, frame in enumerate(frames):
        groups.setdefault((frame.iso, frame.setting), []).append(index)
    result = [0] * len(frames)
    for members in groups.values():
        level, last = 0, None
        for index in sorted(members, key=lambda i: frames[i].level):
            value = frames[index].level
            level += int(last is not None and value > LEVEL_GAP * max(last, 0.0))
            result[index], last = level, value
    return result


def _lights(frames: Sequence[_Seen], levels: Sequence[int]) -> list[float | None]:
    """The exposure time as the amount of light, where within an ISO nothing else changed it: lamp or aperture."""
    known: dict[float, bool] = {}
    for iso in {frame.iso for frame in frames}:
        own = [(frame, level) for frame, level in zip(frames, levels, strict=True) if frame.iso == iso]
        exposures = {frame.exposure_s for frame, _ in own}
        states = {(frame.setting, level) for frame, level in own}
        known[iso] = None not in exposures and len(states) == len(exposures)
    return [frame.exposure_s if known[frame.iso] else None for frame in frames]


def _refuse_swapped(seen: Sequence[_Seen]) -> None:
    for iso in {frame.iso for frame in seen}:
        dark, flat = (
            [frame.level for frame in seen if frame.iso == iso and frame.role == role] for role in ("dark", "flat")
        )
        if dark and flat and min(dark) > max(flat):
            raise CalibrationError(
                f"ISO {iso:g}: every dark ({min(dark):.0f} DN above black) is brighter than every flat "
                f"({max(flat):.0f} DN). Were the two swapped?"
            )


def _frame(seen: _Seen, level_key: Hashable, light: float | None = None) -> CalibrationFrame:
    return CalibrationFrame(
        load=seen.load,
        name=seen.name,
        role=seen.role,
        iso=seen.iso,
        exposure_s=seen.exposure_s,
        level_key=level_key,
        sha256=seen.sha256,
        light=light,
    )


def _unusable(lost: _Lost, iso: float, index: int) -> CalibrationFrame:
    """A frame whose loading fails with the reason known already, so that the calibration's notes tell it."""

    def load() -> NoReturn:
        raise lost.error

    key: tuple[Literal["unusable"], int] = ("unusable", index)
    return CalibrationFrame(load=load, name=lost.name, role=lost.role, iso=iso, exposure_s=None, level_key=key)
