"""BM3D as a prior, by the package bm3d, whose licence forbids commercial use."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from physrestore.priors.adapter import Adapter
from physrestore.priors.base import PriorSpec
from physrestore.priors.optional import require
from physrestore.priors.transform import OPPONENT_COLOURS


class Bm3dPrior(Adapter):
    """Block matching and collaborative filtering; every channel has its own level, a map becomes its root mean square.

    Three channels are taken for R, G, B and denoised as luminance and two colour differences, matched by luminance; any
    other number is denoised channel by channel.

    Raises:
        MissingPackage: bm3d is not installed.

    Source:
        Dabov, Foi, Katkovnik & Egiazarian, "Image denoising by sparse 3-D transform-domain collaborative filtering",
        IEEE TIP 16(8), 2007.
    """

    def __init__(self) -> None:
        spec = PriorSpec(
            channels=None,
            noise="scalar",
            sigma_range=(0.0, math.inf),
            non_local=True,
            differentiable=False,
        )
        super().__init__(spec, level_axes=(2, 3))
        self._bm3d = require("bm3d", purpose="The BM3D prior", install="'physrestore[bm3d]'")

    def _denoise_own(self, x: Tensor, sigma: Tensor) -> Tensor:
        levels = sigma.expand(*x.shape[:2], 1, 1)[..., 0, 0].double().cpu().numpy()
        arrays = x.double().cpu().numpy()
        clean = [self._one(image, level) for image, level in zip(arrays, levels, strict=True)]
        return torch.from_numpy(np.stack(clean)).to(x)

    def _one(self, image: np.ndarray, level: np.ndarray) -> np.ndarray:
        """(C, H, W) with the level of each channel."""
        transform = np.array(OPPONENT_COLOURS)
        if image.shape[0] == len(transform):
            # Not bm3d_rgb: it stretches every colour to 0..1 and returns NaN for a grey picture. Channels brought to
            # equal noise before the transform keep it white, and the cleaner ones count for more.
            mean = float(np.sqrt(np.mean(level**2)))
            scale = (mean / level)[:, None, None]
            colours = self._bm3d.bm3d(np.tensordot(image * scale, transform, axes=(0, 1)), [mean] * len(transform))
            return np.tensordot(transform.T, colours, axes=(1, 2)) / scale
        return np.stack([self._bm3d.bm3d(plane, float(one)) for plane, one in zip(image, level, strict=True)])
