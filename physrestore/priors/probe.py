"""What a prior is probed with: a synthetic picture, the noise levels that photographs have, and seeded noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from physrestore.priors.base import Prior

# Noise levels that photographs have (white is 1); a prior is probed where its range meets them.
PROBED_LEVELS = (0.005, 0.3)
SMALLEST_SIDE = 64  # of the picture [pixels]


@dataclass(frozen=True)
class Probe:
    """One prior and what it is shown.

    Attributes:
        prior: To be probed.
        image: Clean, (1, C, H, W); None: `synthetic_picture`, larger than the prior's halo.
        seed: Of the noise.
        device: Of the synthetic picture.
    """

    prior: Prior
    image: Tensor | None
    seed: int
    device: torch.device | str = "cpu"

    @cached_property
    def clean(self) -> Tensor:
        """The clean picture, (1, C, H, W)."""
        if self.image is not None:
            return self.image
        spec = self.prior.spec
        # Wide enough that no tile sees all of it.
        side = max(SMALLEST_SIDE, 2 * spec.halo + SMALLEST_SIDE // 2, 3 * spec.modulo)
        side = -(-side // spec.modulo) * spec.modulo
        return synthetic_picture(side, channels=3 if spec.channels is None else spec.channels).to(self.device)

    @property
    def levels(self) -> list[float]:
        """Lowest, middle and highest probed level."""
        limits = self.prior.spec.sigma_limits
        low, high = (min(max(limit, PROBED_LEVELS[0]), PROBED_LEVELS[1]) for limit in limits)
        if not limits[0] <= high <= limits[1]:  # made for levels that no photograph has
            low, high = limits
        return [low] if low == high else [low, math.sqrt(low * high), high]

    def noise(self, like: Tensor) -> Tensor:
        """White noise of variance 1, always the same."""
        return torch.randn(like.shape, generator=torch.Generator().manual_seed(self.seed)).to(like)

    def noisy(self, sigma: float) -> Tensor:
        """The picture with noise of one level."""
        return self.clean + sigma * self.noise(self.clean)


def synthetic_picture(side: int, *, channels: int) -> Tensor:
    """A ramp, waves that get finer, discs and bars: (1, C, side, side), 0.1 to 0.9."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    planes = []
    for k in range(channels):
        waves = 0.1 * torch.sin(40 * x**2 + k) * (y > 0.5)
        disc = 0.25 * ((x - 0.35) ** 2 + (y - 0.3) ** 2 < 0.04)
        bars = 0.2 * (torch.sin(60 * y + 20 * x) > 0) * (x > 0.7)
        planes.append((0.3 + 0.2 * x + waves + disc + bars - 0.02 * k).clamp(0.1, 0.9))
    return torch.stack(planes)[None]
