"""Shape of the read noise from two 512 x 512 darks: how often the kind is right, bias and coverage of the shape."""

from __future__ import annotations

import numpy as np

from noise_models.calibration.shape.tail_fit import fit_tail
from noise_models.calibration.shape.tail_shapes import Shape
from tests.noise_models.dark_simulation import darks

CELLS: tuple[tuple[Shape, float, float], ...] = (
    ("gaussian", 0.0, 2.5),
    ("gaussian", 0.0, 10.0),
    ("lognormal", 0.2, 2.5),
    ("lognormal", 0.3, 2.5),
    ("lognormal", 0.3, 10.0),
    ("lognormal", 0.5, 10.0),
    ("tukey", 0.0, 2.5),
    ("tukey", -0.1, 2.5),
    ("tukey", -0.1, 10.0),
)


def run(runs: int = 40) -> None:
    """Print the table."""
    print(f"{runs} runs a cell; bias in standard errors; coverage of 95 % intervals")
    print("kind       shape  std [DN]  kind right  bias shape  cover shape  se shape  bias std  cover std")
    for cell, (kind, shape, std) in enumerate(CELLS):
        rng = np.random.default_rng(cell)
        fits = [fit_tail(darks(kind, shape, rng, std=std)) for _ in range(runs)]
        right = [fit for fit in fits if fit.kind == kind]
        shape_z = np.array([_z(fit.shape, shape) for fit in right if fit.shape is not None] or [np.nan])
        errors = [fit.shape.standard_error for fit in right if fit.shape is not None] or [np.nan]
        std_z = np.array([_z(fit.std, std) for fit in right])
        print(
            f"{kind:9s}  {shape:5g}  {std:8g}  {len(right) / runs:10.2f}  {shape_z.mean():10.2f}"
            f"  {np.mean(np.abs(shape_z) < 1.96):11.2f}  {np.mean(errors):8.4f}  {std_z.mean():8.2f}"
            f"  {np.mean(np.abs(std_z) < 1.96):9.2f}",
            flush=True,
        )


def _z(estimate: object, truth: float) -> float:
    return (estimate.value - truth) / estimate.standard_error  # type: ignore[attr-defined]


if __name__ == "__main__":
    run()
