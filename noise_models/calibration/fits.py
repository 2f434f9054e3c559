"""Fits and error propagation that the estimators share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noise_models.errors import CalibrationError
from noise_models.sensor import Estimate

F64 = NDArray[np.float64]

_MAX_ITERATIONS = 50
_TOLERANCE = 1e-10  # relative change of the weights at which scoring has converged; it does so in about five steps

# The fitted variance enters the weights squared; a fit that passes below zero on its way must not make one infinite.
_SMALLEST_MODEL_VARIANCE = 0.1  # as a share of the measured variance of that point


@dataclass(frozen=True)
class AffineFit:
    """``variance = slope * mean + intercept``.

    Attributes:
        slope: K [DN/e-] of a photon-transfer curve.
        intercept: Variance [DN^2] at mean zero.
        covariance: (2, 2) of (slope, intercept), already inflated by chi^2/dof where that exceeds one.
        chi2: Sum of squared residuals in units of their standard errors.
        dof: Points minus two.
    """

    slope: float
    intercept: float
    covariance: F64
    chi2: float
    dof: int

    @property
    def chi2_dof(self) -> float | None:
        """Reduced chi^2; None where two points leave nothing to test."""
        return self.chi2 / self.dof if self.dof > 0 else None


def variance_error(variance: F64, dof: F64, excess_kurtosis: F64) -> F64:
    """Standard error of a variance from ``dof`` independent differences of the given excess kurtosis.

    Source: ``var(s^2) = sigma^4 (2 + kappa) / N``; kappa of a difference is half that of one frame.
    """
    result: F64 = variance * np.sqrt((2.0 + excess_kurtosis) / dof)
    return result


def fit_affine_variance(
    mean: F64,
    variance: F64,
    *,
    relative_error: F64,
    mean_error: F64 | None = None,
    offset_error: float = 0.0,
) -> AffineFit:
    """Maximum-likelihood line through variances whose scatter is proportional to themselves (Fisher scoring).

    Weights come from the fitted variance, never from the measured one: points that happen to scatter low would
    otherwise weigh more and bias the line downwards.

    Args:
        mean: Above black [DN], (n,).
        variance: Measured temporal variance [DN^2], (n,).
        relative_error: Standard error of each variance, divided by that variance, (n,).
        mean_error: Standard error of each mean [DN], independent from point to point.
        offset_error: Standard error [DN] of the black level that all points above zero share.

    Raises:
        CalibrationError: fewer than two different means.
    """
    if len(mean) < 2 or float(np.ptp(mean)) <= 0.0:
        raise CalibrationError(
            f"A photon-transfer line needs at least two light levels; there are {len(np.unique(mean))}. "
            "Take two darks and two flats at one level below 30 % of saturation, better at three to five levels."
        )
    errors = np.zeros_like(mean) if mean_error is None else mean_error
    floor = _SMALLEST_MODEL_VARIANCE * np.abs(variance)
    design = np.stack([mean, np.ones_like(mean)], axis=1)
    weights = _weights(np.maximum(variance, 1e-12), relative_error, errors, slope=0.0)
    for _ in range(_MAX_ITERATIONS):
        slope, intercept = _solve(design, variance, weights)
        model = np.maximum(slope * mean + intercept, np.maximum(floor, 1e-12))
        updated = _weights(model, relative_error, errors, slope=slope)
        converged = bool(np.allclose(updated, weights, rtol=_TOLERANCE, atol=0.0))
        weights = updated
        if converged:
            break
    slope, intercept = _solve(design, variance, weights)
    chi2 = float(np.sum(weights * (variance - slope * mean - intercept) ** 2))
    dof = len(mean) - 2
    covariance = np.linalg.inv(design.T @ (weights[:, None] * design))
    covariance *= max(1.0, chi2 / dof) if dof > 0 else 1.0
    shift = _shared_offset(design, weights, mean, slope) * offset_error
    return AffineFit(slope, intercept, covariance + np.outer(shift, shift), chi2, dof)


def std_from_variance(variance: float, error: float, *, method: str = "") -> Estimate:
    """A standard deviation from an unbiased variance, which may have come out negative (it then gives 0).

    Near zero the delta method fails, so the error is taken from the variance's own 95 % interval: its square root is
    the interval of the standard deviation, and the standard error is its longer side over 1.96. Far from zero both
    agree.

    Args:
        variance: Estimated variance.
        error: Its standard error.
        method: Goes into the estimate.

    >>> round(std_from_variance(4.0, 0.04).standard_error, 4)
    0.01
    >>> std_from_variance(-0.1, 0.25).value
    0.0
    """
    value = math.sqrt(max(variance, 0.0))
    lower = math.sqrt(max(variance - _Z95 * error, 0.0))
    upper = math.sqrt(max(variance, 0.0) + _Z95 * error)
    return Estimate(value=value, standard_error=max(value - lower, upper - value) / _Z95, method=method)


# Standard normal quantile of a central 95 % interval.
_Z95 = 1.959964


def _weights(model: F64, relative_error: F64, mean_error: F64, *, slope: float) -> F64:
    return np.asarray(1.0 / ((model * relative_error) ** 2 + (slope * mean_error) ** 2), dtype=np.float64)


def _solve(design: F64, variance: F64, weights: F64) -> tuple[float, float]:
    root = np.sqrt(weights)
    (slope, intercept), *_ = np.linalg.lstsq(design * root[:, None], variance * root, rcond=None)
    return float(slope), float(intercept)


def _shared_offset(design: F64, weights: F64, mean: F64, slope: float) -> F64:
    """Change of (slope, intercept) per DN by which the black level is too low for every point with light."""
    response = np.where(mean > 0.0, slope, 0.0)
    information = design.T @ (weights[:, None] * design)
    return np.asarray(np.linalg.solve(information, design.T @ (weights * response)), dtype=np.float64)
