"""One operator after another, keeping the best prox that the two have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from physrestore.operators.base import LinearOperator
from physrestore.operators.exposure import Exposure
from physrestore.operators.shapes import positive, precision


class Composition(LinearOperator):
    """``A x = outer(inner(x))``, also written ``outer * inner``; noise and sensor are the outer operator's.

    The prox is exact wherever it can be had:

    - ``A_o^T W A_o = G`` diagonal (mosaic, shading, exposure, crop, whole-pixel shift): the prox is the *inner*
      operator's, with weights G and data ``G^-1 A_o^T W y``. Two diagonal operators stay a closed form; an exposure of
      a blur keeps the Fourier solution; a mosaic of a blur is the blur's own weighted solve.
    - The inner operator an exposure ratio r: the *outer* operator's with r z and r^2 gamma, divided by r.
    - Otherwise conjugate gradients, preconditioned by the row sums.

    Attributes:
        outer: Applied last.
        inner: Applied first.

    >>> from noise_models.cfa import Cfa
    >>> from physrestore.operators.mosaic import Mosaic
    >>> (Mosaic(Cfa.parse("RGGB")) * Exposure(0.5)).A(torch.ones(1, 3, 1, 2)).tolist()
    [[[[0.5, 0.5]]]]
    """

    def __init__(
        self, outer: LinearOperator, inner: LinearOperator, *, tol: float | None = None, max_iter: int = 500
    ) -> None:
        """``tol`` and ``max_iter`` as in `LinearOperator`, for what the composition solves itself."""
        super().__init__(noise_model=outer.noise_model, sensor_model=outer.sensor_model, tol=tol, max_iter=max_iter)
        self.outer, self.inner = outer, inner

    def A(self, x: Tensor, **params: Any) -> Tensor:
        """``outer.A(inner.A(x))``; parameters reach both."""
        y: Tensor = self.outer.A(self.inner.A(x, **params), **params)
        return y

    def A_adjoint(self, y: Tensor, **params: Any) -> Tensor:
        """``inner.A_adjoint(outer.A_adjoint(y))``."""
        x: Tensor = self.inner.A_adjoint(self.outer.A_adjoint(y, **params), **params)
        return x

    def update_parameters(self, **params: Any) -> None:
        """Both operators' parameters."""
        self.outer.update_parameters(**params)
        self.inner.update_parameters(**params)

    def gram_diagonal(self, weights: Tensor, y: Tensor) -> Tensor | None:
        """Diagonal where both are: the outer one's is the weights of the inner one."""
        gram = self.outer.gram_diagonal(weights, y)
        return None if gram is None else self.inner.gram_diagonal(gram, self.outer.A_adjoint(y))

    def prox_weighted(
        self,
        z: Tensor,
        y: Tensor,
        weights: Tensor | float | None,
        gamma: float | Tensor,
        *,
        tol: float | None = None,
        max_iter: int | None = None,
    ) -> Tensor:
        """As in `LinearOperator`, by the first of the ways above that applies."""
        options: dict[str, Any] = {"tol": tol, "max_iter": max_iter}
        w = precision(weights, y)
        gram = self.outer.gram_diagonal(w, y)
        if gram is not None:
            seen = gram > 0
            data = torch.where(seen, self.outer.A_adjoint(w * y) / torch.where(seen, gram, 1.0), 0.0)
            return self.inner.prox_weighted(z, data, gram, gamma, **options)
        if isinstance(self.inner, Exposure):
            ratio = self.inner.ratio_for(z)
            step = positive(gamma, z, name="gamma") * ratio.square()
            return self.outer.prox_weighted(ratio * z, y, w, step, **options) / ratio
        return super().prox_weighted(z, y, w, gamma, **options)
