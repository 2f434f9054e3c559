"""Noise from bursts and pooled photos: errors of K, coverage and refusals, beside a plain difference of two frames."""

from __future__ import annotations

import math

import numpy as np
import torch

from noise_models.calibration.burst.estimate import BurstNotIdentifiable, estimate_from_burst
from noise_models.calibration.photo.photos import estimate_from_photos
from noise_models.calibration.photo.single_photo import NotIdentifiable
from noise_models.cfa import Cfa
from noise_models.frame import RawFrame
from noise_models.sensor import Estimate
from tests.noise_models.photo_scenes import coloured, photograph, power_law_scene
from tests.noise_models.still_scenes import MARGIN, body, burst

SHAPE = (256, 384)
BURSTS: tuple[tuple[str, dict[str, float], dict[str, float]], ...] = (
    ("still", {}, {}),
    ("still, no masked pixels", {"masked": False}, {}),
    ("four frames", {}, {"frames": 4}),
    ("light 10 % unsteady", {}, {"light": 1.1}),
    ("object over 20 % moves", {}, {"mover": 0.2}),
    ("shift 0.02 px", {}, {"shift": 0.02}),
    ("shift 0.05 px", {}, {"shift": 0.05}),
    ("shift 3 px", {}, {"shift": 3.0}),
    ("K 0.1, read 1 DN", {"gain": 0.1, "read": 1.0}, {}),
    ("K 10, read 20 DN", {"gain": 10.0, "read": 20.0}, {}),
    ("monochrome", {"cfa": "M"}, {}),  # type: ignore[dict-item]
)
TEXTURED = tuple((beta, shift) for beta in (2.0, 2.5, 3.0) for shift in (0.0, 0.3, 1.0, 3.0, 7.0))
PHOTOS = ((4.0, 1), (4.0, 4), (3.0, 1), (3.0, 4), (2.0, 4))  # slope of the scene's spectrum, photos pooled


def sigmas(estimate: Estimate | None, truth: float) -> float:
    """Error in standard errors."""
    return math.nan if estimate is None else (estimate.value - truth) / (estimate.standard_error or math.nan)


def plain_difference(frames: list[RawFrame]) -> float:
    """K of green by the textbook: a line through 16 x 16 variances of the difference over their means."""
    a, b = (frame.mosaic[0::2, 1::2].astype(float) - 512.0 for frame in frames[:2])
    rows, columns = a.shape[0] // 16, a.shape[1] // 16
    mean, difference = (
        array[: rows * 16, : columns * 16].reshape(rows, 16, columns, 16).transpose(0, 2, 1, 3).reshape(-1, 256)
        for array in ((a + b) / 2, a - b)
    )
    return float(np.polyfit(mean.mean(1), difference.var(1) / 2, 1)[0])


def run(runs: int = 40) -> None:
    """Print the three tables."""
    print(f"bursts of {SHAPE[0]} x {SHAPE[1]}, {runs} runs a row; median error of K; share of 95 % intervals that hold")
    print(f"{'burst':26} {'refused':>7} {'|K-1|':>7} {'K in':>6} {'read in':>7} {'row in':>7} {'plain |K-1|':>12}")
    for label, camera, scene in BURSTS:
        _burst_row(label, camera, scene, runs)
    print("textured scenes 1/f^beta, 512 x 768, K 0.2: answers (K over truth, errors in sigmas) and refusals")
    for beta, shift in TEXTURED:
        print(f"  beta {beta:g}  shift {shift:g} px: {_textured(beta, shift)}")
    print(f"photos of 640 x 960 pooled, {runs // 2} runs a row")
    for beta, count in PHOTOS:
        _photo_row(beta, count, runs // 2)


def _burst_row(label: str, camera: dict[str, float], scene: dict[str, float], runs: int) -> None:
    gains, reads, rows, errors, plain, refused = [], [], [], [], [], 0
    for seed in range(runs):
        virtual = body(shape=SHAPE, seed=seed, **camera)  # type: ignore[arg-type]
        frames = burst(virtual, seed=1000 + seed, **scene)  # type: ignore[arg-type]
        truth = next(iter(virtual.noise.planes.values()))
        assert truth.gain is not None
        plain.append(abs(plain_difference(frames) / truth.gain.value - 1))
        try:
            noise = estimate_from_burst(frames).noise
        except BurstNotIdentifiable:
            refused += 1
            continue
        rows.append(sigmas(noise.row_noise_dn, virtual.noise.row_noise_dn.value))
        for plane in noise.planes.values():
            gains.append(sigmas(plane.gain, truth.gain.value))
            reads.append(sigmas(plane.read_noise_dn, truth.read_noise_dn.value))
            errors.append(abs(plane.gain.value / truth.gain.value - 1) if plane.gain else math.nan)
    cover = [float(np.mean(np.abs(z) < 1.96)) if z else math.nan for z in (gains, reads, rows)]
    middle = float(np.median(errors)) if errors else math.nan
    print(
        f"{label:26} {refused:7d} {middle:7.3f} {cover[0]:6.2f} {cover[1]:7.2f} {cover[2]:7.2f}",
        f"{np.median(plain):12.3f}",
        flush=True,
    )


def _textured(beta: float, shift: float) -> str:
    light = np.minimum(power_law_scene(beta, (512, 768 + MARGIN), mean=0.05, seed=2), 0.9)
    scene = torch.from_numpy(light).float()[None].expand(3, -1, -1)
    frames = burst(body(gain=0.2, read=2.0), seed=5, shift=shift, scene=scene)
    try:
        result = estimate_from_burst(frames)
    except BurstNotIdentifiable as refusal:
        return f"refused: {refusal.reasons[0]}"
    gains = [plane.gain for plane in result.noise.planes.values() if plane.gain is not None]
    told = ", ".join(f"{gain.value / 0.2:.3f} ({sigmas(gain, 0.2):+.1f})" for gain in gains)
    return f"{result.trust}: {told}"


def _photo_row(beta: float, count: int, runs: int) -> None:
    gains, reads, errors, refused = [], [], [], 0
    for run_index in range(runs):
        photos = []
        for k in range(count):
            seed = run_index * count + k
            scene = coloured(power_law_scene(beta, (640, 960), mean=300.0, seed=seed), Cfa.parse("RGGB"))
            photos.append(photograph(scene, gain=0.5, read_dn=3.0, seed=seed + 500))
        try:
            plane = estimate_from_photos(photos).profile.entries[0].planes["G1"]
        except NotIdentifiable:
            refused += 1
            continue
        gains.append(sigmas(plane.gain, 0.5))
        reads.append(sigmas(plane.read_noise_dn, 3.0))
        errors.append(abs(plane.gain.value / 0.5 - 1) if plane.gain else math.nan)
    cover = [float(np.mean(np.abs(z) < 1.96)) if z else math.nan for z in (gains, reads)]
    middle = float(np.median(errors)) if errors else math.nan
    print(
        f"  1/f^{beta:g}, {count} photos: refused {refused}, |K-1| {middle:.3f}, K in {cover[0]:.2f},",
        f"read in {cover[1]:.2f}",
        flush=True,
    )
