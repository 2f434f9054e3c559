"""Temporal row and column noise: offsets that all pixels of one line share, drawn anew in every frame.

Measured on differences of darks, where fixed line patterns cancel. The variance of line means holds the pixel noise
of the line as well, ``sigma_pix^2 / W``; leaving that in (as published code does) doubles a row noise of 2 % of the
pixel noise at 800 columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.fits import std_from_variance
from noise_models.sensor import Estimate

F64 = NDArray[np.float64]


@dataclass
class LineNoise:
    """Running estimate of the noise that lines of one direction share.

    Attributes:
        direction: "row" or "column".
        variances: Estimated variance [DN^2], one a line set and pair.
        errors: Standard error of each [DN^2].
        response: What a line mean moves per DN of offset: below 1 where a black clamp holds part of the sites.
        powers: Power spectrum of the line means [DN^2] of every pair; the mean over frequency is their variance.
    """

    direction: str
    variances: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    powers: list[F64] = field(default_factory=list)
    response: float = 1.0

    def add(self, means: F64, length: float, pixel_variance: float) -> None:
        """Add the lines of one set (one row or column of the CFA period) of one difference.

        Args:
            means: Mean of each line of the difference of two frames [DN].
            length: Pixels in a line, those left out not counted.
            pixel_variance: Temporal variance of one pixel of one frame [DN^2], rounding included.
        """
        spread = float(np.var(means, ddof=1))
        self.variances.append((spread - 2.0 * pixel_variance / length) / 2.0)
        self.errors.append(spread / 2.0 * float(np.sqrt(2.0 / (len(means) - 1))))

    def add_spectrum(self, means: F64) -> None:
        """Add the line means of a whole difference, all sets interleaved as on the sensor."""
        centred = means - means.mean()
        self.powers.append(np.abs(np.fft.rfft(centred)) ** 2 / (2.0 * len(means)))

    def variance(self) -> tuple[float, float]:
        """Variance [DN^2] and its standard error; may be negative, as unbiased estimates of zero are."""
        count, scale = len(self.variances), self.response**-2
        return scale * float(np.mean(self.variances)), scale * float(np.sqrt(np.sum(np.square(self.errors)))) / count

    def variance_of_mean(self, lines: int) -> float:
        """Variance [DN^2] that these offsets give the mean of a frame of so many lines; not below zero."""
        return max(0.0, self.variance()[0]) / lines

    def estimate(self) -> Estimate:
        """The standard deviation [DN]: 0 with the upper bound as error where the variance is not positive."""
        return std_from_variance(*self.variance(), method=f"variance of {self.direction} means of dark differences")

    def spectrum(self) -> tuple[F64, F64]:
        """Frequencies [cycles per line] and mean power [DN^2] of one frame."""
        power = np.mean(self.powers, axis=0)
        return np.linspace(0.0, 0.5, len(power)), power
