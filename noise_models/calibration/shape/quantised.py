"""Read noise where moments of codes are wrong: below half a code step, or cut off by a black clamp.

Below half a step ``sqrt(v - 1/12)`` is wrong by up to 25 % at 0.35 DN, in either direction: it depends on where between
two codes the mean lies. A clamp at the mean lifts it by 0.4 sigma and takes 42 % off the noise. The pairs of codes that
two darks show at the same pixel are counts of a bivariate normal in unit squares, the lowest one a half-line where the
camera clamps; noise, fixed pattern and black level come out of one fit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from noise_models.calibration.shape.codes import CodeCounts, fit_gaussian_codes
from noise_models.errors import CalibrationError

F64 = NDArray[np.float64]

# Nodes of the Gauss-Hermite rule over the fixed pattern; patterns here are at most a few codes wide.
_NODES = 48
# Steps of the numerical second derivative, in units of the spread and of logarithms: large against the fit's tolerance.
_STEP = 1e-3
# A read noise less certain than this is not a measurement.
_LARGEST_RELATIVE_ERROR = 0.25
_FIRST_STEP = 0.2  # of the search, in the same units
_SMALLEST_STD_DN = 0.01
# Wide noise is looked at in bins: a sixth of a standard deviation wide, they cost 0.2 % of the information.
_BINS_PER_STD = 6.0


@dataclass(frozen=True)
class CodeFit:
    """What the codes of dark pairs say.

    Attributes:
        read_noise_dn: Temporal std of a pixel [DN]; row and column noise are part of it.
        error_dn: Its standard error [DN].
        black_dn: Mean before rounding and clamping [DN].
        black_error_dn: Its standard error from pixels alone [DN].
        pattern_dn: Std of the fixed pattern [DN].
        pattern_error_dn: Its standard error [DN]; None where the pattern is not seen.
        visible: Share of the sites that the clamp does not hold: what a mean moves per DN of true offset.
    """

    read_noise_dn: float
    error_dn: float
    black_dn: float
    black_error_dn: float
    pattern_dn: float
    pattern_error_dn: float | None
    visible: float


def count_codes(
    first: NDArray[np.uint16], second: NDArray[np.uint16], *, defects: NDArray[np.bool_] | None = None
) -> Counter[tuple[int, int]]:
    """How often each pair of codes occurs at the same pixel of two frames, defects left out."""
    keep = slice(None) if defects is None else ~defects
    joint = first[keep].astype(np.uint32).ravel() << np.uint32(16) | second[keep].astype(np.uint32).ravel()
    codes, counts = np.unique(joint, return_counts=True)
    return Counter({(int(c >> 16), int(c & 0xFFFF)): int(n) for c, n in zip(codes, counts, strict=True)})


def fit_codes(counts: Counter[tuple[int, int]], *, low: int | None = None) -> CodeFit:
    """Read noise, black level and fixed pattern from pairs of dark codes.

    Args:
        counts: Of `count_codes`, added up over pairs and CFA sites of one plane.
        low: Lowest code that the camera writes: everything below piles up there. None: no clamp.

    Raises:
        CalibrationError: the codes do not determine the read noise.
    """
    if len(counts) < 3:
        raise CalibrationError(
            "The darks show one code only: their noise is far below one code step, or lies below the black clamp, and "
            "cannot be measured. Use a higher ISO, or a raw format with more bits."
        )
    table = _PairTable.of(counts, low)
    spread = math.sqrt(max(_total_variance(table, low), _SMALLEST_STD_DN))
    start = np.array([table.start / spread, math.log(0.9 * spread), math.log(0.3 * spread)])

    def cost(parameters: F64) -> float:
        return -table.log_likelihood(parameters[0] * spread, parameters[1], parameters[2])

    simplex = np.concatenate([start[None], start + _FIRST_STEP * np.eye(3)])
    options = {"xatol": 1e-5, "fatol": 1e-3, "maxiter": 900, "initial_simplex": simplex}
    best = optimize.minimize(cost, start, method="Nelder-Mead", options=options)
    mean, read, pattern = best.x[0] * spread, math.exp(best.x[1]), math.exp(best.x[2])
    errors = _errors(cost, best.x)
    if not (best.success and np.isfinite(errors[1]) and errors[1] <= _LARGEST_RELATIVE_ERROR):
        raise CalibrationError(
            f"The read noise (about {read:.2g} DN) lies far below one code step or below the black clamp, and these "
            "darks do not determine it. Take more darks, or use a higher ISO or a raw format with more bits."
        )
    clamp = -math.inf if low is None else (low + 0.5 - table.origin - mean) / math.hypot(read, pattern)
    return CodeFit(
        read_noise_dn=read,
        error_dn=read * float(errors[1]),
        black_dn=mean + table.origin,
        black_error_dn=float(errors[0]) * spread,
        pattern_dn=pattern,
        pattern_error_dn=pattern * float(errors[2]) if np.isfinite(errors[2]) else None,
        visible=float(stats.norm.sf(clamp)),
    )


@dataclass(frozen=True)
class _PairTable:
    """Counts of pairs of code bins.

    Attributes:
        counts: (bins, bins).
        edges: (bins + 1,) rising [DN above ``origin``]; the first infinite where the camera clamps.
        origin: Code that the edges are counted from [DN].
        start: Mean of the codes above ``origin`` [DN].
        variance: Of single codes [DN^2].
    """

    counts: F64
    edges: F64
    origin: float
    start: float
    variance: float

    @classmethod
    def of(cls, counts: Counter[tuple[int, int]], low: int | None) -> _PairTable:
        pairs, number = np.array(list(counts)), np.array(list(counts.values()), dtype=np.float64)
        centre = float(number @ pairs.mean(axis=1) / number.sum())
        variance = float(number @ ((pairs - centre) ** 2).mean(axis=1) / number.sum())
        lowest, highest = int(pairs.min()), int(pairs.max())
        step = max(1, int(math.sqrt(variance) / _BINS_PER_STD))
        first = lowest + (1 if lowest == low else 0)  # the clamped code is a bin of its own
        # The last bin may reach beyond the highest code: those codes were possible, and empty.
        starts = np.arange(first, highest + step, step)
        starts = np.concatenate([[lowest], starts]) if first > lowest else starts
        index = np.searchsorted(starts, pairs, side="right") - 1
        table = np.zeros((len(starts), len(starts)))
        np.add.at(table, (index[:, 0], index[:, 1]), number)
        origin = float(np.round(centre))
        edges = np.append(starts, starts[-1] + step) - 0.5 - origin
        if lowest == low:
            edges[0] = -np.inf
        return cls(table, edges, origin, centre - origin, variance)

    def log_likelihood(self, mean: float, log_read: float, log_pattern: float) -> float:
        """Of the counts, for a mean above ``origin`` and logarithms of the two stds [DN]."""
        read = max(math.exp(log_read), _SMALLEST_STD_DN)
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        centre = mean + math.exp(log_pattern) * nodes
        # P(bin | fixed value of the pixel), (node, bin); both frames are independent draws around that value.
        probability = np.diff(stats.norm.cdf((self.edges[None, :] - centre[:, None]) / read), axis=1)
        joint = np.einsum("n,ni,nj->ij", weights / weights.sum(), probability, probability)
        return float(np.sum(self.counts * np.log(np.maximum(joint, 1e-300))))


def _total_variance(table: _PairTable, low: int | None) -> float:
    """Variance of a single code [DN^2], the clamp undone where there is one."""
    if low is None or np.isfinite(table.edges[0]):
        return table.variance
    marginal = table.counts.sum(axis=0) + table.counts.sum(axis=1)
    width = float(table.edges[-1] - table.edges[-2])
    fit = fit_gaussian_codes(CodeCounts(0, marginal.astype(np.int64)), low=0)
    return (fit.std.value * width) ** 2


def _errors(cost: Callable[[F64], float], at: F64) -> F64:
    """Standard errors from the observed information; infinite for the pattern where it is at zero."""
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
    result = np.full(3, np.inf)
    try:
        variance = np.diag(np.linalg.inv(information))
    except np.linalg.LinAlgError:
        return result
    result[free] = np.where(variance > 0.0, np.sqrt(np.abs(variance)), np.inf)
    return result
