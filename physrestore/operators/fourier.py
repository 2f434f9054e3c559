"""Convolution through the real FFT, circular and valid, with exact adjoints."""

from __future__ import annotations

import torch
from scipy.fft import next_fast_len
from torch import Tensor

# Singular values below this share of the largest are treated as zero by pseudo-inverses: what they would amplify is
# rounding of single precision.
NULL_SHARE = 1e-5


def transfer(kernel: Tensor, size: tuple[int, int], *, centred: bool) -> Tensor:
    """The half-plane Fourier transform of a kernel on an image grid.

    Args:
        kernel: (..., kh, kw); one larger than the grid is wrapped around it.
        size: (H, W) of the grid.
        centred: The tap (kh // 2, kw // 2) is at the origin; else the first tap is.

    Returns:
        (..., H, W // 2 + 1), complex.
    """
    (height, width), (kh, kw) = size, kernel.shape[-2:]
    rows = (torch.arange(kh, device=kernel.device) - centred * (kh // 2)) % height
    columns = (torch.arange(kw, device=kernel.device) - centred * (kw // 2)) % width
    tall = kernel.new_zeros(*kernel.shape[:-2], height, kw).index_add(-2, rows, kernel)
    grid = kernel.new_zeros(*kernel.shape[:-2], height, width).index_add(-1, columns, tall)
    spectrum: Tensor = torch.fft.rfft2(grid)
    return spectrum


def multiply(x: Tensor, spectrum: Tensor) -> Tensor:
    """The circular filter of that half-plane spectrum on (..., H, W)."""
    filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(x) * spectrum, s=x.shape[-2:])
    return filtered


def convolve_valid(x: Tensor, kernel: Tensor) -> Tensor:
    """True convolution where the kernel lies inside: (..., H, W) to (..., H - kh + 1, W - kw + 1).

    Raises:
        ValueError: an image smaller than the kernel.
    """
    (height, width), (kh, kw) = x.shape[-2:], kernel.shape[-2:]
    if height < kh or width < kw:
        raise ValueError(f"A kernel of {kh}x{kw} does not lie inside an image of {height}x{width}.")
    size = _fast(height, width)
    full: Tensor = torch.fft.irfft2(torch.fft.rfft2(x, s=size) * transfer(kernel, size, centred=False), s=size)
    # What wraps around ends before the first valid row and column.
    return full[..., kh - 1 : height, kw - 1 : width]


def correlate_full(y: Tensor, kernel: Tensor) -> Tensor:
    """Adjoint of `convolve_valid`: (..., h, w) to (..., h + kh - 1, w + kw - 1)."""
    kh, kw = kernel.shape[-2:]
    height, width = y.shape[-2] + kh - 1, y.shape[-1] + kw - 1
    size = _fast(height, width)
    placed = torch.nn.functional.pad(y, (kw - 1, size[1] - width, kh - 1, size[0] - height))
    spectrum = torch.fft.rfft2(placed) * transfer(kernel, size, centred=False).conj()
    full: Tensor = torch.fft.irfft2(spectrum, s=size)
    return full[..., :height, :width]


def power(spectrum: Tensor) -> Tensor:
    """``|K|^2`` of a spectrum, real."""
    return spectrum.real.square() + spectrum.imag.square()


def pseudo_reciprocal(power_spectrum: Tensor) -> Tensor:
    """``1 / |K|^2`` where |K| is above `NULL_SHARE` of its largest value, else zero."""
    floor = NULL_SHARE**2 * power_spectrum.amax(dim=(-2, -1), keepdim=True)
    kept = power_spectrum > floor
    return torch.where(kept, 1.0 / torch.where(kept, power_spectrum, 1.0), 0.0)


def _fast(height: int, width: int) -> tuple[int, int]:
    """The next sizes without large prime factors."""
    return int(next_fast_len(height, real=True)), int(next_fast_len(width, real=True))
