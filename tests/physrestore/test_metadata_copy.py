"""A copy of metadata that does not happen is reported, never fatal and never silent."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from physrestore.output import metadata
from physrestore.output.metadata import copy_metadata, exiftool_version

unix = pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script as a program")


def fake_exiftool(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "exiftool"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_no_exiftool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = copy_metadata(tmp_path / "a.CR2", tmp_path / "a.dng")
    assert not done.copied
    assert "not installed" in done.detail
    assert exiftool_version() is None


@unix
def test_exiftool_complains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_exiftool(tmp_path, "echo 'Error: no such luck' >&2; exit 1", monkeypatch)
    done = copy_metadata(tmp_path / "a.CR2", tmp_path / "a.dng")
    assert done == metadata.MetadataCopy(False, "exiftool could not copy the metadata: Error: no such luck")
    assert exiftool_version() is None


@unix
def test_exiftool_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_exiftool(tmp_path, "exec sleep 20", monkeypatch)
    monkeypatch.setattr(metadata, "_TIMEOUT_S", 0.2)
    done = copy_metadata(tmp_path / "a.CR2", tmp_path / "a.dng")
    assert not done.copied
    assert "no answer" in done.detail


@unix
def test_exiftool_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_exiftool(tmp_path, "", monkeypatch)
    (tmp_path / "exiftool").write_bytes(b"\x7fELF nothing that runs")
    done = copy_metadata(tmp_path / "a.CR2", tmp_path / "a.dng")
    assert not done.copied
    assert "could not be started" in done.detail


@unix
def test_arguments_are_those_that_leave_the_picture_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_exiftool(tmp_path, f'printf "%s\\n" "$@" > {tmp_path}/arguments', monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert copy_metadata(Path("-a.CR2"), Path("a.dng")).copied
    given = (tmp_path / "arguments").read_text().split("\n")
    assert str(tmp_path / "-a.CR2") in given  # absolute, so not an option
    assert "-overwrite_original" in given
    assert not {"-all:all", "-IFD0:all", "-SubIFD:all", "-Orientation"} & set(given)
