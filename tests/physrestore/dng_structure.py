"""The rules of a DNG's bytes that readers rely on, checked without any of the code that wrote them."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass, field

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
LETTERS = {1: "B", 3: "H", 4: "I"}
STRIPS, TILES = {273, 278, 279}, {322, 323, 324, 325}
NEEDED = {
    "main": {254, 256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 330, 34665, 50706, 50707, 50708},
    "exif": {36864},
    "raw": {254, 256, 257, 258, 259, 262, 277, 50714, 50717, 50719, 50720, 50829},
}


@dataclass
class Directory:
    """One directory as found in the file."""

    tags: dict[int, tuple[int, int, bytes]] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    next_offset: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)

    def ints(self, tag: int) -> tuple[int, ...]:
        kind, count, data = self.tags[tag]
        return struct.unpack(f"<{count}{LETTERS[kind]}", data)


def read_directory(data: bytes, offset: int) -> Directory:
    result = Directory()
    (count,) = struct.unpack_from("<H", data, offset)
    result.spans.append((offset, offset + 2 + 12 * count + 4))
    for k in range(count):
        at = offset + 2 + 12 * k
        tag, kind, number = struct.unpack_from("<HHI", data, at)
        size = SIZES[kind] * number
        start = at + 8 if size <= 4 else struct.unpack_from("<I", data, at + 8)[0]
        if size > 4:
            result.spans.append((start, start + size))
        result.order.append(tag)
        result.tags[tag] = (kind, number, data[start : start + size])
    (result.next_offset,) = struct.unpack_from("<I", data, offset + 2 + 12 * count)
    return result


def directories(data: bytes) -> dict[str, Directory]:
    main = read_directory(data, struct.unpack_from("<I", data, 4)[0])
    return {
        "main": main,
        "exif": read_directory(data, main.ints(34665)[0]),
        "raw": read_directory(data, main.ints(330)[0]),
    }


def violations(data: bytes) -> list[str]:
    """Every broken rule, one sentence each; empty for a good file."""
    if data[:4] != b"II*\0":
        return ["no little-endian TIFF header"]
    found = []
    spans = [(0, 8)]
    for name, directory in directories(data).items():
        missing = NEEDED[name] - directory.tags.keys()
        if missing:
            found.append(f"{name}: tags {sorted(missing)} are missing")
        if directory.order != sorted(set(directory.order)):
            found.append(f"{name}: tags are not sorted or not unique")
        if directory.next_offset:
            found.append(f"{name}: next directory is not 0")
        if any(start % 2 for start, _ in directory.spans):
            found.append(f"{name}: odd offset")
        spans += directory.spans
        if name != "exif":
            found += _pixel_violations(name, directory, spans)
    spans.sort()
    found += [f"parts overlap at {b[0]}" for a, b in itertools.pairwise(spans) if b[0] < a[1]]
    if spans[-1][1] > len(data):
        found.append("a part lies outside the file")
    return found


def _pixel_violations(name: str, directory: Directory, spans: list[tuple[int, int]]) -> list[str]:
    strips, tiles = STRIPS & directory.tags.keys(), TILES & directory.tags.keys()
    if (strips, tiles) not in ((STRIPS, set()), (set(), TILES)):
        return [f"{name}: not exactly one of strips and tiles"]
    offsets, sizes = (directory.ints(tag) for tag in ((273, 279) if strips else (324, 325)))
    spans += [(start, start + size) for start, size in zip(offsets, sizes, strict=True)]
    (width,), (height,), (samples,) = (directory.ints(tag) for tag in (256, 257, 277))
    found = [f"{name}: odd offset of pixels" for start in offsets if start % 2]
    if strips:
        bits = directory.ints(258)[0]
        if sizes != (height * width * samples * bits // 8,):
            found.append(f"{name}: not one strip of the whole picture")
    else:
        (tile_width,), (tile_height,) = directory.ints(322), directory.ints(323)
        if len(offsets) != -(-width // tile_width) * -(-height // tile_height):
            found.append(f"{name}: the number of tiles does not cover the picture")
        if tile_width % 16 or tile_height % 16:
            found.append(f"{name}: tile sides are no multiples of 16")
    return found
