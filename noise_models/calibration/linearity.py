"""Does the response follow the light? Deviations of level means from a straight line, where the light is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.photon_transfer import CLIPPED_SHARE
from noise_models.sensor import Estimate

F64 = NDArray[np.float64]

# EMVA Standard 1288 Release 4.0 Linear: the line is fitted from 5 to 95 % of saturation, with relative weights.
LOWEST_SHARE, HIGHEST_SHARE = 0.05, 0.95
# A line has two unknowns, and below three more levels a deviation is mostly the fit's own.
FEWEST_LEVELS = 5
# A sensor's response deviates by a few per cent. Beyond this the lamp was changed, not the sensor bent.
_LARGEST_ERROR = 0.2


@dataclass(frozen=True)
class LevelMean:
    """Mean of one plane at one level of light.

    Attributes:
        light: Amount of light in any unit, the same for all levels; None: unknown.
        mean_dn: Above black [DN].
        error_dn: Standard error of ``mean_dn`` [DN].
        clipped: Share of clipped sites.
    """

    light: float | None
    mean_dn: float
    error_dn: float
    clipped: float


@dataclass(frozen=True)
class Linearity:
    """The response of one plane.

    Attributes:
        light: (n,) of the levels used, rising.
        mean_dn: (n,) above black [DN].
        deviation: (n,) from the fitted line, as a ratio.
        error: Largest absolute deviation, as a ratio.
    """

    light: F64
    mean_dn: F64
    deviation: F64
    error: Estimate


def fit_linearity(levels: Sequence[LevelMean], *, range_dn: float) -> Linearity | None:
    """Straight line through the level means, weighted by ``1 / mean^2``.

    Args:
        levels: Of one plane.
        range_dn: Saturation minus black [DN].

    Returns:
        None where too few levels of known light lie between 5 and 95 % of saturation, or where the means deviate so
        much that the light itself must have changed.

    Source: EMVA Standard 1288 Release 4.0 Linear, linearity. Of its relative deviations this keeps the largest.
    """
    used = [
        (level.light, level.mean_dn, level.error_dn)
        for level in levels
        if level.light is not None
        and level.clipped <= CLIPPED_SHARE
        and LOWEST_SHARE * range_dn <= level.mean_dn <= HIGHEST_SHARE * range_dn
    ]
    if len({light for light, _, _ in used}) < FEWEST_LEVELS:
        return None
    light, mean, error = np.array(sorted(used)).T
    design = np.stack([light / light.max(), np.ones_like(light)], axis=1)
    (slope, offset), *_ = np.linalg.lstsq(design / mean[:, None], np.ones_like(mean), rcond=None)
    line = design @ np.array([slope, offset])
    if slope <= 0.0 or (line <= 0.0).any():
        return None
    deviation = (mean - line) / line
    worst = int(np.argmax(np.abs(deviation)))
    if abs(float(deviation[worst])) > _LARGEST_ERROR:
        return None
    estimate = Estimate(
        value=abs(float(deviation[worst])),
        standard_error=float(error[worst] / line[worst]) * math.sqrt(2.0),  # of the mean, and of the line as much
        method=f"{len(mean)} levels, {LOWEST_SHARE:.0%} to {HIGHEST_SHARE:.0%} of saturation",
    )
    return Linearity(light, mean, deviation, estimate)
