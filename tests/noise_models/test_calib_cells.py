"""Intervals cover on every cell of the benchmark, pooled over few runs; the benchmark has 500 a cell."""

import math

import numpy as np
import pytest

from noise_models.calibration import calibrate
from tests.noise_models.calibration_cells import CELLS, QUANTITIES, Cell, errors

RUNS = 3


def deviations(cell: Cell, runs: int) -> dict[str, list[float]]:
    """Estimate less truth in standard errors."""
    found: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    for seed in range(runs):
        camera = cell.camera(seed)
        noise = calibrate(cell.frames(camera)).profile.entries[-1]
        for name, (value, error, truth) in errors(cell, camera, noise).items():
            found[name].append((value - truth) / error)
    return found


@pytest.fixture(scope="module")
def pooled() -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    for cell in CELLS:
        for name, values in deviations(cell, RUNS).items():
            found[name] += values
    return found


@pytest.mark.parametrize("name", QUANTITIES)
def test_intervals_cover_over_all_cells(pooled: dict[str, list[float]], name: str) -> None:
    z = np.array(pooled[name])
    assert len(z) >= (len(CELLS) - 1) * RUNS
    assert np.mean(np.abs(z) < 1.96) > 0.95 - 4.0 * math.sqrt(0.95 * 0.05 / len(z))
    assert np.abs(z).max() < 5.0


def test_every_cell_can_fail() -> None:
    """Planted error: a truth that is three standard errors off is not covered."""
    cell = CELLS[1]
    camera = cell.camera(0)
    noise = calibrate(cell.frames(camera)).profile.entries[-1]
    plane = noise.planes["M"]
    assert plane.gain is not None
    assert plane.gain.standard_error is not None
    camera.gain = plane.gain.value + 3.0 * plane.gain.standard_error
    value, error, truth = errors(cell, camera, noise)["gain"]
    assert abs(value - truth) > 1.96 * error


def test_two_conversion_gains_are_two_segments() -> None:
    cell = next(cell for cell in CELLS if cell.name == "dual gain")
    profile = calibrate(cell.frames(cell.camera(0))).profile
    assert [entry.segment for entry in profile.entries] == [0, 1]
