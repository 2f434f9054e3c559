"""From the noise of the data to the noise of the image: what a prior has to be told."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from physrestore.solvers.iterate import Step

# Side of the window over which the precision of measured sites is averaged: two periods of X-Trans, and odd.
WINDOW = 13


class Operator(Protocol):
    """What solvers need of a forward operator; those of `physrestore.operators` have it."""

    def A(self, x: Tensor, /) -> Tensor:  # noqa: N802 (the field's name)
        """Image to data."""

    def A_adjoint(self, y: Tensor, /) -> Tensor:  # noqa: N802
        """Data to image, transposed."""

    def prox_weighted(self, z: Tensor, y: Tensor, weights: Tensor, gamma: Step, /) -> Tensor:
        """``argmin_x 1/2 (A x - y)^T W (A x - y) + 1/2 (x - z)^T diag(1 / gamma) (x - z)``."""


def image_noise_level(operator: Operator, weights: Tensor, like: Tensor, *, window: int = WINDOW) -> Tensor:
    """Std with which the data see each value of the image.

    The precision ``A^T W A 1`` is averaged over the values nearby that are measured at all: a mosaic gives every
    colour the noise of its own sites there. Where no site nearby counts (a blown highlight), the noise is that of the
    noisiest place that has one.

    Args:
        operator: The forward operator, with weights of one sign (as optics have).
        weights: Inverse variances of the data; zero where a site does not count.
        like: An image; only shape, dtype and device count.
        window: Odd side of the averaging window.

    Returns:
        (B, C, H, W), positive, in the units of the image.

    Raises:
        ValueError: some channel of some image has no measured site that counts.
    """
    ones = torch.ones_like(like)
    flat = operator.A(ones)
    seen = (operator.A_adjoint(torch.ones_like(flat)) != 0).to(like)
    precision, share = (_mean(v, window) for v in (operator.A_adjoint(weights * flat), seen))
    known = (precision > 0) & (share > 0)
    if not bool(known.flatten(2).any(-1).all()):
        raise ValueError("A channel has no measured site with a positive weight: its noise level is not defined.")
    precision = precision / torch.where(known, share, 1.0)
    least = torch.where(known, precision, torch.inf).amin(dim=(2, 3), keepdim=True)
    return torch.where(known, precision, least).rsqrt()


def _mean(x: Tensor, window: int) -> Tensor:
    """Moving average, over what is inside the image."""
    return F.avg_pool2d(x, window, 1, window // 2, count_include_pad=False)
