"""EMVA 1288 descriptor files: a text file that lists the frames of a sensor measurement with their light.

Lines: ``n bits width height``; ``b exposure_ns photons`` starts a bright step, ``d exposure_ns`` a dark one; ``i path``
names a frame of the current step, relative to the file, with backslashes; ``#`` is a comment.

Source: the descriptor of the EMVA 1288 reference sets (github.com/EMVA1288/datasets).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Literal

import numpy as np

from noise_models.calibration.frames import CalibrationFrame
from noise_models.cfa import Cfa
from noise_models.errors import CalibrationError, DamagedRaw, NotARawFile
from noise_models.frame import RawFrame, Shot, Source

# The format has no ISO. Sensors with a gain register are filed under this nominal setting unless told otherwise.
NOMINAL_ISO = 100.0
_NS = 1e-9
_BITS = range(1, 17)
# The standard takes the response from pairs. The long stacks are for spatial noise; sets state their light less exactly
# (set 003: 4 % off).
_PAIR = 2
_MAX_BYTES = 4_000_000  # 25,000 frames; the longest reference set has 1,000


@dataclass(frozen=True)
class _Format:
    bits: int
    width: int
    height: int


@dataclass(frozen=True)
class _Step:
    role: Literal["dark", "flat"]
    exposure_s: float
    level_key: Hashable
    light: float | None


def read_emva(path: str | Path, *, iso: float = NOMINAL_ISO) -> list[CalibrationFrame]:
    """The frames that a descriptor lists; their pixels are read when they are needed.

    Args:
        path: Usually ``EMVA1288_Data.txt``.
        iso: ISO under which the profile files this gain setting.

    Raises:
        CalibrationError: not a descriptor, or a line that does not follow the format.
    """
    path = Path(path)
    form: _Format | None = None
    step: _Step | None = None
    frames: list[CalibrationFrame] = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        kind, _, rest = line.strip().partition(" ")
        if not kind or kind.startswith("#") or kind == "v":
            continue
        try:
            if kind == "n":
                form = _format(rest)
            elif kind in ("b", "d"):
                step = _step(kind, rest)
            else:
                frames.append(_frame(path.parent, kind, rest, form, step, iso))
        except ValueError as error:
            raise CalibrationError(
                f"{path.name!r}, line {number}: {line.strip()[:60]!r} is not an EMVA 1288 line ({error}). "
                "Needed: 'n bits width height', then 'b' or 'd' steps with their 'i' images."
            ) from error
    if not frames:
        raise CalibrationError(f"{path.name!r} lists no frames. Is it an EMVA 1288 descriptor?")
    sizes = Counter((frame.role, frame.level_key) for frame in frames)
    return [frame if sizes[frame.role, frame.level_key] <= _PAIR else replace(frame, light=None) for frame in frames]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise CalibrationError(f"The EMVA descriptor {path.name!r} cannot be read ({error.strerror}).") from error
    if len(content) > _MAX_BYTES:
        raise CalibrationError(f"{path.name!r} has more than {_MAX_BYTES} bytes: it is no EMVA 1288 descriptor.")
    # Comments come in any encoding; what is read is ASCII.
    return content.decode("latin-1")


def _format(rest: str) -> _Format:
    bits, width, height = (int(word) for word in rest.split())
    if bits not in _BITS or min(width, height) < 1:
        raise ValueError("needed are 1..16 bits and a positive size")
    return _Format(bits, width, height)


def _step(kind: str, rest: str) -> _Step:
    values = [float(word) for word in rest.split()]
    if len(values) != (2 if kind == "b" else 1) or not np.isfinite(values).all() or values[0] < 0:
        raise ValueError("needed are exposure, and photons of a bright step")
    # Two steps of equal exposure and light are one level: sets list a pair and, later, a long stack.
    role: Literal["dark", "flat"] = "flat" if kind == "b" else "dark"
    return _Step(role, values[0] * _NS, tuple(values), values[1] if role == "flat" else None)


def _frame(
    folder: Path, kind: str, name: str, form: _Format | None, step: _Step | None, iso: float
) -> CalibrationFrame:
    if kind != "i" or form is None or step is None:
        raise ValueError("unknown, or before the lines it needs")
    relative = PureWindowsPath(name.strip())
    if relative.is_absolute() or relative.drive or ".." in relative.parts:
        raise ValueError("images lie below the descriptor's folder")
    path = folder.joinpath(*relative.parts)
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        digest = ""  # `load` reports the missing file; the other frames can still be used
    return CalibrationFrame(
        load=partial(_load, path, form, step, iso),
        name=relative.name,
        role=step.role,
        iso=iso,
        exposure_s=step.exposure_s,
        level_key=step.level_key,
        sha256=digest,
        light=step.light,
    )


def _load(path: Path, form: _Format, step: _Step, iso: float) -> RawFrame:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=("PNG", "TIFF")) as image:
            if image.size != (form.width, form.height):
                raise DamagedRaw(path, f"It has {image.size} pixels, the descriptor says {form.width, form.height}.")
            pixels = np.array(image)
    except FileNotFoundError as error:
        raise NotARawFile(path, "There is no such file.") from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DamagedRaw(path, f"It is not a readable PNG or TIFF image ({error}).") from error
    white = 2**form.bits - 1
    if pixels.ndim != 2 or pixels.dtype.kind not in "ui" or int(pixels.min()) < 0 or int(pixels.max()) > white:
        raise DamagedRaw(path, f"It is not a grey image of {form.bits} bits.")
    return RawFrame(
        mosaic=pixels.astype(np.uint16),
        cfa=Cfa.parse("M"),
        black_level=np.zeros((1, 1)),
        white_level=np.full((1, 1), float(white)),
        shot=Shot(make="", model="EMVA 1288 sensor", iso=iso, exposure_s=step.exposure_s),
        source=Source(path=path, decoder="Pillow"),
    )
