"""Freed memory stays with the process: counted in page faults."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

TIMES, BYTES, PAGE = 10, 64 << 20, 4096
CODE = f"""
import resource, sys
import numpy as np
from physrestore.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
np.full({BYTES}, 1, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({TIMES}):
    np.full({BYTES}, 1, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word: str) -> int:
    """Page faults of filling a large array again and again, in a process of its own, without huge pages."""
    environment = {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"}
    command = [sys.executable, "-c", CODE, word]
    child = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return int(child.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc's malloc")
def test_blocks_are_used_again() -> None:
    pages = TIMES * BYTES // PAGE
    assert faults("keep") < 0.05 * pages
    assert faults("default") > 0.5 * pages
