"""The part of TIFF that DNG needs: typed values and directories, little-endian, less than 4 GiB.

Source: TIFF 6.0 specification, section 2. DNG readers are stricter than it: entries sorted by tag, values on even
offsets, next-directory pointers zero in every directory that a tag points to.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

from physrestore.errors import UnwritableImage

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL, DOUBLE = 1, 2, 3, 4, 5, 7, 10, 12

# Bytes of one element of every TIFF type, also of those that only copied tags can have.
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}

HEADER_SIZE = 8  # "II", 42, offset of the first directory
_ENTRY_SIZE = 12  # tag, type, count, value or offset
_INLINE_SIZE = 4  # longer values live outside their entry

# Denominators up to here keep numerators of 16-bit levels inside 32 bits and are finer than any black level is known.
_MAX_DENOMINATOR = 65_536
MATRIX_DENOMINATOR = 1_000_000  # of matrices, as other DNG writers have it; six decimals


@dataclass(frozen=True)
class Value:
    """The content of one tag.

    Attributes:
        kind: TIFF type code.
        count: Number of elements.
        data: Little-endian bytes, ``count`` times the size of the type.

    Raises:
        UnwritableImage: an unknown type, or bytes that do not fit type and count.
    """

    kind: int
    count: int
    data: bytes

    def __post_init__(self) -> None:
        """A wrong count would shift everything a reader sees after it."""
        needed = TYPE_SIZES.get(self.kind, 0) * self.count
        if needed == 0 or needed != len(self.data):
            raise UnwritableImage(
                f"A tag of TIFF type {self.kind} with {self.count} elements cannot have {len(self.data)} bytes."
            )


def ascii_text(text: str) -> Value:
    """Text as UTF-8, NUL-terminated; NULs inside, which would end it early, and lone surrogates are replaced."""
    data = text.replace("\0", " ").encode("utf-8", "replace") + b"\0"
    return Value(ASCII, len(data), data)


def byte_string(data: bytes) -> Value:
    """Raw bytes (BYTE)."""
    return Value(BYTE, len(data), data)


def undefined(data: bytes) -> Value:
    """Raw bytes (UNDEFINED)."""
    return Value(UNDEFINED, len(data), data)


def short(*values: int) -> Value:
    """Unsigned 16 bit."""
    return _packed(SHORT, "H", values)


def long(*values: int) -> Value:
    """Unsigned 32 bit."""
    return _packed(LONG, "I", values)


def double(*values: float) -> Value:
    """64-bit floating point."""
    return _packed(DOUBLE, "d", values)


def rational(*values: float, denominator: int | None = None) -> Value:
    """Unsigned fractions, the nearest with a denominator up to 65,536; with ``denominator``, all over that one."""
    return _packed(RATIONAL, "I", _numerators_and_denominators(values, denominator))


def srational(*values: float, denominator: int = MATRIX_DENOMINATOR) -> Value:
    """Signed fractions over one denominator."""
    return _packed(SRATIONAL, "i", _numerators_and_denominators(values, denominator))


def directory_size(tags: Mapping[int, Value]) -> int:
    """Bytes of a directory with its out-of-line values."""
    outside = sum(_even(len(value.data)) for value in tags.values() if len(value.data) > _INLINE_SIZE)
    return 2 + _ENTRY_SIZE * len(tags) + 4 + outside


def directory_bytes(tags: Mapping[int, Value], offset: int) -> bytes:
    """A directory for the (even) file position ``offset``: sorted entries, no next directory, then the long values."""
    entries, values = [struct.pack("<H", len(tags))], []
    position = offset + 2 + _ENTRY_SIZE * len(tags) + 4
    for tag, value in sorted(tags.items()):
        if len(value.data) <= _INLINE_SIZE:
            content = value.data.ljust(_INLINE_SIZE, b"\0")
        else:
            content = struct.pack("<I", position)
            values.append(value.data.ljust(_even(len(value.data)), b"\0"))
            position += len(values[-1])
        entries.append(struct.pack("<HHI", tag, value.kind, value.count) + content)
    return b"".join([*entries, struct.pack("<I", 0), *values])


def header_bytes() -> bytes:
    """The first bytes of a file whose first directory follows at once."""
    return struct.pack("<2sHI", b"II", 42, HEADER_SIZE)


def first_directory_value(file: BinaryIO, tag: int, *, at_most: int) -> bytes | None:
    """Bytes of a tag of the first directory; None if the file is no little-endian TIFF, is broken, or has no such tag.

    Args:
        file: Any file.
        tag: Tag number.
        at_most: Longer values count as missing [bytes].
    """
    try:
        if file.read(4) != header_bytes()[:4]:
            return None
        file.seek(_one("<I", file))
        for _ in range(_one("<H", file)):
            number, kind, count, content = struct.unpack("<HHI4s", file.read(_ENTRY_SIZE))
            if number == tag:
                size = TYPE_SIZES.get(kind, 0) * count
                if size <= _INLINE_SIZE:
                    return bytes(content[:size])
                if size > at_most:
                    return None
                file.seek(int.from_bytes(content, "little"))
                data = file.read(size)
                return data if len(data) == size else None
    except struct.error:  # the file ends too early
        return None
    return None


def _one(form: str, file: BinaryIO) -> int:
    (number,) = struct.unpack(form, file.read(struct.calcsize(form)))
    return int(number)


def _numerators_and_denominators(values: Sequence[float], denominator: int | None) -> list[int]:
    pairs: list[int] = []
    if not all(math.isfinite(value) for value in values):
        raise UnwritableImage(f"A fraction must be finite; given {list(values)}.")
    for value in values:
        if denominator is None:
            fraction = Fraction(value).limit_denominator(_MAX_DENOMINATOR)
            pairs += [fraction.numerator, fraction.denominator]
        else:
            pairs += [round(value * denominator), denominator]
    return pairs


def _packed(kind: int, letter: str, values: Sequence[float]) -> Value:
    data = b""
    try:
        data = struct.pack(f"<{len(values)}{letter}", *values)
    except struct.error as error:
        raise UnwritableImage(f"{list(values)} does not fit TIFF type {kind}: {error}.") from error
    return Value(kind, len(data) // TYPE_SIZES[kind], data)


def _even(size: int) -> int:
    return size + size % 2
