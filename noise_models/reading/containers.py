"""What kind of file the bytes are, whether its parts lie inside it, and where its metadata are.

Raw files are TIFF (DNG, CR2, NEF, ARW, ORF, RW2, KDC, ...), CIFF (CRW), RAF, ISO base media (CR3) or others. Only as
much of each is read as tells truncated files from whole ones and finds the maker, model and Exif data.

Sources: TIFF 6.0; CIFF specification (Canon, 1997); RAF and CR3 by the field names of the ExifTool tag tables.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from noise_models.reading.tiffwalk import TIFF_MAGIC, Tiff, walk

DNG_VERSION = 50706

_CIFF_MAGIC = b"HEAPCCDR"
_RAF_MAGIC = b"FUJIFILMCCD-RAW"
_FOVEON_MAGIC = b"FOVb"
# RAF header: camera model, then offset and length of the preview, of the sensor's description and of its data.
_RAF_MODEL = slice(0x1C, 0x3C)
_RAF_EXTENTS = 0x54
# The Exif block of a RAF's preview follows its first marker.
_EXIF_SEARCH_BYTES = 4096
_BOX_HEADER = 8
_MAX_BOXES = 1000
# Type codes of CIFF entries: 0x2800 and 0x3000 are directories, 0x080A the maker's and the model's name.
_CIFF_TYPE, _CIFF_STORAGE = 0x3800, 0xC000
_CIFF_DIRECTORIES = (0x2800, 0x3000)
_CIFF_NAMES = 0x080A
_CIFF_ENTRY_BYTES = 10
_CIFF_DEPTH = 6
_CIFF_MAX_ENTRIES = 500


@dataclass(frozen=True)
class Container:
    """The outside of a raw file.

    Attributes:
        kind: "DNG", "TIFF" or "other" (`noise_models.frame.Source.container`).
        name: For people: "DNG", "TIFF", "CRW", "RAF", "CR3", "X3F" or "unknown".
        tiff: Directories of a TIFF file.
        metadata: TIFF blocks with Make, Model and Exif data, possibly none; for a TIFF file itself.
        make: As far as the container says it outside TIFF tags.
        model: The same.
        damage: What contradicts a whole file, one sentence each.
        checked: What `damage` is based on; "" if nothing could be checked.
    """

    kind: str
    name: str
    tiff: Tiff | None = None
    metadata: tuple[Tiff, ...] = ()
    make: str = ""
    model: str = ""
    damage: tuple[str, ...] = ()
    checked: str = ""


def recognise(data: bytes) -> Container:
    """Tell the container from its first bytes and read what is needed of it."""
    tiff = walk(data)
    if tiff is not None:
        dng = tiff.magic == TIFF_MAGIC and tiff.first(DNG_VERSION) is not None
        name = "DNG" if dng else "TIFF"
        return Container(name, name, tiff=tiff, metadata=(tiff,))
    if data[6:14] == _CIFF_MAGIC:
        return _ciff(data)
    if data.startswith(_RAF_MAGIC):
        return _raf(data)
    if data[4:8] == b"ftyp":
        return _iso_media(data)
    return Container("other", "X3F" if data.startswith(_FOVEON_MAGIC) else "unknown")


def _raf(data: bytes) -> Container:
    if len(data) < _RAF_EXTENTS + 24:
        return Container("other", "RAF", damage=("The header is cut off.",))
    extents = struct.unpack_from(">6I", data, _RAF_EXTENTS)
    parts = zip(("preview", "description", "sensor data"), extents[0::2], extents[1::2], strict=True)
    damage = [
        f"The {part} ends at byte {offset + length}, after the end of the file ({len(data)} bytes)."
        for part, offset, length in parts
        if offset + length > len(data)
    ]
    preview = data[extents[0] : extents[0] + _EXIF_SEARCH_BYTES]
    at = preview.find(b"Exif\0\0")
    # Offsets inside the block count from its own first byte.
    exif = walk(memoryview(data)[extents[0] + at + 6 :]) if at >= 0 else None
    return Container(
        "other",
        "RAF",
        metadata=() if exif is None else (exif,),
        make="FUJIFILM",
        model=_printable(data[_RAF_MODEL]),
        damage=tuple(damage),
        checked="the parts named in the header",
    )


def _iso_media(data: bytes) -> Container:
    damage: list[str] = []
    at = boxes = 0
    while at + _BOX_HEADER <= len(data) and boxes < _MAX_BOXES:
        size, kind = struct.unpack_from(">I4s", data, at)
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
        elif size == 0:  # the last box: up to the end of the file
            break
        if size < _BOX_HEADER or at + size > len(data):
            damage.append(f"The part {_printable(kind)!r} at byte {at} ({size} bytes) ends after the end of the file.")
            break
        at, boxes = at + size, boxes + 1
    # Canon's boxes CMT1 (IFD0) and CMT2 (Exif) hold one TIFF block each, near the beginning of the file.
    found = (data.find(name, 0, 1 << 16) for name in (b"CMT1", b"CMT2"))
    blocks = [walk(memoryview(data)[position + 4 :]) for position in found if position >= 0]
    return Container(
        "other",
        "CR3",
        metadata=tuple(block for block in blocks if block is not None),
        damage=tuple(damage),
        checked="the sizes of all parts",
    )


def _ciff(data: bytes) -> Container:
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return Container("other", "CRW", damage=("The header names no byte order.",))
    (start,) = struct.unpack_from(order + "I", data, 2)
    heap = _Ciff(data, order)
    heap.directory(start, len(data), 0)
    make, _, model = heap.names.partition("\0")
    return Container(
        "other",
        "CRW",
        make=_printable(make.encode()),
        model=_printable(model.encode()),
        damage=tuple(heap.damage[:1]),
        checked="the directories and the extents of their entries",
    )


class _Ciff:
    """A heap of Canon's Camera Image File Format: directories at the end of nested blocks."""

    def __init__(self, data: bytes, order: str) -> None:
        self.data, self.order = data, order
        self.names = ""
        self.damage: list[str] = []
        self._entries = 0

    def directory(self, start: int, end: int, depth: int) -> None:
        """Read the directory whose offset is in the last four bytes of [start, end)."""
        if depth > _CIFF_DEPTH or not 0 <= start <= end - 4 <= len(self.data) - 4:
            self.damage.append("A directory lies outside the file.")
            return
        (offset,) = struct.unpack_from(self.order + "I", self.data, end - 4)
        at = start + offset
        if at + 2 > end:
            self.damage.append("A directory lies outside its block.")
            return
        (count,) = struct.unpack_from(self.order + "H", self.data, at)
        self._entries += count
        if count == 0 and depth == 0:  # the four bytes at the end of a cut file, more often than not
            self.damage.append("The directory at its end is empty.")
        if self._entries > _CIFF_MAX_ENTRIES or at + 2 + count * _CIFF_ENTRY_BYTES > end:
            self.damage.append(f"A directory claims {count} entries, which it cannot have.")
            return
        for k in range(count):
            self._entry(at + 2 + k * _CIFF_ENTRY_BYTES, start, end, depth)

    def _entry(self, at: int, start: int, end: int, depth: int) -> None:
        tag, size, offset = struct.unpack_from(self.order + "HII", self.data, at)
        if tag & _CIFF_STORAGE:  # the value is in the entry itself
            return
        first, last = start + offset, start + offset + size
        if last > end:
            self.damage.append(f"Entry {tag:#06x} ends after its block.")
        elif tag & _CIFF_TYPE in _CIFF_DIRECTORIES:
            self.directory(first, last, depth + 1)
        elif tag == _CIFF_NAMES:
            self.names = "\0".join(self.data[first:last].decode("ascii", errors="replace").split("\0")[:2])


def _printable(raw: bytes) -> str:
    text = raw.split(b"\0", 1)[0].decode("utf-8", errors="replace")
    return "".join(char for char in text if char.isprintable()).strip()
