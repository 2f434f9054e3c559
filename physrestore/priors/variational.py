"""Total variation, total generalised variation and wavelet shrinkage, computed by deepinv."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from physrestore.deepinv_host import load_deepinv
from physrestore.priors.adapter import TILE, Adapter
from physrestore.priors.base import PriorSpec
from physrestore.priors.optional import require

Kind = Literal["tv", "tgv", "wavelet"]

# Threshold over noise level. Best of a grid on the procedural scene at sigma 0.05; the optimum at 0.01 is lower, at
# 0.2 higher (TV 0.4 to 0.8, TGV 3 to 8, wavelet 0.8 to 1.6).
WEIGHTS: dict[Kind, float] = {"tv": 0.6, "tgv": 5.0, "wavelet": 1.0}

# Beyond it [pixels] nothing changes by 0.01 sigma: measured by tiles of 64 pixels. The wavelet's reach is exact.
HALO: dict[Kind, int] = {"tv": 32, "tgv": 64, "wavelet": 64}

# Primal step of TGV. deepinv's own 0.01 is, after 400 iterations at sigma 0.01, 0.8 sigma (rms) from the solution and
# 3 dB worse than it; with 0.2 the distance is below 0.02 sigma.
TGV_STEP = 0.2

WAVELET, WAVELET_LEVELS = "db4", 3


class VariationalPrior(Adapter):
    """``argmin_u 1/2 |u - x|^2 + weight sigma R(u)``, channel by channel, one noise level per channel.

    Every call starts afresh: deepinv's own denoisers keep the last image's variables, so that their results depend on
    what they saw before.

    Attributes:
        kind: "tv" (edges), "tgv" (edges and slopes) or "wavelet" (soft thresholds in an orthogonal wavelet basis).
        weight: Threshold over noise level.

    Raises:
        MissingPackage: "wavelet" without the package ptwt.

    Source:
        Condat, J. Optim. Theory Appl. 158, 2013 (TV); Bredies, Kunisch & Pock, SIAM J. Imaging Sci. 3(3), 2010 (TGV);
        Donoho, IEEE Trans. Inf. Theory 41(3), 1995 (wavelets).
    """

    def __init__(
        self, kind: Kind = "tv", *, weight: float | None = None, iterations: int = 400, tile: int | None = TILE
    ) -> None:
        """Choose; ``iterations`` are the most that TV and TGV take."""
        spec = PriorSpec(
            channels=1,
            noise="scalar",
            sigma_range=(0.0, math.inf),
            scale_equivariant=True,
            halo=HALO[kind],
            modulo=2**WAVELET_LEVELS if kind == "wavelet" else 1,
            differentiable=False,
        )
        super().__init__(spec, tile=tile)
        self.kind = kind
        self.weight = WEIGHTS[kind] if weight is None else weight
        self._denoiser = _denoiser(kind, iterations)

    def _denoise_own(self, x: Tensor, sigma: Tensor) -> Tensor:
        levels = (self.weight * sigma).flatten().expand(x.shape[0])
        # One by one: deepinv's stopping rule looks at the whole batch.
        return torch.cat([self._one(image[None], level) for image, level in zip(x, levels, strict=True)])

    def _one(self, image: Tensor, threshold: Tensor) -> Tensor:
        self._denoiser.restart = True
        clean: Tensor = self._denoiser(image, threshold)
        return clean


def _denoiser(kind: Kind, iterations: int) -> Any:
    models: Any = load_deepinv().models
    match kind:
        case "tv":
            return models.TVDenoiser(n_it_max=iterations)
        case "tgv":
            denoiser = models.TGVDenoiser(n_it_max=iterations)
            denoiser.tau = TGV_STEP
            return denoiser
        case "wavelet":
            require("ptwt", purpose="The wavelet prior of deepinv", install="ptwt")
            return models.WaveletDenoiser(level=WAVELET_LEVELS, wv=WAVELET, mode="reflect")
