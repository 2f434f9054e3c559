"""Poisson-Gaussian noise as a Poisson law of shifted values."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from physrestore.fidelity.base import SiteFidelity
from physrestore.noise import CalibratedNoise
from physrestore.operators.shapes import positive


class ShiftedPoisson(SiteFidelity):
    """``phi(u) = u' - y' log u'`` with ``u' = u / a + b^2 / a^2``, y' alike: a Poisson law with the noise's variance.

    Its slope is ``(u - y) / (a u + b^2)``, the residual over the variance *at u*: unlike least squares with fixed
    weights it needs no estimate of the mean. Below u = 0 there is no light whose shot noise could be counted: there phi
    goes on as the Gaussian of variance b^2. Measurements below ``-b^2 / a`` count as that value: phi stays convex.

    Attributes:
        gain: a of the variance ``a x + b^2``, in the units of the measurement; number or broadcasting to it. Buffer.
        sigma: b, std of the noise without light, positive. Buffer.

    Raises:
        ValueError: a gain or sigma that is not positive, at the first use.

    Source:
        D. L. Snyder, C. W. Helstrom, A. D. Lanterman, M. Faisal, R. L. White, Compensation for readout noise in CCD
        images, J. Opt. Soc. Am. A 12(2), 1995.
    """

    gain: Tensor
    sigma: Tensor

    def __init__(self, gain: Tensor | float, sigma: Tensor | float) -> None:
        """Keep the parameters; they are fitted to the measurement at use."""
        super().__init__()
        self.register_buffer("gain", torch.as_tensor(gain).clone())
        self.register_buffer("sigma", torch.as_tensor(sigma).clone())

    @classmethod
    def of_noise(cls, noise: CalibratedNoise) -> Self:
        """Of calibrated noise; row noise counts as each value's own (see `RowNoiseL2`)."""
        return cls(noise.gain, (noise.sigma.square() + noise.row.square()).sqrt())

    def penalty(self, u: Tensor, y: Tensor) -> Tensor:
        """The value phi."""
        gain, dark, y = self._fitted(y)
        light, below = u.clamp(min=0.0), u.clamp(max=0.0)
        counts = (y + dark / gain) / gain
        shifted = (light + dark / gain) / gain
        return shifted - counts * shifted.log() + below * (0.5 * below - y) / dark

    def slope(self, u: Tensor, y: Tensor) -> Tensor:
        """The derivative phi': residual over variance."""
        gain, dark, y = self._fitted(y)
        return (u - y) / (gain * u.clamp(min=0.0) + dark)

    def curvature(self, u: Tensor, y: Tensor) -> Tensor:
        """The second derivative of a measurement that is not negative, which keeps a step from leaping below zero."""
        return self.hessian(u, y.clamp(min=0.0))

    def hessian(self, u: Tensor, y: Tensor) -> Tensor:
        """The second derivative itself."""
        gain, dark, y = self._fitted(y)
        return torch.where(u < 0, 1.0 / dark, (gain * y + dark) / (gain * u.clamp(min=0.0) + dark).square())

    def _fitted(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """a, b^2, and the measurement, not below ``-b^2 / a``."""
        gain = positive(self.gain, y, name="gain")
        dark = positive(self.sigma, y, name="sigma").square()
        return gain, dark, y.maximum(-dark / gain)
