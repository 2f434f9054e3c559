"""Bursts whose truth is a formula: any view of the scene is exact, without interpolation."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.frame import Colour, RawFrame, tile_to
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise

NEUTRAL = (0.5, 1.0, 0.6)
BLACK, WHITE = 512.0, 16383.0
SPAN = WHITE - BLACK
ELECTRONS, READ_ELECTRONS = 400.0, 3.0  # at white: a high ISO
STILL = torch.eye(3, dtype=torch.float64)


class Blobs:
    """Camera RGB made of soft spots of any colour, brighter and darker than their ground."""

    def __init__(self, size: int, *, seed: int = 0, count: int = 120) -> None:
        rng = np.random.default_rng(seed)
        self.centre = torch.from_numpy(rng.uniform(-12, size + 12, (count, 2)))
        self.width = torch.from_numpy(rng.uniform(1.6, 6.0, count))
        self.height = torch.from_numpy(rng.normal(0.0, 0.13, (count, 3)) + rng.normal(0.0, 0.13, (count, 1)))

    def at(self, row: Tensor, column: Tensor) -> Tensor:
        """(3, h, w) at places of the scene."""
        distance = (row[..., None] - self.centre[:, 0]) ** 2 + (column[..., None] - self.centre[:, 1]) ** 2
        spots = torch.exp(-distance / (2 * self.width**2)) @ self.height
        grey = (0.35 + spots.permute(2, 0, 1)).clamp(0.03, 0.95)
        return (grey * torch.tensor(NEUTRAL, dtype=torch.float64).reshape(3, 1, 1)).float()


def turn(degrees: float, down: float, right: float, *, middle: float) -> Tensor:
    """A turn about a point and a shift, from the reference to a frame, (3, 3) on (column, row, 1)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor(
        [
            [c, -s, middle - c * middle + s * middle + right],
            [s, c, middle - s * middle - c * middle + down],
            [0.0, 0.0, 1.0],
        ],
        dtype=torch.float64,
    )


def view(scene: Blobs, size: int, motion: Tensor) -> Tensor:
    """What a frame sees: its pixel p shows the place that ``motion`` takes to p."""
    rows, columns = torch.meshgrid(*(torch.arange(size, dtype=torch.float64),) * 2, indexing="ij")
    back = torch.linalg.inv(motion)
    u, v, depth = (back[k, 0] * columns + back[k, 1] * rows + back[k, 2] for k in range(3))
    return scene.at(v / depth, u / depth)


def measured(rgb: Tensor, cfa: Cfa) -> Tensor:
    index = torch.tensor([["RGB".index(letter) for letter in row] for row in cfa.rows])
    return rgb.gather(0, tile_to(index, *rgb.shape[-2:])[None])[0]


def noise_of(cfa: Cfa, *, row: float = 0.0) -> SensorNoise:
    gain = SPAN / ELECTRONS
    plane = PlaneNoise(
        gain=Estimate(value=gain),
        read_noise_dn=Estimate(value=READ_ELECTRONS * gain),
        black_level_dn=Estimate(value=BLACK),
    )
    return SensorNoise(iso=12800.0, planes=dict.fromkeys(cfa.plane_names, plane), row_noise_dn=Estimate(value=row))


def expose(rgb: Tensor, cfa: Cfa, *, seed: int, exposure: float = 1.0) -> RawFrame:
    """A frame with the noise of `noise_of`."""
    rng = np.random.default_rng(seed)
    gain = SPAN / ELECTRONS
    signal = measured(rgb, cfa).double().numpy() * SPAN * exposure
    signal = gain * rng.poisson(signal / gain) + rng.normal(0.0, READ_ELECTRONS * gain, signal.shape)
    mosaic = np.clip(np.round(signal + BLACK), 0, WHITE).astype(np.uint16)
    levels = (np.full(cfa.period, BLACK), np.full(cfa.period, WHITE))
    return RawFrame(mosaic, cfa, *levels, colour=Colour(as_shot_neutral=NEUTRAL))
