"""Calibration against known truth: coverage and point errors by simulation, EMVA's reference sets, 24 megapixels.

Peers in the same run: the straight line by ordinary least squares, the spatial variance of single flats (as published
calibrators of photo cameras take it), and the fit that EMVA 1288 prescribes.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration import CalibrationFrame, calibrate
from noise_models.calibration.inputs.emva import read_emva
from noise_models.cfa import Cfa
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame, Shot
from noise_models.rawfile import read_raw
from noise_models.sensor import PlaneNoise
from physrestore.output.dng import write_cfa_dng
from tests.noise_models.calibration_cells import CELLS, QUANTITIES, errors
from tests.shared_data import data_folder

F64 = NDArray[np.float64]

RUNS = 500
PROCESSES = 2
# 24 megapixels, 2 ISOs x (8 darks + 4 levels x 2 flats).
LARGE_SHAPE = (4000, 6000)
LARGE_LEVELS = (150.0, 600.0, 1500.0, 3000.0)
# Share of saturation up to which EMVA 1288 fits K, and the dark noise that its dark subtraction leaves.
EMVA_SHARE = 0.7
# The peers leave out levels of which more is clipped; they know nothing of stuck pixels.
PEER_CLIPPED = 0.1


@dataclass(frozen=True)
class Run:
    """One simulated calibration: quantity -> (estimate, standard error, truth), and K of the peers."""

    measured: dict[str, tuple[float, float, float]]
    least_squares: float
    spatial: float


def run(*, runs: int = RUNS, processes: int = PROCESSES) -> None:
    """Print all tables."""
    # Two processes share the cores: numerical libraries must not start threads of their own.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started = time.perf_counter()
    _print_coverage(runs, processes)
    _print_emva()
    _print_large()
    print(f"\n{time.perf_counter() - started:.0f} s")


def simulated(index: int, seed: int) -> Run | None:
    """One calibration of a cell; None where it was refused."""
    cell = CELLS[index]
    camera = cell.camera(seed)
    frames = cell.frames(camera)
    try:
        noise = calibrate(frames).profile.entries[-1]
    except CalibrationError:
        return None
    own = [frame for frame in frames if frame.iso == camera.iso]
    return Run(errors(cell, camera, noise), *_peers(own, camera.white))


def _peers(frames: list[CalibrationFrame], white: float) -> tuple[float, float]:
    """K by an unweighted line through all unclipped pairs, and with the spatial variance of single flats."""
    pairs: dict[object, list[F64]] = {}
    for frame in frames:
        pairs.setdefault((frame.role, frame.level_key), []).append(frame.load().mosaic.astype(np.float64))
    chosen = [
        group[:2] for group in pairs.values() if max(float(np.mean(f >= white)) for f in group[:2]) < PEER_CLIPPED
    ]
    mean = np.array([0.5 * (a.mean() + b.mean()) for a, b in chosen])
    temporal = np.array([np.var(a - b) / 2.0 for a, b in chosen])
    spatial = np.array([np.var(a) for a, _ in chosen])
    if len(mean) < 2:
        return np.nan, np.nan
    return float(np.polyfit(mean, temporal, 1)[0]), float(np.polyfit(mean, spatial, 1)[0])


def _print_coverage(runs: int, processes: int) -> None:
    print(f"{runs} simulated calibrations a cell: share of 95 % intervals that cover the truth [%]")
    print(f"{'cell':20s}" + "".join(f"{name:>8s}" for name in QUANTITIES) + f"{'refused':>9s}")
    results = {}
    for index, cell in enumerate(CELLS):
        found = results[cell.name] = _cell_runs(index, runs, processes)
        cover = [_over(found, quantity, _covered) for quantity in QUANTITIES]
        print(f"{cell.name:20s}" + "".join(map(_percent, cover)) + f"{runs - len(found):9d}", flush=True)
    print("\nmean (bias) and rms of the relative error [%]; row noise: bias of the variance as % of the pixel variance")
    print(f"{'cell':20s}" + "".join(f"{name:>16s}" for name in (*QUANTITIES[:2], "prnu", "dsnu")) + f"{'row':>8s}")
    for name, found in results.items():
        row = _row_bias(found)
        text = "".join(_relative(found, quantity) for quantity in ("gain", "read", "prnu", "dsnu"))
        print(f"{name:20s}{text}" + ("       -" if np.isnan(row) else f"{row:8.2f}"))
    print("\nK by the peers: mean relative error [%]")
    print(f"{'cell':20s}{'ours':>10s}{'least squares':>16s}{'spatial variance':>18s}")
    for name, found in results.items():
        truth = np.array([r.measured["gain"][2] for r in found])
        ours = np.array([r.measured["gain"][0] for r in found])
        peers = [np.nanmean([getattr(r, kind) for r in found] / truth - 1.0) for kind in ("least_squares", "spatial")]
        print(f"{name:20s}{100 * np.mean(ours / truth - 1):10.2f}{100 * peers[0]:16.2f}{100 * peers[1]:18.2f}")


def _cell_runs(index: int, runs: int, processes: int) -> list[Run]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        return [one for one in pool.map(partial(simulated, index), range(runs), chunksize=10) if one is not None]


def _over(found: list[Run], quantity: str, statistic: object) -> float:
    values = np.array([r.measured[quantity] for r in found if quantity in r.measured])
    return float(statistic(values)) if len(values) else np.nan  # type: ignore[operator]


def _covered(values: F64) -> float:
    return 100.0 * float(np.mean(np.abs(values[:, 0] - values[:, 2]) <= 1.959964 * values[:, 1]))


def _relative(found: list[Run], quantity: str) -> str:
    values = np.array([r.measured[quantity] for r in found if quantity in r.measured])
    if not len(values):
        return f"{'-':>16s}"
    off = 100.0 * (values[:, 0] / values[:, 2] - 1.0)
    return f"{off.mean():+8.2f} {np.sqrt(np.mean(off**2)):7.2f}"


def _row_bias(found: list[Run]) -> float:
    """Bias of row noise squared over read noise squared [%]: a std that is cut at zero has no unbiased estimate."""
    both = [(r.measured["row"], r.measured["read"][2]) for r in found if "row" in r.measured]
    return 100.0 * float(np.mean([(v**2 - t**2) / read**2 for (v, _, t), read in both])) if both else np.nan


def _percent(value: float) -> str:
    return f"{'-':>8s}" if np.isnan(value) else f"{value:8.1f}"


def _print_emva() -> None:
    folder = data_folder() / "calibration"
    path = folder / "emva1288_003_simulated" / "EMVA1288_Data.txt"
    if not path.is_file():
        print("\nEMVA reference sets: not here (PHYSRESTORE_TEST_DATA)")
        return
    frames = read_emva(path)
    plane = calibrate(frames).profile.entries[0].planes["M"]
    standard = _standard(frames)
    # Published: our own run of emva1288 1.0.2 (with numpy < 2), on the whole set; ours: on the thinned one.
    print("\nEMVA set 003 (simulated)      ours                 emva1288   standard's rule, here    truth")
    for name, ours, published, here, truth in _emva_rows(plane, standard):
        print(f"{name:22s} {ours:24s} {published:>10s} {here:>18s} {truth:>14s}")
    print(f"chi^2/dof {plane.chi2_dof:.2f}")
    _print_halves(folder / "emva1288_001_ccd" / "EMVA1288_Data.txt")


def _emva_rows(plane: PlaneNoise, standard: tuple[float, float]) -> Iterator[tuple[str, str, str, str, str]]:
    def text(name: str, scale: float = 1.0) -> str:
        one = getattr(plane, name)
        return f"{scale * one.value:.5g} +- {scale * (one.standard_error or 0.0):.2g}"

    yield "K [DN/e-]", text("gain"), "0.09786", f"{standard[0]:.5f}", "0.1"
    yield "dark noise [e-]", text("read_noise"), "30.65", f"{standard[1]:.2f}", "30"
    yield "DSNU [DN]", text("dsnu_dn"), "2.127", "", "2.12"
    yield "PRNU [%]", text("prnu", 100.0), "0.539", "", "0.5"
    yield "linearity error [%]", text("linearity_error", 100.0), "", "", ""


def _standard(frames: list[CalibrationFrame]) -> tuple[float, float]:
    """K [DN/e-] and dark noise [e-] by the rule of EMVA 1288 Release 4.0: unweighted, through the origin, to 70 %."""
    groups: dict[object, list[F64]] = {}
    for frame in frames:
        group = groups.setdefault((frame.role, frame.level_key), [])
        if len(group) < 2:
            group.append(frame.load().mosaic.astype(np.float64))
    moments = {
        key: ((a.mean() + b.mean()) / 2, np.mean((a - b) ** 2) / 2 - (a.mean() - b.mean()) ** 2 / 2)
        for key, (a, b) in groups.items()
    }
    dark_mean, dark_variance = next(value for key, value in moments.items() if key[0] == "dark")  # type: ignore[index]
    lit = np.array([value for key, value in moments.items() if key[0] == "flat"])  # type: ignore[index]
    x, y = lit[:, 0] - dark_mean, lit[:, 1] - dark_variance
    used = x <= EMVA_SHARE * x[np.argmax(y)]
    gain = float((x[used] @ y[used]) / (x[used] @ x[used]))
    return gain, float(np.sqrt(dark_variance - 1 / 12) / gain)


def _print_halves(path: Path) -> None:
    """Set 001: every other level apart; the two must agree within their own intervals."""
    frames = read_emva(path)
    levels = list(dict.fromkeys(frame.level_key for frame in frames if frame.role == "flat"))
    print("\nEMVA set 001 (real CCD), every other level: K [DN/e-], dark noise [e-], chi^2/dof")
    for part in (levels, levels[::2], levels[1::2]):
        own = [frame for frame in frames if frame.role == "dark" or frame.level_key in part]
        plane = calibrate(own).profile.entries[0].planes["M"]
        assert plane.gain is not None
        assert plane.read_noise is not None
        print(
            f"{len(part):3d} levels  {plane.gain.value:.4f} +- {plane.gain.standard_error:.4f}  "
            f"{plane.read_noise.value:.3f} +- {plane.read_noise.standard_error:.3f}  {plane.chi2_dof:.1f}"
        )


def _print_large() -> None:
    """Memory and time of a set of 24-megapixel frames, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        count, seconds, decoding, memory = pool.submit(_large).result()
    print(
        f"\n24 megapixels, 2 ISOs x (8 darks + 4 levels x 2 flats): {count} frames, {seconds / count:.2f} s a frame "
        f"without reading, {decoding:.2f} s to decode one (lossless-JPEG DNG), peak memory {memory:.0f} MB"
    )


def _large() -> tuple[int, float, float, float]:
    made = [0.0]
    frames = [
        CalibrationFrame(
            load=partial(_timed_frame, level, seed, iso, made),
            name=f"{role} {level:g} {seed}",
            role="dark" if role == "dark" else "flat",
            iso=iso,
            exposure_s=0.01,
            level_key=level,
        )
        for iso in (100.0, 200.0)
        for role, level, count in (("dark", 0.0, 8), *(("flat", level, 2) for level in LARGE_LEVELS))
        for seed in range(count)
    ]
    started = time.perf_counter()
    calibrate(frames)
    seconds = time.perf_counter() - started - made[0]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dng"
        write_cfa_dng(path, _frame(0.0, 0, 100.0))
        read_raw(path)  # starts the decoder process
        started = time.perf_counter()
        read_raw(path)
        decoding = time.perf_counter() - started
    return len(frames), seconds, decoding, memory


def _timed_frame(level: float, seed: int, iso: float, made: list[float]) -> RawFrame:
    started = time.perf_counter()
    frame = _frame(level, seed, iso)
    made[0] += time.perf_counter() - started
    return frame


def _frame(level: float, seed: int, iso: float) -> RawFrame:
    rng = np.random.default_rng([seed, int(level)])
    gain = iso / 200.0
    codes = rng.standard_normal(LARGE_SHAPE, dtype=np.float32)
    codes *= np.float32(np.sqrt(9.0 + gain * level))
    codes += np.float32(512.3 + level)
    np.rint(codes, out=codes)
    return RawFrame(
        mosaic=codes.astype(np.uint16),
        cfa=Cfa.parse("RGGB"),
        black_level=np.full((2, 2), 512.0),
        white_level=np.full((2, 2), 16383.0),
        shot=Shot(make="Test", model="Large", iso=iso, exposure_s=0.01),
    )


if __name__ == "__main__":
    run()
