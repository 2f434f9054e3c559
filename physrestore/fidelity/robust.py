"""Data terms for noise with heavy tails: an outlier pulls with bounded force."""

from __future__ import annotations

import torch
from torch import Tensor

from physrestore.fidelity.base import SiteFidelity
from physrestore.operators.shapes import precision

# Huber's constant: 95 % efficiency for Gaussian noise (Huber 1964).
HUBER_SIGMAS = 1.345


class Huber(SiteFidelity):
    """``phi(r) = r^2 / 2`` up to ``threshold`` sigmas, a straight line beyond; r in sigmas of its value.

    Attributes:
        weights: Inverse variances, number or broadcasting to the measurement. Buffer.
        threshold: In sigmas.

    Raises:
        ValueError: a threshold that is not positive.

    Source:
        P. J. Huber, Robust estimation of a location parameter, Ann. Math. Statist. 35(1), 1964. The parabola that
        touches from above: P. J. Huber, Robust Statistics, 1981, section 7.8.
    """

    weights: Tensor

    def __init__(self, weights: Tensor | float, *, threshold: float = HUBER_SIGMAS) -> None:
        """Keep the parameters; the weights are fitted to the measurement at use."""
        super().__init__()
        if not threshold > 0:
            raise ValueError(f"Huber's threshold is a positive number of sigmas, not {threshold:g}.")
        self.register_buffer("weights", torch.as_tensor(weights).clone())
        self.threshold = threshold

    def penalty(self, u: Tensor, y: Tensor) -> Tensor:
        """The value phi."""
        size = self._sigmas(u, y).abs()
        core = size.clamp(max=self.threshold)
        return core * (size - 0.5 * core)

    def slope(self, u: Tensor, y: Tensor) -> Tensor:
        """The derivative phi', at most ``threshold`` over sigma."""
        bounded = self._sigmas(u, y).clamp(-self.threshold, self.threshold)
        return precision(self.weights, y).sqrt() * bounded

    def curvature(self, u: Tensor, y: Tensor) -> Tensor:
        """Of the touching parabola: the weight, less for outliers."""
        share = self.threshold / self._sigmas(u, y).abs().clamp(min=self.threshold)
        return precision(self.weights, y) * share

    def hessian(self, u: Tensor, y: Tensor) -> Tensor:
        """The weight; zero for outliers."""
        return precision(self.weights, y) * (self._sigmas(u, y).abs() < self.threshold)

    def _sigmas(self, u: Tensor, y: Tensor) -> Tensor:
        return precision(self.weights, y).sqrt() * (u - y)


class StudentT(SiteFidelity):
    """The negative log-likelihood of Student's t: ``phi(r) = (nu + 1) / 2 log(1 + r^2 / nu)``; r in scales.

    Not convex: the prox is the local minimum that descent from its argument reaches, and far outliers lose all pull.

    Attributes:
        weights: Inverse squared scales (a scale is not the std, which is ``sqrt(nu / (nu - 2))`` scales). Buffer.
        degrees: nu, the degrees of freedom; the fewer, the heavier the tails.

    Raises:
        ValueError: degrees of freedom that are not positive.

    Source:
        K. L. Lange, R. J. A. Little, J. M. G. Taylor, Robust statistical modeling using the t distribution, JASA
        84(408), 1989 (the touching parabola is their EM weight).
    """

    weights: Tensor

    def __init__(self, weights: Tensor | float, *, degrees: float) -> None:
        """Keep the parameters; the weights are fitted to the measurement at use."""
        super().__init__()
        if not degrees > 0:
            raise ValueError(f"Student's t needs positive degrees of freedom, not {degrees:g}.")
        self.register_buffer("weights", torch.as_tensor(weights).clone())
        self.degrees = degrees

    def penalty(self, u: Tensor, y: Tensor) -> Tensor:
        """The value phi."""
        return 0.5 * (self.degrees + 1.0) * torch.log1p(self._square(u, y) / self.degrees)

    def slope(self, u: Tensor, y: Tensor) -> Tensor:
        """The derivative phi'."""
        return self.curvature(u, y) * (u - y)

    def curvature(self, u: Tensor, y: Tensor) -> Tensor:
        """Of the touching parabola."""
        return precision(self.weights, y) * (self.degrees + 1.0) / (self.degrees + self._square(u, y))

    def hessian(self, u: Tensor, y: Tensor) -> Tensor:
        """The second derivative where it is positive; zero for outliers, where phi bends down."""
        square = self._square(u, y)
        scale = precision(self.weights, y) * (self.degrees + 1.0) / (self.degrees + square).square()
        return scale * (self.degrees - square).clamp(min=0.0)

    def _square(self, u: Tensor, y: Tensor) -> Tensor:
        return precision(self.weights, y) * (u - y).square()
