"""Frames for the tests of output: any size and filter array, noise or a smooth coloured scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from noise_models.cfa import XTRANS_ROWS, Cfa
from noise_models.frame import Colour, RawFrame, Shot

XTRANS = "".join(XTRANS_ROWS)
# A plausible camera (XYZ to camera), near what many Bayer sensors have.
MATRIX = ((0.75, -0.25, -0.08), (-0.45, 1.25, 0.22), (-0.08, 0.20, 0.60))
NEUTRAL = (0.46, 1.0, 0.69)
BLACK, WHITE = 512.0, 16000.0


def noise_frame(
    height: int, width: int, cfa: str = "RGGB", *, seed: int = 0, low: int = 0, high: int = 65536
) -> RawFrame:
    """White noise over the whole range: nothing of it is predictable, every pixel is its own witness."""
    pattern = Cfa.parse(cfa)
    pixels = np.random.default_rng(seed).integers(low, high, (height, width)).astype(np.uint16)
    black, white = np.full(pattern.period, BLACK), np.full(pattern.period, WHITE)
    return RawFrame(pixels, pattern, black, white, colour=Colour(NEUTRAL, MATRIX))


def grey_frame(height: int, width: int, cfa: str = "RGGB", *, level: float = 0.2, sigma_dn: float = 0.0) -> RawFrame:
    """A grey card: every colour at ``level`` times the neutral."""
    pattern = Cfa.parse(cfa)
    gain = {"R": NEUTRAL[0], "G": NEUTRAL[1], "B": NEUTRAL[2], "M": 1.0}
    tile = np.array([[gain[letter] for letter in row] for row in pattern.rows])
    ph, pw = pattern.period
    mean = BLACK + level * (WHITE - BLACK) * np.tile(tile, (-(-height // ph), -(-width // pw)))[:height, :width]
    noise = np.random.default_rng(1).normal(0.0, sigma_dn, mean.shape) if sigma_dn else 0.0
    frame = noise_frame(height, width, cfa)
    return replace(frame, mosaic=np.round(mean + noise).clip(0, 65535).astype(np.uint16))


def full_shot() -> Shot:
    """Everything known, with letters outside ASCII."""
    return Shot(
        make="Étoile",
        model="Étoile 7 Mark II",
        lens="Objectif 50mm ƒ/1.8",
        iso=3200.0,
        exposure_s=1 / 8000,
        aperture=2.8,
        focal_length_mm=50.5,
        taken="2024:02:29 23:59:58",
    )
