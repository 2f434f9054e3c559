"""Simulate, calibrate, simulate: two cells of the benchmark, and the errors that it must see."""

import pytest

from noise_models.sensor import Estimate, SensorNoise, Tail
from tests.benchmarks.round_trip import CELLS, ROW_DB, round_trip

CELL = {cell.name: cell for cell in CELLS}


@pytest.mark.parametrize("name", ["tukey", "strong rows"])
def test_the_calibrated_sampler_makes_the_darks_of_the_camera(name: str) -> None:
    assert round_trip(CELL[name], seed=7).good


def without_tail(noise: SensorNoise) -> SensorNoise:
    return noise.model_copy(update={"tail": Tail()})


def with_half_the_rows(noise: SensorNoise) -> SensorNoise:
    return noise.model_copy(update={"row_noise_dn": Estimate(value=noise.row_noise_dn.value / 2)})


def test_a_forgotten_tail_and_halved_row_noise_are_seen() -> None:
    assert round_trip(CELL["tukey"], seed=7, alter=without_tail).floors > 10
    assert round_trip(CELL["strong rows"], seed=7, alter=with_half_the_rows).row_db > 4 * ROW_DB
