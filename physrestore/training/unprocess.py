"""From a developed picture back to what a sensor would have seen: linear camera RGB before white balance.

Source: Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019, section 3, in its plain form: the
standard sRGB curve for the tone curve, and colour matrices drawn between those of real cameras.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physrestore.pictures import srgb_to_linear

# sRGB (D65) -> XYZ, IEC 61966-2-1.
_SRGB_TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
# XYZ -> camera of four sensors of different makers (DNG's ColorMatrix for D65): Canon EOS 30D, Nikon D700, Sony A7S II,
# Olympus E-M1. Rows are scaled so that white maps to 1, 1, 1.
_XYZ_TO_CAMERA = (
    ((0.6257, -0.0303, -0.1000), (-0.7880, 1.5621, 0.2396), (-0.1714, 0.1904, 0.7046)),
    ((0.8139, -0.2171, -0.0663), (-0.8747, 1.6541, 0.2295), (-0.1925, 0.2008, 0.8093)),
    ((0.6629, -0.1900, -0.0483), (-0.4618, 1.2349, 0.2550), (-0.0622, 0.1381, 0.6514)),
    ((0.7687, -0.1984, -0.0606), (-0.4327, 1.1928, 0.2721), (-0.1381, 0.2339, 0.6452)),
)

# Farthest from grey, of what a picture's colours are; least share of a colour's light that is left of it.
MOST_VIVID, DARKEST = 4.0, 0.02


@dataclass(frozen=True)
class Unprocessing:
    """Ranges from which every picture's camera and exposure are drawn.

    Attributes:
        red_gain: White-balance gain of red against green; daylight to tungsten of usual sensors.
        blue_gain: The same of blue.
        exposure: Brightest value of the picture as a share of white, log-uniform: night to full exposure; above 1
            highlights clip.
        vivid: Share of the pictures whose colours are moved away from grey, up to `MOST_VIVID` times as far, and of as
            many whose colours are each dimmed, to `DARKEST` at most. Photographs hold few saturated colours: a network
            that saw none guesses missing ones from the others, which is wrong by a tenth of white in a cyan lamp.
    """

    red_gain: tuple[float, float] = (1.2, 2.6)
    blue_gain: tuple[float, float] = (1.2, 2.6)
    exposure: tuple[float, float] = (0.02, 1.3)
    vivid: float = 0.15

    def draw(self, display: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Camera RGB of display pictures.

        Args:
            display: (B, 3, H, W), sRGB, 0..1.
            generator: Of the draws.

        Returns:
            Linear camera RGB before white balance (B, 3, H, W), white at 1 and clipped there; the white-balance gains
            (B, 3), smallest 1.
        """
        count = len(display)

        def uniform(ends: tuple[float, float]) -> Tensor:
            return ends[0] + (ends[1] - ends[0]) * torch.rand(count, generator=generator)

        mix = torch.rand(count, len(_XYZ_TO_CAMERA), generator=generator).pow(2)
        matrices = torch.tensor(_XYZ_TO_CAMERA) @ torch.tensor(_SRGB_TO_XYZ)
        matrices = matrices / matrices.sum(-1, keepdim=True)
        to_camera = torch.einsum("bk,kij->bij", mix / mix.sum(1, keepdim=True), matrices)
        light = torch.einsum("bij,bjhw->bihw", to_camera, srgb_to_linear(display)).clamp_(min=0.0)
        light = self._coloured(light, generator)
        balance = torch.stack([uniform(self.red_gain), torch.ones(count), uniform(self.blue_gain)], dim=1)
        low, high = (torch.tensor(end).log() for end in self.exposure)
        exposure = (low + (high - low) * torch.rand(count, generator=generator)).exp()
        light = light * (exposure[:, None] / balance)[..., None, None]
        return light.clamp_(max=1.0), balance

    def _coloured(self, light: Tensor, generator: torch.Generator) -> Tensor:
        """Some pictures with colours that photographs hardly have."""
        count = len(light)
        chosen = torch.rand(count, generator=generator)
        farther = 1.0 + (MOST_VIVID - 1.0) * torch.rand(count, generator=generator)
        farther = torch.where(chosen < self.vivid, farther, 1.0)[:, None, None, None]
        grey = light.mean(1, keepdim=True)
        light = (grey + farther * (light - grey)).clamp(min=0.0)
        dimmed = DARKEST ** torch.rand(count, 3, generator=generator)
        return light * torch.where(chosen[:, None] > 1.0 - self.vivid, dimmed, 1.0)[..., None, None]
