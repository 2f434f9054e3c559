"""From loose darks and flats to `CalibrationFrame`s that know their partners."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from noise_models.calibration.frames import CalibrationFrame
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame
from noise_models.rawfile import read_raw

# Sorted mean levels that differ by more than this ratio are different light. Flicker stays below it, and levels of a
# photon-transfer set are at least a third of a stop (1.26) apart.
LEVEL_GAP = 1.12

Reader = Callable[[Path], RawFrame]


@dataclass(frozen=True)
class _Seen:
    """What sorting needs of a frame; its pixels are let go."""

    load: Callable[[], RawFrame]
    name: str
    sha256: str
    iso: float
    exposure_s: float | None
    setting: Hashable
    level: float


def frames_from(
    darks: Sequence[RawFrame | str | Path],
    flats: Sequence[RawFrame | str | Path],
    *,
    read: Reader = read_raw,
    iso: float | None = None,
) -> list[CalibrationFrame]:
    """Describe and group frames for `calibrate`.

    Darks group by exposure. Flats group by exposure and aperture, or by folder where the files name no exposure, and
    inside such a group by measured level. Files are decoded once here, their pixels let go, and again in `calibrate`.

    Args:
        darks: Frames in memory, or files.
        flats: The same with light.
        read: Decodes one file; e.g. `read_raw` bound to a `Decoder` that is reused.
        iso: For frames that state none.

    Raises:
        CalibrationError: a frame without ISO, and none was given.
        RawFileError: a file that cannot be read.
    """
    frames = []
    for index, item in enumerate(darks):
        seen = _look(item, f"dark {index + 1}", read, iso)
        frames.append(_frame(seen, "dark", seen.exposure_s))
    lit = [_look(item, f"flat {index + 1}", read, iso) for index, item in enumerate(flats)]
    levels = _levels(lit)
    frames += [_frame(seen, "flat", (seen.setting, level)) for seen, level in zip(lit, levels, strict=True)]
    return frames


def _look(item: RawFrame | str | Path, label: str, read: Reader, iso: float | None) -> _Seen:
    raw = item if isinstance(item, RawFrame) else read(Path(item))
    path = raw.source.path if isinstance(item, RawFrame) else Path(item)
    name = path.name if path is not None else label
    stated = raw.shot.iso if raw.shot.iso is not None and raw.shot.iso > 0 else iso
    if stated is None:
        raise CalibrationError(f"{name!r} states no ISO. Give the ISO of these frames.")
    exposure = raw.shot.exposure_s
    folder = str(path.parent) if path is not None else ""
    return _Seen(
        load=(lambda: raw) if isinstance(item, RawFrame) else partial(read, Path(item)),
        name=name,
        sha256=raw.source.sha256,
        iso=stated,
        exposure_s=exposure,
        setting=folder if exposure is None else (exposure, raw.shot.aperture),
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


def _frame(seen: _Seen, role: Literal["dark", "flat"], level_key: Hashable) -> CalibrationFrame:
    return CalibrationFrame(
        load=seen.load,
        name=seen.name,
        role=role,
        iso=seen.iso,
        exposure_s=seen.exposure_s,
        level_key=level_key,
        sha256=seen.sha256,
    )
