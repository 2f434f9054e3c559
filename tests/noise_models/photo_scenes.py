"""Clean scenes with known spectra, and frames of a plain Poisson-Gaussian camera made from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noise_models.cfa import Cfa
from noise_models.frame import MaskedArea, RawFrame, Shot

Array = NDArray[np.float64]
MASKED_COLUMNS = 36  # a multiple of 2 and 6, so that the CFA's phase is kept


def power_law_scene(beta: float, shape: tuple[int, int], *, mean: float, seed: int) -> Array:
    """exp(0.8 z) with z Gaussian of power spectrum 1/f^beta and unit variance: 4 is defocused, 3 smooth, 2 busy."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    frequency[0, 0] = np.inf
    z = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * frequency ** (-beta / 2), s=shape)
    scene = np.exp(0.8 * z / z.std())
    return np.asarray(scene * (mean / scene.mean()))


def coloured(scene: Array, cfa: Cfa) -> Array:
    """The scene behind the filters under daylight: red at 0.5, blue at 0.7 of green."""
    share = {"R": 0.5, "G": 1.0, "B": 0.7, "M": 1.0}
    plane = cfa.plane_index(*scene.shape).numpy()
    return np.asarray(scene * np.array([share[name[0]] for name in cfa.plane_names])[plane])


def picture(path: Path, *, mean: float) -> Array:
    """An 8-bit sRGB picture as an RGGB mosaic of electrons: linearised by x^2.2."""
    with Image.open(path) as file:
        image = (np.asarray(file.convert("RGB"), dtype=np.float64) / 255) ** 2.2
    height, width = (side // 2 * 2 for side in image.shape[:2])
    mosaic = image[:height, :width, 1].copy()
    mosaic[0::2, 0::2] = image[0:height:2, 0:width:2, 0]
    mosaic[1::2, 1::2] = image[1:height:2, 1:width:2, 2]
    return np.asarray(mosaic * (mean / mosaic.mean()))


def photograph(
    electrons: Array,
    *,
    gain: float,
    read_dn: float,
    seed: int,
    bits: int = 14,
    masked: bool = True,
    row_dn: float = 0.0,
    cfa: str = "RGGB",
    iso: float | None = 400.0,
) -> RawFrame:
    """One exposure [e-] through gain [DN/e-], read and row noise [DN], rounding and clipping."""
    rng = np.random.default_rng(seed)
    columns = MASKED_COLUMNS if masked else 0
    full = np.pad(electrons, ((0, 0), (columns, 0)))
    black, white = 2.0 ** (bits - 5), 2.0**bits - 1
    signal = gain * rng.poisson(full) + black + rng.normal(0, read_dn, full.shape)
    signal += row_dn * rng.standard_normal((full.shape[0], 1))
    codes = np.clip(np.rint(signal), 0, white).astype(np.uint16)
    array = Cfa.parse(cfa)
    area = MaskedArea("left", codes[:, :columns].copy(), array.shifted(0, -columns))
    return RawFrame(
        mosaic=codes[:, columns:].copy(),
        cfa=array,
        black_level=np.full(array.period, black),
        white_level=np.full(array.period, white),
        masked=(area,) if masked else (),
        shot=Shot(iso=iso),
    )
