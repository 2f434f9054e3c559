"""Read noise below half a code step: maximum likelihood on the codes themselves.

There ``sqrt(v - 1/12)`` is wrong by up to 25 % at 0.35 DN, in either direction: it depends on where between two codes
the mean lies. The pairs of codes that two darks show at the same pixel are counts of a bivariate normal in unit
squares; with the rounding inside the model, noise, fixed pattern and phase come out of one fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from noise_models.errors import CalibrationError

F64 = NDArray[np.float64]

# Nodes of the Gauss-Hermite rule over the fixed pattern; patterns here are at most a few codes wide.
_NODES = 48
# Steps of the numerical second derivative, in log sigma, log pattern and DN: large against the fit's tolerance.
_STEP = 1e-3
# A read noise less certain than this is not a measurement.
_LARGEST_RELATIVE_ERROR = 0.25
_SMALLEST_STD_DN = 0.01


@dataclass(frozen=True)
class CodeFit:
    """What the codes of dark pairs say.

    Attributes:
        read_noise_dn: Temporal std [DN].
        error_dn: Its standard error [DN].
        black_dn: Mean before rounding [DN].
        pattern_dn: Std of the fixed pattern [DN].
    """

    read_noise_dn: float
    error_dn: float
    black_dn: float
    pattern_dn: float


def count_codes(first: NDArray[np.uint16], second: NDArray[np.uint16]) -> Counter[tuple[int, int]]:
    """How often each pair of codes occurs at the same pixel of two frames."""
    joint = first.astype(np.uint32).ravel() << np.uint32(16) | second.astype(np.uint32).ravel()
    codes, counts = np.unique(joint, return_counts=True)
    return Counter({(int(c >> 16), int(c & 0xFFFF)): int(n) for c, n in zip(codes, counts, strict=True)})


def fit_codes(counts: Counter[tuple[int, int]]) -> CodeFit:
    """Read noise, black level and fixed pattern from pairs of dark codes.

    Args:
        counts: Of `count_codes`, added up over pairs and CFA sites of one plane.

    Raises:
        CalibrationError: the codes do not determine the read noise.
    """
    if len(counts) < 3:
        raise CalibrationError(
            "The darks show one code only: their noise is far below one code step and cannot be measured. "
            "Use a higher ISO, or a raw format with more bits."
        )
    pairs, number = np.array(list(counts)), np.array(list(counts.values()), dtype=np.float64)
    origin = float(np.round(number @ pairs.mean(axis=1) / number.sum()))
    codes = pairs - origin
    start = np.array([number @ codes.mean(axis=1) / number.sum(), np.log(0.35), np.log(0.1)])

    def cost(parameters: F64) -> float:
        return -_log_likelihood(parameters, codes, number)

    best = optimize.minimize(cost, start, method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-3, "maxiter": 600})
    mean, read, pattern = best.x[0], float(np.exp(best.x[1])), float(np.exp(best.x[2]))
    error = read * _log_sigma_error(cost, best.x)
    if not (best.success and np.isfinite(error) and error <= _LARGEST_RELATIVE_ERROR * read):
        raise CalibrationError(
            f"The read noise lies far below one code step (about {read:.2g} DN) and these darks do not determine it. "
            "Take more darks, or use a higher ISO or a raw format with more bits."
        )
    return CodeFit(read, error, float(mean) + origin, pattern)


def _log_likelihood(parameters: F64, codes: NDArray[np.float64], number: F64) -> float:
    mean, log_read, log_pattern = parameters
    read = max(float(np.exp(log_read)), _SMALLEST_STD_DN)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    centre = mean + np.exp(log_pattern) * nodes
    lowest, highest = int(codes.min()), int(codes.max())
    edges = np.arange(lowest, highest + 2) - 0.5
    # P(code | fixed value of the pixel), (node, code); both frames are independent draws around that value.
    probability = np.diff(stats.norm.cdf((edges[None, :] - centre[:, None]) / read), axis=1)
    joint = np.einsum("n,ni,nj->ij", weights / weights.sum(), probability, probability)
    index = codes.astype(np.intp) - lowest
    return float(number @ np.log(np.maximum(joint[index[:, 0], index[:, 1]], 1e-300)))


def _log_sigma_error(cost: Callable[[F64], float], at: F64) -> float:
    """Standard error of log sigma from the observed information, the pattern profiled out where it is at zero."""
    free = [0, 1] if np.exp(at[2]) < _SMALLEST_STD_DN else [0, 1, 2]
    information = np.empty((len(free), len(free)))
    for a, i in enumerate(free):
        for b, j in enumerate(free):
            total = 0.0
            for si in (1, -1):
                for sj in (1, -1):
                    moved = at.copy()
                    moved[i] += si * _STEP
                    moved[j] += sj * _STEP
                    total += si * sj * cost(moved)
            information[a, b] = total / (4.0 * _STEP**2)
    try:
        variance = float(np.linalg.inv(information)[1, 1])
    except np.linalg.LinAlgError:
        return float("inf")
    return float(np.sqrt(variance)) if variance > 0 else float("inf")
