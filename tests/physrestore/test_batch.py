"""A batch whose steps overlap: the same files as one after the other, and every failure costs one file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from noise_models.rawfile import Decoder
from physrestore import batch, steps
from physrestore.batch import Settings, Status
from physrestore.errors import RestoreError
from physrestore.inputs import Job, collect, plan
from physrestore.output.metadata import copy_metadata
from physrestore.pipeline import Method, Restoration, restore
from physrestore.results import OutputKind, shown_by
from tests.physrestore.killed_batch import digests, make_photos, profile


@pytest.fixture(autouse=True)
def _no_exiftool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    make_photos(tmp_path / "photos")
    return tmp_path / "photos"


def jobs_of(photos: Path, out: Path) -> list[Job]:
    return plan(collect([photos]), out=out, suffix="_r", extension=".dng")


def settings(**changes: Any) -> Settings:
    return Settings(method=Method.CLASSIC, profile=profile(), **changes)


def test_overlapping_changes_no_byte(photos: Path, tmp_path: Path) -> None:
    one_by_one, together = jobs_of(photos, tmp_path / "a"), jobs_of(photos, tmp_path / "b")
    with Decoder() as decoder:
        single = [batch.restore_file(job, settings(preview=True), decoder, []) for job in one_by_one]
    many = list(batch.run(together, settings(preview=True)))

    assert [o.source for o in many] == [job.source for job in together]
    assert [(o.status, o.numbers, o.notes) for o in many] == [(o.status, o.numbers, o.notes) for o in single]
    assert all(o.seconds > 0 for o in many)
    made = [sorted((path.name, digest) for path, digest in digests(tmp_path / name).items()) for name in "ab"]
    assert len(made[0]) == 2 * len(one_by_one)
    assert made[0] == made[1]
    assert {o.status for o in batch.run(together, settings(preview=True))} == {Status.FINISHED}


def fail_in(step: str, monkeypatch: pytest.MonkeyPatch, error: BaseException, name: str) -> None:
    """Make one step of the file ``name`` fail."""
    places = {"read": "read_raw", "restore": "restore", "write": "write_result"}
    right: Callable[..., Any] = getattr(steps, places[step])
    names = {
        "read": lambda a: a[0].name,
        "restore": lambda a: a[0].source.path.name,
        "write": lambda a: a[1].source.path.name,
    }

    def wrong(*arguments: Any, **others: Any) -> Any:
        if names[step](arguments) == name:
            raise error
        return right(*arguments, **others)

    monkeypatch.setattr(steps, places[step], wrong)


@pytest.mark.parametrize("error", [RestoreError("planted"), MemoryError("planted"), OSError("planted")])
@pytest.mark.parametrize("step", ["read", "restore", "write"])
def test_a_failure_costs_one_file(
    step: str, error: Exception, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of(photos, tmp_path / "out")
    fail_in(step, monkeypatch, error, jobs[1].source.name)
    outcomes = list(batch.run(jobs, settings()))

    expected = [Status.FAILED if k == 1 else Status.RESTORED for k in range(len(jobs))]
    assert [o.status for o in outcomes] == expected
    assert outcomes[1].message == "planted"
    assert [job.target.exists() for job in jobs] == [status is Status.RESTORED for status in expected]


@pytest.mark.parametrize("step", ["read", "restore", "write"])
def test_a_fault_of_the_program_is_not_hidden(
    step: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of(photos, tmp_path / "out")
    fail_in(step, monkeypatch, AttributeError("planted"), jobs[1].source.name)
    with pytest.raises(AttributeError, match="planted"):
        list(batch.run(jobs, settings()))
    assert jobs[0].target.exists()
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_a_dry_run_restores_nothing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_of(photos, tmp_path / "out")
    fail_in("restore", monkeypatch, AssertionError("called"), jobs[0].source.name)
    outcomes = list(batch.run(jobs, settings(), dry_run=True))

    assert [o.status for o in outcomes] == [Status.PLANNED] * len(jobs)
    assert all(o.noise for o in outcomes)
    assert not (tmp_path / "out").exists()
    with pytest.raises(AssertionError, match="called"):
        list(batch.run(jobs, settings()))


def test_colours_wait_only_where_they_are_written(photos: Path) -> None:
    with Decoder() as decoder:
        loaded = steps.Steps(settings(), decoder, []).read(jobs_of(photos, photos)[0])
    assert isinstance(loaded, steps.Loaded)
    made = restore(loaded.frame, loaded.chosen.noise, method=Method.CLASSIC)
    coloured = Restoration(**{**vars(made), "rgb": torch.zeros(3, *loaded.frame.shape)})
    kept = {kind: shown_by(kind, coloured).rgb is not None for kind in OutputKind}

    assert kept == {kind: kind is not OutputKind.CFA_DNG for kind in OutputKind}
    assert shown_by(OutputKind.CFA_DNG, coloured, preview=True).rgb is not None


@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
def test_ctrl_c_does_not_reach_exiftool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal interrupts the foreground group; a result must not lose its metadata to that."""
    tool, said = tmp_path / "exiftool", tmp_path / "group"
    tool.write_text(f"#!{sys.executable}\nimport os\nopen({str(said)!r}, 'w').write(str(os.getpgrp()))\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert copy_metadata(tmp_path / "source", tmp_path / "target").copied
    assert int(said.read_text()) != os.getpgrp()
