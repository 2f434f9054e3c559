"""How far the bytes of a raw file can be trusted, judged without the decoder that read them.

Three witnesses: the container (do the pixels' strips and tiles lie in the file, apart from each other, and are they
as many as the size needs), the decoded pixels (areas no sensor delivers), and the digest some DNGs carry. Only a
matching digest verifies a file; most raws carry none, and a flipped bit in them cannot be found by anyone.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from noise_models.reading.containers import Container
from noise_models.reading.rawtags import (
    BITS_PER_SAMPLE,
    HEIGHT,
    LINEARISATION_TABLE,
    WIDTH,
    Segments,
    is_lossless_jpeg,
    segments,
    sensor_ifd,
)
from noise_models.reading.tiffwalk import TIFF_MAGIC, Ifd

NEW_RAW_IMAGE_DIGEST = 51111
# The SDK hashes cells of at most this side [pixels].
_DIGEST_CELL = 256

# With read noise, a site at least this far above zero [DN] never reads zero; dead sites are single.
MIN_BLACK_DN = 16.0
# Zeros in one row that cannot be dead sites. 64 bytes of a 16-bit file.
MIN_ZERO_RUN = 32
# Zeros at the end of a compressed strip that cannot be padding [bytes].
MIN_ZERO_TAIL = 64
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# Rows of one single value below the brightest: no sensor is that quiet over its whole width.
MIN_CONSTANT_ROWS = 8
# More bytes than an uncompressed picture needs, as a ratio, beyond any padding of rows.
_SIZE_SLACK = 1.1
# The TIFF header; pixels said to begin inside it are not pixels.
_HEADER_BYTES = 8


def container_damage(data: bytes, container: Container) -> list[str]:
    """What contradicts a whole file, from the container alone; one sentence each."""
    if container.tiff is None or container.tiff.magic != TIFF_MAGIC:
        return list(container.damage)
    ifd = sensor_ifd(container.tiff)
    ifds = [ifd] if ifd is not None else list(container.tiff.ifds)
    damage: list[str] = []
    for each in ifds:
        parts = segments(each)
        if parts is not None:
            found = _segment_damage(parts, len(data), strict=container.kind == "DNG")
            damage += found or (_jpeg_damage(parts, data) if is_lossless_jpeg(each) else [])
    return damage


def container_evidence(container: Container) -> str:
    """What `container_damage` looked at, when it found nothing."""
    ifd = None if container.tiff is None else sensor_ifd(container.tiff)
    parts = None if ifd is None else segments(ifd)
    if parts is not None:
        count = len(parts.offsets)
        one = "the strip" if parts.kind == "strip" else "the tile"
        return f"{one if count == 1 else f'all {count} {parts.kind}s'} inside the file"
    return f"{container.checked} inside the file" if container.checked else f"{container.name} container not checked"


def _segment_damage(parts: Segments, size: int, *, strict: bool) -> list[str]:
    """Check extents against the file. ``strict``: also what only DNG guarantees."""
    kind, offsets, counts = parts.kind, parts.offsets, parts.counts
    if counts.size == 0 and not strict:  # TIFF 6.0 allows to leave them out where there is one strip
        counts = np.ones_like(offsets)
    if offsets.size == 0 or offsets.shape != counts.shape:
        return [f"It lists {offsets.size} {kind} offsets and {counts.size} lengths."]
    ends = offsets + counts
    outside = (offsets < _HEADER_BYTES) | (ends > size)
    if outside.any():
        worst = int(ends.max())
        return [f"{int(outside.sum())} of {len(offsets)} {kind}s lie outside the file ({size} bytes; {worst} needed)."]
    order = np.argsort(offsets, kind="stable")
    shared = int((offsets[order][1:] < ends[order][:-1]).sum())
    if shared:
        return [f"{shared} {kind}s share bytes with others."]
    if not strict:
        return []
    return _dng_segment_damage(parts, counts)


def _jpeg_damage(parts: Segments, data: bytes) -> list[str]:
    """Lossless JPEGs without a beginning, or that end in zeros where their end marker should be.

    Zeros inside a JPEG are not judged: they are also the code of a clipped, constant area.
    """
    headless = zero_filled = 0
    for offset, count in zip(parts.offsets.tolist(), parts.counts.tolist(), strict=False):
        jpeg = data[offset : offset + count]
        headless += not jpeg.startswith(_JPEG_START)
        zero_filled += not any(jpeg[-MIN_ZERO_TAIL:]) and not jpeg.rstrip(b"\0").endswith(_JPEG_END)
    if headless:
        return [f"{headless} of {len(parts.offsets)} {parts.kind}s do not begin as lossless JPEG."]
    if zero_filled:
        return [f"{zero_filled} of {len(parts.offsets)} {parts.kind}s end in zeros: zero-filled areas."]
    return []


def _dng_segment_damage(parts: Segments, counts: NDArray[np.int64]) -> list[str]:
    if parts.expected is None:
        return ["The tags do not give the picture a size."]
    if (counts == 0).any():
        return [f"{int((counts == 0).sum())} {parts.kind}s are empty."]
    if len(counts) != parts.expected:
        return [f"The picture's size needs {parts.expected} {parts.kind}s, the file lists {len(counts)}."]
    total = int(counts.sum())
    needed = parts.expected_bytes
    if needed is not None and not needed <= total <= needed * _SIZE_SLACK:
        return [f"The picture's size and bit depth need {needed} bytes; the {parts.kind}s have {total}."]
    return []


def pixel_damage(mosaic: NDArray[np.uint16], black: NDArray[np.float64]) -> list[str]:
    """Areas no sensor delivers, one sentence each.

    Args:
        mosaic: Visible area, (H, W) [DN].
        black: Black level per site [DN].
    """
    top = int(mosaic.max())
    if int(mosaic.min()) == top:
        return [f"Every pixel is {top}: nothing was decoded."]
    rows = (mosaic == mosaic[:, :1]).all(axis=1) & (mosaic[:, 0] < top)
    constant = int(rows.sum())
    if constant >= MIN_CONSTANT_ROWS:
        return [f"{constant} of {len(mosaic)} rows hold one single value below the brightest."]
    if float(black.min()) >= MIN_BLACK_DN:
        run = longest_zero_run(mosaic)
        if run >= MIN_ZERO_RUN:
            return [f"{run} pixels in a row are exactly 0 although black is {black.min():g}: a zero-filled area."]
    return []


def longest_zero_run(mosaic: NDArray[np.uint16]) -> int:
    """Length of the longest run of zeros along a row.

    >>> longest_zero_run(np.array([[0, 5, 0, 0], [0, 1, 1, 1]], dtype=np.uint16))
    2
    """
    zero = mosaic == 0
    zero = zero[zero.any(axis=1)]
    if zero.size == 0:
        return 0
    # A column of False ends every run with its row.
    flat = np.pad(zero, ((0, 0), (1, 1))).ravel().astype(np.int8)
    change = np.diff(flat)
    starts, ends = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    return int((ends - starts).max(initial=0))


def digest_matches(frame: NDArray[np.uint16], container: Container) -> bool | None:
    """Compare the decoded pixels with the DNG's NewRawImageDigest.

    Args:
        frame: The whole mosaic, masked pixels included.
        container: Of the file.

    Returns:
        None if the file has no digest, or one that cannot be compared: bytes (8 bits), a linearisation table (LibRaw
        delivers linearised values, the digest is of the stored ones), or another size.
    """
    if container.kind != "DNG" or container.tiff is None:
        return None
    holder, ifd = container.tiff.first(NEW_RAW_IMAGE_DIGEST), sensor_ifd(container.tiff)
    if holder is None or ifd is None or not _digest_comparable(ifd, frame.shape):
        return None
    stored = bytes(holder.tags[NEW_RAW_IMAGE_DIGEST].data)
    if len(stored) != 16 or not any(stored):  # all zero: "no digest" in the SDK's and GoPro's files
        return None
    return stored == new_raw_image_digest(frame)


def new_raw_image_digest(frame: NDArray[np.uint16]) -> bytes:
    """DNG's NewRawImageDigest of a mosaic: MD5 over the MD5s of its 256 x 256 cells, row by row.

    Each cell is hashed as little-endian 16-bit values row by row; cells at the border are smaller.

    Source: DNG specification 1.7.1, tag 51111 (MD5 of the raw image data); division into cells as in Adobe's DNG
    SDK.
    """
    height, width = frame.shape
    cells = hashlib.md5(usedforsecurity=False)
    for top in range(0, height, _DIGEST_CELL):
        for left in range(0, width, _DIGEST_CELL):
            cell = frame[top : top + _DIGEST_CELL, left : left + _DIGEST_CELL]
            cells.update(hashlib.md5(cell.astype("<u2").tobytes(), usedforsecurity=False).digest())
    return cells.digest()


def _digest_comparable(ifd: Ifd, shape: tuple[int, ...]) -> bool:
    same_size = (ifd.integer(HEIGHT, 0), ifd.integer(WIDTH, 0)) == shape
    return same_size and ifd.integer(BITS_PER_SAMPLE, 0) > 8 and LINEARISATION_TABLE not in ifd.tags
