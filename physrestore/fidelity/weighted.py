"""Least squares weighted by the precision of every value, with clipped values taken for what they say."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from physrestore.fidelity.base import SiteFidelity
from physrestore.noise import CalibratedNoise
from physrestore.operators.shapes import precision


class WeightedL2(SiteFidelity):
    """``1/2 sum w (A x - y)^2``; a clipped value only says "at least y": it pulls upwards or not at all.

    Attributes:
        weights: Inverse variances, number or broadcasting to the measurement; not negative; zero where nothing was
            measured. Buffer.
        clipped: Values at their white level, bool, broadcasting to the measurement; None: none is. Buffer.

    Raises:
        ValueError: negative weights, at the first use.

    >>> from physrestore.operators.exposure import Exposure
    >>> y = torch.tensor([[[[1.0, 1.0]]]])
    >>> term = WeightedL2(3.0, clipped=torch.tensor([[[[False, True]]]]))
    >>> term.prox(torch.full_like(y, 2.0), y, Exposure(1.0)).tolist()
    [[[[1.25, 2.0]]]]
    """

    weights: Tensor
    clipped: Tensor | None

    def __init__(self, weights: Tensor | float, *, clipped: Tensor | None = None) -> None:
        """Keep the parameters; they are fitted to the measurement at use."""
        super().__init__()
        self.register_buffer("weights", torch.as_tensor(weights).clone())
        self.register_buffer("clipped", None if clipped is None else clipped.clone())

    @classmethod
    def of_noise(cls, noise: CalibratedNoise, mean: Tensor, *, clipped: Tensor | None = None) -> Self:
        """The weights of calibrated noise, row noise counted as each value's own (see `RowNoiseL2`).

        Args:
            noise: Of the measurement, in its units.
            mean: Estimate of the measurement's mean, ``A x``; refresh it two or three times along a restoration.
            clipped: As in the constructor.
        """
        return cls(1.0 / noise.variance(mean.detach()), clipped=clipped)

    def penalty(self, u: Tensor, y: Tensor) -> Tensor:
        """``w r^2 / 2`` where it counts."""
        return 0.5 * self._active(u, y) * (u - y).square()

    def slope(self, u: Tensor, y: Tensor) -> Tensor:
        """``w r`` where it counts."""
        return self._active(u, y) * (u - y)

    def curvature(self, u: Tensor, y: Tensor) -> Tensor:
        """``w`` where it counts."""
        return self._active(u, y)

    def _active(self, u: Tensor, y: Tensor) -> Tensor:
        weights = precision(self.weights, y).expand(y.shape)
        if self.clipped is None:
            return weights
        satisfied = self.clipped.to(y.device) & (u >= y)
        return torch.where(satisfied, 0.0, weights)
