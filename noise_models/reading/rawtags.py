"""The sensor's directory of a TIFF-like raw: where its pixels lie, and whether they are one value per site.

Source: DNG specification 1.7.1 (Adobe 2023), chapters 3 and 4; TIFF/EP (ISO 12234-2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noise_models.errors import DamagedRaw, UnsupportedRaw
from noise_models.reading.containers import Container
from noise_models.reading.tiffwalk import Ifd, Tiff

NEW_SUBFILE_TYPE = 254
WIDTH, HEIGHT, BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES_PER_PIXEL, ROWS_PER_STRIP, STRIP_BYTES = 273, 277, 278, 279
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325
SAMPLE_FORMAT = 339
CFA_REPEAT, CFA_PATTERN = 33421, 33422
LINEARISATION_TABLE = 50712
CR2_SLICES = 50752

PHOTOMETRIC_CFA, PHOTOMETRIC_LINEAR = 32803, 34892
UNCOMPRESSED, CR2_JPEG, LOSSLESS_JPEG, VC5, LOSSY_JPEG, JPEG_XL = 1, 6, 7, 9, 34892, 52546
FLOATING_POINT = 3
# Numbers of components for which LibRaw mixes up tiles when as many tiles lie across.
_MIXED_UP_COMPONENTS = (2, 4)


def sensor_ifd(tiff: Tiff) -> Ifd | None:
    """The directory of the sensor's pixels: CFA or linear raw, the main one if several; CR2's by its own tag."""
    candidates = [ifd for ifd in tiff.ifds if ifd.integer(PHOTOMETRIC, 0) in (PHOTOMETRIC_CFA, PHOTOMETRIC_LINEAR)]
    return max(candidates, key=_preference) if candidates else tiff.first(CR2_SLICES)


def _preference(ifd: Ifd) -> tuple[bool, bool, int]:
    # An "enhanced" picture (NewSubFileType 16) is a processed copy beside the main one (0).
    main, cfa = ifd.integer(NEW_SUBFILE_TYPE, 0) == 0, ifd.integer(PHOTOMETRIC, 0) == PHOTOMETRIC_CFA
    return main, cfa, ifd.integer(WIDTH, 0) * ifd.integer(HEIGHT, 0)


def is_linear_mono(ifd: Ifd) -> bool:
    """A sensor without colour filters says so: linear raw with one sample per pixel."""
    return ifd.integer(PHOTOMETRIC, 0) == PHOTOMETRIC_LINEAR and ifd.integer(SAMPLES_PER_PIXEL, 1) == 1


def is_lossless_jpeg(ifd: Ifd) -> bool:
    """Pixels as lossless JPEG: DNG's compression 7, or Canon's CR2, which says 6 (old JPEG)."""
    compression = ifd.integer(COMPRESSION, UNCOMPRESSED)
    if PHOTOMETRIC in ifd.tags:
        return compression == LOSSLESS_JPEG
    return CR2_SLICES in ifd.tags and compression == CR2_JPEG


def refuse_processed(path: Path, container: Container) -> None:
    """Refuse what the tags already show not to be a mosaic of sensor values.

    Raises:
        UnsupportedRaw: linear, lossy, floating-point or Foveon data.
        DamagedRaw: a DNG that names no sensor data at all.
    """
    if container.name == "X3F":
        raise UnsupportedRaw(path, "Foveon X3F: three values at every site, not a colour filter mosaic.")
    if container.kind != "DNG" or container.tiff is None:
        return
    ifd = sensor_ifd(container.tiff)
    if ifd is None:
        raise DamagedRaw(path, "It is a DNG, but none of its pictures is marked as sensor data.")
    compression = ifd.integer(COMPRESSION, UNCOMPRESSED)
    if ifd.integer(PHOTOMETRIC, 0) == PHOTOMETRIC_LINEAR and not is_linear_mono(ifd):
        raise UnsupportedRaw(
            path,
            "A linear DNG: the colours were already interpolated, so the sensor's noise is no longer in it. "
            "Use the camera's original raw file.",
        )
    if compression == LOSSY_JPEG:
        raise UnsupportedRaw(
            path, "A lossy DNG (JPEG): the noise was changed by the compression. Use the camera's original raw file."
        )
    if compression == JPEG_XL:
        raise UnsupportedRaw(path, "A DNG in JPEG XL, which the decoder cannot read. Convert it to lossless DNG 1.4.")
    if ifd.integer(SAMPLE_FORMAT, 1) == FLOATING_POINT:
        raise UnsupportedRaw(
            path, "A floating-point DNG (merged or processed exposures), which the decoder would round to 14 bits."
        )


def refuse_other_size(path: Path, container: Container, shape: tuple[int, ...]) -> None:
    """Refuse a DNG of which the decoder has read another picture than the tags were taken from.

    Raises:
        DamagedRaw: the sizes differ.
    """
    ifd = sensor_ifd(container.tiff) if container.kind == "DNG" and container.tiff is not None else None
    stated = None if ifd is None else (ifd.integer(HEIGHT, 0), ifd.integer(WIDTH, 0))
    if stated is not None and stated != shape:
        raise DamagedRaw(path, f"Its tags give {stated} pixels, its decoder {shape}.")


@dataclass(frozen=True)
class Segments:
    """Strips or tiles of one directory.

    Attributes:
        kind: "strip" or "tile".
        offsets: First byte of each [bytes].
        counts: Length of each [bytes]; empty if the file does not say.
        expected: How many there must be by the picture's size; None if the tags do not say.
        expected_bytes: Bytes that all must have together if uncompressed; None if compressed.
    """

    kind: str
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    expected: int | None
    expected_bytes: int | None


def segments(ifd: Ifd) -> Segments | None:
    """Where the pixels of a directory lie; None if it has none."""
    width, height = ifd.integer(WIDTH, 0), ifd.integer(HEIGHT, 0)
    samples, bits = ifd.integer(SAMPLES_PER_PIXEL, 1), ifd.integer(BITS_PER_SAMPLE, 1)
    if TILE_OFFSETS in ifd.tags:
        kind, tags, cell = "tile", (TILE_OFFSETS, TILE_BYTES), (ifd.integer(TILE_HEIGHT, 0), ifd.integer(TILE_WIDTH, 0))
    elif STRIP_OFFSETS in ifd.tags:
        kind, tags, cell = "strip", (STRIP_OFFSETS, STRIP_BYTES), (ifd.integer(ROWS_PER_STRIP, height), width)
    else:
        return None
    known = min(width, height, *cell) > 0
    expected = math.ceil(height / cell[0]) * math.ceil(width / cell[1]) if known else None
    size = None
    if known and expected is not None and ifd.integer(COMPRESSION, UNCOMPRESSED) == UNCOMPRESSED:
        # Rows begin on a byte (TIFF 6.0, section 3); tiles are padded to full size, the last strip is not.
        row = math.ceil(cell[1] * samples * bits / 8)
        size = row * (expected * cell[0] if kind == "tile" else height)
    offsets, counts = (ifd.tags[tag].integers() if tag in ifd.tags else np.empty(0, dtype=np.int64) for tag in tags)
    return Segments(kind, offsets, counts, expected, size)


def second_decoder_job(path: Path, container: Container, data: bytes) -> dict[str, object]:
    """The job for `rawdecode`: empty, or the tiles for its second decoder where LibRaw is known to be wrong.

    Raises:
        UnsupportedRaw: such a file with a linearisation table, which the second decoder does not apply.
    """
    ifd = None if container.tiff is None else sensor_ifd(container.tiff)
    if container.kind != "DNG" or ifd is None or ifd.integer(COMPRESSION, UNCOMPRESSED) != LOSSLESS_JPEG:
        return {}
    tiles = segments(ifd)
    tile_width = ifd.integer(TILE_WIDTH, 0)
    if (
        tiles is None
        or tiles.kind != "tile"
        or tile_width <= 0
        or len(tiles.offsets) == 0
        or tiles.offsets.shape != tiles.counts.shape
    ):
        return {}
    components = jpeg_components(data, int(tiles.offsets[0]))
    across = math.ceil(ifd.integer(WIDTH, 0) / tile_width)
    if components != across or components not in _MIXED_UP_COMPONENTS:
        return {}
    if LINEARISATION_TABLE in ifd.tags:
        raise UnsupportedRaw(
            path,
            f"Its tiles ({across} across, {components} JPEG components) are mixed up by LibRaw 0.22, and it has a "
            "linearisation table, which the second decoder does not know. Convert it with another tile size.",
        )
    extents = np.stack([tiles.offsets, tiles.counts], axis=1).tolist()
    return {"tiles": {"extents": extents, "height": ifd.integer(TILE_HEIGHT, 0), "width": tile_width}}


def jpeg_components(data: bytes, start: int) -> int:
    """Number of components of the lossless JPEG (SOF3) that begins at ``start``; 0 if there is none.

    Source: ITU-T T.81, B.2.2.
    """
    at = start + 2
    while 0 < at <= len(data) - 10 and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xC3:
            return data[at + 9]
        if marker == 0xDA or length < 2:
            return 0
        at += 2 + length
    return 0
