"""A raw file becomes a `RawFrame`, or an error that says why not.

    open (regular files only) -> hash -> container and tags -> refuse what is no mosaic -> decode in another process
    -> judge the pixels -> CFA, levels, optical black, camera, colour -> RawFrame

Nothing a file contains can do more than make its own `read_raw` fail with a `RawFileError`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noise_models.errors import DamagedRaw, NotARawFile, RawTooLarge
from noise_models.frame import Integrity, RawFrame, Source
from noise_models.reading.containers import Container, recognise
from noise_models.reading.decoder import Decoder, Report
from noise_models.reading.integrity import container_damage, container_evidence, digest_matches, pixel_damage
from noise_models.reading.masked_areas import masked_areas
from noise_models.reading.rawlevels import read_cfa, read_levels
from noise_models.reading.rawshot import read_colour, read_noise_profile, read_orientation, read_shot
from noise_models.reading.rawtags import (
    COMPRESSION,
    VC5,
    refuse_other_size,
    refuse_processed,
    second_decoder_job,
    sensor_ifd,
)

__all__ = ["DEFAULT_MAX_MEGAPIXELS", "Decoder", "read_raw"]

# Above every camera on the market (medium format 150 MP); the decoder's memory is bounded for it.
DEFAULT_MAX_MEGAPIXELS = 200.0
# 200 megapixels of 16 bits, twice over for previews.
MAX_FILE_BYTES = 800 << 20
# What arithmetic on the numbers of a hostile file can raise.
_HOSTILE_TAGS = (ValueError, TypeError, LookupError, ArithmeticError, struct.error)
UNFORESEEN = "Its parts contradict each other"
# O_NONBLOCK: opening a FIFO must not wait for a writer. Neither flag exists on Windows.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_GOPRO = "GoPro"
_GPR_SUFFIX = ".GPR"
_IMAGE_DESCRIPTION, _MAKE = 270, 271


def read_raw(
    path: str | Path,
    *,
    decoder: Decoder | None = None,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    allow_damaged: bool = False,
) -> RawFrame:
    """Read a camera raw file.

    Args:
        path: The file, under any name.
        decoder: For a batch: its process is reused. None starts one for this file (about 0.2 s).
        max_megapixels: Files with more pixels are refused before anything is unpacked.
        allow_damaged: Return a frame that can be decoded although it shows damage; `Source.integrity` says so.

    Returns:
        The visible mosaic and what is known about it.

    Raises:
        NotARawFile: missing, not a regular file, empty, or of no known raw format.
        UnsupportedRaw: no mosaic of sensor values, or levels or colours this package cannot use.
        RawTooLarge: more pixels or bytes than the ceiling.
        DamagedRaw: truncated, zero-filled, contradictory or undecodable.
        DecoderCrashed: the decoder process died, or took too much time or memory.
    """
    path = Path(path)
    if decoder is None:
        with Decoder() as own:
            return read_raw(path, decoder=own, max_megapixels=max_megapixels, allow_damaged=allow_damaged)
    data = _read_regular_file(path)
    try:
        return _read(path, data, decoder, int(max_megapixels * 1e6), allow_damaged)
    except _HOSTILE_TAGS as error:
        # The last wall: tags in a combination that no check above foresees, and that `RawFrame` refuses at the latest.
        raise DamagedRaw(path, f"{UNFORESEEN} ({type(error).__name__}: {error}).") from error


def _read(path: Path, data: bytes, decoder: Decoder, max_pixels: int, allow_damaged: bool) -> RawFrame:
    container = recognise(data)
    refuse_processed(path, container)
    damage = container_damage(data, container)
    _judge(path, damage, allow_damaged)
    job = second_decoder_job(path, container, data)
    try:
        report, frame = decoder.decode(path, data, max_pixels=max_pixels, job=job)
    except DamagedRaw as error:
        if container.name != "unknown":
            raise
        raise NotARawFile(path, "No raw format known here, and LibRaw cannot decode it. Give a camera raw.") from error
    sha256 = hashlib.sha256(data).hexdigest()
    decoders = f"{decoder.version}, tiles by imagecodecs" if job else decoder.version
    return _assemble(path, container, report, frame, damage, allow_damaged, sha256, decoders)


def _assemble(
    path: Path,
    container: Container,
    report: Report,
    frame: NDArray[np.uint16],
    damage: list[str],
    allow_damaged: bool,
    sha256: str,
    decoders: str,
) -> RawFrame:
    refuse_other_size(path, container, frame.shape)
    mosaic = _visible(path, report, frame)
    cfa = read_cfa(path, container, report)
    levels = read_levels(path, container, report, cfa, int(mosaic.max()))
    damage = damage + pixel_damage(mosaic, levels.black)
    matches = digest_matches(frame, container)
    if matches is False:
        damage.append("The pixels do not match the digest in the file: it was changed or damaged.")
    _judge(path, damage, allow_damaged)
    verdict = Integrity.DAMAGED if damage else Integrity.VERIFIED if matches else Integrity.UNVERIFIABLE
    return RawFrame(
        mosaic=mosaic,
        cfa=cfa,
        black_level=levels.black,
        white_level=levels.white,
        masked=masked_areas(frame, report, cfa, levels.black),
        shot=read_shot(container, report),
        colour=read_colour(container, report),
        orientation=read_orientation(container, report),
        noise_profile=read_noise_profile(container),
        source=Source(
            path=path,
            sha256=sha256,
            decoder=decoders,
            integrity=verdict,
            integrity_evidence=_evidence(container, damage, matches, levels.notes),
            container=container.kind,
        ),
    )


def _read_regular_file(path: Path) -> bytes:
    """The bytes of a file that is one: devices, pipes and folders are refused without waiting for them."""
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except FileNotFoundError as error:
        raise NotARawFile(path, "There is no such file.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise NotARawFile(path, f"It cannot be opened ({getattr(error, 'strerror', None) or error}).") from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise NotARawFile(path, "It is not a regular file but a folder, device or pipe.")
    with os.fdopen(fd, "rb") as file:
        if status.st_size > MAX_FILE_BYTES:
            raise RawTooLarge(path, f"It has {status.st_size >> 20} MiB; the limit is {MAX_FILE_BYTES >> 20} MiB.")
        try:
            data = file.read(status.st_size)
        except OSError as error:
            raise NotARawFile(path, f"It cannot be read ({error.strerror}).") from error
    if not data:
        raise NotARawFile(path, "It is empty.")
    return data


def _visible(path: Path, report: Report, frame: NDArray[np.uint16]) -> NDArray[np.uint16]:
    top, left, height, width = report.margins
    if min(height, width) < 1 or top + height > frame.shape[0] or left + width > frame.shape[1]:
        raise DamagedRaw(path, f"Its visible area {report.margins} does not fit its {frame.shape} pixels.")
    return np.ascontiguousarray(frame[top : top + height, left : left + width])


def _judge(path: Path, damage: list[str], allow_damaged: bool) -> None:
    if damage and not allow_damaged:
        raise DamagedRaw(path, f"{' '.join(damage)} Copy it again from the card or a backup.")


def _evidence(container: Container, damage: list[str], matches: bool | None, notes: tuple[str, ...]) -> str:
    if damage:
        return " ".join(damage)
    digest = "the digest in the file matches the pixels" if matches else "no digest in the file to compare with"
    parts = [container_evidence(container), "no zero-filled or constant area", digest]
    if _lossy_codec(container):
        parts.append("coded with GoPro's lossy wavelet codec: its noise is not the sensor's")
    sentence = "; ".join([*parts, *notes])
    return f"{sentence[0].upper()}{sentence[1:]}."


def _lossy_codec(container: Container) -> bool:
    """VC-5 pixels, or a DNG that was converted from a GPR and says so."""
    if container.tiff is None:
        return False
    ifd, first = sensor_ifd(container.tiff), container.tiff.ifds[0]
    if ifd is not None and ifd.integer(COMPRESSION, 0) == VC5:
        return True
    return first.text(_MAKE) == _GOPRO and first.text(_IMAGE_DESCRIPTION).upper().endswith(_GPR_SUFFIX)
