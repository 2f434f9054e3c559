"""Blur that changes over the picture: a sum of convolutions of weighted pictures, through deepinv."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from physrestore.deepinv_host import load_deepinv
from physrestore.operators.base import LinearOperator
from physrestore.operators.boundary import Boundary, checked_boundary

_functional: Any = load_deepinv().physics.functional
# deepinv's names of the boundaries.
_PADDING: dict[Boundary, str] = {"circular": "circular", "reflect": "reflect", "unobserved": "valid"}


class VaryingBlur(LinearOperator):
    """``y = sum_k h_k * (m_k x)``: kernels h_k, each for its part m_k of the scene (the m_k usually sum to one).

    Attributes:
        kernels: (1|B, 1|C, K, kh, kw), odd sizes. Buffer.
        multipliers: (1|B, 1|C, K, H, W), on the grid of the scene. Buffer.
        boundary: As in `physrestore.operators.blur.Blur`, but for "symmetric".

    Raises:
        ValueError: shapes that do not fit each other, even kernels, or an unknown boundary.

    Source:
        P. Escande, P. Weiss, Approximation of integral operators using product-convolution expansions, J. Math. Imaging
        Vision 58, 2017; deepinv's ``product_convolution2d`` does the arithmetic.
    """

    kernels: Tensor
    multipliers: Tensor
    parameter_names: ClassVar[tuple[str, ...]] = ("kernels", "multipliers")

    def __init__(self, kernels: Tensor, multipliers: Tensor, *, boundary: str = "unobserved", **parts: Any) -> None:
        """``parts`` are those of `LinearOperator`."""
        super().__init__(**parts)
        self.boundary = checked_boundary(boundary, known=tuple(_PADDING))
        self.register_buffer("kernels", kernels.clone())
        self.register_buffer("multipliers", multipliers.clone())
        self._check_parameters()

    def A(self, x: Tensor, **params: Any) -> Tensor:
        """(B, C, H, W) to the same shape; "unobserved": to (B, C, H - kh + 1, W - kw + 1)."""
        self.update_parameters(**params)
        blurred: Tensor = _functional.product_convolution2d(
            x, self.multipliers.to(x), self.kernels.to(x), padding=_PADDING[self.boundary], use_fft=True
        )
        return blurred

    def A_adjoint(self, y: Tensor, **params: Any) -> Tensor:
        """Transpose of `A`."""
        self.update_parameters(**params)
        image: Tensor = _functional.product_convolution2d_adjoint(
            y, self.multipliers.to(y), self.kernels.to(y), padding=_PADDING[self.boundary], use_fft=True
        )
        return image

    def _check_parameters(self) -> None:
        kernels, multipliers = self.kernels, self.multipliers
        if kernels.dim() != 5 or multipliers.dim() != 5 or kernels.shape[2] != multipliers.shape[2]:
            raise ValueError(
                "Needed are kernels (1|B, 1|C, K, kh, kw) and multipliers (1|B, 1|C, K, H, W) of equal K, not "
                f"{tuple(kernels.shape)} and {tuple(multipliers.shape)}."
            )
        if kernels.shape[-2] % 2 == 0 or kernels.shape[-1] % 2 == 0:
            raise ValueError(f"Kernels need odd sizes, with a middle; these are {tuple(kernels.shape[-2:])}.")
