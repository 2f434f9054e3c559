"""Camera, exposure and colour of a raw: from the file's own tags first, then from LibRaw; unknown stays None."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np

from noise_models.frame import Colour, Matrix3, Shot
from noise_models.reading.containers import Container
from noise_models.reading.decoder import Report
from noise_models.reading.rawtags import sensor_ifd
from noise_models.reading.tiffwalk import RATIONAL_TYPES, Ifd, Tag, Tiff

_MAKE, _MODEL, _ORIENTATION, _DATE = 271, 272, 274, 306
_EXPOSURE, _APERTURE, _ISO, _RECOMMENDED_EXPOSURE_INDEX, _ISO_SPEED = 33434, 33437, 34855, 34866, 34867
_DATE_TAKEN, _FOCAL_LENGTH, _LENS = 36867, 37386, 42036
_COLOR_MATRIX1, _AS_SHOT_NEUTRAL, _ILLUMINANT1, _NOISE_PROFILE = 50721, 50728, 50778, 51041

# LibRaw's rotation code (dcraw's) -> EXIF orientation.
_FLIP_TO_ORIENTATION = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}
# ISO 65535 in tag 34855 means "higher than this tag can say" (EXIF 2.3, 4.6.5).
_ISO_OVERFLOW = 65535
_MAX_ISO = 1e8
_LIGHT_SOURCE_D65 = 21
_DATE_FORM = re.compile(r"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d")
# Longest copy of one tag into the output; profile tables have about 100 kB, gain maps about 1 MB.
_MAX_TAG_BYTES = 16 << 20

# Colour, profile and correction tags of DNG 1.4 that describe the sensor values whatever is done to their noise.
COPIED_TAGS = (
    *range(50721, 50728),  # ColorMatrix1/2, CameraCalibration1/2, ReductionMatrix1/2, AnalogBalance
    *range(50730, 50733),  # BaselineExposure, BaselineNoise, BaselineSharpness
    50734,  # LinearResponseLimit
    50739,  # ShadowScale
    *(50778, 50779),  # CalibrationIlluminant1/2
    *(50931, 50932),  # CameraCalibrationSignature, ProfileCalibrationSignature
    *range(50936, 50943),  # ProfileName, HueSatMap dimensions and data 1/2, ToneCurve, EmbedPolicy, Copyright
    *(50964, 50965),  # ForwardMatrix1/2
    *(50981, 50982),  # ProfileLookTable dimensions and data
    *(51009, 51022),  # OpcodeList2/3
    *range(51107, 51111),  # HueSatMap and LookTable encoding, BaselineExposureOffset, DefaultBlackRender
)


def read_shot(container: Container, report: Report) -> Shot:
    """Camera and exposure."""
    blocks = container.metadata
    return Shot(
        make=_text(blocks, _MAKE) or container.make,
        model=_text(blocks, _MODEL) or container.model,
        lens=_text(blocks, _LENS) or report.lens or None,
        iso=_iso(blocks, report.iso),
        exposure_s=_measured(blocks, _EXPOSURE, report.exposure_s),
        aperture=_measured(blocks, _APERTURE, report.aperture),
        focal_length_mm=_measured(blocks, _FOCAL_LENGTH, report.focal_length_mm),
        taken=_date(blocks),
    )


def read_orientation(container: Container, report: Report) -> int:
    """EXIF orientation 1..8, from the first directory, else from LibRaw's rotation."""
    stated = next((block.ifds[0].integer(_ORIENTATION, 0) for block in container.metadata), 0)
    return stated if stated in range(1, 9) else _FLIP_TO_ORIENTATION.get(report.flip, 1)


def read_colour(container: Container, report: Report) -> Colour:
    """White balance, matrices and profile tags; the DNG's own where it has them."""
    neutral = _neutral_of_multipliers(report.white_balance)
    matrix, illuminant = _matrix([v for row in report.xyz_to_camera for v in row]), _LIGHT_SOURCE_D65
    if container.kind != "DNG" or container.tiff is None:
        return Colour(neutral, matrix, illuminant)
    stated = _largest_one(_numbers(container.tiff, _AS_SHOT_NEUTRAL))
    own = _matrix(_numbers(container.tiff, _COLOR_MATRIX1))
    if own is not None:
        holder = container.tiff.first(_ILLUMINANT1)
        # 0, "unknown", is the default of the DNG specification.
        matrix, illuminant = own, 0 if holder is None else holder.integer(_ILLUMINANT1, 0)
    return Colour(stated or neutral, matrix, illuminant, _copied_tags(container.tiff))


def read_noise_profile(container: Container) -> tuple[tuple[float, float], ...] | None:
    """DNG NoiseProfile (tag 51041) from the raw directory or, as old SDKs wrote it, the first that has one.

    Returns:
        One (S, O) pair, or three; None if absent, of another length, or not a variance.
    """
    if container.kind != "DNG" or container.tiff is None:
        return None
    raw = sensor_ifd(container.tiff)
    holder = raw if raw is not None and _NOISE_PROFILE in raw.tags else container.tiff.first(_NOISE_PROFILE)
    values = np.empty(0) if holder is None else holder.numbers(_NOISE_PROFILE)
    if values.size not in (2, 6) or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        return None
    return tuple((float(s), float(o)) for s, o in values.reshape(-1, 2))


def _holder(blocks: Iterable[Tiff], tag: int) -> Ifd | None:
    return next((ifd for block in blocks if (ifd := block.first(tag)) is not None), None)


def _text(blocks: Iterable[Tiff], tag: int) -> str:
    holder = _holder(blocks, tag)
    return "" if holder is None else holder.text(tag)


def _numbers(tiff: Tiff, tag: int) -> list[float | None]:
    holder = tiff.first(tag)
    return [] if holder is None else [float(value) for value in holder.numbers(tag)]


def _positive(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value > 0 else None


def _measured(blocks: Iterable[Tiff], tag: int, libraw: float | None) -> float | None:
    """A tag's value; LibRaw's if there is no such tag. A tag of zero says "unknown", and LibRaw would invent one."""
    holder = _holder(blocks, tag)
    if holder is None:
        return _positive(libraw)
    values = holder.numbers(tag)
    return _positive(float(values[0])) if values.size else None


def _iso(blocks: tuple[Tiff, ...], libraw: float | None) -> float | None:
    """Tag 34855, or the longer tags where it overflows, or what LibRaw reads in the maker's notes."""
    holder = _holder(blocks, _ISO)
    short = None if holder is None else holder.integer(_ISO, 0)
    candidates: list[float | None] = [None if short in (None, _ISO_OVERFLOW) else float(short or 0)]
    if short in (None, _ISO_OVERFLOW):
        candidates += [_measured(blocks, tag, None) for tag in (_RECOMMENDED_EXPOSURE_INDEX, _ISO_SPEED)]
        candidates.append(None if libraw == _ISO_OVERFLOW else libraw)
    return next((v for v in map(_positive, candidates) if v is not None and v <= _MAX_ISO), None)


def _date(blocks: Iterable[Tiff]) -> str | None:
    for text in (_text(blocks, _DATE_TAKEN), _text(blocks, _DATE)):
        if _DATE_FORM.fullmatch(text):
            return text
    return None


def _neutral_of_multipliers(balance: list[float | None]) -> tuple[float, float, float] | None:
    """Neutral = 1 / multiplier. LibRaw says "unknown" by -1 or 0, and by 1 for all colours."""
    rgb = balance[:3]
    known = [value for value in rgb if value is not None and value > 0]
    if len(known) != 3 or known == [1.0, 1.0, 1.0]:
        return None
    return _largest_one([1.0 / value for value in known])


def _largest_one(values: list[float | None] | list[float]) -> tuple[float, float, float] | None:
    known = [value for value in values if value is not None and math.isfinite(value) and value > 0]
    if len(values) != 3 or len(known) != 3:
        return None
    top = max(known)
    return known[0] / top, known[1] / top, known[2] / top


def _matrix(values: list[float | None]) -> Matrix3 | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(values) != 9 or len(known) != 9 or not any(known):
        return None
    return (known[0], known[1], known[2]), (known[3], known[4], known[5]), (known[6], known[7], known[8])


def _copied_tags(tiff: Tiff) -> dict[int, tuple[int, int, bytes]]:
    found: dict[int, tuple[int, int, bytes]] = {}
    for number in COPIED_TAGS:
        holder = tiff.first(number)
        if holder is not None and _sound(holder.tags[number]):
            tag = holder.tags[number]
            found[number] = (tag.type, tag.count, tag.little_endian())
    return found


def _sound(tag: Tag) -> bool:
    """A damaged tag is not passed on: no 0/0, no NaN, nothing huge."""
    if len(tag.data) > _MAX_TAG_BYTES:
        return False
    return tag.type not in (*RATIONAL_TYPES, 11, 12) or bool(np.isfinite(tag.numbers()).all())
