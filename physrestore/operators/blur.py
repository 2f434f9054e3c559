"""Blur by one kernel for the whole picture, given whole or as two profiles."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from physrestore.operators import fourier
from physrestore.operators.base import LinearOperator
from physrestore.operators.boundary import Boundary, checked_boundary, extend, fold, mirrored
from physrestore.operators.conjugate_gradient import Linear
from physrestore.operators.kernels import gaussian_profile
from physrestore.operators.shapes import is_constant_per_plane

Margins = tuple[int, int, int, int]


class _KernelBlur(LinearOperator):
    """True convolution ``y = k * x``; the tap (kh // 2, kw // 2) of the kernel is the one at the pixel itself.

    Circular with weights and gamma constant per plane: ``x = z + K^T w (w |K|^2 + 1/gamma)^-1 (y - K z)`` in the
    Fourier domain. Symmetric with a kernel that is its own mirror image, alike: the same on the image with its mirror
    images, which is the domain of the cosine transform. Otherwise: conjugate gradients with the circulant matrix of
    the mean weight as preconditioner.

    Source:
        M. K. Ng, R. H. Chan, W.-C. Tang, A fast algorithm for deblurring models with Neumann boundary conditions, SIAM
        J. Sci. Comput. 21(3), 1999, theorem 3.2 (the symmetric boundary).
    """

    boundary: Boundary

    @property
    @abstractmethod
    def psf(self) -> Tensor:
        """(1|B, 1|C, kh, kw)."""

    @property
    def margins(self) -> Margins:
        """Sites that the kernel reaches over the upper, lower, left and right edge."""
        kh, kw = self.psf.shape[-2:]
        return kh - 1 - kh // 2, kh // 2, kw - 1 - kw // 2, kw // 2

    def spectrum(self, x: Tensor) -> Tensor:
        """Transfer function on the grid of an image, (1|B, 1|C, H, W // 2 + 1)."""
        return fourier.transfer(self.psf.to(x), (x.shape[-2], x.shape[-1]), centred=True)

    def A_dagger(self, y: Tensor, **options: Any) -> Tensor:
        """Where the blur is a filter: exact inverse of all but vanishing frequencies; else as in `LinearOperator`."""
        if not self._is_filter():
            return super().A_dagger(y, **options)
        return self._filtered(y, lambda k: k.conj() * fourier.pseudo_reciprocal(fourier.power(k)))

    def _closed_form(self, z: Tensor, y: Tensor, w: Tensor, rho: Tensor) -> Tensor | None:
        if not self._is_filter() or not (is_constant_per_plane(w) and is_constant_per_plane(rho)):
            return None
        return z + self._filtered(y - self.A(z), lambda k: k.conj() * w / (w * fourier.power(k) + rho))

    def _is_filter(self) -> bool:
        """Whether the blur is a product of spectra, of the image or of the image with its mirror images."""
        if self.boundary != "symmetric":
            return self.boundary == "circular"
        psf = self.psf
        odd = psf.shape[-2] % 2 == 1 and psf.shape[-1] % 2 == 1
        return odd and torch.equal(psf, psf.flip(-1)) and torch.equal(psf, psf.flip(-2))

    def _filtered(self, x: Tensor, of_spectrum: Linear) -> Tensor:
        """The filter with a spectrum made of the blur's."""
        if self.boundary == "circular":
            return fourier.multiply(x, of_spectrum(self.spectrum(x)))
        grid = mirrored(x)
        return fourier.multiply(grid, of_spectrum(self.spectrum(grid)))[..., : x.shape[-2], : x.shape[-1]]

    def _preconditioner(self, like: Tensor, w: Tensor, rho: Tensor) -> Linear:
        gain = fourier.power(self.spectrum(like)) * w.mean(dim=(-2, -1), keepdim=True)
        inverse = 1.0 / (gain + rho.mean(dim=(-2, -1), keepdim=True))
        return lambda x: fourier.multiply(x, inverse)


class Blur(_KernelBlur):
    """Blur by a kernel of any shape, through the real FFT.

    Attributes:
        kernel: (kh, kw) or (1|B, 1|C, kh, kw), any sizes. Buffer (four axes).
        boundary: "circular": the image repeats; prox and inverse are closed forms. "reflect": it is mirrored at its
            edge. "symmetric": alike, with the outermost site repeated; a kernel that is its own mirror image then has
            closed forms too. "unobserved": the scene x is larger than the picture y by the kernel's reach, and what
            lies outside the picture is unknown; x is (B, C, H + kh - 1, W + kw - 1) for y (B, C, H, W). The honest
            choice for real photos.

    Raises:
        ValueError: a kernel of another shape or not finite, or an unknown boundary.

    >>> import torch
    >>> Blur(torch.tensor([[1.0, 2.0, 1.0]]) / 4).A(torch.eye(3)[None, None])[0, 0, 1].tolist()
    [0.25, 0.5, 0.25]
    """

    kernel: Tensor
    parameter_names: ClassVar[tuple[str, ...]] = ("kernel",)

    def __init__(self, kernel: Tensor, *, boundary: str = "circular", **parts: Any) -> None:
        """``parts`` are those of `LinearOperator`."""
        super().__init__(**parts)
        self.boundary = checked_boundary(boundary)
        self.register_buffer("kernel", (kernel[None, None] if kernel.dim() == 2 else kernel).clone())
        self._check_parameters()

    @classmethod
    def gaussian(cls, sigma_px: float, **options: Any) -> Self:
        """Gaussian blur of that std [pixels]."""
        profile = gaussian_profile(sigma_px)
        return cls(profile[:, None] * profile, **options)

    @property
    def psf(self) -> Tensor:
        """The kernel."""
        return self.kernel

    def A(self, x: Tensor, kernel: Tensor | None = None, **params: Any) -> Tensor:
        """(B, C, H, W) to the same shape; "unobserved": to (B, C, H - kh + 1, W - kw + 1)."""
        self.update_parameters(kernel=kernel, **params)
        if self.boundary == "circular":
            return fourier.multiply(x, self.spectrum(x))
        return fourier.convolve_valid(extend(x, self.margins, self.boundary), self.psf.to(x))

    def A_adjoint(self, y: Tensor, kernel: Tensor | None = None, **params: Any) -> Tensor:
        """Transpose of `A`."""
        self.update_parameters(kernel=kernel, **params)
        if self.boundary == "circular":
            return fourier.multiply(y, self.spectrum(y).conj())
        return fold(fourier.correlate_full(y, self.psf.to(y)), self.margins, self.boundary)

    def _check_parameters(self) -> None:
        if self.kernel.dim() == 2:  # an update may come without the axes of batch and channel
            self.kernel = self.kernel[None, None]
        if self.kernel.dim() != 4 or not bool(self.kernel.isfinite().all()):
            raise ValueError(
                f"A blur kernel is finite, (kh, kw) or (1|B, 1|C, kh, kw); given was {tuple(self.kernel.shape)}."
            )


class SeparableBlur(_KernelBlur):
    """Blur by one profile down the columns and one along the rows, by direct convolution.

    On a CPU `Blur` is faster at every kernel size; on a GPU short profiles are faster here.

    Attributes:
        down: (kh,), profile down the columns. Buffer.
        along: (kw,), profile along the rows. Buffer.
        boundary: As in `Blur`.

    Raises:
        ValueError: profiles that are not finite lines, or an unknown boundary.
    """

    down: Tensor
    along: Tensor
    parameter_names: ClassVar[tuple[str, ...]] = ("down", "along")

    def __init__(self, down: Tensor, along: Tensor, *, boundary: str = "circular", **parts: Any) -> None:
        """``parts`` are those of `LinearOperator`."""
        super().__init__(**parts)
        self.boundary = checked_boundary(boundary)
        self.register_buffer("down", down.clone())
        self.register_buffer("along", along.clone())
        self._check_parameters()

    @classmethod
    def gaussian(cls, sigma_px: float, **options: Any) -> Self:
        """Gaussian blur of that std [pixels]."""
        profile = gaussian_profile(sigma_px)
        return cls(profile, profile, **options)

    @property
    def psf(self) -> Tensor:
        """The kernel as a whole."""
        return (self.down[:, None] * self.along)[None, None]

    def A(self, x: Tensor, **params: Any) -> Tensor:
        """(B, C, H, W) to the same shape; "unobserved": to (B, C, H - kh + 1, W - kw + 1)."""
        self.update_parameters(**params)
        wide = extend(x, self.margins, self.boundary).flatten(0, 1)[:, None]
        # torch correlates; a convolution is the correlation with the profile turned round.
        tall = F.conv2d(wide, self.along.to(x).flip(0)[None, None, None, :])
        blurred = F.conv2d(tall, self.down.to(x).flip(0)[None, None, :, None])
        return blurred.reshape(*x.shape[:2], *blurred.shape[-2:])

    def A_adjoint(self, y: Tensor, **params: Any) -> Tensor:
        """Transpose of `A`."""
        self.update_parameters(**params)
        tall = F.conv_transpose2d(y.flatten(0, 1)[:, None], self.down.to(y).flip(0)[None, None, :, None])
        wide = F.conv_transpose2d(tall, self.along.to(y).flip(0)[None, None, None, :])
        return fold(wide.reshape(*y.shape[:2], *wide.shape[-2:]), self.margins, self.boundary)

    def _check_parameters(self) -> None:
        for name, profile in (("down", self.down), ("along", self.along)):
            if profile.dim() != 1 or profile.numel() == 0 or not bool(profile.isfinite().all()):
                raise ValueError(f"The profile {name!r} is a finite line (k,), not {tuple(profile.shape)}.")
