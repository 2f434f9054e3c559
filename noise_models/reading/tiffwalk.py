"""A bounded reader of TIFF directories: classic TIFF, DNG, and the TIFF headers of CR2, NEF, ARW, ORF, RW2.

It reads directories only, never pixels. Every offset is checked against the data, every directory is visited once,
and values are views into the data, so neither loops nor absurd counts cost time or memory.

Source: TIFF Revision 6.0 (Adobe 1992), sections 2 and 8; TIFF Technical Note 1 (SubIFDs).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# Bytes of one value of a TIFF type code. 13 is IFD (a LONG); types above are BigTIFF's and are not read.
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
RATIONAL_TYPES = (5, 10)
_NUMPY_TYPES = {1: "u1", 3: "u2", 4: "u4", 5: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "i4", 11: "f4", 12: "f8"}
_NUMPY_TYPES[13] = "u4"

# "*\0" of TIFF; the others are the same directory structure with the maker's own number.
TIFF_MAGIC = 42
PANASONIC_MAGIC = 0x55
OLYMPUS_MAGICS = (0x4F52, 0x5352)

# The largest files seen have about 20 directories of 100 entries; a few times that is generous.
MAX_DIRECTORIES = 100
MAX_ENTRIES = 1000

SUB_IFDS = 330
EXIF_IFD = 34665
_ENTRY_BYTES = 12


@dataclass(frozen=True)
class Tag:
    """The values of one directory entry, as they lie in the file.

    Attributes:
        type: TIFF type code, a key of `TYPE_SIZES`.
        count: Number of values.
        data: Their bytes, in the byte order of the file.
        order: "<" or ">".
    """

    type: int
    count: int
    data: bytes | memoryview
    order: str

    def numbers(self) -> NDArray[np.float64]:
        """The values as float64; a rational with denominator zero is NaN. Text has none."""
        if self.type not in _NUMPY_TYPES:
            return np.empty(0)
        values: NDArray[np.float64] = self._words().astype(np.float64)
        if self.type not in RATIONAL_TYPES:
            return values
        above, below = values[0::2], values[1::2]
        quotients = np.full(above.shape, np.nan)
        np.divide(above, below, out=quotients, where=below != 0)
        return quotients

    def integers(self) -> NDArray[np.int64]:
        """The values as int64; empty if the type is not an integer type."""
        if self.type not in _NUMPY_TYPES or self.type in (5, 10, 11, 12):
            return np.empty(0, dtype=np.int64)
        return self._words().astype(np.int64)

    def text(self) -> str:
        """ASCII or BYTE values up to the first NUL, without control characters or outer blanks."""
        raw = bytes(self.data).split(b"\0", 1)[0].decode("utf-8", errors="replace")
        return "".join(char for char in raw if char.isprintable()).strip()

    def little_endian(self) -> bytes:
        """The bytes with every value in little-endian order. UNDEFINED bytes have no order and stay."""
        if self.order == "<" or self.type not in _NUMPY_TYPES:
            return bytes(self.data)
        words = self._words()
        return words.byteswap().tobytes()

    def _words(self) -> NDArray[np.generic]:
        return np.frombuffer(self.data, dtype=np.dtype(self.order + _NUMPY_TYPES[self.type]))


@dataclass(frozen=True)
class Ifd:
    """One directory.

    Attributes:
        offset: Where it begins.
        kind: "main" (the chain from the header), "sub" or "exif".
        tags: Tag number -> values.
    """

    offset: int
    kind: str
    tags: Mapping[int, Tag]

    def integers(self, tag: int) -> tuple[int, ...]:
        """Integer values of a tag; empty if absent."""
        return tuple(self.tags[tag].integers().tolist()) if tag in self.tags else ()

    def integer(self, tag: int, default: int) -> int:
        """The first integer value of a tag, or ``default`` if absent."""
        values = self.tags[tag].integers() if tag in self.tags else np.empty(0, dtype=np.int64)
        return int(values[0]) if values.size else default

    def numbers(self, tag: int) -> NDArray[np.float64]:
        """Values of a tag as float64; empty if absent."""
        return self.tags[tag].numbers() if tag in self.tags else np.empty(0)

    def text(self, tag: int) -> str:
        """Text of a tag; "" if absent."""
        return self.tags[tag].text() if tag in self.tags else ""


@dataclass(frozen=True)
class Tiff:
    """The directories of a file.

    Attributes:
        magic: The number after the byte-order mark: 42, or a maker's own.
        ifds: In the order of discovery; never empty.
        problems: What the walk could not follow, one sentence each.
    """

    magic: int
    ifds: tuple[Ifd, ...]
    problems: tuple[str, ...] = field(default=())

    def first(self, tag: int) -> Ifd | None:
        """The first directory that has ``tag``."""
        return next((ifd for ifd in self.ifds if tag in ifd.tags), None)


def walk(data: bytes | memoryview) -> Tiff | None:
    """Read all directories reachable from the header.

    Args:
        data: The whole file, or a TIFF block inside one.

    Returns:
        The directories, or None if the data do not begin with a TIFF header and one readable directory.
    """
    view = memoryview(data)
    order = {b"II": "<", b"MM": ">"}.get(bytes(view[:2]))
    if order is None or len(view) < 8:
        return None
    magic, first = struct.unpack_from(order + "HI", view, 2)
    if magic not in (TIFF_MAGIC, PANASONIC_MAGIC, *OLYMPUS_MAGICS):
        return None
    walker = _Walker(view, order)
    walker.follow(first)
    if not walker.ifds:
        return None
    return Tiff(magic, tuple(walker.ifds), tuple(walker.problems))


class _Walker:
    def __init__(self, view: memoryview, order: str) -> None:
        self.view, self.order = view, order
        self.ifds: list[Ifd] = []
        self.problems: list[str] = []
        self._seen: set[int] = set()

    def follow(self, first: int) -> None:
        """Visit the chain at ``first`` and what it points to, each offset once, breadth first."""
        queue = [("main", first)]
        while queue:
            kind, offset = queue.pop(0)
            if offset in self._seen:
                self.problems.append(f"The directory at {offset} is linked twice.")
                continue
            if len(self._seen) >= MAX_DIRECTORIES:
                self.problems.append(f"More than {MAX_DIRECTORIES} directories.")
                return
            self._seen.add(offset)
            queue += self._visit(kind, offset)

    def _visit(self, kind: str, offset: int) -> list[tuple[str, int]]:
        if offset < 8 or offset + 2 > len(self.view):
            self.problems.append(f"A directory is said to be at {offset}, outside the file.")
            return []
        (entries,) = struct.unpack_from(self.order + "H", self.view, offset)
        end = offset + 2 + entries * _ENTRY_BYTES
        if not 0 < entries <= MAX_ENTRIES or end > len(self.view):
            self.problems.append(f"The directory at {offset} claims {entries} entries, which it cannot have.")
            return []
        tags: dict[int, Tag] = {}
        for position in range(offset + 2, end, _ENTRY_BYTES):
            self._entry(position, tags)
        ifd = Ifd(offset, kind, tags)
        self.ifds.append(ifd)
        found = [("sub", at) for at in ifd.integers(SUB_IFDS)[:MAX_DIRECTORIES]]
        found += [("exif", at) for at in ifd.integers(EXIF_IFD)[:1]]
        # A sub-directory's own "next" is left alone: DNG requires 0 there and some writers leave garbage.
        if kind == "main" and end + 4 <= len(self.view):
            (following,) = struct.unpack_from(self.order + "I", self.view, end)
            found += [("main", following)] if following else []
        return found

    def _entry(self, position: int, tags: dict[int, Tag]) -> None:
        tag, kind, count = struct.unpack_from(self.order + "HHI", self.view, position)
        size = TYPE_SIZES.get(kind, 0) * count
        if size == 0 or tag in tags:
            return
        at = position + 8
        if size > 4:
            (at,) = struct.unpack_from(self.order + "I", self.view, at)
        if at + size > len(self.view):
            self.problems.append(f"The {count} values of tag {tag} lie outside the file.")
            return
        tags[tag] = Tag(kind, count, self.view[at : at + size], self.order)
