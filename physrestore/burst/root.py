"""The space of the prior, as a change of variable: ``v = sqrt(g (x + 3/8 a + b / a))`` of noise-free light x.

The values of `physrestore.working_space`, but the data stay linear: a sum of frames in linear light is unbiased
whatever their exposures, and v is a name for the unknown x, not a transform of noisy values. So its inverse is the
algebraic one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noise_models.stabilise import ANSCOMBE_OFFSET
from physrestore.working_space import WorkingSpace

# The slope dx/dv vanishes at v = 0; below this share of the noise's std it is held.
LEAST_ROOT = 0.5


@dataclass(frozen=True)
class Root:
    """The change of variable of a reference frame.

    Attributes:
        gain: a of R, G, B, (3,): variance per signal, white is 1.
        dark_variance: b of R, G, B, (3,).
        balance: White-balance gains g, (3,).
    """

    gain: Tensor
    dark_variance: Tensor
    balance: Tensor

    @classmethod
    def of(cls, space: WorkingSpace) -> Root:
        """That of a frame's working space."""
        return cls(space.gain.float(), space.dark_noise.float().square(), space.balance.float())

    @property
    def scale(self) -> Tensor:
        """Std of the reference's noise in v, (3, 1, 1)."""
        return self._planes(0.5 * (self.balance * self.gain).sqrt())

    @property
    def offset(self) -> Tensor:
        """``3/8 a + b / a``, (3,)."""
        return ANSCOMBE_OFFSET * self.gain + self.dark_variance / self.gain

    def value(self, x: Tensor) -> Tensor:
        """V of light, (..., 3, H, W)."""
        return (self._planes(self.balance) * (x + self._planes(self.offset)).clamp(min=0.0)).sqrt()

    def value_of_sites(self, x: Tensor, colour: Tensor) -> Tensor:
        """V of a mosaic, (H, W); ``colour``: which of R, G, B each site measures."""
        return (self.balance[colour] * (x + self.offset[colour]).clamp(min=0.0)).sqrt()

    def light(self, v: Tensor) -> Tensor:
        """X of v, (..., 3, H, W)."""
        return v * v.abs() / self._planes(self.balance) - self._planes(self.offset)

    def slope(self, v: Tensor) -> Tensor:
        """Dx / dv, (..., 3, H, W), positive."""
        return 2.0 * torch.maximum(v, LEAST_ROOT * self.scale.to(v)) / self._planes(self.balance)

    def variance(self, x: Tensor, gain: Tensor, dark_variance: Tensor) -> Tensor:
        """Variance in v of a frame's noise, (..., 3, H, W), for light x.

        Args:
            x: (..., 3, H, W).
            gain: a of that frame's colours, (3,).
            dark_variance: b of that frame's colours, (3,).
        """
        of_light = self._planes(gain) * x.clamp(min=0.0) + self._planes(dark_variance)
        return of_light / self.slope(self.value(x)).square()

    def reference_variance(self, x: Tensor) -> Tensor:
        """Variance of the reference's linear noise, (..., 3, H, W), for light x."""
        return self._planes(self.gain) * x.clamp(min=0.0) + self._planes(self.dark_variance)

    @staticmethod
    def _planes(values: Tensor) -> Tensor:
        return values.reshape(3, 1, 1)
