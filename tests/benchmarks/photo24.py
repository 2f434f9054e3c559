"""One photo of 24 megapixels through the command line: reading, restoring, writing; time and memory.

The DNG is made here: smooth areas, texture and edges with the noise of a 14-bit camera. Beside the wall time stand the
processor time of all processes, the largest process, and the share of the time that the multiplications alone would
take at the rate of this machine's dense convolutions, measured in the same run. Run it on a quiet machine.

--methods names what to run: fast (the shipped default), fast:mosaic-small, classic, pnp. --files adds a batch of so
many photos, which reads and writes while it restores: seconds are per photo, the start of Python is shared.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from noise_models.cfa import Cfa
from noise_models.frame import Colour, RawFrame, Shot
from noise_models.profile import CameraProfile
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from noise_models.store import profile_to_json
from physrestore import weights
from physrestore.fast.engine import choose_engine
from physrestore.output.dng import write_cfa_dng

HEIGHT, WIDTH = 4000, 6000
GAIN, READ, ROW, BLACK, WHITE = 2.0, 6.0, 1.0, 512.0, 16383.0
CAMERA = ("Virtual", "Twenty-four")
# Channels and side of the convolution whose rate stands for "what this machine can do".
RATE_CHANNELS, RATE_SIDE = 64, 512


def run(arguments: list[str]) -> None:
    """Print one row per method."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks photo24")
    parser.add_argument("--methods", nargs="+", default=["fast:mosaic-small", "fast:mosaic-large", "classic"])
    parser.add_argument("--files", type=int, default=1, help="photos in the batch that is compared with one alone")
    options = parser.parse_args(arguments)
    rate = dense_rate()
    print(
        f"dense 3x3 convolutions here: {rate:.0f} GMAC/s on {torch.get_num_threads()} threads, {choose_engine().name}"
    )
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"load of the machine before: {load}; one photo: wall and CPU seconds")
    print(f"{'':22}{'photos':>7}{'wall s':>8}{'CPU-s':>8}{'GB':>7}{'GMAC/MP':>9}{'share of the limit':>20}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo, profile = _photo(folder), _profile(folder)
        sources = [photo.rename(folder / "photo0.dng")]
        sources += [Path(shutil.copy(sources[0], folder / f"photo{n}.dng")) for n in range(1, options.files)]
        for method in options.methods:
            for count in dict.fromkeys((1, options.files)):
                out = folder / f"{method.replace(':', '-')}-{count}"
                _row(method, sources[:count], profile, rate, out)
                shutil.rmtree(out, ignore_errors=True)


def macs_per_pixel(network: nn.Module, side: int = 192) -> float:
    """Multiplications of all convolutions per site of a Bayer mosaic, counted on a square."""
    total = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()

    hooks = [module.register_forward_hook(count) for module in network.modules()]
    with torch.inference_mode():
        network(torch.rand(1, 1, side, side), torch.full((1, 1, 1, 1), 0.01), torch.ones(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    return total / side**2


def dense_rate() -> float:
    """GMAC/s of a dense convolution in the precision that the fast method would choose."""
    convolution = nn.Conv2d(RATE_CHANNELS, RATE_CHANNELS, 3, padding=1, bias=False).to(
        memory_format=torch.channels_last
    )
    x = torch.rand(1, RATE_CHANNELS, RATE_SIDE, RATE_SIDE).to(memory_format=torch.channels_last)
    times = []
    with choose_engine().running():
        x = x.to(choose_engine().dtype)
        for _ in range(6):
            begin = time.perf_counter()
            convolution(x)
            times.append(time.perf_counter() - begin)
    return RATE_SIDE**2 * RATE_CHANNELS**2 * 9 / min(times) / 1e9


def _row(method: str, sources: list[Path], profile: Path, rate: float, out: Path) -> None:
    kind, _, prior = method.partition(":")
    # In a process that starts the command: the largest of *its* children is then the largest of this run.
    command = [sys.executable, "-c", _MEASURED, "restore", *map(str, sources), "-o", str(out), "--method", kind]
    command += ["--json", "--profile", str(profile), *(["--prior", prior] if prior else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"{method:22} failed: {done.stdout[-300:]} {done.stderr[-300:]}")
        return
    wall, cpu, gib = json.loads(done.stdout)
    wall, cpu = wall / len(sources), cpu / len(sources)
    name = prior or "mosaic-large"
    gmac = macs_per_pixel(weights.load(name).network) / 1e3 if kind == "fast" else float("nan")
    share = gmac * HEIGHT * WIDTH / 1e6 / rate / wall
    print(f"{method:22}{len(sources):7}{wall:8.1f}{cpu:8.1f}{gib:7.2f}{gmac:9.1f}{share:19.0%}", flush=True)


# Runs the command line in a child and prints wall time, processor time of all its processes, largest process [GiB].
_MEASURED = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
code = "from physrestore.cli import main; main()"
done = subprocess.run([sys.executable, "-c", code, *sys.argv[1:]], capture_output=True, text=True)
if done.returncode:
    sys.exit(done.stdout + done.stderr)
used = resource.getrusage(resource.RUSAGE_CHILDREN)  # ru_maxrss is in KiB on Linux
print(json.dumps([time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20]))
"""


def _photo(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) / 300
    signal = 900 + 500 * np.sin(x) * np.cos(y) + 200 * np.sin(x * y) + 300 * (np.sin(3 * x + y) > 0.3)
    dn = signal + rng.standard_normal(signal.shape, dtype=np.float32) * np.sqrt(signal * GAIN + READ**2) + BLACK
    dn += ROW * rng.standard_normal((HEIGHT, 1), dtype=np.float32)
    codes = np.clip(np.round(dn), 0, WHITE).astype(np.uint16)
    frame = RawFrame(
        codes,
        Cfa.parse("RGGB"),
        np.full((2, 2), BLACK),
        np.full((2, 2), WHITE),
        colour=Colour(as_shot_neutral=(0.5, 1.0, 0.6)),
        shot=Shot(make=CAMERA[0], model=CAMERA[1], iso=1600.0),
    )
    path = folder / "photo.dng"
    write_cfa_dng(path, frame, codes, noise_profile=None, noise_reduction=0.0, history="", metadata_from=None)
    return path


def _profile(folder: Path) -> Path:
    plane = PlaneNoise(
        gain=Estimate(value=GAIN), read_noise_dn=Estimate(value=READ), black_level_dn=Estimate(value=BLACK)
    )
    planes = dict.fromkeys(("R", "G1", "G2", "B"), plane)
    entry = SensorNoise(iso=1600.0, planes=planes, row_noise_dn=Estimate(value=ROW))
    path = folder / "photo.pnoise.json"
    text = profile_to_json(CameraProfile(make=CAMERA[0], model=CAMERA[1], cfa="RGGB", entries=(entry,)))
    path.write_text(text, encoding="utf-8")
    return path
