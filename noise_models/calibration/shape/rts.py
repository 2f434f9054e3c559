"""Blinking (random-telegraph) and hot pixels from a series of darks, one frame in memory at a time.

A pixel whose noise is Gaussian with the sensor's sigma has a sample variance that follows chi^2 with n - 1 degrees of
freedom; a pixel that jumps between levels stands out of it. With 24 million pixels, chance alone makes large
variances: the threshold is set so that of the pixels found one in a hundred is false (Benjamini & Hochberg,
"Controlling the false discovery rate", J. R. Statist. Soc. B 57, 1995).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from noise_models.calibration.shape.pixel_spread import robust_std, without_lines
from noise_models.errors import CalibrationError
from noise_models.sensor import Estimate, HotPixels

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

FEWEST_FRAMES = 8
FALSE_DISCOVERY_RATE = 0.01
# A mean frame is not Gaussian (fixed pattern has tails of its own), so hot sites get a plain distance, in robust
# standard deviations of the mean frame.
HOT_SIGMA = 8.0

_BLOCK_ROWS = 256  # temporaries of an update stay below 10 MB
_HERMITE_NODES = 40


class TemporalMoments:
    """Running mean and temporal variance of every pixel (Welford's recurrence).

    Memory: 8 bytes a pixel whatever the number of frames, and 8 more while a frame passes through. The four sites of
    24 megapixels, one after the other: 192 MB and 48 MB.

    Args:
        shape: (h, w) of one CFA site.

    Source: Welford, "Note on a method for calculating corrected sums of squares and products", Technometrics 4 (1962).
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._mean = np.zeros(shape, dtype=np.float32)
        self._squares = np.zeros(shape, dtype=np.float32)
        self._frames = 0

    @property
    def frames(self) -> int:
        """Frames seen."""
        return self._frames

    def update(self, frame: NDArray[np.generic]) -> None:
        """Take one dark frame (h, w) [DN].

        Its median and what its rows and columns have in common are temporal noise of lines, not of pixels, and are
        removed first.

        Raises:
            CalibrationError: a frame of another size.
        """
        if frame.shape != self._mean.shape:
            raise CalibrationError(
                f"This dark has {frame.shape} pixels of one colour, the ones before {self._mean.shape}. "
                "Darks of one camera and one crop are needed."
            )
        self._frames += 1
        residual = without_lines(frame)
        for top in range(0, len(residual), _BLOCK_ROWS):
            rows = slice(top, top + _BLOCK_ROWS)
            delta = residual[rows] - self._mean[rows]
            self._mean[rows] += delta / np.float32(self._frames)
            self._squares[rows] += delta * (residual[rows] - self._mean[rows])

    def mean(self) -> F32:
        """Mean over frames (h, w) [DN], relative to the frames' medians and lines."""
        return self._mean

    def variance(self) -> F32:
        """Sample variance over frames (h, w) [DN^2], rounding included.

        Raises:
            CalibrationError: fewer than two frames.
        """
        if self._frames < 2:
            raise CalibrationError(f"A temporal variance needs two frames; there are {self._frames}.")
        return self._squares / np.float32(self._frames - 1)


@dataclass(frozen=True)
class TemporalDefects:
    """Pixels that stand out of a series of darks.

    Attributes:
        blinking: (h, w), True: the temporal variance is an outlier. A particle hit in one frame looks the same.
        hot: (h, w), True: the mean is an outlier upwards.
        cold: The same downwards (dead pixels, in-camera dark subtraction).
        typical_variance: Temporal variance of the body of pixels [DN^2], rounding included.
        threshold_variance: Variance from which a pixel counts as blinking [DN^2]; infinite where none does.
        excess_variance: (k,) variance of each blinking pixel less the typical one [DN^2], rising.
        hot_excess_dn: (m,) mean of each hot pixel above its neighbourhood [DN], rising.
        frames: Darks seen.
    """

    blinking: Bool
    hot: Bool
    cold: Bool
    typical_variance: float
    threshold_variance: float
    excess_variance: F32
    hot_excess_dn: F32
    frames: int

    @property
    def any(self) -> Bool:
        """Pixels to leave out of a fit to the body of the noise."""
        return self.blinking | self.hot | self.cold

    def hot_pixels(self) -> HotPixels | None:
        """The hot ones as a profile stores them; None: there are none."""
        count, size = len(self.hot_excess_dn), self.hot.size
        if count == 0:
            return None
        share = count / size
        scatter = float(self.hot_excess_dn.std(dtype=np.float64)) / math.sqrt(count)
        method = f"mean of {self.frames} darks above {HOT_SIGMA:g} sigma"
        return HotPixels(
            fraction=Estimate(value=share, standard_error=math.sqrt(count) / size, method=method),
            excess_dn=Estimate(
                value=float(self.hot_excess_dn.mean(dtype=np.float64)),
                standard_error=scatter if count > 1 else None,
                method=method,
            ),
        )


def find_defects(moments: TemporalMoments, *, spread_width: float = 0.0) -> TemporalDefects:
    """Blinking, hot and cold pixels.

    Args:
        moments: Of n >= 8 darks of one CFA site.
        spread_width: Width of log sigma of ordinary pixels (`fit_tail`, `pixel_sigma_map`): where pixels differ in
            noise, a larger variance is ordinary. 0: all pixels have the same sigma.

    Raises:
        CalibrationError: fewer than eight frames.
    """
    if moments.frames < FEWEST_FRAMES:
        raise CalibrationError(
            f"Blinking pixels need at least {FEWEST_FRAMES} darks, there are {moments.frames}: one that jumps in one "
            "frame of ten is not seen in fewer. Take more darks at the same exposure and ISO."
        )
    variance = moments.variance()
    law = _VarianceLaw(moments.frames - 1, spread_width)
    typical = float(np.median(variance)) / law.median()
    threshold = typical * _discovery_threshold(variance / np.float32(typical), law)
    blinking = variance >= threshold
    mean = without_lines(moments.mean())
    limit = HOT_SIGMA * robust_std(mean)
    hot, cold = mean > limit, mean < -limit
    return TemporalDefects(
        blinking=blinking,
        hot=hot,
        cold=cold,
        typical_variance=typical,
        threshold_variance=threshold,
        excess_variance=np.sort(variance[blinking] - np.float32(typical)),
        hot_excess_dn=np.sort(mean[hot]),
        frames=moments.frames,
    )


@dataclass(frozen=True)
class _VarianceLaw:
    """Sample variances in units of the mean true variance: chi^2 / dof times a lognormal sigma^2 of mean one.

    Attributes:
        dof: Frames less one.
        width: Of log sigma.
    """

    dof: int
    width: float

    def survival(self, ratio: F64) -> F64:
        """P(variance >= ratio)."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(_HERMITE_NODES if self.width > 0.0 else 1)
        weights /= weights.sum()
        sigma2 = np.exp(2.0 * (self.width * nodes - self.width**2))
        total = np.zeros(ratio.shape)
        for weight, scale in zip(weights, sigma2, strict=True):
            total += weight * stats.chi2.sf(self.dof * ratio / scale, self.dof)
        return total

    def ratio_at(self, probability: float) -> float:
        """The ratio that is reached with this probability."""
        return float(optimize.brentq(lambda x: float(self.survival(np.array(x))) - probability, 1e-12, 1e6))

    def median(self) -> float:
        """Middle of the law."""
        return self.ratio_at(0.5)


def _discovery_threshold(ratio: F32, law: _VarianceLaw) -> float:
    """Smallest ratio that Benjamini and Hochberg's step-up rule accepts; infinite where it accepts none."""
    # No p-value above the false discovery rate can be accepted: the others need not be computed.
    candidates = np.sort(ratio[ratio >= law.ratio_at(FALSE_DISCOVERY_RATE)].astype(np.float64))[::-1]
    rank = np.arange(1, len(candidates) + 1)
    accepted = np.flatnonzero(law.survival(candidates) <= FALSE_DISCOVERY_RATE * rank / ratio.size)
    return float(candidates[accepted[-1]]) if len(accepted) else math.inf
