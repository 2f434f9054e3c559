"""A file appears whole or not at all, once, and never over an original."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from physrestore.errors import OutputExists, UnsafeOutput, WriteError
from physrestore.output import publish as module
from physrestore.output.publish import publish, sweep


def content(data: bytes):
    return lambda file: file.write(data)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def without_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)


@pytest.mark.parametrize("links", [True, False])
def test_writes_once_and_overwrites_only_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        without_hard_links(monkeypatch)
    target = tmp_path / "out.dng"
    publish(target, content(b"one"))
    with pytest.raises(OutputExists, match=r"'out\.dng': is already there"):
        publish(target, content(b"two"))
    assert target.read_bytes() == b"one"
    publish(target, content(b"three"), overwrite=True)
    assert target.read_bytes() == b"three"
    assert names(tmp_path) == ["out.dng"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_while_writing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        without_hard_links(monkeypatch)
    target = tmp_path / "out.dng"

    def write(file: BinaryIO) -> None:
        file.write(b"ours")
        target.write_bytes(b"theirs")

    with pytest.raises(OutputExists):
        publish(target, write)
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out.dng"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failing_writer_leaves_nothing(tmp_path: Path, overwrite: bool) -> None:
    target = tmp_path / "out.dng"

    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(target, write, overwrite=overwrite)
    assert names(tmp_path) == []

    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        publish(target, lambda _: 1 // 0, overwrite=True)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["out.dng"]


def test_a_failed_replacement_leaves_no_placeholder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_hard_links(monkeypatch)

    def replace(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(WriteError, match="Input/output error"):
        publish(tmp_path / "out.dng", content(b"x"))
    assert names(tmp_path) == []


def trap_symlink(original: Path, folder: Path) -> Path:
    target = folder / "out.dng"
    target.symlink_to(original)
    return target


def trap_hard_link(original: Path, folder: Path) -> Path:
    target = folder / "out.dng"
    os.link(original, target)
    return target


def trap_folder_symlink(original: Path, folder: Path) -> Path:
    link = folder / "out"
    link.symlink_to(original.parent, target_is_directory=True)
    return link / original.name


def trap_same_name(original: Path, folder: Path) -> Path:
    return folder / ".." / original.parent.name / original.name


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("trap", [trap_symlink, trap_hard_link, trap_folder_symlink, trap_same_name])
def test_an_original_is_never_replaced(tmp_path: Path, trap, overwrite: bool) -> None:
    photos, out = tmp_path / "photos", tmp_path / "results"
    photos.mkdir()
    out.mkdir()
    original = photos / "IMG.dng"
    original.write_bytes(b"original")
    target = trap(original, out)
    before = original.stat()
    with pytest.raises(UnsafeOutput, match=r"the original 'IMG\.dng'"):
        publish(target, content(b"new"), overwrite=overwrite, protect=[photos / "other.dng", original])
    after = original.stat()
    assert original.read_bytes() == b"original"
    assert (before.st_ino, before.st_mtime_ns, before.st_nlink) == (after.st_ino, after.st_mtime_ns, after.st_nlink)
    assert names(photos) == ["IMG.dng"]


def test_a_link_planted_while_writing_is_noticed(tmp_path: Path) -> None:
    original, target = tmp_path / "IMG.dng", tmp_path / "out.dng"
    original.write_bytes(b"original")
    with pytest.raises(UnsafeOutput):
        publish(target, lambda _: target.symlink_to(original), overwrite=True, protect=[original])
    assert original.read_bytes() == b"original"
    assert names(tmp_path) == ["IMG.dng", "out.dng"]


def test_overwriting_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    elsewhere, target = tmp_path / "elsewhere", tmp_path / "out.dng"
    elsewhere.write_bytes(b"kept")
    target.symlink_to(elsewhere)
    with pytest.raises(OutputExists):
        publish(target, content(b"new"))
    publish(target, content(b"new"), overwrite=True)
    assert (elsewhere.read_bytes(), target.read_bytes(), target.is_symlink()) == (b"kept", b"new", False)


def test_the_finisher_works_on_an_unpublished_file(tmp_path: Path) -> None:
    target = tmp_path / "out.dng"
    seen = []

    def finish(temp: Path) -> None:
        seen.append((temp.read_bytes(), temp.suffix, temp.parent, target.exists()))
        temp.write_bytes(b"finished")

    publish(target, content(b"raw"), finish=finish)
    assert seen == [(b"raw", ".dng", tmp_path, False)]
    assert target.read_bytes() == b"finished"


def test_everything_reaches_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill does not show a wrong order, a power cut does: so the order of the calls is the test."""
    calls = []
    for name in ("fsync", "link"):
        real = getattr(os, name)

        def recorded(*arguments, name=name, real=real):
            is_folder = name == "fsync" and os.path.isdir(f"/proc/self/fd/{arguments[0]}")
            calls.append("fsync folder" if is_folder else name)
            return real(*arguments)

        monkeypatch.setattr(os, name, recorded)
    publish(tmp_path / "out.dng", content(b"x"), finish=lambda _: None)
    assert calls == ["fsync", "fsync", "link", "fsync folder"]


def test_what_the_system_refuses_is_a_write_error(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="No such file or directory") as caught:
        publish(tmp_path / "missing" / "out.dng", content(b"x"))
    assert caught.value.path == tmp_path / "missing" / "out.dng"
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match="Is a directory"):
        publish(tmp_path / "folder", content(b"x"), overwrite=True)
    assert names(tmp_path) == ["folder"]


def test_names_of_255_bytes_work(tmp_path: Path) -> None:
    publish(tmp_path / ("x" * 251 + ".dng"), content(b"x"))
    assert len(names(tmp_path)[0]) == 255


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits")
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """The system refuses to write more than 1 MB, as a full disk does, in the middle of a real DNG."""
    code = """
        import resource, signal, sys
        from pathlib import Path
        from physrestore.errors import WriteError
        from physrestore.output.dng import write_cfa_dng
        from tests.physrestore.sample_frames import noise_frame
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        try:
            write_cfa_dng(Path(sys.argv[1]), noise_frame(1000, 1500))
        except WriteError as error:
            sys.exit(f"refused: {error}")
    """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "out.dng")], capture_output=True, text=True
    )
    assert "refused: 'out.dng': could not be written: File too large" in answer.stderr
    assert names(tmp_path) == []


RACES = 50


def _race(folder: Path, start: float, data: bytes) -> None:
    while time.time() < start:
        pass
    for race in range(RACES):
        with contextlib.suppress(OutputExists):
            publish(folder / f"{race}.dng", content(data))
            with (folder / "log").open("ab", buffering=0) as log:
                log.write(bytes([race, data[0]]))


def test_of_two_processes_exactly_one_wins(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = time.time() + 3.0  # both have started by then, also on a busy machine
    runs = [spawn.Process(target=_race, args=(tmp_path, start, bytes([k]) * 9)) for k in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert all(run.exitcode == 0 for run in runs)
    winners = (tmp_path / "log").read_bytes()
    assert sorted(winners[::2]) == list(range(RACES))  # every race has one winner
    for race, winner in zip(winners[::2], winners[1::2], strict=True):
        assert (tmp_path / f"{race}.dng").read_bytes() == bytes([winner]) * 9
    assert len(names(tmp_path)) == RACES + 1


def test_sweep_takes_only_our_dead_files(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = module._host()
    ours = {
        f".physrestore-{host}-{dead.pid}-0123abcd.part.dng",
        f".physrestore-{host}-{dead.pid}-0123abcd.part",
        f".physrestore-{host}-{dead.pid}-0123abcd.part.dng_exiftool_tmp",
    }
    kept = {
        f".physrestore-{host}-{os.getpid()}-0123abcd.part.dng",  # a living process
        f".physrestore-{'0' * 8}-{dead.pid}-0123abcd.part.dng",  # another computer
        f".physrestore-{host}-{10**30}-0123abcd.part.dng",  # no process number at all
        f"physrestore-{host}-{dead.pid}-0123abcd.part.dng",
        "photo.dng",
    }
    for name in ours | kept:
        (tmp_path / name).write_bytes(b"x")
    assert {path.name for path in sweep(tmp_path)} == ours
    assert set(names(tmp_path)) == kept


def test_a_killed_writer_leaves_only_what_sweep_removes(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from pathlib import Path
        from physrestore.output.publish import publish
        def write(file):
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        publish(Path(sys.argv[1]), write)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "out.dng")])
    left = names(tmp_path)
    assert len(left) == 1
    assert left[0].startswith(".physrestore-")
    assert [path.name for path in sweep(tmp_path)] == left
    assert names(tmp_path) == []
