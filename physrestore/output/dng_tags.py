"""What the directories of a DNG say: camera and colour, capture, pixels.

Source: Adobe DNG specification 1.7.1.0, chapters 3 to 6; Exif 2.3 (CIPA DC-008) for the capture directory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from noise_models.frame import Colour, RawFrame, Shot
from physrestore.errors import UnwritableImage
from physrestore.output import tags
from physrestore.output import tiff_structure as tiff
from physrestore.output.develop import SRGB_TO_XYZ
from physrestore.output.record import SOFTWARE, xmp_packet
from physrestore.output.tags import Tag
from physrestore.output.tiff_structure import MATRIX_DENOMINATOR, Value

Tags = dict[int, Value]

_DNG_VERSION = bytes((1, 4, 0, 0))
_OLDEST_READER = bytes((1, 1, 0, 0))  # 1.1 settled how lossless JPEG stores a difference of 32768
_D65 = 21  # EXIF LightSource
_UNKNOWN_CAMERA = "Unknown camera"  # UniqueCameraModel is mandatory
_COLOUR_UNKNOWN = "Camera colours unknown: ColorMatrix1 takes the sensor's primaries for those of sRGB."
_MAX_SHORT = 65_535
# Pixels that raw converters may need around the picture to interpolate; multiples of the colour filter period.
_CROP_INSET, _CROP_INSET_XTRANS = 8, 12
_SMALLEST_TO_CROP = 256  # below this a picture is a test target and is shown whole
_PLANE_CODES = {"R": 0, "G": 1, "B": 2}

RGB_WHITE = 65_535


def main_tags(frame: RawFrame, *, history: str) -> Tags:
    """Directory 0 without its thumbnail: camera, colour, record."""
    shot = frame.shot
    main: Tags = {
        Tag.Orientation: tiff.short(frame.orientation),
        Tag.Software: tiff.ascii_text(SOFTWARE),
        Tag.XMP: tiff.byte_string(xmp_packet(history)),
        Tag.DNGVersion: tiff.byte_string(_DNG_VERSION),
        Tag.DNGBackwardVersion: tiff.byte_string(_OLDEST_READER),
        Tag.UniqueCameraModel: tiff.ascii_text(shot.camera or _UNKNOWN_CAMERA),
    }
    for tag, text in ((Tag.Make, shot.make), (Tag.Model, shot.model), (Tag.DateTime, shot.taken)):
        if text:
            main[tag] = tiff.ascii_text(text)
    if frame.source.path is not None:
        name = frame.source.path.name.encode("utf-8", "surrogateescape")
        main[Tag.OriginalRawFileName] = tiff.byte_string(name + b"\0")
    if not frame.cfa.is_mono:
        main |= _colour_tags(frame.colour)
    return main | _source_tags(frame.colour, main)


def exif_tags(shot: Shot) -> Tags:
    """The Exif directory: only what is known."""
    exif: Tags = {Tag.ExifVersion: tiff.undefined(b"0230")}
    fractions = (
        (Tag.ExposureTime, shot.exposure_s),
        (Tag.FNumber, shot.aperture),
        (Tag.FocalLength, shot.focal_length_mm),
    )
    for tag, value in fractions:
        if value is not None:
            exif[tag] = tiff.rational(value)
    if shot.iso is not None:
        iso = round(shot.iso)
        exif[Tag.ISOSpeedRatings] = tiff.short(min(iso, _MAX_SHORT))
        if iso > _MAX_SHORT:  # Exif 2.3: 65535 means "look there"
            exif[Tag.SensitivityType] = tiff.short(2)  # recommended exposure index
            exif[Tag.RecommendedExposureIndex] = tiff.long(iso)
    for tag, text in ((Tag.DateTimeOriginal, shot.taken), (Tag.LensModel, shot.lens)):
        if text:
            exif[tag] = tiff.ascii_text(text)
    return exif


def mosaic_tags(frame: RawFrame) -> Tags:
    """Colour filter array and levels of a mosaic; a monochrome one is a linear raw of one sample."""
    raw = _geometry(frame, samples=1)
    raw |= _black(frame.black_level)
    # One white level is all that DNG has: the smallest, so that no clipped site passes for an unclipped one.
    raw[Tag.WhiteLevel] = tiff.long(round(float(frame.white_level.min())))
    if frame.cfa.is_mono:
        raw[Tag.PhotometricInterpretation] = tiff.short(tags.LINEAR_RAW)
        return raw
    letters = "".join(frame.cfa.rows)
    return raw | {
        Tag.PhotometricInterpretation: tiff.short(tags.CFA),
        Tag.CFARepeatPatternDim: tiff.short(*frame.cfa.period),
        Tag.CFAPattern: tiff.byte_string(bytes(_PLANE_CODES[letter] for letter in letters)),
        Tag.CFAPlaneColor: tiff.byte_string(bytes(_PLANE_CODES.values())),
        Tag.CFALayout: tiff.short(1),  # rectangular
    }


def linear_tags(frame: RawFrame, *, scale: int = 1) -> Tags:
    """Three samples a pixel, black 0, white 65535; ``scale`` pixels per site along a line."""
    return _geometry(frame, samples=3, scale=scale) | {
        Tag.PhotometricInterpretation: tiff.short(tags.LINEAR_RAW),
        Tag.BlackLevelRepeatDim: tiff.short(1, 1),
        Tag.BlackLevel: tiff.rational(0, 0, 0),
        Tag.WhiteLevel: tiff.long(RGB_WHITE, RGB_WHITE, RGB_WHITE),
    }


def noise_tags(profile: Sequence[tuple[float, float]] | None, reduction: float | None, *, planes: int) -> Tags:
    """Noise that is in the pixels, and how much was removed.

    Raises:
        UnwritableImage: pairs that are neither one nor one per plane, or not finite and non-negative; a reduction
            outside 0..1.
    """
    noise: Tags = {}
    if profile is not None:
        values = [float(number) for pair in profile for number in pair]
        if len(profile) not in (1, planes) or any(len(pair) != 2 for pair in profile):
            raise UnwritableImage(f"NoiseProfile needs 1 or {planes} pairs (S, O), not {list(profile)}.")
        if not all(math.isfinite(number) and number >= 0 for number in values):
            raise UnwritableImage(f"NoiseProfile needs finite S and O of at least 0, not {list(profile)}.")
        noise[Tag.NoiseProfile] = tiff.double(*values)
    if reduction is not None:
        if not 0.0 <= reduction <= 1.0:
            raise UnwritableImage(f"The share of noise removed is 0..1, not {reduction}.")
        noise[Tag.NoiseReductionApplied] = tiff.rational(reduction)
    return noise


def _geometry(frame: RawFrame, *, samples: int, scale: int = 1) -> Tags:
    height, width = (scale * side for side in frame.shape)
    inset = scale * (_CROP_INSET_XTRANS if frame.cfa.is_xtrans else _CROP_INSET)
    if min(height, width) < _SMALLEST_TO_CROP:
        inset = 0
    return {
        Tag.NewSubFileType: tiff.long(0),
        Tag.ImageWidth: tiff.long(width),
        Tag.ImageLength: tiff.long(height),
        Tag.BitsPerSample: tiff.short(*[16] * samples),
        Tag.SamplesPerPixel: tiff.short(samples),
        Tag.PlanarConfiguration: tiff.short(1),
        Tag.ActiveArea: tiff.long(0, 0, height, width),
        Tag.DefaultCropOrigin: tiff.long(inset, inset),
        Tag.DefaultCropSize: tiff.long(width - 2 * inset, height - 2 * inset),
    }


def _black(levels: NDArray[np.float64]) -> Tags:
    values = [float(level) for level in levels.flat]
    if min(values) < 0:
        raise UnwritableImage(f"DNG has no negative black level; this frame has {values}.")
    if len(set(values)) == 1:
        return {Tag.BlackLevelRepeatDim: tiff.short(1, 1), Tag.BlackLevel: tiff.rational(values[0])}
    return {Tag.BlackLevelRepeatDim: tiff.short(*levels.shape), Tag.BlackLevel: tiff.rational(*values)}


def _colour_tags(colour: Colour) -> Tags:
    """Matrix and white balance of the frame, where the source brings no tags of its own for them."""
    given = colour.dng_tags
    if Tag.ColorMatrix1 in given:
        result: Tags = {}
    elif colour.color_matrix1 is not None:
        flat = [float(value) for row in colour.color_matrix1 for value in row]
        result = {
            Tag.ColorMatrix1: tiff.srational(*flat),
            Tag.CalibrationIlluminant1: tiff.short(colour.calibration_illuminant1),
        }
    else:
        result = {
            Tag.ColorMatrix1: tiff.srational(*np.linalg.inv(SRGB_TO_XYZ).flat),
            Tag.CalibrationIlluminant1: tiff.short(_D65),
            Tag.ImageDescription: tiff.ascii_text(_COLOUR_UNKNOWN),
            Tag.AsShotNeutral: tiff.rational(1, 1, 1),  # what sRGB's primaries make of D65
        }
    if colour.as_shot_neutral is not None and Tag.AsShotWhiteXY not in given:
        largest = max(colour.as_shot_neutral)  # readers disagree on neutrals above 1
        neutral = [value / largest for value in colour.as_shot_neutral]
        result[Tag.AsShotNeutral] = tiff.rational(*neutral, denominator=MATRIX_DENOMINATOR)
    return result


def _source_tags(colour: Colour, main: Tags) -> Tags:
    """The source's own colour tags, unchanged.

    Raises:
        UnwritableImage: a tag that says how a file is built; the source's would break this one.
    """
    foreign = {int(tag) for tag in Tag} - tags.REPLACEABLE_BY_SOURCE
    structural = sorted(foreign & colour.dng_tags.keys())
    if structural:
        raise UnwritableImage(f"Tags {structural} belong to the writer of a file and cannot be copied as colour tags.")
    if Tag.AsShotWhiteXY in colour.dng_tags:
        main.pop(Tag.AsShotNeutral, None)  # a file has one of them
    return {tag: Value(*content) for tag, content in colour.dng_tags.items()}
