"""The one place that finds the shared data folder; tests that need it skip where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def data_folder() -> Path:
    """The folder named by PHYSRESTORE_TEST_DATA, else ../shared/data beside the checkout (it need not exist)."""
    return Path(os.environ.get("PHYSRESTORE_TEST_DATA", ROOT.parent / "shared" / "data"))


def shared(relative: str) -> Path:
    """A file or folder of the shared data; skips the calling test where it is absent."""
    path = data_folder() / relative
    if not path.exists():
        pytest.skip(f"shared data not here: {relative} (set PHYSRESTORE_TEST_DATA)")
    return path
