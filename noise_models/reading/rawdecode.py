"""The decoder process: bytes of a raw file in, sensor values out. The only importer of rawpy (LibRaw).

It runs as a script in a process of its own (`decoder.py` beside it starts it), because LibRaw is native code that
reads hostile input: whatever a file does to this process, it costs that file. It therefore imports nothing of
the packages; rawpy and imagecodecs are imported inside `serve`, so the parent can read the protocol here without
loading either.

Protocol, little-endian, over stdin and stdout, any number of jobs until stdin ends:

    request   REQUEST (magic, bytes of the job, bytes of the file, largest number of pixels) + job JSON + file bytes
    reply     REPLY (magic, bytes of the report, bytes of the mosaic) + report JSON + mosaic as uint16

The first message is a reply without a request: the versions. A job is ``{}`` or ``{"tiles": {...}}`` (see
`_second_decoder`). A report has ``status``: "ok", or why there is no mosaic (`STATUSES`).
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import sys
from typing import Any, BinaryIO

REQUEST = struct.Struct("<8sIQQ")
REPLY = struct.Struct("<8sIQ")
MAGIC = b"PRAWDEC1"
MAX_REPORT_BYTES = 1 << 20

# "format": no format LibRaw knows; "large": over the ceiling; "stack": more than one value per pixel;
# "memory": an allocation failed; "damaged": anything else LibRaw says; "decoder": this process cannot work at all.
STATUSES = ("ok", "format", "large", "stack", "memory", "damaged", "decoder")

# 0.22.1 and 0.22.2 fixed heap overflows reachable from a file (CVE-2026-20911, -21413, -24450 and others).
LIBRAW_FLOOR = (0, 22, 2)

# Enough to recognise a 2x2 or 6x6 period and to see that it repeats.
COLOUR_BLOCK = 12
# The log of LibRaw's messages; a file that makes it chatter must not fill the disk.
MAX_LOG_BYTES = 1 << 20
_PR_SET_NO_NEW_PRIVS = 38


def main() -> int:
    """Serve jobs until stdin ends. Arguments: the limit of the address space in bytes."""
    replies = _take_stdout()
    _drop_rights(int(sys.argv[1]))
    return serve(sys.stdin.buffer, replies)


def serve(requests: BinaryIO, replies: BinaryIO) -> int:
    """Answer every request, after one message with the versions."""
    import rawpy

    if tuple(rawpy.libraw_version) < LIBRAW_FLOOR:
        found, floor = (".".join(map(str, v)) for v in (rawpy.libraw_version, LIBRAW_FLOOR))
        _reply(replies, {"status": "decoder", "reason": f"rawpy brings LibRaw {found}; {floor} or later is needed."})
        return 1
    version = ".".join(map(str, rawpy.libraw_version))
    _reply(replies, {"status": "ok", "decoder": f"LibRaw {version}"})
    while head := requests.read(REQUEST.size):
        _, job_bytes, file_bytes, max_pixels = REQUEST.unpack(head)
        job = json.loads(requests.read(job_bytes))
        data = requests.read(file_bytes)
        report, mosaic = _decode(data, job, max_pixels)
        _reply(replies, report, mosaic)
        del data, mosaic
    return 0


def _decode(data: bytes, job: dict[str, Any], max_pixels: int) -> tuple[dict[str, Any], Any]:
    """The report and the mosaic (raw height, raw width) uint16, or the report of a failure and None."""
    import rawpy

    raw = rawpy.RawPy()
    try:
        raw.open_buffer(io.BytesIO(data))
        sizes = raw.sizes
        pixels = sizes.raw_height * sizes.raw_width
        if pixels > max_pixels:
            return {"status": "large", "reason": f"{sizes.raw_width} x {sizes.raw_height} pixels"}, None
        raw.unpack()
        if raw.raw_type != rawpy.RawType.Flat:
            return {"status": "stack", "reason": ""}, None
        # rawpy's array is a view of LibRaw's memory, which ends with close().
        mosaic = raw.raw_image.copy()
        if "tiles" in job:
            mosaic = _second_decoder(data, job["tiles"], mosaic.shape)
        return _report(raw) | {"status": "ok", "shape": list(mosaic.shape)}, mosaic
    except (MemoryError, rawpy.LibRawMemPoolOverflowError, rawpy.LibRawUnsufficientMemoryError) as error:
        return {"status": "memory", "reason": _text(error)}, None
    except rawpy.LibRawTooBigError as error:
        return {"status": "large", "reason": _text(error)}, None
    except rawpy.LibRawFileUnsupportedError as error:
        return {"status": "format", "reason": _text(error)}, None
    except Exception as error:  # noqa: BLE001 (the boundary of the process: the parent turns it into a typed error)
        return {"status": "damaged", "reason": _text(error)}, None
    finally:
        raw.close()


def _report(raw: Any) -> dict[str, Any]:
    """What LibRaw knows about the file, as plain numbers; what is not finite becomes None."""
    sizes, other, lens = raw.sizes, raw.other, raw.lens
    pattern = raw.raw_pattern  # of the whole frame; raw_colors_visible would build 24 MB to say the same
    rows, cols = pattern.shape
    block = [
        [int(pattern[(sizes.top_margin + i) % rows, (sizes.left_margin + j) % cols]) for j in range(COLOUR_BLOCK)]
        for i in range(COLOUR_BLOCK)
    ]
    return {
        "margins": [sizes.top_margin, sizes.left_margin, sizes.height, sizes.width],
        "flip": sizes.flip,
        "colours": block,
        "colour_letters": raw.color_desc.decode("ascii", errors="replace"),
        "black": [_number(v) for v in raw.black_level_per_channel],
        "white": _number(raw.white_level),
        "camera_white": [_number(v) for v in raw.camera_white_level_per_channel or ()],
        "white_balance": [_number(v) for v in raw.camera_whitebalance],
        "xyz_to_camera": [[_number(v) for v in row] for row in raw.rgb_xyz_matrix[:3].tolist()],
        "iso": _number(other.iso_speed),
        "exposure_s": _number(other.shutter_speed),
        "aperture": _number(other.aperture),
        "focal_length_mm": _number(other.focal_length),
        "lens": str(lens.model)[:200],
    }


def _second_decoder(data: bytes, tiles: dict[str, Any], shape: tuple[int, int]) -> Any:
    """Lossless-JPEG tiles by imagecodecs, for the layouts that LibRaw assembles wrongly without an error.

    LibRaw 0.22.2 mixes up tiles when as many tiles lie across as one tile has components (2 or 4).

    Args:
        data: The file.
        tiles: "extents" [[offset, bytes], ...] row by row, "height" and "width" of one tile in pixels.
        shape: Of the mosaic.
    """
    import imagecodecs
    import numpy as np

    height, width = shape
    th, tw = tiles["height"], tiles["width"]
    across, down = -(-width // tw), -(-height // th)
    mosaic = np.zeros((down * th, across * tw), dtype=np.uint16)
    for k, (offset, count) in enumerate(tiles["extents"]):
        tile = imagecodecs.ljpeg_decode(data[offset : offset + count])
        top, left = k // across * th, k % across * tw
        # Components are neighbouring columns: (h, w, c) in memory is the tile's pixels row by row.
        mosaic[top : top + th, left : left + tw] = tile.reshape(th, tw)
    return np.ascontiguousarray(mosaic[:height, :width])


def _reply(stream: BinaryIO, report: dict[str, Any], mosaic: Any = None) -> None:
    text = json.dumps(report, allow_nan=False).encode()
    pixels = memoryview(b"") if mosaic is None else mosaic.astype("<u2", copy=False).view("u1").data
    stream.write(REPLY.pack(MAGIC, len(text), pixels.nbytes))
    stream.write(text)
    stream.write(pixels)
    stream.flush()


def _number(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _text(error: BaseException) -> str:
    """LibRaw's errors carry bytes."""
    text = ", ".join(a.decode(errors="replace") if isinstance(a, bytes) else str(a) for a in error.args)
    return (text or type(error).__name__)[:300]


def _take_stdout() -> BinaryIO:
    """The protocol's stream; whatever else writes to stdout goes to stderr, so it cannot break the protocol."""
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "wb")


def _drop_rights(memory_bytes: int) -> None:
    """Bound memory and output and give up new rights, where the system can. The parent bounds the time."""
    import signal

    # Ctrl-C reaches the whole terminal group; the parent decides what happens to this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_LOG_BYTES, MAX_LOG_BYTES))
    if sys.platform == "linux":
        # macOS accepts a limit of the address space and ignores it.
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
