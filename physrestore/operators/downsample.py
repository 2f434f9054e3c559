"""A smaller picture: antialiasing filter, then every s-th sample."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from physrestore.operators import fourier
from physrestore.operators.base import LinearOperator
from physrestore.operators.blur import Blur
from physrestore.operators.kernels import downsampling_profile
from physrestore.operators.shapes import is_constant_per_plane


class Downsample(LinearOperator):
    """Reduction by a whole factor; a sample sits in the middle of the pixels it stands for.

    Circular with weights and gamma constant per plane, the prox is a closed form (Zhao et al. 2016) in the shape
    ``x = z + w A^T (w A A^T + 1/gamma)^-1 (y - A z)``: A A^T is circulant on the small grid, its kernel the kernel's
    autocorrelation at every s-th site. Otherwise: conjugate gradients.

    Attributes:
        factor: s.
        kernel: Antialiasing filter (1|B, 1|C, kh, kw). Buffer of ``blur``; may be passed to `A`.
        blur: The filter as an operator.

    Raises:
        ValueError: as of `Blur` and `downsampling_profile`; the boundary "unobserved".

    Source:
        N. Zhao, Q. Wei, A. Basarab, N. Dobigeon, D. Kouamé, J.-Y. Tourneret, Fast single image super-resolution using a
        new analytical solution for l2-l2 problems, IEEE TIP 25(8), 2016, theorem 1.

    >>> Downsample(2, filter="area").A(torch.arange(8.0).reshape(1, 1, 2, 4)).tolist()
    [[[[2.5, 4.5]]]]
    """

    parameter_names: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        factor: int,
        *,
        filter: Literal["area", "bicubic"] | Tensor = "bicubic",  # noqa: A002 (what every library calls it)
        boundary: str = "circular",
        **parts: Any,
    ) -> None:
        """``filter`` may be a kernel (kh, kw), its middle on the sample; ``parts`` are those of `LinearOperator`."""
        super().__init__(**parts)
        if boundary == "unobserved":
            raise ValueError("Downsample knows the boundaries circular and reflect. Crop the borders instead.")
        if isinstance(filter, Tensor):
            kernel = filter
        else:
            profile = downsampling_profile(factor, filter)
            kernel = profile[:, None] * profile
        self.factor = factor
        self.blur = Blur(kernel, boundary=boundary)

    def A(self, x: Tensor, **params: Any) -> Tensor:
        """(B, C, H, W) to (B, C, H/s, W/s).

        Raises:
            ValueError: H or W is no multiple of s.
        """
        if x.shape[-2] % self.factor or x.shape[-1] % self.factor:
            raise ValueError(f"An image of {tuple(x.shape[-2:])} is no multiple of the factor {self.factor}. Crop it.")
        return self.blur.A(x, **params)[..., self._first :: self.factor, self._first :: self.factor]

    def A_adjoint(self, y: Tensor, **params: Any) -> Tensor:
        """(B, C, h, w) to (B, C, s h, s w)."""
        return self.blur.A_adjoint(self._spread(y), **params)

    def A_dagger(self, y: Tensor, **options: Any) -> Tensor:
        """Circular: exact but for vanishing frequencies; otherwise as in `LinearOperator`."""
        if self.blur.boundary != "circular":
            return super().A_dagger(y, **options)
        return self.A_adjoint(fourier.multiply(y, fourier.pseudo_reciprocal(self._gram_spectrum(y))))

    def update_parameters(self, **params: Any) -> None:
        """The kernel is the blur's."""
        self.blur.update_parameters(**params)

    def _closed_form(self, z: Tensor, y: Tensor, w: Tensor, rho: Tensor) -> Tensor | None:
        if self.blur.boundary == "circular" and is_constant_per_plane(w) and is_constant_per_plane(rho):
            filtered = w / (w * self._gram_spectrum(y) + rho)
            return z + self.A_adjoint(fourier.multiply(y - self.A(z), filtered))
        return None

    def _gram_spectrum(self, y: Tensor) -> Tensor:
        """Eigenvalues of A A^T on the small grid: (1|B, 1|C, h, w // 2 + 1)."""
        size = (y.shape[-2] * self.factor, y.shape[-1] * self.factor)
        spectrum = fourier.transfer(self.blur.psf.to(y), size, centred=True)
        autocorrelation = torch.fft.irfft2(fourier.power(spectrum), s=size)
        eigenvalues: Tensor = torch.fft.rfft2(autocorrelation[..., :: self.factor, :: self.factor]).real
        return eigenvalues

    @property
    def _first(self) -> int:
        """Row and column of the first sample: the middle of its block (an even kernel has its own half pixel)."""
        return (self.factor - 1) // 2

    def _spread(self, y: Tensor) -> Tensor:
        height, width = y.shape[-2] * self.factor, y.shape[-1] * self.factor
        large = y.new_zeros(*y.shape[:-2], height, width)
        large[..., self._first :: self.factor, self._first :: self.factor] = y
        return large
