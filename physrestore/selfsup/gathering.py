"""Pieces of many raw files to learn from: each file brings its own levels and noise, all are of one kind of array.

Files of a folder may differ in ISO, exposure, black level, white balance and camera: whatever depends on these is made
of each file alone. A network learns one kind of colour filter array at a time; the files of the most frequent kind are
used, the others are refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch

from noise_models.cfa import Cfa
from noise_models.errors import NoiseModelError
from noise_models.frame import RawFrame
from noise_models.profile import CameraProfile
from noise_models.rawfile import Decoder, read_raw
from noise_models.sensor import SensorNoise
from physrestore.errors import PhysrestoreError, RestoreError, TrainingError
from physrestore.noise_choice import choose_noise
from physrestore.selfsup.blind_spot_crops import phase_shift

# Of every photo this many squares are kept in memory: a folder of 24-megapixel photos would not fit whole.
SQUARES, SIDE = 6, 480
# Squares of all photos together: 16.6 megapixels, some hundred megabytes whatever is made of them.
MOST_SQUARES = 72
# Corners of squares are multiples of it, seen from a site of the common phase: in phase with every array.
ALIGN = 48
# A message about files names so many of them.
NAMED = 5

Piece = TypeVar("Piece")


@dataclass(frozen=True)
class Square:
    """Where a square of a frame lies.

    Attributes:
        rows: Of the frame; they start at a site that is the first of the common phase.
        columns: The same.
    """

    rows: slice
    columns: slice


# A frame, its noise and where its squares lie, to what is learned from.
Take = Callable[[RawFrame, SensorNoise, Sequence[Square]], list[Piece]]


@dataclass(frozen=True)
class Gathered(Generic[Piece]):
    """What a folder gave.

    Attributes:
        pieces: To learn from, all in one phase of one array.
        cfa: That array, from the top-left of every piece.
        used: Files they are from.
        refused: Files that could not be used, with the reason.
        passed_over: Files that were not opened, because there are more than memory holds squares of.
    """

    pieces: tuple[Piece, ...]
    cfa: Cfa
    used: tuple[Path, ...]
    refused: dict[Path, str]
    passed_over: tuple[Path, ...] = ()


@dataclass
class _Kind(Generic[Piece]):
    """What the files of one kind of array gave so far; the first sets the phase."""

    cfa: Cfa
    pieces: list[Piece] = field(default_factory=list)
    used: list[Path] = field(default_factory=list)


def gather(
    files: Sequence[Path],
    take: Take[Piece],
    *,
    generator: torch.Generator,
    profile: CameraProfile | None = None,
    profile_folder: Path | None = None,
    monochrome: bool = False,
    on_file: Callable[[Path], None] | None = None,
) -> Gathered[Piece]:
    """Read files, find their noise as `restore` does, and keep some squares of each.

    A file that cannot be read, or whose noise is not known, costs only itself.

    Args:
        files: Raw files. Of more than `MOST_SQUARES` these many are used, evenly spread.
        take: Makes pieces of a frame; what it raises of ours costs the file.
        generator: Of the places of the squares.
        profile: Of the camera; None: as `choose_noise` finds it.
        profile_folder: Where it looks.
        monochrome: Whether frames without colour filters may be used.
        on_file: Called before every file.

    Raises:
        TrainingError: no file can be learned from.
    """
    chosen = _spread(files)
    each = max(1, min(SQUARES, MOST_SQUARES // max(1, len(chosen))))
    kinds: dict[str, _Kind[Piece]] = {}
    refused: dict[Path, str] = {}
    with Decoder() as decoder:
        for path in chosen:
            if on_file is not None:
                on_file(path)
            try:
                frame = read_raw(path, decoder=decoder)
                if frame.cfa.is_mono and not monochrome:
                    raise RestoreError("It has no colour filters; learn from it with a blind-spot network.")
                kind = kinds.setdefault(kind_of(frame.cfa), _Kind(frame.cfa))
                noise = choose_noise(frame, given=profile, folder=profile_folder).noise
                pieces = take(frame, noise, squares(frame, kind.cfa, count=each, generator=generator))
            except (NoiseModelError, PhysrestoreError, OSError) as error:
                refused[path] = str(error)
                continue
            kind.pieces += pieces
            kind.used.append(path)
    return _most_frequent(kinds, files, chosen, refused)


def kind_of(cfa: Cfa) -> str:
    """What arrays that differ in phase only have in common, in words.

    >>> kind_of(Cfa.parse("GRBG")) == kind_of(Cfa.parse("RGGB"))
    True
    """
    if cfa.is_bayer:
        return "Bayer"
    return "X-Trans" if cfa.is_xtrans else "quad-Bayer" if cfa.is_quad_bayer else "monochrome"


def squares(frame: RawFrame, phase: Cfa, *, count: int, generator: torch.Generator) -> list[Square]:
    """Random places in a frame, each in a given phase of its array.

    Args:
        frame: At least `ALIGN` sites wide and high, and a period more where its phase differs.
        phase: Array that is to be seen from the top-left of every square.
        count: Squares at most; of a small frame there are fewer.
        generator: Of the places.

    Raises:
        RestoreError: another kind of array, or a frame that is too small.
    """
    shift = phase_shift(frame.cfa, phase)
    room = [size - start for size, start in zip(frame.shape, shift, strict=True)]
    side = min(SIDE, *(size // ALIGN * ALIGN for size in room))
    if side < ALIGN:
        raise RestoreError(f"A frame of {frame.shape} is too small: needed are {ALIGN}x{ALIGN} sites in phase.")
    corners = {
        tuple(
            start + ALIGN * int(torch.randint((size - side) // ALIGN + 1, (), generator=generator))
            for size, start in zip(room, shift, strict=True)
        )
        for _ in range(count)
    }
    return [Square(slice(top, top + side), slice(left, left + side)) for top, left in sorted(corners)]


def _spread(files: Sequence[Path]) -> list[Path]:
    """At most `MOST_SQUARES` of the files, evenly spread."""
    if len(files) <= MOST_SQUARES:
        return list(files)
    return [files[k * len(files) // MOST_SQUARES] for k in range(MOST_SQUARES)]


def _most_frequent(
    kinds: dict[str, _Kind[Piece]], files: Sequence[Path], chosen: Sequence[Path], refused: dict[Path, str]
) -> Gathered[Piece]:
    """The kind with the most files; those of other kinds are refused."""
    if not any(kind.used for kind in kinds.values()):
        reasons = "; ".join(f"{path.name}: {reason}" for path, reason in list(refused.items())[:NAMED])
        raise TrainingError(f"None of {len(files)} files can be learned from ({reasons}). Name other raw files.")
    name = max(kinds, key=lambda one: len(kinds[one].used))
    best = kinds[name]
    for other, kind in kinds.items():
        if other != name:
            for path in kind.used:
                refused[path] = (
                    f"its array is {other}; {len(best.used)} of the files are {name}, and one network learns one kind. "
                    f"Learn from the {other} files in a run of their own."
                )
    passed_over = tuple(path for path in files if path not in set(chosen))
    return Gathered(tuple(best.pieces), best.cfa, tuple(best.used), refused, passed_over)
