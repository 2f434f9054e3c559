"""Read noise before and behind the gain: ``sigma(K)^2 = s1^2 + (K s0)^2`` over the ISOs of one conversion gain.

At one ISO both parts look alike; only their different dependence on K tells them apart (docs/noise_model.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noise_models.sensor import Estimate, SensorNoise

F64 = NDArray[np.float64]

# Two parameters need a third ISO before the data can contradict the law.
FEWEST_ISOS = 3


@dataclass(frozen=True)
class SplitFit:
    """The law of one conversion gain.

    Attributes:
        behind: s1^2 [DN^2], not negative.
        before: s0^2 [e-^2], not negative.
        covariance: Of both, (2, 2), from the scatter about the law.
        misfit: Rms of log(sigma / law), with the degrees of freedom that the fit left.
    """

    behind: float
    before: float
    covariance: F64
    misfit: float

    def std_dn(self, gain: float | F64) -> F64:
        """Read noise [DN] at a gain K [DN/e-]."""
        return np.asarray(np.sqrt(self.behind + self.before * np.square(gain)))


@dataclass(frozen=True)
class ReadNoiseSplit:
    """One conversion-gain segment.

    Attributes:
        segment: Its number.
        isos: Its measured ISOs.
        before: s0, noise of the pixel and all before the gain [e-].
        behind_dn: s1, noise of the converter and all behind the gain [DN].
        misfit: Rms deviation of the measured values from the law, as a ratio.
    """

    segment: int
    isos: tuple[float, ...]
    before: Estimate
    behind_dn: Estimate
    misfit: float


def fit_split(gains: F64, stds_dn: F64) -> SplitFit:
    """Fit the law to read noises [DN] at gains K [DN/e-], at least three.

    Model error (a few per cent) exceeds the statistical error (per mille) at every ISO, so each ISO weighs the same in
    relative variance. Both parts are variances: not negative.
    """
    from scipy.optimize import nnls  # a sixth of a second of every start, for what only calibration needs

    design = np.stack([np.ones_like(gains), gains**2], axis=1) / stds_dn[:, None] ** 2
    solution, _ = nnls(design, np.ones_like(stds_dn))
    residual = design @ solution - 1.0
    scatter = float(residual @ residual) / (len(gains) - 2)
    covariance = (scatter * np.linalg.inv(design.T @ design)).astype(np.float64)
    law = np.sqrt(solution[0] + solution[1] * gains**2)
    misfit = float(np.sqrt(np.sum(np.log(law / stds_dn) ** 2) / (len(gains) - 2)))
    return SplitFit(float(solution[0]), float(solution[1]), covariance, misfit)


def split_read_noise(entries: Sequence[SensorNoise]) -> list[ReadNoiseSplit]:
    """The split of every conversion-gain segment with three ISOs or more, planes averaged.

    Args:
        entries: Of a profile; those without gain are passed over.
    """
    splits = []
    for segment in sorted({entry.segment for entry in entries}):
        rows = [
            (entry.setting, *means)
            for entry in entries
            if entry.segment == segment and (means := _means(entry)) is not None
        ]
        if len(rows) < FEWEST_ISOS:
            continue
        isos, gains, stds = (np.array(column) for column in zip(*rows, strict=True))
        fit = fit_split(gains, stds)
        splits.append(
            ReadNoiseSplit(
                segment=segment,
                isos=tuple(isos.tolist()),
                before=_root(fit.before, fit.covariance[1, 1]),
                behind_dn=_root(fit.behind, fit.covariance[0, 0]),
                misfit=fit.misfit,
            )
        )
    return splits


def _means(entry: SensorNoise) -> tuple[float, float] | None:
    gains = [plane.gain.value for plane in entry.planes.values() if plane.gain is not None]
    stds = [plane.read_noise_dn.value for plane in entry.planes.values()]
    if len(gains) < len(stds) or min(stds) <= 0:
        return None
    return float(np.mean(gains)), float(np.mean(stds))


def _root(variance: float, variance_of_it: float) -> Estimate:
    """A standard deviation from a variance; where that is zero within its error, the error's root is the error."""
    value, error = math.sqrt(variance), math.sqrt(max(variance_of_it, 0.0))
    spread = error / (2.0 * value) if variance > error else math.sqrt(error)
    return Estimate(value=value, standard_error=spread, method="s1^2 + (K s0)^2 over ISO")
