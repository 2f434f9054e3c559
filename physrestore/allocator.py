"""Memory that is freed and soon asked for again: kept by the process, not fetched from the system page by page."""

from __future__ import annotations

import ctypes
import sys

# Of malloc.h: the free memory at the heap's end, and the size of a block, above which memory goes back to the system.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1  # mallopt takes an int [bytes]


def keep_freed_memory() -> bool:
    """Let glibc's malloc keep large blocks that are freed, for the next request.

    By default it returns each to the system; the next block of that size then costs a page fault and 4096 cleared
    bytes for every page that is touched. A photo of 24 megapixels needs 14 GB of blocks one after the other, never more
    than 2 GB at a time: the faults were 7 of 28 processor seconds.

    For programs, not for libraries: it concerns the whole process, which then holds the memory of its largest moment
    until it ends.

    Returns:
        Whether the allocator took it. Other systems than Linux and other C libraries have no such setting.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(name, _LARGEST) == 1 for name in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))
