"""An exposure ratio: everything in the picture brighter or darker by one factor."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from physrestore.operators.base import LinearOperator
from physrestore.operators.shapes import fit


class Exposure(LinearOperator):
    """``y = ratio x``: relative exposure, or white-balance gains as one ratio a channel.

    Attributes:
        ratio: Shape (), (B,), (B, C) or (B|1, C|1, 1, 1), positive. Buffer.

    Raises:
        ValueError: a ratio that is not positive and finite.

    >>> Exposure(0.25).A(torch.ones(1, 1, 1, 2)).tolist()
    [[[[0.25, 0.25]]]]
    """

    ratio: Tensor
    parameter_names: ClassVar[tuple[str, ...]] = ("ratio",)

    def __init__(self, ratio: float | Tensor, **parts: Any) -> None:
        """``parts`` are those of `LinearOperator`."""
        super().__init__(**parts)
        self.register_buffer("ratio", ratio.clone() if isinstance(ratio, Tensor) else torch.tensor(float(ratio)))
        self._check_parameters()

    def A(self, x: Tensor, ratio: float | Tensor | None = None, **params: Any) -> Tensor:
        """(B, C, H, W) to the same shape."""
        self.update_parameters(ratio=ratio, **params)
        return self.ratio_for(x) * x

    def A_adjoint(self, y: Tensor, ratio: float | Tensor | None = None, **params: Any) -> Tensor:
        """The same as `A`."""
        return self.A(y, ratio=ratio, **params)

    def gram_diagonal(self, weights: Tensor, y: Tensor) -> Tensor:
        """``ratio^2`` times the weights."""
        return self.ratio_for(y).square() * weights

    def ratio_for(self, x: Tensor) -> Tensor:
        """The ratio as it broadcasts to an image: (B|1, C|1, 1, 1)."""
        return fit(self.ratio, x, name="ratio")

    def _check_parameters(self) -> None:
        if self.ratio.dim() == 4 and self.ratio.shape[-2:] != (1, 1):
            raise ValueError(f"An exposure ratio is one number a channel, not {tuple(self.ratio.shape)}. Use Shading.")
        if not bool(((self.ratio > 0) & self.ratio.isfinite()).all()):
            raise ValueError(f"An exposure ratio must be positive and finite, not {self.ratio.flatten().tolist()[:4]}.")
