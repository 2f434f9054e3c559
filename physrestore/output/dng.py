"""Write DNG: the mosaic as it is, or linear camera RGB.

Layout: directory 0 (thumbnail, camera, colour), Exif directory, raw directory, thumbnail, raw pixels. Pixels are one
uncompressed strip or lossless-JPEG tiles; readers get other layouts wrong, some of them silently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from noise_models.frame import RawFrame
from physrestore.errors import UnwritableImage
from physrestore.output import tags
from physrestore.output import tiff_structure as tiff
from physrestore.output.develop import Float, auto_exposure, binned, developed
from physrestore.output.dng_tags import RGB_WHITE, Tags, exif_tags, linear_tags, main_tags, mosaic_tags, noise_tags
from physrestore.output.lossless_jpeg import encode_tiles, tiling
from physrestore.output.metadata import MetadataCopy, copy_metadata
from physrestore.output.publish import publish
from physrestore.output.quantise import to_uint16
from physrestore.output.tags import Tag

Compression = Literal["lossless-jpeg", "none"]

_THUMBNAIL_SIDE = 256  # DNG specification, chapter 2: at most 256 pixels
_ALIGNMENT = 16  # of pixel data in the file; some readers map them
_MAX_FILE = 2**32 - 1  # offsets have 32 bits


def write_cfa_dng(
    path: Path,
    frame: RawFrame,
    mosaic: NDArray[np.uint16] | None = None,
    *,
    noise_profile: Sequence[tuple[float, float]] | None = None,
    noise_reduction: float | None = None,
    history: str = "",
    compression: Compression = "lossless-jpeg",
    metadata_from: Path | None = None,
    overwrite: bool = False,
    protect: Iterable[Path] = (),
) -> MetadataCopy | None:
    """Write a mosaic as DNG, in the sensor's own values, levels and colour filter array.

    A monochrome frame becomes a linear raw of one sample. DNG has one white level for all sites: the smallest is
    written. A frame without a colour matrix gets that of sRGB, and the file says so (ImageDescription).

    Args:
        path: Final name.
        frame: Levels, colour filter array, camera, colour.
        mosaic: (H, W) [DN] in place of the frame's own.
        noise_profile: (S, O) per colour plane R, G, B, or one pair for all: the noise in what is written. None: the
            frame's own if its mosaic is written, else left out.
        noise_reduction: Share of the noise that was removed, 0..1. None: left out.
        history: How the picture was made, kept in XMP; `record.read_history` gives it back.
        compression: Lossless JPEG tiles, or one uncompressed strip.
        metadata_from: File whose metadata exiftool copies before the DNG is published.
        overwrite: Replace what is at ``path``.
        protect: Originals that are never replaced; the frame's own source always is one.

    Returns:
        What became of the metadata copy; None if none was asked for.

    Raises:
        UnwritableImage: a mosaic, profile or colour tag that DNG cannot hold.
        OutputExists, UnsafeOutput, WriteError: see `publish`.
    """
    if mosaic is not None and (mosaic.shape != frame.shape or mosaic.dtype != np.uint16):
        raise UnwritableImage(f"The mosaic must be {frame.shape} uint16, not {mosaic.shape} {mosaic.dtype}.")
    pixels = frame.mosaic if mosaic is None else mosaic
    profile = frame.noise_profile if noise_profile is None and mosaic is None else noise_profile
    raw = mosaic_tags(frame) | noise_tags(profile, noise_reduction, planes=1 if frame.cfa.is_mono else 3)
    side = max(-(-size // period) for size, period in zip(frame.shape, frame.cfa.period, strict=True))
    small = binned(frame, pixels, periods=-(-side // _THUMBNAIL_SIDE))
    document = _Document(
        main=main_tags(frame, history=history),
        exif=exif_tags(frame.shot),
        raw=raw,
        pixels=pixels,
        thumbnail=developed(small, frame.colour, exposure=auto_exposure(frame, pixels)),
        compression=compression,
        interleave=not frame.cfa.is_mono,
    )
    return _published(document, path, frame, metadata_from=metadata_from, overwrite=overwrite, protect=protect)


def write_linear_dng(
    path: Path,
    frame: RawFrame,
    rgb: Tensor | Float,
    *,
    noise_profile: Sequence[tuple[float, float]] | None = None,
    noise_reduction: float | None = None,
    history: str = "",
    compression: Compression = "lossless-jpeg",
    metadata_from: Path | None = None,
    overwrite: bool = False,
    protect: Iterable[Path] = (),
) -> MetadataCopy | None:
    """Write linear camera RGB as DNG (LinearRaw, black 0, white 65535).

    Values below 0 and above 1 are clipped: readers disagree about linear raws with a pedestal. Where unbiased
    shadows matter, write the mosaic with `write_cfa_dng`.

    Args:
        path: Final name.
        frame: Source, for camera and colour; (H, W) must be its size, or a whole multiple of it.
        rgb: (3, H, W) linear camera RGB, not white-balanced, 0 black, 1 white.
        noise_profile: (S, O) per plane R, G, B, or one pair for all: the noise in ``rgb``. None: left out.
        noise_reduction: As in `write_cfa_dng`; so are the arguments that follow.
        history: How the picture was made.
        compression: Lossless JPEG tiles, or one uncompressed strip.
        metadata_from: File whose metadata exiftool copies before the DNG is published.
        overwrite: Replace what is at ``path``.
        protect: Originals that are never replaced; the frame's own source always is one.

    Returns:
        What became of the metadata copy; None if none was asked for.

    Raises:
        UnwritableImage: a picture of another shape, values that are not finite, or a profile that DNG cannot hold.
        OutputExists, UnsafeOutput, WriteError: see `publish`.
    """
    scale = max(1, rgb.shape[-1] // frame.shape[1])
    if tuple(rgb.shape) != (3, *(scale * side for side in frame.shape)):
        raise UnwritableImage(f"The picture must be {(3, *frame.shape)} or a multiple, not {tuple(rgb.shape)}.")
    pixels = to_uint16(rgb)
    step = -(-max(pixels.shape) // _THUMBNAIL_SIDE)
    small = pixels[::step, ::step].astype(np.float32) / np.float32(RGB_WHITE)
    document = _Document(
        main=main_tags(frame, history=history),
        exif=exif_tags(frame.shot),
        raw=linear_tags(frame, scale=scale) | noise_tags(noise_profile, noise_reduction, planes=3),
        pixels=pixels,
        thumbnail=developed(small, frame.colour, exposure=auto_exposure(frame)),
        compression=compression,
        interleave=False,
    )
    return _published(document, path, frame, metadata_from=metadata_from, overwrite=overwrite, protect=protect)


@dataclass(frozen=True)
class _Document:
    """A DNG that only lacks the places of its parts.

    Attributes:
        main: Directory 0 without thumbnail and pointers.
        exif: Exif directory.
        raw: Raw directory without the layout of its pixels.
        pixels: (H, W) or (H, W, 3) uint16.
        thumbnail: (h, w, 3) sRGB.
        compression: Of the pixels.
        interleave: Whether neighbouring columns have different colours.
    """

    main: Tags
    exif: Tags
    raw: Tags
    pixels: NDArray[np.uint16]
    thumbnail: NDArray[np.uint8]
    compression: Compression
    interleave: bool

    def write(self, file: BinaryIO) -> None:
        """Write everything; the directories last, when the sizes of the compressed tiles are known."""
        layout, segments, count = self._segments()
        places = [0] * count
        directories = self._directories(layout, places, places, thumbnail_at=0)
        thumbnail_at = _aligned(len(directories))
        file.write(b"\0" * thumbnail_at)
        file.write(self.thumbnail.tobytes())
        offsets: list[int] = []
        sizes: list[int] = []
        for segment in segments:
            start = file.tell()
            # The first segment on a 16-byte boundary, all others on an even one.
            padding = -start % (2 if offsets else _ALIGNMENT)
            file.write(b"\0" * padding)
            offsets.append(start + padding)
            sizes.append(len(segment))
            file.write(segment)
            if file.tell() > _MAX_FILE:
                raise UnwritableImage("A DNG ends at 4 GiB, and this picture needs more. Write npz instead.")
        file.seek(0)
        file.write(self._directories(layout, offsets, sizes, thumbnail_at=thumbnail_at))

    def _segments(self) -> tuple[Tags, Iterator[bytes | memoryview], int]:
        height, width = self.pixels.shape[:2]
        samples = 1 if self.pixels.ndim == 2 else self.pixels.shape[2]
        if self.compression == "none":
            layout: Tags = {Tag.Compression: tiff.short(tags.UNCOMPRESSED), Tag.RowsPerStrip: tiff.long(height)}
            strip = np.ascontiguousarray(self.pixels, dtype="<u2")
            return layout, iter([strip.view(np.uint8).data.cast("B")]), 1
        cut = tiling(height, width, samples=samples, interleave=self.interleave)
        layout = {
            Tag.Compression: tiff.short(tags.LOSSLESS_JPEG),
            Tag.TileWidth: tiff.long(cut.tile_width),
            Tag.TileLength: tiff.long(cut.tile_height),
        }
        return layout, encode_tiles(self.pixels, cut), cut.count

    def _directories(self, layout: Tags, offsets: list[int], sizes: list[int], *, thumbnail_at: int) -> bytes:
        places = (Tag.TileOffsets, Tag.TileByteCounts)
        if Tag.RowsPerStrip in layout:
            places = (Tag.StripOffsets, Tag.StripByteCounts)
        raw = self.raw | layout | {places[0]: tiff.long(*offsets), places[1]: tiff.long(*sizes)}
        main = self.main | self._thumbnail_tags(thumbnail_at)
        exif_at = tiff.HEADER_SIZE + tiff.directory_size(main)
        raw_at = exif_at + tiff.directory_size(self.exif)
        main |= {Tag.ExifIFD: tiff.long(exif_at), Tag.SubIFDs: tiff.long(raw_at)}
        return b"".join(
            [
                tiff.header_bytes(),
                tiff.directory_bytes(main, tiff.HEADER_SIZE),
                tiff.directory_bytes(self.exif, exif_at),
                tiff.directory_bytes(raw, raw_at),
            ]
        )

    def _thumbnail_tags(self, offset: int) -> Tags:
        height, width, samples = self.thumbnail.shape
        return {
            Tag.NewSubFileType: tiff.long(1),
            Tag.ImageWidth: tiff.long(width),
            Tag.ImageLength: tiff.long(height),
            Tag.BitsPerSample: tiff.short(8, 8, 8),
            Tag.Compression: tiff.short(tags.UNCOMPRESSED),
            Tag.PhotometricInterpretation: tiff.short(tags.RGB),
            Tag.StripOffsets: tiff.long(offset),
            Tag.SamplesPerPixel: tiff.short(samples),
            Tag.RowsPerStrip: tiff.long(height),
            Tag.StripByteCounts: tiff.long(self.thumbnail.nbytes),
            Tag.PlanarConfiguration: tiff.short(1),
            # Placeholders of the right size; `_directories` knows the values.
            Tag.ExifIFD: tiff.long(0),
            Tag.SubIFDs: tiff.long(0),
        }


def _published(
    document: _Document,
    path: Path,
    frame: RawFrame,
    *,
    metadata_from: Path | None,
    overwrite: bool,
    protect: Iterable[Path],
) -> MetadataCopy | None:
    originals = [*protect, *(source for source in (frame.source.path, metadata_from) if source is not None)]
    copies: list[MetadataCopy] = []

    def add_metadata(temp: Path) -> None:
        if metadata_from is not None:
            copies.append(copy_metadata(metadata_from, temp))

    publish(path, document.write, overwrite=overwrite, protect=originals, finish=add_metadata)
    return copies[0] if copies else None


def _aligned(position: int) -> int:
    return position + -position % _ALIGNMENT
