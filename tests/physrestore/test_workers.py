"""Several workers: the same results as the local batch, whatever dies on the way."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from physrestore import batch
from physrestore.batch import Outcome, Settings, Status
from physrestore.errors import MissingPackage, RestoreError
from physrestore.inputs import Job, collect, plan
from physrestore.workers import Workers, run_on_workers
from tests.physrestore.killed_batch import digests, make_photos, profile

# Dask's own ageing warnings are not ours to mend.
pytestmark = [
    pytest.mark.filterwarnings("default:::distributed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What dask leaves to the collector is collected here, not in some later test that counts warnings as errors."""
    yield
    for _ in range(3):
        gc.collect()


def jobs_of(photos: Path, out: Path) -> list[Job]:
    return plan(collect([photos]), out=out, suffix="_r", extension=".dng")


def worker_processes() -> list[psutil.Process]:
    """Workers of the running cluster: children of this process that are no helpers of multiprocessing."""
    children = psutil.Process().children()
    return [c for c in children if any("spawn_main" in word or "forkserver" in word for word in c.cmdline())]


def kill_one(outcomes: Iterator[Outcome]) -> list[Outcome]:
    """All outcomes; after the first one a worker gets SIGKILL, the other has work left."""
    seen = [next(outcomes)]
    victims = worker_processes()
    assert victims
    os.kill(victims[0].pid, signal.SIGKILL)
    return [*seen, *outcomes]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_two_workers_one_killed_give_what_the_local_batch_gives(tmp_path: Path) -> None:
    before = make_photos(tmp_path / "photos")
    (tmp_path / "photos" / "broken.dng").write_bytes(b"II*\0nothing")
    settings = Settings(profile=profile())
    local = list(batch.run(jobs_of(tmp_path / "photos", tmp_path / "local"), settings))
    jobs = jobs_of(tmp_path / "photos", tmp_path / "cluster")
    outcomes = kill_one(run_on_workers(jobs, settings, Workers.parse("local:2")))

    assert sorted(o.status for o in outcomes) == sorted(o.status for o in local)
    assert {o.source.name for o in outcomes if o.status is Status.FAILED} == {"broken.dng"}
    made = {path.name: digest for path, digest in digests(tmp_path / "cluster").items()}
    assert made == {path.name: digest for path, digest in digests(tmp_path / "local").items()}
    assert all(digests(tmp_path / "photos")[path] == digest for path, digest in before.items())
    again = list(batch.run(jobs, settings))
    assert {o.status for o in again} == {Status.FINISHED, Status.FAILED}


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_file_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos")
    jobs = jobs_of(tmp_path / "photos", tmp_path / "out")[:2]
    outcomes = {o.source: o for o in run_on_workers(jobs, _Deadly(profile=profile()), Workers(1, ""))}
    assert all(o.status is Status.FAILED and "died over this file" in o.message for o in outcomes.values())
    assert not list((tmp_path / "out").glob("*.dng"))


class _Deadly(Settings):
    """Settings that end the process that reads them."""

    @property
    def fingerprint(self) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(10)
        return ""


def test_words_for_workers() -> None:
    assert Workers.parse("local:3") == Workers(3, "")
    assert Workers.parse("dask://host:8786") == Workers(0, "tcp://host:8786")
    for word in ("local:0", "local", "ray://host", "dask://host", "4"):
        with pytest.raises(ValueError, match="names no workers"):
            Workers.parse(word)


def test_says_where_no_scheduler_answers(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos")
    jobs = jobs_of(tmp_path / "photos", tmp_path / "out")
    with pytest.raises(RestoreError, match="No dask scheduler answers"):
        next(run_on_workers(jobs, Settings(), Workers.parse("dask://127.0.0.1:9"), timeout=0.5))


def test_says_how_to_install_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "distributed", None)
    make_photos(tmp_path / "photos")
    with pytest.raises(MissingPackage, match=r"physrestore\[cluster\]"):
        next(run_on_workers(jobs_of(tmp_path / "photos", tmp_path / "out"), Settings(), Workers(2, "")))
