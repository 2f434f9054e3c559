"""The weight-free prior of demosaicking: a cosine transform that knows where a demosaicked picture is wrong.

Interpolated colours err mainly in their *differences*: luminance is sampled at every site, each colour at few. A prior
told of the same noise in all directions blurs luminance before it has removed the fringes. So the error that comes
from demosaicking, unlike the sensor's noise, is taken as several times larger in colour differences.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from physrestore.classic.dct import remove_white_noise
from physrestore.priors.base import PriorSpec, shaped_like
from physrestore.priors.transform import HALO, OPPONENT_COLOURS, PHASE


class DemosaicPrior:
    """Sliding cosine transform of luminance and two colour differences, each with its own noise level.

    Attributes:
        noise: Std of the sensor's noise per colour, (3, 1, 1), in the units of the image.
        chroma: How many times larger the error of demosaicking is in colour differences than in luminance.
    """

    def __init__(self, noise: Tensor, *, chroma: float) -> None:
        self.noise = noise
        self.chroma = chroma

    @property
    def spec(self) -> PriorSpec:
        """Three channels at any noise level; not scale-equivariant, for the sensor's noise is part of it."""
        return PriorSpec(
            channels=3, noise="map", sigma_range=(0.0, math.inf), halo=HALO, modulo=PHASE, differentiable=False
        )

    @torch.no_grad()
    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """See `physrestore.priors.base.Prior.denoise`; variance beyond the sensor's is taken for demosaicking's."""
        transform = x.new_tensor(OPPONENT_COLOURS)
        variance = shaped_like(sigma, x).square().expand(x.shape[0], 3, -1, -1)
        sensor = torch.minimum(variance, self.noise.to(x).square())
        spread = x.new_tensor((1.0, self.chroma, self.chroma)).square().reshape(3, 1, 1)
        level = (
            torch.einsum("ij,bjhw->bihw", transform.square(), sensor)
            + spread * torch.einsum("ij,bjhw->bihw", transform.square(), variance - sensor)
        ).sqrt()
        white = torch.einsum("ij,bjhw->bihw", transform, x) / level
        clean = torch.stack([remove_white_noise(image) for image in white]) * level
        return torch.einsum("ij,bihw->bjhw", transform, clean)
