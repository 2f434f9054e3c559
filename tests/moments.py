"""The checker of random things: sampled moments against declared ones, five standard errors of the sample wide."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

STANDARD_ERRORS = 5.0  # one false alarm in 1.7 million checks


def assert_moments(
    samples: ArrayLike, *, mean: float | None = None, variance: float | None = None, resolution: float = 0.0
) -> None:
    """Mean and variance of independent samples are the declared ones.

    Args:
        samples: Of any shape, independent of each other.
        mean: Declared; None leaves it unchecked.
        variance: Declared; None leaves it unchecked.
        resolution: Relative error of the declared variance itself, e.g. of the 1/12 of rounding.
    """
    x = np.asarray(samples, dtype=np.float64).ravel()
    centred = x - x.mean()
    second, fourth = float((centred**2).mean()), float((centred**4).mean())
    if mean is not None:
        error = math.sqrt(second / x.size)
        assert abs(x.mean() - mean) <= STANDARD_ERRORS * error, f"mean {x.mean()} is not {mean} +- {error:.2g}"
    if variance is not None:
        error = math.sqrt((fourth - second**2) / x.size)
        allowed = STANDARD_ERRORS * error + resolution * variance
        assert abs(second - variance) <= allowed, f"variance {second} is not {variance} +- {error:.2g}"
