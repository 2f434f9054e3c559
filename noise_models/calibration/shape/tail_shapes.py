"""Densities of dark differences under three shapes of read noise, rounding included.

A dark difference is ``A - B`` of two frames at one pixel. Both frames were rounded to whole codes, which adds two
uniform errors, together a triangle of half-width 1 DN. From a read noise of 2 DN on the rounding errors are
independent of the noise, and the triangle is a convolution.

* gaussian: ``N(0, 2 std^2)``
* lognormal: the pixel's own sigma is fixed and ``log sigma ~ N(log std - w^2, w^2)``, so that the mean of sigma^2 is
  ``std^2``; a scale mixture of Gaussians.
* tukey: two independent Tukey-lambda draws, whose quantile function is ``(p^l - (1-p)^l) / l``. The density is known
  only through the quantile, hence a numerical convolution.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, special

F64 = NDArray[np.float64]
Shape = Literal["gaussian", "lognormal", "tukey"]

# Limits of the shapes. A log sigma wider than 1 is no noise of one sensor; its Gauss-Hermite rule would need more
# nodes. Tukey-lambda has a variance above -1/2 only, and becomes a box of half-width 1/lambda for positive lambda.
WIDEST_LOGNORMAL = 1.0
TUKEY_LIMITS = (-0.4, 0.25)

# Second and fourth moment of the triangle of half-width 1 DN, the law of two roundings.
_TRIANGLE_MOMENTS = (1.0 / 6.0, 1.0 / 15.0)

_HERMITE_NODES = 40

# The quantile function is sampled at equal steps of the logit of p: trapezia in it converge exponentially. At +-34
# one minus p is the spacing of double precision.
_LOGIT_REACH = 34.0
_LOGIT_NODES = 341
_GRID_NODES = 160  # of the tabulated density of a difference
# The table ends at this many standard deviations of the difference, or at this share of a bounded support. The log
# density goes on linearly: a value that a bounded law forbids is very unlikely, and the fit stays finite.
_GRID_REACH = 12.0
_SUPPORT_SHARE = 0.9
_SERIES = 1e-4  # |lambda| below which the quantile is that of the logistic distribution to 8 digits


def log_density(kind: Shape, difference_dn: F64, *, std: float, shape: float = 0.0, blur: float = 0.0) -> F64:
    """Log density [1/DN] of a rounded dark difference.

    Rounding and ``blur`` are convolved by Gauss's rule of three nodes for their joint moments; it is exact to degree 5.
    Its first error is 4e-7 of the density in the middle and 1e-4 at four sigma for a read noise of 2 DN.

    Args:
        kind: Shape of the read noise.
        difference_dn: Where to evaluate [DN]; any reals: line means make differences fractional.
        std: Read noise of one frame, rounding not included [DN].
        shape: Width w of log sigma, or lambda.
        blur: Variance of an additional Gaussian [DN^2], small against ``2 std^2``: the noise of a line mean that was
            subtracted.

    Returns:
        Same shape as ``difference_dn``.
    """
    second = _TRIANGLE_MOMENTS[0] + blur
    fourth = _TRIANGLE_MOMENTS[1] + 6.0 * _TRIANGLE_MOMENTS[0] * blur + 3.0 * blur**2
    node, weight = math.sqrt(fourth / second), second**2 / (2.0 * fourth)
    offsets = np.array([-node, 0.0, node]).reshape(3, *(1,) * difference_dn.ndim)
    weights = np.log([weight, 1.0 - 2.0 * weight, weight]).reshape(offsets.shape)
    x = (difference_dn + offsets) / (math.sqrt(2.0) * std)
    if kind == "gaussian":
        unit = -0.5 * x**2 - _LOG_ROOT_2PI
    elif kind == "lognormal":
        unit = _log_lognormal_mixture(x, shape)
    elif kind == "tukey":
        unit = _log_tukey_difference(x, shape)
    else:
        assert_never(kind)
    result: F64 = np.logaddexp.reduce(unit + weights, axis=0) - math.log(math.sqrt(2.0) * std)
    return result


_LOG_ROOT_2PI = 0.5 * math.log(2.0 * math.pi)


def _log_lognormal_mixture(x: F64, width: float) -> F64:
    """Log density of a unit-variance Gaussian whose log sigma has the given width."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_HERMITE_NODES)
    total = np.full(x.shape, -np.inf)
    for node, weight in zip(nodes, weights / math.sqrt(2.0 * math.pi), strict=True):
        log_sigma = width * node - width**2
        np.logaddexp(total, math.log(weight) - log_sigma - 0.5 * (x * math.exp(-log_sigma)) ** 2, out=total)
    return total - _LOG_ROOT_2PI


def tukey_variance(shape: float) -> float:
    """Variance of the Tukey-lambda distribution of unit scale, ``Q(p) = (p^l - (1-p)^l) / l``; ``shape`` > -1/2.

    Source: Joiner & Rosenblatt, "Some properties of the range in samples from Tukey's symmetric lambda
    distributions", JASA 66 (1971).

    >>> round(tukey_variance(0.0), 6) == round(math.pi**2 / 3, 6)
    True
    """
    if abs(shape) < _SERIES:
        return math.pi**2 / 3.0
    return 2.0 / shape**2 * (1.0 / (1.0 + 2.0 * shape) - float(special.beta(shape + 1.0, shape + 1.0)))


def _log_tukey_difference(x: F64, shape: float) -> F64:
    """Log density of ``(X - Y) / std(X - Y)``, X and Y Tukey-lambda; linear beyond the table, which is symmetric."""
    spline, last, slope = _tukey_table(shape)
    z = np.abs(x)
    return np.asarray(spline(np.minimum(z, last)) + slope * np.maximum(z - last, 0.0), dtype=np.float64)


def _support(shape: float) -> float:
    """Half-width of the support of a difference, in its standard deviations."""
    return 2.0 / shape / math.sqrt(2.0 * tukey_variance(shape)) if shape > 0.0 else math.inf


@lru_cache(maxsize=64)
def _tukey_table(shape: float) -> tuple[interpolate.CubicSpline, float, float]:
    """Spline of the log density over |z|, its last node, and its slope there."""
    scale = math.sqrt(2.0 * tukey_variance(shape))
    last = min(_GRID_REACH, _SUPPORT_SHARE * _support(shape))
    z = np.linspace(0.0, last, _GRID_NODES)
    log_f = np.log(_convolved(z * scale, shape) * scale)
    slope = float((log_f[-1] - log_f[-2]) / (z[-1] - z[-2]))
    # The density is even: a zero slope at zero.
    spline = interpolate.CubicSpline(z, log_f, bc_type=((1, 0.0), "not-a-knot"))
    return spline, last, slope


def _convolved(z: F64, shape: float) -> F64:
    """Density of X - Y at z: the integral over p of f(z + Q(p))."""
    logit = np.linspace(-_LOGIT_REACH, _LOGIT_REACH, _LOGIT_NODES)
    quantile = _quantile(logit, shape)
    # dp = p (1 - p) d logit
    weight = special.expit(logit) * special.expit(-logit) * (logit[1] - logit[0])
    at = z[:, None] + quantile[None, :]
    inner = np.interp(at, quantile, logit)
    # Refine the inverse: two Newton steps in the logit take the linear interpolation to full precision.
    for _ in range(2):
        inner -= (_quantile(inner, shape) - at) * np.exp(_log_density_at(inner, shape, per_logit=True))
        inner = np.clip(inner, -_LOGIT_REACH, _LOGIT_REACH)
    inside = (at >= quantile[0]) & (at <= quantile[-1])
    density = np.where(inside, np.exp(_log_density_at(inner, shape, per_logit=False)), 0.0)
    result: F64 = density @ weight
    return result


def _quantile(logit: F64, shape: float) -> F64:
    if abs(shape) < _SERIES:
        return logit
    log_p, log_q = special.log_expit(logit), special.log_expit(-logit)
    # expm1 keeps the digits that the difference of two near-equal powers loses at small lambda
    result: F64 = (np.expm1(shape * log_p) - np.expm1(shape * log_q)) / shape
    return result


def _log_density_at(logit: F64, shape: float, *, per_logit: bool) -> F64:
    """Log of dp/dx, or of dlogit/dx, at the quantile of a logit: 1 / Q'(p) with Q' = p^(l-1) + (1-p)^(l-1)."""
    log_p, log_q = special.log_expit(logit), special.log_expit(-logit)
    log_slope = np.logaddexp((shape - 1.0) * log_p, (shape - 1.0) * log_q)
    result: F64 = -log_slope - (log_p + log_q if per_logit else 0.0)
    return result
