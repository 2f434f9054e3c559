"""Kernels of blur and of downsampling, normalised to a sum of one."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

# Beyond four sigma a Gaussian holds 6e-5 of its mass, below the quantisation of any raw.
GAUSSIAN_REACH = 4.0
# Keys' cubic: of the cubic interpolation kernels, the one with an error of third order (Keys 1981, equation 15).
KEYS_A = -0.5


def gaussian_profile(sigma_px: float) -> Tensor:
    """A Gaussian along a line: (2 r + 1,) float64 with r = ceil(4 sigma).

    Args:
        sigma_px: Std [pixels]; positive.

    Raises:
        ValueError: a sigma that is not positive.

    >>> gaussian_profile(0.5).shape
    torch.Size([5])
    """
    if not (sigma_px > 0 and math.isfinite(sigma_px)):
        raise ValueError(f"A Gaussian blur needs a positive sigma in pixels, not {sigma_px:g}.")
    reach = math.ceil(GAUSSIAN_REACH * sigma_px)
    offset = torch.arange(-reach, reach + 1, dtype=torch.float64)
    profile = torch.exp(-0.5 * (offset / sigma_px).square())
    return profile / profile.sum()


def downsampling_profile(factor: int, kind: Literal["area", "bicubic"]) -> Tensor:
    """The antialiasing filter of a reduction by a whole factor, along a line, float64.

    Its length has the parity of ``factor``, so that a sample sits in the middle of the pixels it stands for.

    Args:
        factor: Pixels that become one.
        kind: "area": their mean, what binning on a sensor does. "bicubic": Keys' cubic stretched by the factor, as
            image editors reduce.

    Raises:
        ValueError: a factor below one, or another kind.

    Source:
        R. G. Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 29(6), 1981.

    >>> downsampling_profile(2, "area").tolist()
    [0.5, 0.5]
    """
    if factor < 1:
        raise ValueError(f"A reduction needs a whole factor of at least one, not {factor}.")
    if kind == "area":
        return torch.full((factor,), 1.0 / factor, dtype=torch.float64)
    if kind != "bicubic":
        raise ValueError(f"The antialiasing filter is 'area' or 'bicubic', not {kind!r}.")
    length = 4 * factor - factor % 2  # the cubic ends at two (stretched) pixels on either side
    offset = torch.arange(length, dtype=torch.float64) - (length - 1) / 2
    profile = keys_cubic(offset / factor)
    return profile / profile.sum()


def keys_cubic(t: Tensor) -> Tensor:
    """Keys' cubic interpolation kernel at distances ``t``, in pixels.

    Source:
        Keys 1981, equation 15.

    >>> keys_cubic(torch.tensor([0.0, 0.5, 1.0, 2.0])).tolist()
    [1.0, 0.5625, 0.0, 0.0]
    """
    s = t.abs()
    near = ((KEYS_A + 2.0) * s - (KEYS_A + 3.0)) * s.square() + 1.0
    far = KEYS_A * (((s - 5.0) * s + 8.0) * s - 4.0)
    return torch.where(s <= 1.0, near, torch.where(s < 2.0, far, 0.0))
