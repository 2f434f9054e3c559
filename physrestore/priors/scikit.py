"""The denoisers of scikit-image as priors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from physrestore.priors.adapter import Adapter
from physrestore.priors.base import PriorSpec
from physrestore.priors.optional import require

Method = Literal["nl_means", "wavelet", "tv"]

# Non-local means: patches of 5x5 within 13x13, filter strength 0.8 sigma, as scikit-image's own guide has it for known
# noise (J. Darbon et al., ISBI 2008, for the fast form).
NL_MEANS = {"patch_size": 5, "patch_distance": 6, "fast_mode": True}
NL_MEANS_STRENGTH = 0.8
# Chambolle's total variation: weight over sigma, as that of `physrestore.priors.variational`.
TV_WEIGHT = 0.6


class ScikitPrior(Adapter):
    """Non-local means, BayesShrink wavelets or Chambolle's total variation, channel by channel.

    Attributes:
        method: "nl_means", "wavelet" or "tv".

    Raises:
        MissingPackage: scikit-image is not installed.
    """

    def __init__(self, method: Method = "nl_means") -> None:
        spec = PriorSpec(
            channels=1,
            noise="scalar",
            sigma_range=(0.0, math.inf),
            scale_equivariant=method != "tv",  # the stopping rule of Chambolle's iteration knows the scale
            non_local=True,
            differentiable=False,
        )
        super().__init__(spec)
        self.method = method
        self._denoise = _denoiser(method)

    def _denoise_own(self, x: Tensor, sigma: Tensor) -> Tensor:
        levels = sigma.flatten().expand(x.shape[0]).tolist()
        arrays = x.double().cpu().numpy()
        clean = [self._denoise(image[0], level)[None] for image, level in zip(arrays, levels, strict=True)]
        return torch.from_numpy(np.stack(clean)).to(x)


def _denoiser(method: Method) -> Callable[[np.ndarray, float], np.ndarray]:
    """(H, W) and a level to (H, W)."""
    restoration: Any = require("skimage.restoration", purpose="A prior of scikit-image", install="scikit-image")
    match method:
        case "nl_means":
            return lambda image, sigma: restoration.denoise_nl_means(
                image, h=NL_MEANS_STRENGTH * sigma, sigma=sigma, **NL_MEANS
            )
        case "wavelet":
            return lambda image, sigma: restoration.denoise_wavelet(image, sigma=sigma, wavelet="sym4")
        case "tv":
            return lambda image, sigma: restoration.denoise_tv_chambolle(image, weight=TV_WEIGHT * sigma)
