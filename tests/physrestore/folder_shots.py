"""Small noisy raw files that differ in all a folder's files may differ in; each states its own noise (DNG tag)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from noise_models.cfa import Cfa
from noise_models.frame import Colour, RawFrame, Shot
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from physrestore.output.dng import write_cfa_dng

WHITE = 16000.0


def folder_shot(
    cfa: Cfa, side: int, *, electrons: float, black: float, seed: int = 0, iso: float = 800.0
) -> tuple[RawFrame, SensorNoise, np.ndarray]:
    """A smooth scene with an edge, its noise, and its noise-free mosaic in linear light."""
    y, x = np.mgrid[:side, :side] / side
    light = 0.05 + 0.5 * (0.5 + 0.5 * np.sin(5 * x) * np.cos(4 * y)) * np.where(x + y > 1, 1.0, 0.5)
    rng = np.random.default_rng(seed)
    gain = (WHITE - black) / electrons
    signal = gain * rng.poisson(light * electrons) + rng.normal(0.0, 2.0 * gain, light.shape)
    mosaic = np.clip(np.round(signal + black), 0, WHITE).astype(np.uint16)
    plane = PlaneNoise(
        gain=Estimate(value=gain), read_noise_dn=Estimate(value=2.0 * gain), black_level_dn=Estimate(value=black)
    )
    noise = SensorNoise(iso=iso, planes=dict.fromkeys(cfa.plane_names, plane), row_noise_dn=Estimate(value=0.0))
    frame = RawFrame(
        mosaic,
        cfa,
        np.full(cfa.period, black),
        np.full(cfa.period, WHITE),
        shot=Shot(make="Virtual", model=f"Camera {black:g}", iso=iso),
        colour=Colour(as_shot_neutral=(1.0, 1.0, 1.0)),
        noise_profile=((1.0 / electrons, (2.0 / electrons) ** 2),),
    )
    return frame, noise, light


def write_folder(folder: Path, *, side: int, xtrans: Cfa | None = None) -> list[np.ndarray]:
    """Two Bayer files of other phase, ISO, black and camera (and one X-Trans); their noise-free mosaics."""
    folder.mkdir()
    kinds = [("a.dng", Cfa.parse("RGGB"), 60.0, 512.0, 3200.0), ("b.dng", Cfa.parse("GRBG"), 400.0, 1024.0, 400.0)]
    if xtrans is not None:
        kinds.insert(0, ("0.dng", xtrans, 60.0, 512.0, 3200.0))
    truths = []
    for seed, (name, cfa, electrons, black, iso) in enumerate(kinds):
        frame, _, light = folder_shot(cfa, side, electrons=electrons, black=black, seed=seed, iso=iso)
        write_cfa_dng(folder / name, frame)
        truths.append(light)
    return truths
