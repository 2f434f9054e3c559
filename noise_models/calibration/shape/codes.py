"""Mean and standard deviation of a Gaussian that was rounded to whole codes, and perhaps clamped: maximum likelihood.

A code k is the interval of one DN around it,

    P(k) = Phi((k + 1/2 - mean) / std) - Phi((k - 1/2 - mean) / std),

the lowest and the highest code that a camera writes are half-lines. Moments of such codes are wrong twice: rounding
adds not 1/12 but a phase-dependent variance once std falls below half a code, and a black clamp moves the mean up and
halves the variance. The likelihood is right in both cases. Everything is computed from counts per code, so 24 million
pixels cost no more than a thousand.

Source: Fisher scoring of a grouped normal sample, Kulldorff, "Contributions to the theory of estimation from grouped
and partially grouped samples" (1961).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from noise_models.errors import CalibrationError
from noise_models.sensor import Estimate

F64 = NDArray[np.float64]

# Below this many DN the result hangs on the few pixels that a Gaussian sends over the next code edge (1 in 80 at the
# worst phase of 0.4 DN, 1 in 1,000 at 0.3): an assumption about tails, no longer a measurement.
SMALLEST_STD_DN = 0.4
# ... and it is refused when it lies below by this many standard errors: a true 0.4 must not be refused by chance.
_REFUSAL_ERRORS = 5.0
# With a larger relative error of std the likelihood is far from parabolic, and no interval of the form +- z se holds.
LARGEST_RELATIVE_ERROR = 0.2

# Expected counts below which cells are pooled for chi^2 (Cochran 1954).
SMALLEST_EXPECTED = 5.0
# A misfit is believed, and the errors are inflated by it, where chance would make one of a thousand such.
_MISFIT_PROBABILITY = 1e-3

_MAX_STEPS = 200
_MAX_HALVINGS = 30
# Last but one step, in standard errors: what it adds to the log-likelihood (5e-7) still stands out of rounding errors
# with 24 million pixels, and the step after it is quadratically smaller.
_TOLERANCE = 1e-3
_LARGEST_STEP = 1.0  # of log std in one step
_START_QUANTILES = (0.02, 0.98)  # code edges between them enter the start: outliers sit outside


@dataclass(frozen=True)
class CodeCounts:
    """How often each code occurs.

    Attributes:
        first: Code of the first entry; negative for differences.
        counts: (n,) int64, of the codes ``first .. first + n - 1``.

    Raises:
        ValueError: not one-dimensional counts, or negative ones.
    """

    first: int
    counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check once."""
        if self.counts.ndim != 1 or self.counts.dtype != np.int64 or (self.counts < 0).any():
            raise ValueError(f"counts must be (n,) int64, not negative; not {self.counts.shape} {self.counts.dtype}.")

    @classmethod
    def of(cls, codes: NDArray[np.integer]) -> Self:
        """Count the codes of an array of whole numbers of any shape.

        >>> CodeCounts.of(np.array([7, 9, 9]))
        CodeCounts(first=7, counts=array([1, 0, 2]))
        """
        if codes.size == 0:
            raise CalibrationError("No pixels to count: the area, or what a mask left of it, is empty.")
        first, last = int(codes.min()), int(codes.max())
        counts = np.zeros(last - first + 1, dtype=np.int64)
        # bincount works in int64: row by row, a 24-megapixel frame does not become eight times its size.
        for row in np.atleast_2d(codes):
            counts += np.bincount(row.ravel().astype(np.int64) - first, minlength=len(counts))
        return cls(first, counts)

    @property
    def codes(self) -> NDArray[np.int64]:
        """The codes that the entries of `counts` belong to."""
        return np.arange(self.first, self.first + len(self.counts))

    @property
    def total(self) -> int:
        """Number of pixels."""
        return int(self.counts.sum())

    def __add__(self, other: CodeCounts) -> CodeCounts:
        """Counts of both together: frames may be counted one by one."""
        first = min(self.first, other.first)
        length = max(self.first + len(self.counts), other.first + len(other.counts)) - first
        total = np.zeros(length, dtype=np.int64)
        for part in (self, other):
            total[part.first - first : part.first - first + len(part.counts)] += part.counts
        return CodeCounts(first, total)

    def between(self, first: int, last: int) -> CodeCounts:
        """Counts of the codes ``first .. last``, zero where there are none."""
        inside = (self.codes >= first) & (self.codes <= last)
        counts = np.zeros(last - first + 1, dtype=np.int64)
        counts[self.codes[inside] - first] = self.counts[inside]
        return CodeCounts(first, counts)


@dataclass(frozen=True)
class GaussianCodes:
    """A Gaussian seen through whole codes.

    Attributes:
        mean: Before rounding and clamping [DN].
        std: Before rounding and clamping [DN]: no 1/12 in it.
        covariance: (2, 2) of (mean, std) [DN^2]; the row and column of a known mean are zero.
        log_likelihood: Sum over pixels of ln P(code) [nats].
        chi2: Of the counts against the fit, cells of fewer than five expected pixels pooled.
        dof: Its degrees of freedom; 0: nothing left to test.
        count: Pixels used.
        clamped: Share of them at the black clamp.
        clipped: Share of them at the highest code.
    """

    mean: Estimate
    std: Estimate
    covariance: F64
    log_likelihood: float
    chi2: float
    dof: int
    count: int
    clamped: float
    clipped: float


def fit_gaussian_codes(
    counts: CodeCounts,
    *,
    low: int | None = None,
    high: int | None = None,
    mean: float | None = None,
    window: tuple[int, int] | None = None,
) -> GaussianCodes:
    """Maximum-likelihood mean and std of a Gaussian from counts per code.

    Standard errors come from the Fisher information; where the counts contradict a Gaussian (chi^2 with a probability
    below 0.001) they are inflated by the root of chi^2/dof.

    Args:
        counts: Of one CFA site or of a difference frame.
        low: Lowest code that the camera writes (black clamp): everything below piles up there. None: no clamp.
        high: Highest code, in the same way.
        mean: Known mean [DN]; None: fitted.
        window: First and last code to look at; the fit is conditional on them, so that hot pixels outside do not
            count. Keep it three sigma wide on either side or wider.

    Raises:
        CalibrationError: codes outside ``low .. high``, too few different codes, or a std so far below one code that
            the counts do not determine it.
    """
    cells = _Cells.of(counts, low=low, high=high, window=window)
    _require_information(cells, known_mean=mean is not None)
    start = _start(cells)
    theta = np.array([start[0] if mean is None else mean, math.log(start[1])])
    free = np.array([mean is None, True])
    theta = _scored(cells, theta, free)
    _, gradient, probability = cells.log_probability(theta)
    covariance = np.zeros((2, 2))
    information = cells.total * (gradient * probability) @ gradient.T
    covariance[np.ix_(free, free)] = np.linalg.inv(information[np.ix_(free, free)])
    scale = np.array([1.0, math.exp(theta[1])])  # from log std to std
    covariance *= np.outer(scale, scale)
    _require_resolved(cells, theta, math.sqrt(covariance[1, 1]))
    return _result(cells, theta, covariance, fitted=int(free.sum()))


@dataclass(frozen=True)
class _Cells:
    """Intervals of the real line with their counts.

    Attributes:
        edges: (n + 1,) rising [DN]; infinite at a half-line.
        counts: (n,).
        conditional: The cells are a window: probabilities are relative to it.
        clamped: Pixels at ``low``.
        clipped: Pixels at ``high``.
    """

    edges: F64
    counts: F64
    conditional: bool
    clamped: float
    clipped: float

    @classmethod
    def of(cls, counts: CodeCounts, *, low: int | None, high: int | None, window: tuple[int, int] | None) -> Self:
        occupied = counts.codes[counts.counts > 0]
        lowest, highest = int(occupied.min()), int(occupied.max())
        if (low is not None and lowest < low) or (high is not None and highest > high):
            raise CalibrationError(
                f"Codes run from {lowest} to {highest}, outside the given limits {low} .. {high}: those are not the "
                "limits of this camera. Pass the lowest and the highest code that it writes."
            )
        first, last = (lowest, highest) if window is None else window
        first = first if low is None else max(first, low)
        last = last if high is None else min(last, high)
        inside = counts.between(first, last).counts.astype(np.float64)
        edges = np.arange(first, last + 2, dtype=np.float64) - 0.5
        if first == low:
            edges[0] = -np.inf
        if last == high:
            edges[-1] = np.inf
        if window is None:  # what lies beyond the codes seen is a cell too: it was possible, and empty
            beyond = (int(first != low), int(last != high))
            edges = np.pad(edges, beyond, constant_values=(-np.inf, np.inf))
            inside = np.pad(inside, beyond)
        at_low = 0.0 if first != low else inside[0]
        at_high = 0.0 if last != high else inside[-1]
        return cls(edges, inside, window is not None, float(at_low), float(at_high))

    @property
    def total(self) -> float:
        """Pixels in the cells."""
        return float(self.counts.sum())

    def log_probability(self, theta: F64) -> tuple[F64, F64, F64]:
        """Log probability of each cell (n,), its gradient in (mean, log std) (2, n), and the probability (n,)."""
        z = (self.edges - theta[0]) / math.exp(theta[1])
        log_p = _log_interval(z)
        with np.errstate(over="ignore", invalid="ignore"):
            # density / probability in logs: neither underflows 40 sigma out, where a hot pixel may sit
            lower, upper = (np.exp(-0.5 * side**2 - _LOG_ROOT_2PI - log_p) for side in (z[:-1], z[1:]))
        finite = np.where(np.isfinite(z), z, 0.0)
        gradient = np.stack([(lower - upper) / math.exp(theta[1]), finite[:-1] * lower - finite[1:] * upper])
        if self.conditional:
            log_p = log_p - special.logsumexp(log_p)
            gradient = gradient - (gradient @ np.exp(log_p))[:, None]
        return log_p, gradient, np.exp(log_p)


_LOG_ROOT_2PI = 0.5 * math.log(2.0 * math.pi)


def _log_interval(z: F64) -> F64:
    """ln(Phi(z[1:]) - Phi(z[:-1])), taken in the left tail, where Phi keeps its precision."""
    lower, upper = z[:-1], z[1:]
    mirrored = lower > 0.0
    near = special.log_ndtr(np.where(mirrored, -lower, upper))
    far = special.log_ndtr(np.where(mirrored, -upper, lower))
    result: F64 = near + np.log(-np.expm1(far - near))
    return result


def _require_information(cells: _Cells, *, known_mean: bool) -> None:
    """Two unknowns need three occupied codes, one unknown needs two."""
    occupied = np.flatnonzero(cells.counts)
    needed = 2 if known_mean else 3
    if len(occupied) >= needed:
        return
    edge = float(cells.edges[occupied[0] + 1])
    if len(occupied) == 1:
        fixed = f"all pixels have one code, the one that ends at {edge:g}: only an upper bound on std is known"
    else:
        ratio = float(stats.norm.ppf(cells.counts[occupied[0]] / cells.total))
        fixed = f"they fix one number only, ({edge:g} - mean) / std = {ratio:.3f}"
    raise CalibrationError(
        f"{len(occupied)} different codes do not determine {'std' if known_mean else 'mean and std'}: {fixed}. "
        f"{needed} are needed. Use a higher ISO, or frames with more bits."
    )


def _start(cells: _Cells) -> tuple[float, float]:
    """Mean and std from the straight line ``Phi^-1(share below edge) = (edge - mean) / std``.

    Good for coarse codes and clamps alike, and blind to outliers, because edges far out do not enter.
    """
    share = np.cumsum(cells.counts)[:-1] / cells.total
    edges = cells.edges[1:-1]
    inside = (share >= _START_QUANTILES[0]) & (share <= _START_QUANTILES[1])
    if inside.sum() < 2:
        inside = (share > 0.0) & (share < 1.0)
    if inside.sum() < 2:  # a known mean with two codes: any std that is no surprise will do
        return float(edges[np.argmin(np.abs(share - 0.5))]), 1.0
    slope, offset = np.polyfit(edges[inside], special.ndtri(share[inside]), 1)
    return float(-offset / slope), float(1.0 / slope)


def _scored(cells: _Cells, theta: F64, free: NDArray[np.bool_]) -> F64:
    """Fisher scoring with step halving."""
    log_p, gradient, probability = cells.log_probability(theta)
    value = float(cells.counts @ log_p)
    for _ in range(_MAX_STEPS):
        score = (gradient @ cells.counts)[free]
        information = (cells.total * (gradient * probability) @ gradient.T)[np.ix_(free, free)]
        step = np.zeros(2)
        step[free] = np.linalg.solve(information, score)
        if float(step[free] @ information @ step[free]) <= _TOLERANCE**2:
            return theta + step
        step *= min(1.0, _LARGEST_STEP / max(abs(step[1]), 1e-300))
        for _ in range(_MAX_HALVINGS):
            log_p, gradient, probability = cells.log_probability(theta + step)
            updated = float(cells.counts @ log_p)
            if updated >= value:
                break
            step *= 0.5
        else:
            return theta  # no uphill step is left above rounding error
        theta, value = theta + step, updated
    raise CalibrationError(
        f"The likelihood of {cells.total:.0f} codes has no maximum near mean {theta[0]:g}, std {math.exp(theta[1]):g}. "
        "Widen the window, or check that the clamp is the camera's."
    )


def _require_resolved(cells: _Cells, theta: F64, error: float) -> None:
    """Refuse what the counts do not determine."""
    mean, std = float(theta[0]), math.exp(theta[1])
    phase = mean - math.floor(mean + 0.5)
    if std + _REFUSAL_ERRORS * error >= SMALLEST_STD_DN and error <= LARGEST_RELATIVE_ERROR * std:
        return
    beyond = cells.total - float(np.sort(cells.counts)[-2:].sum())
    raise CalibrationError(
        f"A std of {std:.3g} +- {error:.2g} DN at phase {phase:+.2f} (mean {mean:.2f}) cannot be measured: "
        f"{beyond:.0f} of {cells.total:.0f} pixels lie outside the two most frequent codes, and only they tell "
        f"std from mean. Needed: at least {SMALLEST_STD_DN} DN and an error below {LARGEST_RELATIVE_ERROR:.0%}. "
        "Use a higher ISO, more pixels, or frames with more bits."
    )


def _result(cells: _Cells, theta: F64, covariance: F64, *, fitted: int) -> GaussianCodes:
    log_p, _, probability = cells.log_probability(theta)
    chi2, pooled = pooled_chi2(cells.counts, cells.total * probability)
    dof = max(pooled - 1 - fitted, 0)
    if dof > 0 and stats.chi2.sf(chi2, dof) < _MISFIT_PROBABILITY:
        covariance = covariance * (chi2 / dof)
    method = "maximum likelihood on codes" + (" at a clamp" if cells.clamped else "")
    mean, std = (
        Estimate(value=value, standard_error=math.sqrt(variance), method=method)
        for value, variance in zip((float(theta[0]), math.exp(theta[1])), np.diag(covariance), strict=True)
    )
    return GaussianCodes(
        mean=mean,
        std=std,
        covariance=covariance,
        log_likelihood=float(cells.counts @ log_p),
        chi2=chi2,
        dof=dof,
        count=int(cells.total),
        clamped=cells.clamped / cells.total,
        clipped=cells.clipped / cells.total,
    )


def pooled_chi2(counts: F64, expected: F64) -> tuple[float, int]:
    """Pearson's chi^2, neighbouring cells joined until five or more pixels are expected in each.

    Args:
        counts: Observed, (n,).
        expected: By the model, (n,), same sum.

    Returns:
        chi^2 and the number of joined cells.
    """
    starts = pooled_starts(expected)
    observed, wanted = np.add.reduceat(counts, starts), np.add.reduceat(expected, starts)
    return float(np.sum((observed - wanted) ** 2 / wanted)), len(starts)


def pooled_starts(weights: F64) -> list[int]:
    """First cells of groups of neighbours that hold five or more each; all in one group where there is less.

    >>> pooled_starts(np.array([1.0, 6.0, 9.0, 2.0]))
    [0, 2]
    """
    starts, filled = [0], 0.0
    for i, value in enumerate(weights[:-1]):
        filled += float(value)
        if filled >= SMALLEST_EXPECTED:
            starts.append(i + 1)
            filled = 0.0
    if len(starts) > 1 and filled + float(weights[-1]) < SMALLEST_EXPECTED:
        starts.pop()  # the remainder is too small to stand alone
    return starts
