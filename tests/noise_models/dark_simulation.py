"""Dark frames of one CFA site with a chosen read noise: the truth of the tail tests."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from noise_models.calibration.shape.tail_shapes import Shape


def darks(
    kind: Shape,
    shape: float,
    rng: np.random.Generator,
    *,
    std: float = 3.0,
    frames: int = 2,
    side: int = 512,
    pattern: float = 0.3,
    row: float = 0.05,
    black: float = 512.3,
) -> NDArray[np.uint16]:
    """(frames, side, side) codes; fixed pattern and row noise in units of ``std``."""
    offset = black + pattern * std * rng.standard_normal((side, side))
    sigma = np.full((side, side), std)
    if kind == "lognormal":
        sigma *= np.exp(shape * rng.standard_normal((side, side)) - shape**2)  # mean square is std^2
    result = np.empty((frames, side, side), dtype=np.uint16)
    for k in range(frames):
        draws = rng.standard_normal((side, side))
        if kind == "tukey":
            draws = stats.tukeylambda.ppf(rng.random((side, side)), shape) / math.sqrt(stats.tukeylambda.var(shape))
        rows = row * std * rng.standard_normal((side, 1))
        result[k] = np.rint(offset + sigma * draws + rows)
    return result
