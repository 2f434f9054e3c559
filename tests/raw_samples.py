"""Small DNG and TIFF files made in memory, sound or wrong in one chosen way."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLACK, WHITE = 512, 16383
_CODES = {"B": 1, "A": 2, "S": 3, "L": 4, "R": 5, "U": 7, "SR": 10, "D": 12}
_FORMATS = {1: "B", 3: "H", 4: "I", 5: "I", 7: "B", 10: "i", 12: "d"}
_PER_VALUE = {5: 2, 10: 2}

# One tag: (type letter of `_CODES`, values). Rationals give numerator and denominator in turn.
Tags = Mapping[int, tuple[str, Any]]


def noisy_mosaic(height: int = 96, width: int = 128, *, seed: int = 1, black: float = BLACK) -> NDArray[np.uint16]:
    """A smooth scene with noise, well inside the range."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    scene = black + 300 + 8 * x + 20 * y + 200 * ((x % 2) ^ (y % 2))
    return np.clip(scene + rng.normal(0, 12, scene.shape), black + 1, WHITE - 100).astype(np.uint16)


def directory(tags: Tags, start: int, order: str, following: int = 0) -> bytes:
    """One IFD at ``start`` with its long values behind it."""
    entries, values = b"", b""
    behind = start + 2 + 12 * len(tags) + 4
    for number in sorted(tags):
        letter, given = tags[number]
        code = _CODES[letter]
        if isinstance(given, (bytes, str)):
            raw = given if isinstance(given, bytes) else given.encode() + b"\0"
            count = len(raw)
        else:
            raw = struct.pack(f"{order}{len(given)}{_FORMATS[code]}", *given)
            count = len(given) // _PER_VALUE.get(code, 1)
        entries += struct.pack(order + "HHI", number, code, count)
        if len(raw) <= 4:
            entries += raw.ljust(4, b"\0")
        else:
            entries += struct.pack(order + "I", behind + len(values))
            values += raw + b"\0" * (len(raw) % 2)
    return struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", following) + values


def make_dng(
    mosaic: NDArray[np.uint16],
    *,
    order: str = "<",
    cfa: str = "RGGB",
    tags: Tags | None = None,
    drop: tuple[int, ...] = (),
    rows_per_strip: int | None = None,
    tile: tuple[int, int] | None = None,
    components: int = 1,
    exif: Tags | None = None,
) -> bytes:
    """A one-directory DNG. ``tile`` gives lossless-JPEG tiles of that height and width, else uncompressed strips."""
    height, width = mosaic.shape
    blocks = _tiles(mosaic, tile, components) if tile else _strips(mosaic, order, rows_per_strip or height)
    side = {4: 2, 36: 6}[len(cfa)]
    all_tags: dict[int, tuple[str, Any]] = {
        254: ("L", [0]), 256: ("L", [width]), 257: ("L", [height]), 258: ("S", [16]), 262: ("S", [32803]),
        259: ("S", [7 if tile else 1]), 271: ("A", "Maker"), 272: ("A", "Model One"), 274: ("S", [1]),
        277: ("S", [1]), 284: ("S", [1]), 33421: ("S", [side, side]), 33422: ("B", ["RGB".index(c) for c in cfa]),
        34665: ("L", [0]), 50706: ("B", [1, 4, 0, 0]), 50707: ("B", [1, 1, 0, 0]), 50708: ("A", "Maker Model One"),
        50714: ("S", [BLACK]), 50717: ("L", [WHITE]), 50728: ("R", [1, 2, 1, 1, 2, 3]), 50778: ("S", [21]),
        50721: ("SR", [v for n in (6000, -1000, -500, -4000, 12000, 2000, -400, 1500, 6000) for v in (n, 10000)]),
    }  # fmt: skip
    extents = {322: ("L", [tile[1]]), 323: ("L", [tile[0]])} if tile else {278: ("L", [rows_per_strip or height])}
    at, lengths = (324, 325) if tile else (273, 279)
    all_tags |= extents | {at: ("L", [0] * len(blocks)), lengths: ("L", [len(b) for b in blocks])} | dict(tags or {})
    for number in drop:
        del all_tags[number]
    shot = {33434: ("R", [1, 250]), 33437: ("R", [56, 10]), 34855: ("S", [800]), 36867: ("A", "2026:11:20 12:00:00")}
    exif_at = 8 + len(directory(all_tags, 8, order))
    exif_bytes = directory(exif if exif is not None else shot, exif_at, order)
    offsets, position = [], exif_at + len(exif_bytes)
    for block in blocks:
        offsets.append(position)
        position += len(block)
    if at not in (tags or {}) and at in all_tags:
        all_tags[at] = ("L", offsets)
    if 34665 in all_tags:
        all_tags[34665] = ("L", [exif_at])
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    return head + directory(all_tags, 8, order) + exif_bytes + b"".join(blocks)


def _strips(mosaic: NDArray[np.uint16], order: str, rows: int) -> list[bytes]:
    values = mosaic.astype(order + "u2")
    return [values[top : top + rows].tobytes() for top in range(0, len(values), rows)]


def _tiles(mosaic: NDArray[np.uint16], tile: tuple[int, int], components: int) -> list[bytes]:
    th, tw = tile
    padded = np.pad(mosaic, ((0, -mosaic.shape[0] % th), (0, -mosaic.shape[1] % tw)), mode="edge")
    return [
        lossless_jpeg(padded[top : top + th, left : left + tw].reshape(th, tw // components, components))
        for top in range(0, padded.shape[0], th)
        for left in range(0, padded.shape[1], tw)
    ]


def lossless_jpeg(frame: NDArray[np.uint16]) -> bytes:
    """A (h, w, components) frame as one lossless JPEG: 16 bits, predictor 1, all Huffman codes of 5 bits (T.81 H)."""
    height, width, components = frame.shape
    values = frame.astype(np.int64)
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 1 << 15
    differences = (values - predicted + 32768) % 65536 - 32768
    bits = []
    for difference in differences.ravel().tolist():
        category = abs(difference).bit_length()
        extra = difference if difference >= 0 else difference + (1 << category) - 1
        bits.append(f"{category:05b}" + (f"{extra:0{category}b}" if 0 < category < 16 else ""))
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    sof = struct.pack(">BHHB", 16, height, width, components)
    sof += b"".join(bytes([c + 1, 0x11, 0]) for c in range(components))
    dht = bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    sos = bytes([components]) + b"".join(bytes([c + 1, 0]) for c in range(components)) + bytes([1, 0, 0])
    marker = lambda code, body: b"\xff" + bytes([code]) + struct.pack(">H", len(body) + 2) + body  # noqa: E731
    return b"\xff\xd8" + marker(0xC3, sof) + marker(0xC4, dht) + marker(0xDA, sos) + scan + b"\xff\xd9"
