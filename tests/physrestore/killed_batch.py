"""A batch in a process of its own that is killed at a random moment; used by the kill test and the benchmark."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from noise_models.cfa import BAYER_PLANES, Cfa
from noise_models.frame import Shot
from noise_models.profile import CameraProfile
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from noise_models.simulate import VirtualCamera
from physrestore import batch
from physrestore.inputs import collect, plan
from physrestore.output.dng import write_cfa_dng

N_FILES, SHAPE = 4, (64, 96)


def profile() -> CameraProfile:
    """A profile that fits `make_photos`."""
    exact = {"standard_error": 0.01, "method": "test"}
    plane = PlaneNoise(
        gain=Estimate(value=1.0, **exact),
        read_noise_dn=Estimate(value=4.0, **exact),
        black_level_dn=Estimate(value=256.0, **exact),
    )
    noise = SensorNoise(iso=800.0, planes=dict.fromkeys(BAYER_PLANES, plane), row_noise_dn=Estimate(value=0.3, **exact))
    return CameraProfile(make="Test", model="Test One", cfa="RGGB", entries=(noise,))


def make_photos(folder: Path) -> dict[Path, str]:
    """A few small DNGs; returns the SHA-256 of each."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    body = VirtualCamera(
        profile().entries[0],
        cfa=Cfa.parse("RGGB"),
        shape=SHAPE,
        white_level=4095.0,
        seed=0,
        shot=Shot(make="Test", model="Test One", iso=800.0),
    )
    for number in range(N_FILES):
        write_cfa_dng(folder / f"p{number}.dng", body.flat(0.1 + 0.1 * number, generator=generator))
    return digests(folder)


def digests(folder: Path) -> dict[Path, str]:
    """SHA-256 of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def restore_all(photos: Path, out: Path) -> list[batch.Outcome]:
    """The batch under test."""
    jobs = plan(collect([photos]), out=out, suffix="_restored", extension=".dng")
    return list(batch.run(jobs, batch.Settings(profile=profile(), preview=True)))


def in_child(work: Callable[[], object]) -> int:
    """Fork, work, leave without clean-up; returns the child's pid. torch must run on one thread in the parent."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        try:
            work()
        finally:
            os._exit(0)
    return pid


@dataclass
class KillCount:
    """What a series of kills did."""

    kills: int = 0
    landed_before_the_end: int = 0
    partial_files: int = 0
    originals_changed: int = 0
    resumable: int = 0
    resumed: int = 0


def kill_repeatedly(folder: Path, *, kills: int, seed: int) -> KillCount:
    """Kill a batch ``kills`` times at uniform random moments; after each, look, and after all, resume.

    A result under its final name must be readable and equal, bit for bit, to that of an undisturbed run.
    """
    torch.set_num_threads(1)
    photos = folder / "photos"
    originals = make_photos(photos)
    restore_all(photos, folder / "warm up")  # the first run also fills caches that a forked child inherits
    start = time.perf_counter()
    restore_all(photos, folder / "undisturbed")
    duration = time.perf_counter() - start
    whole = {path.name: digest for path, digest in digests(folder / "undisturbed").items()}
    random, count = np.random.default_rng(seed), KillCount()
    for number in range(kills):
        out = folder / f"out{number % 8}"  # folders are met again in every stage of completion
        out.mkdir(exist_ok=True)
        pid = in_child(lambda out=out: restore_all(photos, out))  # type: ignore[misc]
        left = 1.0 - len(list(out.glob("[!.]*.dng"))) / N_FILES
        time.sleep(random.uniform(0.0, duration * left))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        count.kills += 1
        count.landed_before_the_end += os.WIFSIGNALED(status)
        seen = {path.name: digest for path, digest in digests(out).items() if not path.name.startswith(".")}
        count.partial_files += sum(whole.get(name) != digest for name, digest in seen.items())
        count.originals_changed += digests(photos) != originals
        if number % 8 == 7:
            for other in range(8):
                restore_all(photos, folder / f"out{other}")
                finished = {path.name: digest for path, digest in digests(folder / f"out{other}").items()}
                count.resumable += 1
                count.resumed += finished == whole
                for path in (folder / f"out{other}").iterdir():
                    path.unlink()
    return count
