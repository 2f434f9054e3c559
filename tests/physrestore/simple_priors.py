"""Priors whose every answer is known, and good ones with one planted fault each."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from physrestore.priors.base import PriorSpec, shaped_like
from physrestore.priors.levels import check_level

ANY_LEVEL = (0.0, math.inf)


class Gaussian:
    """Exact posterior mean of ``x ~ N(0, 1)``: D = x / (1 + sigma^2), score = -x / (1 + sigma^2)."""

    spec = PriorSpec(channels=None, noise="map", sigma_range=ANY_LEVEL)

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        return x / (1 + shaped_like(sigma, x) ** 2)


class Smoother:
    """A sound prior: mixes the image with its 5x5 mean, the more the higher the level; faults are planted by hand."""

    def __init__(
        self,
        *,
        before: Callable[[Tensor], Tensor] = lambda x: x,
        after: Callable[[Tensor], Tensor] = lambda x: x,
        strength: Callable[[Tensor], Tensor] = lambda sigma: sigma**2 / (sigma**2 + 0.01),
        checks_level: bool = True,
        halo: int = 2,
        scale_equivariant: bool = False,
    ) -> None:
        self.spec = PriorSpec(
            channels=None, noise="map", sigma_range=(0.02, 0.2), halo=halo, scale_equivariant=scale_equivariant
        )
        self._before, self._after, self._strength = before, after, strength
        self._checks_level = checks_level

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        level = shaped_like(sigma, x)
        if self._checks_level:
            check_level(self.spec, level)
        x = self._before(x)
        smooth = F.avg_pool2d(x, 5, stride=1, padding=2, count_include_pad=False)
        return self._after(x + self._strength(level) * (smooth - x))
