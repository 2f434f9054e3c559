"""The default prior, which needs no weights: the sliding cosine transform of the classic method."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from physrestore.classic.dct import remove_white_noise
from physrestore.priors.adapter import Adapter
from physrestore.priors.base import PriorSpec

# Rows: luminance, red against blue, green against magenta; orthonormal, so white noise stays white.
OPPONENT_COLOURS = (
    (1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)),
    (1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)),
    (1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)),
)

# Three scales reach max(14, 2 (2 + r) + 1) pixels, r being the reach of the next coarser one and 14 that of the two
# passes over 8x8 patches: 71, rounded up to a multiple of 8. The patch grid of the coarsest scale repeats after 8.
HALO = 72
PHASE = 8


class TransformPrior(Adapter):
    """Two passes of a thresholded DCT on several scales, for any noise map and any number of channels.

    The image is divided by the noise map, which makes the noise white, and multiplied by it afterwards: right where the
    map changes slowly, or with the image, as that of a camera does. Three channels are taken for R, G, B and denoised
    as luminance and two colour differences; four for packed R, G1, G2, B.

    >>> noisy = 0.5 + 0.1 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    >>> float((TransformPrior().denoise(noisy, 0.1) - 0.5).std()) < 0.015
    True
    """

    def __init__(self) -> None:
        spec = PriorSpec(
            channels=None,
            noise="map",
            sigma_range=(0.0, math.inf),
            scale_equivariant=True,
            halo=HALO,
            modulo=PHASE,
            differentiable=False,
        )
        super().__init__(spec, tile=None)  # the transform bounds its own memory

    def _denoise_own(self, x: Tensor, sigma: Tensor) -> Tensor:
        white = x / sigma
        return torch.stack([_denoise_white(image) for image in white]) * sigma


def _denoise_white(planes: Tensor) -> Tensor:
    """(C, H, W) with independent noise of variance 1."""
    if planes.shape[0] != len(OPPONENT_COLOURS):
        return remove_white_noise(planes)
    transform = planes.new_tensor(OPPONENT_COLOURS)
    return torch.einsum("ij,ihw->jhw", transform, remove_white_noise(torch.einsum("ij,jhw->ihw", transform, planes)))
