"""First light: the demo, a real CR2 restored, speed and memory at 24 MP, damaged files, kills.

Part of it needs the shared data (PHYSRESTORE_TEST_DATA); lines that could not be measured say so. About 8 minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noise_models.cfa import Cfa, pack
from noise_models.errors import RawFileError
from noise_models.frame import RawFrame, Shot, tile_to
from noise_models.rawfile import Decoder, read_raw
from noise_models.sensor import SensorNoise
from noise_models.simulate import VirtualCamera
from physrestore.demo import true_noise
from physrestore.noise_choice import choose_noise
from physrestore.output.dng import write_cfa_dng
from physrestore.pipeline import restore
from physrestore.quality import noise_reduction, residual_chi2, residual_correlation, smooth_areas
from tests.physrestore.killed_batch import kill_repeatedly
from tests.raw_mutations import mutations
from tests.shared_data import data_folder

CR2 = "raw/canon_30d_iso640.CR2"
N_MUTATIONS, N_KILLS = 1000, 100
LARGE = (4000, 6000)  # 24 MP

Row = tuple[str, str, str]  # what, measured, goal


def run() -> None:
    """Print one row per claim as soon as it is measured."""
    print(f"| {'claim':58} | {'measured':34} | {'goal':24} |")
    print(f"|{'-' * 60}|{'-' * 36}|{'-' * 26}|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts: tuple[Callable[[Path], Iterator[Row]], ...] = (demo, real_photo, large_photo, seam, damaged, killed)
        for part in parts:
            for what, measured, goal in part(folder):
                print(f"| {what:58} | {measured:34} | {goal:24} |", flush=True)


def demo(folder: Path) -> Iterator[Row]:
    """The demo as a newcomer runs it, in a process of its own."""
    command = [sys.executable, "-c", "from physrestore.cli import main; main()", "demo", "-o", str(folder / "demo")]
    wall, cpu, peak, output = _timed(command)
    inside = re.search(r"(\d+) of (\d+) truths", output)
    gain = re.search(r"PSNR ([\d.]+) dB -> ([\d.]+) dB", output)
    assert inside is not None
    assert gain is not None
    yield "demo: wall, CPU, peak memory", f"{wall:.0f} s, {cpu:.0f} s, {peak:.1f} GB", "< 60 s wall on two cores"
    yield "demo: truths inside their 95 % interval", f"{inside[1]} of {inside[2]}", "about 95 %"
    yield "demo: PSNR of the photo before, after", f"{gain[1]} dB, {gain[2]} dB", ""


def real_photo(folder: Path) -> Iterator[Row]:
    """The Canon CR2: what is kept, what is removed, and whether it was noise."""
    source = data_folder() / CR2
    if not source.exists():
        yield CR2, "not measured: no shared data", ""
        return
    frame = read_raw(source)
    chosen = choose_noise(frame)
    result = restore(frame, chosen.noise)
    write_cfa_dng(folder / "restored.dng", frame, result.mosaic, noise_profile=result.noise_profile)
    back = read_raw(folder / "restored.dng")
    same = (
        np.array_equal(back.mosaic, result.mosaic)
        and (back.shape, back.cfa, back.orientation) == (frame.shape, frame.cfa, frame.orientation)
        and np.allclose(back.black_level, frame.black_level)
        and np.allclose(back.white_level, frame.white_level)
        and np.allclose(_neutral(back), _neutral(frame), atol=1e-5)
    )
    yield "CR2 -> DNG: pixels, size, CFA, levels, white balance", "equal" if same else "DIFFERENT", "equal"
    before, after = _planes(frame, frame.mosaic), _planes(frame, result.mosaic)
    shift = ((after.mean((1, 2)) / before.mean((1, 2)) - 1).abs().max() * 100).item()
    yield "CR2: change of a channel's mean above black", f"{shift:.3f} %", "< 0.1 %"
    variance = _variance(chosen.noise, after)
    mask = smooth_areas(after, variance.sqrt())
    less = noise_reduction(before, after, mask)
    yield f"CR2: noise std before / after, smooth ({_share(mask)})", _range(less, "{:.1f}x"), ">= 3x"
    white = residual_correlation((before - after) / variance.sqrt(), mask)
    worst = max(abs(r) for r in (*white.horizontal, *white.vertical, *white.diagonal))
    yield "CR2: residual, largest neighbour correlation", f"{worst:.3f}", "0 (white)"
    chi2 = residual_chi2(before - after, variance, mask)
    yield "CR2: residual variance / calibrated variance", _range(chi2, "{:.2f}"), "0.85 .. 1.15"
    untouched = np.array_equal(restore(frame, chosen.noise, strength=0.0).mosaic, frame.mosaic)
    yield "CR2: strength 0 returns the mosaic bit-identical", "yes" if untouched else "NO", "yes"
    yield "CR2: noise used", f"{chosen.trust}: {chosen.origin[:60]}", ""


def large_photo(folder: Path) -> Iterator[Row]:
    """24 MP through the command line: decode, estimate, restore, write."""
    noise = true_noise(1600.0)
    path = folder / "large.dng"
    write_cfa_dng(path, _ramp(noise, LARGE))
    code = f"from physrestore.cli import main; import sys; sys.argv[1:] = ['restore', {str(path)!r}]; main()"
    wall, cpu, peak, _ = _timed([sys.executable, "-c", code])
    yield (
        "24 MP, restore: wall, CPU",
        f"{wall:.0f} s, {cpu:.0f} s (load {os.getloadavg()[0]:.1f})",
        "< 60 s on two cores",
    )
    yield "24 MP, restore: peak memory of the process", f"{peak:.2f} GB", "< 3 GB"


def seam(folder: Path) -> Iterator[Row]:
    """A flat field of pure noise: the result may not remember where the tiles were."""
    del folder
    noise = true_noise(1600.0)
    body = VirtualCamera(_without_pattern(noise), cfa=Cfa.parse("RGGB"), shape=(1536, 1536), white_level=16383.0)
    frame = body.flat(0.2, generator=torch.Generator().manual_seed(0))
    after = _planes(frame, restore(frame, noise).mosaic).mean(0)
    jumps = (after[:, 1:] - after[:, :-1]).abs().mean(0)
    period = 192 // 2  # tiles of the denoiser, in packed sites
    at_seams = jumps[period - 1 :: period]
    z = (at_seams.mean() - jumps.mean()) / (jumps.std() / len(at_seams) ** 0.5)
    yield "flat field: steps at tile borders against elsewhere", f"{z:+.1f} standard errors", "within 3"


def damaged(folder: Path) -> Iterator[Row]:
    """Mutated files through one decoder."""
    verdicts: Counter[str] = Counter()
    slowest = 0.0
    with Decoder(timeout_s=30.0) as decoder:
        for number, (_, _, data) in enumerate(mutations(N_MUTATIONS, seed=7)):
            path = folder / f"mutated{number}.dng"
            path.write_bytes(data)
            start = time.perf_counter()
            try:
                verdicts[read_raw(path, decoder=decoder).source.integrity.value] += 1
            except RawFileError as error:
                verdicts[type(error).__name__] += 1
            slowest = max(slowest, time.perf_counter() - start)
            path.unlink()
    crashed = verdicts["DecoderCrashed"]
    told = ", ".join(f"{name} {count}" for name, count in verdicts.most_common())
    yield f"{N_MUTATIONS} mutated files: decoder crashes or hangs", f"{crashed}; slowest {slowest:.1f} s", "0"
    yield "   verdicts", told, "each has one"


def killed(folder: Path) -> Iterator[Row]:
    """SIGKILL at random moments of a batch."""
    count = kill_repeatedly(folder / "kills", kills=N_KILLS, seed=1)
    yield f"{count.kills} kills: partial files under a final name", str(count.partial_files), "0"
    yield "   originals changed", str(count.originals_changed), "0"
    yield "   resumed to the bytes of an undisturbed run", f"{count.resumed} of {count.resumable} folders", "all"


def _timed(command: list[str]) -> tuple[float, float, float, str]:
    """Wall seconds, CPU seconds, peak resident GB and output of a process."""
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        output = out.read().decode(errors="replace")
    if child.returncode:
        raise RuntimeError(f"{command} ended with {child.returncode}:\n{output}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20, output


def _planes(frame: RawFrame, mosaic: np.ndarray) -> Tensor:  # type: ignore[type-arg]
    """(4, H/2, W/2) float64 [DN above black]."""
    height, width = frame.shape
    black = tile_to(torch.from_numpy(frame.black_level), height, width)
    return pack((torch.from_numpy(mosaic.astype(np.float64)) - black)[None], frame.cfa)


def _variance(noise: SensorNoise, mean: Tensor) -> Tensor:
    """Variance by the model at the restored signal [DN^2], row noise included."""
    planes = [
        torch.from_numpy(noise.variance(name, one.numpy()))
        for name, one in zip(("R", "G1", "G2", "B"), mean, strict=True)
    ]
    return torch.stack(planes)


def _ramp(noise: SensorNoise, shape: tuple[int, int]) -> RawFrame:
    """A photo with something in it, cheap to make: soft waves from dark to light."""
    y = torch.linspace(0, 40, shape[0])[:, None]
    x = torch.linspace(0, 60, shape[1])[None, :]
    light = 0.3 + 0.25 * torch.sin(y) * torch.sin(x) + 0.1 * torch.sin(7 * y + 5 * x)
    shot = Shot(make="physrestore", model="Large One", iso=noise.iso)
    body = VirtualCamera(noise, cfa=Cfa.parse("RGGB"), shape=shape, white_level=16383.0, shot=shot)
    return body.expose(light[None].clamp(min=0), generator=torch.Generator().manual_seed(0))


def _without_pattern(noise: SensorNoise) -> SensorNoise:
    planes = {name: plane.model_copy(update={"prnu": None, "dsnu_dn": None}) for name, plane in noise.planes.items()}
    return noise.model_copy(update={"planes": planes, "hot_pixels": None})


def _neutral(frame: RawFrame) -> tuple[float, ...]:
    return frame.colour.as_shot_neutral or (1.0, 1.0, 1.0)


def _share(mask: Tensor) -> str:
    return f"{100 * mask.double().mean().item():.0f} % of it"


def _range(values: tuple[float, ...], form: str) -> str:
    return f"{form.format(min(values))} .. {form.format(max(values))}"
