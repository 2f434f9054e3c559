"""SIGKILL at random moments of a batch: nothing partial under a final name, everything resumable."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from physrestore.output.publish import sweep
from tests.physrestore.killed_batch import digests, kill_repeatedly

KILLS = 100  # the number that issue 2 asks for


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform == "win32", reason="fork and SIGKILL")
def test_a_hundred_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # without exiftool, which would take most of the time
    count = kill_repeatedly(tmp_path, kills=KILLS, seed=0)

    assert count.kills == KILLS
    assert count.landed_before_the_end > KILLS / 4  # else too few moments were inside the batch
    assert count.partial_files == 0
    assert count.originals_changed == 0
    assert count.resumed == count.resumable


def test_the_count_sees_a_partial_file(tmp_path: Path) -> None:
    """The comparison that `kill_repeatedly` rests on notices one changed byte."""
    whole = tmp_path / "a.dng"
    whole.write_bytes(b"x" * 100)
    before = digests(tmp_path)
    whole.write_bytes(b"x" * 99)

    assert digests(tmp_path) != before
    assert sweep(tmp_path) == []  # and a stranger's file is never swept
