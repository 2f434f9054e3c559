"""Coverage of the 95 % intervals of `fit_gaussian_codes`: 500 simulated frames a cell, against the naive estimator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from noise_models.calibration.shape.codes import fit_gaussian_codes
from noise_models.errors import CalibrationError
from noise_models.sensor import QUANTISATION_VARIANCE_DN2
from tests.noise_models.test_codes import CELLS, LEVEL, PIXELS, clamp_code, drawn


@dataclass(frozen=True)
class Cell:
    """Shares and means over the runs; biases in units of the standard error."""

    std_coverage: float
    mean_coverage: float
    std_bias: float
    mean_bias: float
    naive_coverage: float
    refused: int


def cell(std: float, phase: float, clamp: float | None, *, runs: int = 500, seed: int = 0) -> Cell:
    """One cell of the table: ``clamp`` is the place of the black clamp in sigma from the mean."""
    rng = np.random.default_rng(seed)
    mean = LEVEL + phase
    low = clamp_code(mean, std, clamp)
    std_z, mean_z, naive_z = [], [], []
    for _ in range(runs):
        counts = drawn(mean, std, rng, low=low)
        centre = np.average(counts.codes, weights=counts.counts)
        variance = np.average((counts.codes - centre) ** 2, weights=counts.counts)
        naive = math.sqrt(max(variance - QUANTISATION_VARIANCE_DN2, 0.0))
        naive_z.append((naive - std) / (std / math.sqrt(2 * PIXELS)))
        try:
            fit = fit_gaussian_codes(counts, low=low)
        except CalibrationError:
            continue
        std_z.append((fit.std.value - std) / fit.std.standard_error)
        mean_z.append((fit.mean.value - mean) / fit.mean.standard_error)
    return Cell(
        std_coverage=float(np.mean(np.abs(std_z) < 1.96)),
        mean_coverage=float(np.mean(np.abs(mean_z) < 1.96)),
        std_bias=float(np.mean(std_z)),
        mean_bias=float(np.mean(mean_z)),
        naive_coverage=float(np.mean(np.abs(naive_z) < 1.96)),
        refused=runs - len(std_z),
    )


def run() -> None:
    """Print the table."""
    print(f"{PIXELS} pixels a frame, 500 frames a cell; 95 % intervals; bias in standard errors")
    print("std [DN]  phase  clamp [sigma]  cover std  cover mean  bias std  bias mean  naive cover  refused")
    for std, phase, clamp in CELLS:
        c = cell(std, phase, clamp)
        place = "none" if clamp is None else f"{clamp:g}"
        print(
            f"{std:8g}  {phase:5g}  {place:>13}  {c.std_coverage:9.3f}  {c.mean_coverage:10.3f}  {c.std_bias:8.3f}"
            f"  {c.mean_bias:9.3f}  {c.naive_coverage:11.3f}  {c.refused:7d}"
        )


if __name__ == "__main__":
    run()
