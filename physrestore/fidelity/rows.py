"""Least squares under row noise: an offset shared by a row is one error, not one for every pixel of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from physrestore.fidelity.base import DataFidelity
from physrestore.noise import CalibratedNoise
from physrestore.operators.adapt import as_operator
from physrestore.operators.exposure import Exposure
from physrestore.operators.shapes import fit, precision


class RowNoiseL2(DataFidelity):  # type: ignore[misc]  # deepinv has no types
    """``1/2 (A x - y)^T C^-1 (A x - y)``, ``C = diag(1/w) + s s^T`` within every row, s the row noise's std.

    ``C^-1 = W - W s (1 + s^T W s)^-1 s^T W`` (Woodbury), one number a row; C is never formed.

    Attributes:
        weights: Inverse variances of what is each value's own, number or broadcasting to the measurement. Buffer.
        row: Std of the offset that a row shares, in the units of the measurement, alike. Buffer.
        row_groups: Channels of equal number are read out in the same sensor rows; None: all are.

    Raises:
        ValueError: negative weights or groups that do not fit, at the first use.

    Source:
        W. W. Hager, Updating the inverse of a matrix, SIAM Review 31(2), 1989, equation 2.
    """

    weights: Tensor
    row: Tensor

    def __init__(
        self, weights: Tensor | float, row: Tensor | float, *, row_groups: Sequence[int] | None = None
    ) -> None:
        """Keep the parameters; they are fitted to the measurement at use."""
        super().__init__(d=self.distance)
        self.register_buffer("weights", torch.as_tensor(weights).clone())
        self.register_buffer("row", torch.as_tensor(row).clone())
        self.row_groups = None if row_groups is None else tuple(row_groups)

    @classmethod
    def of_noise(cls, noise: CalibratedNoise, mean: Tensor) -> Self:
        """Of calibrated noise at an estimate of the measurement's mean ``A x``."""
        row = fit(noise.row, mean, name="row")
        own = noise.variance(mean.detach()) - row.square()
        return cls(1.0 / own, row, row_groups=noise.row_groups)

    def apply_precision(self, r: Tensor) -> Tensor:
        """``C^-1 r``, of the shape of a measurement."""
        w, s = precision(self.weights, r), fit(self.row, r, name="row")
        weighted = w * r
        share = self._row_sum(s * weighted) / (1.0 + self._row_sum((w * s.square()).expand(r.shape)))
        return weighted - w * s * share

    def distance(self, u: Tensor, y: Tensor) -> Tensor:
        """``1/2 r^T C^-1 r`` of every image, (B,)."""
        r = u - y
        return 0.5 * (r * self.apply_precision(r)).flatten(1).sum(dim=1)

    def fn(self, x: Tensor, y: Tensor, physics: Any, **_: Any) -> Tensor:
        """The value at x of every image, (B,)."""
        return self.distance(physics.A(x), y)

    def grad(self, x: Tensor, y: Tensor, physics: Any, **_: Any) -> Tensor:
        """The gradient at x."""
        gradient: Tensor = physics.A_adjoint(self.apply_precision(physics.A(x) - y))
        return gradient

    def grad_d(self, u: Tensor, y: Tensor, **_: Any) -> Tensor:
        """The gradient in the measurement's space."""
        return self.apply_precision(u - y)

    def prox(self, x: Tensor, y: Tensor, physics: Any, *, gamma: float | Tensor = 1.0, **_: Any) -> Tensor:
        """``argmin_v`` of the term plus ``1/2 (v - x)^T diag(1 / gamma) (v - x)``, for any linear physics."""
        weights = precision(self.weights, y)
        return as_operator(physics).prox_correlated(x, y, self.apply_precision, gamma, weights=weights)

    def prox_d(self, u: Tensor, y: Tensor, gamma: float | Tensor = 1.0, **_: Any) -> Tensor:
        """The prox in the measurement's space."""
        return self.prox(u, y, Exposure(1.0), gamma=gamma)

    def _row_sum(self, v: Tensor) -> Tensor:
        """The sum over a sensor row, at every value of it: (B, C, H, 1)."""
        groups = torch.tensor(self.row_groups or (0,) * v.shape[1], device=v.device)
        if groups.numel() != v.shape[1]:
            raise ValueError(f"Row groups {self.row_groups} are of {groups.numel()} channels; y has {v.shape[1]}.")
        lines = v.sum(dim=-1, keepdim=True)
        sums = lines.new_zeros(v.shape[0], int(groups.max()) + 1, *lines.shape[2:]).index_add(1, groups, lines)
        return sums[:, groups]
