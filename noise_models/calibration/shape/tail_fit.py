"""Shape of the read noise by likelihood: Gaussian, a fixed lognormal spread of pixel sigma, or Tukey-lambda draws.

Two kinds of evidence, for two questions:

1. How heavy are the tails? Maximum likelihood on dark differences (`tail_shapes`), hot pixels and outliers excluded.
2. Are they a property of pixels or of draws? Their histogram cannot tell (a lognormal width of 0.3 looks like a
   Tukey-lambda of -0.01); the correlation of squared residuals between frames can (`pixel_spread`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from noise_models.calibration.fits import std_from_variance
from noise_models.calibration.shape.pixel_spread import (
    OUTLIER_SIGMA,
    correlation_of_width,
    require_frames,
    robust_std,
    spread_correlation,
    without_lines,
)
from noise_models.calibration.shape.tail_shapes import TUKEY_LIMITS, WIDEST_LOGNORMAL, Shape, log_density
from noise_models.errors import CalibrationError
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Estimate, Tail

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

# Below 2 DN rounding shapes the distribution more than tails do.
SMALLEST_STD_DN = 2.0
# Below half a DN the moments themselves are wrong by more than 1 %.
_SMALLEST_RESOLVED_DN = 0.5
# Bins of the difference: fine against the noise (variance off by 1e-5) and against one code.
_BINS_PER_STD = 64
_SMALLEST_BIN_DN = 1.0 / 16.0
# Numerical derivatives, in log std and in w^2 or lambda: large against rounding, small against curvature.
_STEP = 1e-3
_NEWTON_STEPS = 2  # after the optimiser has stopped; each squares the distance to the maximum
# The correlation tells the kinds apart where their predictions are this many standard errors from the middle.
_DECIDED_SIGMA = 2.0


@dataclass(frozen=True)
class ShapeFit:
    """One shape fitted by maximum likelihood.

    Attributes:
        kind: Which.
        std: Read noise of one frame [DN]: rounding, line noise and excluded pixels not included.
        shape: Width of log sigma, or lambda; None for "gaussian".
        log_likelihood: Per difference, relative to the window [nats].
    """

    kind: Shape
    std: Estimate
    shape: Estimate | None
    log_likelihood: float


@dataclass(frozen=True)
class TailFit:
    """Shape of the read noise and the evidence for it.

    Attributes:
        kind: "gaussian", "lognormal" or "tukey".
        shape: Width of log sigma, or lambda; None for "gaussian".
        std: Read noise of one frame under that shape [DN].
        fits: All shapes that were fitted; the Tukey-lambda among them is what ELD's parametrisation asks for, whatever
            the kind.
        spread_correlation: Of squared residuals between frames; 0 for independent draws.
        expected_correlation: What the fitted lognormal width predicts for it; None where it was not fitted.
        count: Differences used.
        excluded: Share of pixels left out.
        reason: One sentence on how the kind was decided.
    """

    kind: Shape
    shape: Estimate | None
    std: Estimate
    fits: tuple[ShapeFit, ...]
    spread_correlation: Estimate
    expected_correlation: float | None
    count: int
    excluded: float
    reason: str

    def tail(self) -> Tail:
        """As a profile stores it."""
        return Tail(kind=self.kind, shape=self.shape)


def fit_tail(frames: NDArray[np.generic], *, exclude: Bool | None = None) -> TailFit:
    """Decide and fit the shape of the read noise.

    Left out of the fit: pixels of ``exclude`` (blinking ones: `rts.TemporalMoments`); hot pixels, which lie more than
    8 robust sigma off in both frames of a pair on the same side; single differences beyond 8 robust sigma. The
    likelihood is conditional on that window, so that it cuts no tail off the result.

    Args:
        frames: (n, h, w) codes [DN], n >= 2 darks of one CFA site, unclamped; taken two by two in their order.
        exclude: (h, w), True: leave the pixel out.

    Returns:
        kind "gaussian" with the reason where the noise is below 2 DN.

    Raises:
        CalibrationError: fewer than two frames, or a noise below half a DN.
    """
    require_frames(frames, 2)
    keep = np.ones(frames.shape[1:], dtype=bool) if exclude is None else ~exclude
    for first, second in zip(frames[0::2], frames[1::2], strict=False):
        keep &= ~_hot(first, second)
    differences = _Differences.of(frames, keep)
    correlation = spread_correlation(frames, exclude=~keep)
    gaussian = _gaussian_below(differences) if differences.std < SMALLEST_STD_DN else _fit(differences, "gaussian")
    fits: tuple[ShapeFit, ...] = (gaussian,)
    if differences.std >= SMALLEST_STD_DN:
        fits += (_fit(differences, "lognormal"), _fit(differences, "tukey"))
    chosen, reason = _decide(fits, correlation, differences.count)
    width = next((fit.shape for fit in fits if fit.kind == "lognormal"), None)
    return TailFit(
        kind=chosen.kind,
        shape=chosen.shape,
        std=chosen.std,
        fits=fits,
        spread_correlation=correlation,
        expected_correlation=None if width is None else correlation_of_width(width.value),
        count=differences.count,
        excluded=1.0 - differences.count / differences.index.size,
        reason=reason,
    )


def _hot(first: NDArray[np.generic], second: NDArray[np.generic]) -> Bool:
    r1, r2 = without_lines(first), without_lines(second)
    limit = OUTLIER_SIGMA * robust_std(r1)
    result: Bool = (np.minimum(r1, r2) > limit) | (np.maximum(r1, r2) < -limit)
    return result


@dataclass(frozen=True)
class _Differences:
    """Dark differences in bins of |difference|.

    Attributes:
        centres: Of the bins [DN].
        counts: Differences per bin.
        index: (pairs, h, w) bin of every difference; -1: left out.
        std: Read noise of one frame, from the second moment within the window [DN]; 0 where rounding explains all.
        line_share: Share a of its own noise that a pixel loses with the line means, 1/h + 1/w.
    """

    centres: F64
    counts: F64
    index: NDArray[np.int16]
    std: float
    line_share: float

    @classmethod
    def of(cls, frames: NDArray[np.generic], keep: Bool) -> _Differences:
        pairs = len(frames) // 2
        height, width = frames.shape[1:]
        residuals = [
            without_lines(frames[2 * k].astype(np.float32) - frames[2 * k + 1].astype(np.float32)) for k in range(pairs)
        ]
        spread = robust_std(residuals[0])
        step = max(_SMALLEST_BIN_DN, spread / _BINS_PER_STD)
        last = round(OUTLIER_SIGMA * spread / step)
        index = np.empty((pairs, height, width), dtype=np.int16)
        for k, residual in enumerate(residuals):
            bins = np.rint(np.abs(residual) / np.float32(step))
            index[k] = np.where(keep & (bins <= last), bins, -1)
        counts = np.bincount(index[index >= 0], minlength=last + 1).astype(np.float64)
        centres: F64 = step * np.arange(last + 1, dtype=np.float64)
        share = 1.0 / height + 1.0 / width
        variance = float(counts @ centres**2) / counts.sum() / 2.0 / (1.0 - share) - QUANTISATION_VARIANCE_DN2
        return cls(centres, counts, index, math.sqrt(max(variance, 0.0)), share)

    @property
    def count(self) -> int:
        """Differences used."""
        return int(self.counts.sum())

    def log_probability(self, kind: Shape, theta: F64) -> F64:
        """Log probability of each bin, given that the difference is in one of them."""
        std, own = math.exp(theta[0]), 1.0 - self.line_share
        # Removing line means leaves (1 - a) of a pixel's own noise and adds a Gaussian of its lines' other pixels.
        blur = 2.0 * std**2 * self.line_share / own
        log_p = log_density(kind, self.centres / own, std=std, shape=_shape_of(kind, theta), blur=blur)
        log_p[1:] += math.log(2.0)  # both signs
        result: F64 = log_p - np.logaddexp.reduce(log_p)
        return result


def _shape_of(kind: Shape, theta: F64) -> float:
    """The lognormal width enters the likelihood as w^2, in which it is smooth at zero."""
    if kind == "gaussian":
        return 0.0
    return math.sqrt(max(theta[1], 0.0)) if kind == "lognormal" else float(theta[1])


def _fit(differences: _Differences, kind: Shape) -> ShapeFit:
    """Maximum likelihood; errors from the sandwich, which stays right where pairs share pixels or the model is off."""
    counts = differences.counts

    def negative(theta: F64) -> float:
        return -float(counts @ differences.log_probability(kind, theta)) / differences.count

    limits = {"gaussian": None, "lognormal": (0.0, WIDEST_LOGNORMAL**2), "tukey": TUKEY_LIMITS}[kind]
    start = {"gaussian": [], "lognormal": [0.04], "tukey": [0.05]}[kind]
    log_std = math.log(differences.std)
    bounds = [(log_std - 1.0, log_std + 2.0), *([limits] if limits else [])]
    found = optimize.minimize(
        negative, [log_std, *start], method="L-BFGS-B", bounds=bounds, options={"eps": 1e-5, "ftol": 1e-12}
    )
    theta = np.asarray(found.x, dtype=np.float64)
    for _ in range(_NEWTON_STEPS):
        theta = np.clip(theta, [low for low, _ in bounds], [high for _, high in bounds])
        score, hessian = _derivatives(differences, kind, theta)
        step = np.linalg.solve(hessian, score @ counts)
        if not negative(theta - step) <= negative(theta):
            break
        theta = theta - step
    score, hessian = _derivatives(differences, kind, theta)
    covariance = _sandwich(differences, score, hessian)
    return _shape_fit(kind, theta, covariance, -negative(theta))


def _derivatives(differences: _Differences, kind: Shape, theta: F64) -> tuple[F64, F64]:
    """Score of each bin (p, bins) and Hessian of the log-likelihood (p, p), by central differences."""
    size = len(theta)
    steps = _STEP * np.eye(size)
    centre = theta.copy()
    if kind == "lognormal":
        centre[1] = max(centre[1], _STEP)  # w^2 cannot be negative
    table = {}
    for i in range(size):
        for j in range(i, size):
            for a in (-1.0, 1.0):
                for b in (-1.0, 1.0):
                    table[i, j, a, b] = differences.log_probability(kind, centre + 0.5 * (a * steps[i] + b * steps[j]))
    hessian = np.empty((size, size))
    score = np.empty((size, len(differences.counts)))
    for i in range(size):
        score[i] = (table[i, i, 1.0, 1.0] - table[i, i, -1.0, -1.0]) / (2.0 * _STEP)
        for j in range(i, size):
            mixed = sum(a * b * table[i, j, a, b] for a in (-1.0, 1.0) for b in (-1.0, 1.0))
            hessian[i, j] = hessian[j, i] = float(differences.counts @ mixed) / _STEP**2
    return score, hessian


def _sandwich(differences: _Differences, score: F64, hessian: F64) -> F64:
    """H^-1 J H^-1 with J from the scores of pixels: a pixel's differences are not independent of each other."""
    padded = np.concatenate([score, np.zeros((len(score), 1))], axis=1)  # index -1: left out
    outer = np.zeros_like(hessian)
    for row in range(differences.index.shape[1]):
        of_pixel = padded[:, differences.index[:, row]].sum(axis=1)
        outer += of_pixel @ of_pixel.T
    inverse = np.linalg.inv(hessian)
    result: F64 = inverse @ outer @ inverse
    return result


def _shape_fit(kind: Shape, theta: F64, covariance: F64, log_likelihood: float) -> ShapeFit:
    std = math.exp(theta[0])
    errors = np.sqrt(np.diag(covariance))
    method = f"maximum likelihood of dark differences, {kind}"
    shape = None
    if kind == "lognormal":
        shape = std_from_variance(float(theta[1]), float(errors[1]), method=method)
    elif kind == "tukey":
        shape = Estimate(value=float(theta[1]), standard_error=float(errors[1]), method=method)
    std_estimate = Estimate(value=std, standard_error=std * float(errors[0]), method=method)
    return ShapeFit(kind, std_estimate, shape, log_likelihood)


def _gaussian_below(differences: _Differences) -> ShapeFit:
    """Below 2 DN: the standard deviation from the second moment of the window, if that means anything."""
    count, square = differences.count, differences.centres**2
    if differences.std < _SMALLEST_RESOLVED_DN:
        raise CalibrationError(
            f"The noise of these darks is {differences.std:.2f} DN; moments of differences need "
            f"{_SMALLEST_RESOLVED_DN} DN. Fit the code counts (fit_gaussian_codes), or use a higher ISO."
        )
    second = float(differences.counts @ square) / count
    error = math.sqrt(max(float(differences.counts @ square**2) / count - second**2, 0.0) / count) / 2.0
    std = std_from_variance(differences.std**2, error, method="second moment of dark differences")
    log_p = differences.log_probability("gaussian", np.array([math.log(std.value)]))
    return ShapeFit("gaussian", std, None, float(differences.counts @ log_p) / count)


def _decide(fits: tuple[ShapeFit, ...], correlation: Estimate, count: int) -> tuple[ShapeFit, str]:
    by_kind = {fit.kind: fit for fit in fits}
    gaussian = by_kind["gaussian"]
    if len(fits) == 1:
        return gaussian, f"The shape is not identifiable below {SMALLEST_STD_DN:g} DN; Gaussian is assumed."
    lognormal, tukey = by_kind["lognormal"], by_kind["tukey"]
    wide, other = (2.0 * count * (fit.log_likelihood - gaussian.log_likelihood) for fit in (lognormal, tukey))
    # One more parameter must earn its place (Schwarz's criterion).
    needed = math.log(count)
    if max(wide, other) <= needed:
        better = f"Tails improve twice the log-likelihood by {max(wide, other):.1f}"
        return gaussian, f"{better}, less than ln n = {needed:.1f}."
    if wide <= needed:
        return tukey, "The tails are lighter than a Gaussian's, which no spread of sigma makes."
    assert lognormal.shape is not None
    assert correlation.standard_error is not None
    expected = correlation_of_width(lognormal.shape.value)
    middle = 0.5 * expected
    sure = abs(correlation.value - middle) >= _DECIDED_SIGMA * correlation.standard_error
    seen = (
        f"Squared residuals of two frames correlate by {correlation.value:.4f} +- {correlation.standard_error:.4f}; "
        f"a fixed spread predicts {expected:.4f}, independent draws 0"
    )
    if sure:
        return (lognormal if correlation.value > middle else tukey), f"{seen}."
    likelier = max((lognormal, tukey), key=lambda fit: fit.log_likelihood)
    return likelier, f"{seen}, which does not decide: the likelier histogram was taken."
