"""Heavy tails of the read noise: a fixed spread of pixel sigmas, or tails of every draw?

Both give the same histogram. Two independent dark differences decide: where pixels differ in sigma, a large residual
tends to come back at the same pixel; where every draw has tails, it does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from noise_models.sensor import Estimate, Tail

F64 = NDArray[np.float64]

# Below 2 DN rounding shapes the distribution more than tails do.
SMALLEST_SIGMA_DN = 2.0
# Pixels looked at: 2^20 give the kurtosis to 0.005; more only cost time.
MOST_PIXELS = 1 << 20
_FEWEST_PIXELS = 20_000
# The decision is made at this many standard errors, and not for a kurtosis that no result would notice.
_DECISION_SIGMA = 5.0
_SMALLEST_KURTOSIS = 0.02
# Blocks for the standard errors: enough for a 15 % error of the error.
_BLOCKS = 24
# Tukey-lambda has no fourth moment at -1/4 and below, and is Gaussian-like at 0.1349.
_LAMBDA_RANGE = (-0.2, 0.1349)


def classify_tail(first: F64, second: F64) -> Tail:
    """Shape of the read noise from two independent dark differences of the same pixels.

    Args:
        first: Difference of two darks (n,), line means removed, in units of its own std; hot pixels left out.
        second: Difference of two other darks at the same pixels.

    Returns:
        "gaussian" where the tails are not significant or the pixels too few.
    """
    if len(first) < _FEWEST_PIXELS:
        return Tail()
    kurtosis, kurtosis_error = _over_blocks(_excess_kurtosis, first, second)
    if kurtosis < max(_SMALLEST_KURTOSIS, _DECISION_SIGMA * kurtosis_error):
        return Tail()
    spread, spread_error = _over_blocks(_shared_power, first, second)
    # A lognormal spread w makes E[s^4]/E[s^2]^2 = exp(4 w^2) = 1 + spread and the kurtosis 3 spread.
    if spread > _DECISION_SIGMA * spread_error and 3.0 * spread > 0.5 * kurtosis:
        width = math.sqrt(math.log1p(spread) / 4.0)
        error = spread_error / (8.0 * width * (1.0 + spread))
        method = "correlation of squared residuals of two dark pairs"
        return Tail(kind="lognormal", shape=Estimate(value=width, standard_error=error, method=method))
    # A difference of two draws has half the excess kurtosis of one.
    shape = _tukey_lambda(2.0 * kurtosis)
    slope = _tukey_lambda(2.0 * (kurtosis + kurtosis_error)) - shape
    method = "kurtosis of dark differences"
    return Tail(kind="tukey", shape=Estimate(value=shape, standard_error=abs(slope), method=method))


def tukey_kurtosis(shape: float) -> float:
    """Excess kurtosis of the Tukey-lambda distribution, ``shape`` above -1/4.

    Source: moments of Q(p) = (p^l - (1-p)^l) / l through beta functions.

    >>> round(tukey_kurtosis(1e-6), 3)
    1.2
    """
    if abs(shape) < _LOGISTIC:
        return 1.2  # the logistic distribution, to which it tends
    beta = special.beta
    second = 2.0 / (2.0 * shape + 1.0) - 2.0 * beta(shape + 1.0, shape + 1.0)
    fourth = (
        2.0 / (4.0 * shape + 1.0)
        - 8.0 * beta(3.0 * shape + 1.0, shape + 1.0)
        + 6.0 * beta(2.0 * shape + 1.0, 2.0 * shape + 1.0)
    )
    return float(fourth / second**2 - 3.0)


# The moments divide by lambda^4; closer to zero than this they lose all digits.
_LOGISTIC = 1e-3


def _tukey_lambda(kurtosis: float) -> float:
    low, high = _LAMBDA_RANGE
    if kurtosis >= tukey_kurtosis(low):
        return low
    if kurtosis <= tukey_kurtosis(high):
        return high
    return float(optimize.brentq(lambda shape: tukey_kurtosis(shape) - kurtosis, low, high))


def _excess_kurtosis(first: F64, second: F64) -> float:
    both = np.concatenate([first, second]) ** 2
    return float((both**2).mean() / both.mean() ** 2 - 3.0)


def _shared_power(first: F64, second: F64) -> float:
    a, b = first**2, second**2
    return float(np.mean((a - a.mean()) * (b - b.mean())) / (a.mean() * b.mean()))


def _over_blocks(statistic: Callable[[F64, F64], float], first: F64, second: F64) -> tuple[float, float]:
    """A statistic and its standard error from its scatter over blocks."""
    parts = zip(np.array_split(first, _BLOCKS), np.array_split(second, _BLOCKS), strict=True)
    values = [statistic(a, b) for a, b in parts]
    return statistic(first, second), float(np.std(values, ddof=1) / math.sqrt(_BLOCKS))
