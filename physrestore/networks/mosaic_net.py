"""The workhorse: a mosaic of any colour filter array in, three clean colours at every site out, in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noise_models.cfa import Cfa
from physrestore.errors import RestoreError
from physrestore.networks.local_mean import MEAN_REACH, LocalMean
from physrestore.networks.unet import UNet, as_trunks_input

# Bilinear interpolation where one site in four (two) is measured; a measured site itself is kept outside the kernel.
_QUINCUNX_OF_FOUR = ((0.25, 0.5, 0.25), (0.5, 0.0, 0.5), (0.25, 0.5, 0.25))
_QUINCUNX_OF_TWO = ((0.0, 0.25, 0.0), (0.25, 0.0, 0.25), (0.0, 0.25, 0.0))

# A measured site is never corrected by more than this many standard deviations of its noise: Gaussian noise exceeds
# them once in 16,000 sites. What a site was measured to be cannot be spoilt by more, and without noise not at all.
LARGEST_CORRECTION = 4.0
# Keeps 0 / 0 away where neither noise nor correction is; far below the square of any code's size.
TINY = 1e-20


@dataclass(frozen=True)
class MosaicNetConfig:
    """Size of a `MosaicNet`.

    Attributes:
        channels: Of every level of the trunk, the finest first.
        blocks: Residual blocks a level, on each way.
        unshuffle: 1: the finest level of the trunk works on sites, so that one filter serves all phases; 2: on quads.
    """

    channels: tuple[int, ...] = (16, 32, 48, 64)
    blocks: int = 1
    unshuffle: int = 1


class MosaicNet(nn.Module):
    """Joint demosaicking and denoising, conditioned on the noise of every site.

    It sees nine planes: the mosaic's values less their local mean and the noise's standard deviation, both spread over
    R, G, B by the colour filter array, and the local means themselves (`LocalMean`); so that one set of weights serves
    every Bayer phase and X-Trans. Values are those of `physrestore.working_space`: white-balanced, about the square
    root of light, with noise that depends on the colour only. The map is homogeneous: values and noise times c give the
    result times c.

    The trunk's output is read in two ways. Where a colour was measured it corrects the measurement, within
    `LARGEST_CORRECTION` standard deviations of its noise, smoothly bounded; where it was not it corrects the local mean
    and a linear interpolation of the contrast, without a bound.

    Attributes:
        config: Its size.
    """

    def __init__(self, config: MosaicNetConfig) -> None:
        super().__init__()
        self.config = config
        area = config.unshuffle**2
        self.trunk = UNet(9 * area, 3 * area, channels=config.channels, blocks=config.blocks)
        # The linear part of interpolation, of the contrast, which the trunk then corrects.
        self.interpolation = nn.Conv2d(3 * area, 3 * area, 5, padding=2, bias=False)
        self._start_bilinear()
        nn.init.normal_(self.trunk.tail.weight, std=1e-3)
        self.local_mean = LocalMean()

    @torch.no_grad()
    def _start_bilinear(self) -> None:
        """At full resolution, begin as bilinear interpolation of a Bayer mosaic, whatever its phase."""
        nn.init.zeros_(self.interpolation.weight)
        if self.config.unshuffle == 1:
            for colour, kernel in enumerate((_QUINCUNX_OF_FOUR, _QUINCUNX_OF_TWO, _QUINCUNX_OF_FOUR)):
                self.interpolation.weight[colour, colour, 1:4, 1:4] = torch.tensor(kernel)

    @property
    def multiple(self) -> int:
        """Sides that are multiples of it need no padding; tiles that start at multiples of it see the same grid."""
        return self.config.unshuffle * self.trunk.factor

    @property
    def halo(self) -> int:
        """Pixels from which an output value can depend on the input."""
        reach, scale = 2, self.config.unshuffle  # head and tail
        for level in range(len(self.config.channels)):
            ways = 1 if level == len(self.config.channels) - 1 else 2
            reach += (2 * self.config.blocks * ways + 1) * 2**level
        return scale * reach + MEAN_REACH

    def forward(self, mosaic: Tensor, noise: Tensor, colours: Tensor) -> Tensor:
        """Restore.

        Args:
            mosaic: (B, 1, H, W), values of the working space.
            noise: Std of the noise, broadcastable to (B, 1, H, W), same units.
            colours: One-hot R, G, B of every site, broadcastable to (B, 3, H, W).

        Returns:
            (B, 3, H, W).
        """
        height, width = mosaic.shape[-2:]
        with torch.autocast(mosaic.device.type, enabled=False):  # whole values; only corrections may be rounded
            values = (mosaic * colours).to(mosaic)
            levels = (noise * colours).to(mosaic).expand_as(values)
            mean = self.local_mean(values, colours.to(mosaic))
            contrast = (values - mean) * colours
            linear = self.interpolation(self._packed(as_trunks_input([contrast])))
            between = mean + self._of_sites(linear, height, width)
        packed = self._packed(as_trunks_input([contrast, levels, mean]))
        del contrast, linear, mean  # the trunk needs the most memory
        correction = self._of_sites(self.trunk(packed), height, width).to(mosaic)
        return torch.where(colours > 0, values + bounded(correction, levels), between + correction)

    def _packed(self, planes: Tensor) -> Tensor:
        below, right = (-side % self.multiple for side in planes.shape[-2:])
        if below or right:
            planes = F.pad(planes, (0, right, 0, below), mode="constant")
        return planes if self.config.unshuffle == 1 else F.pixel_unshuffle(planes, self.config.unshuffle)

    def _of_sites(self, packed: Tensor, height: int, width: int) -> Tensor:
        sites = packed if self.config.unshuffle == 1 else F.pixel_shuffle(packed, self.config.unshuffle)
        return sites[..., :height, :width]


def check_array(cfa: Cfa) -> None:
    """Refuse an array of which mosaic networks know nothing.

    Raises:
        RestoreError: it is neither Bayer nor X-Trans.
    """
    if not (cfa.is_bayer or cfa.is_xtrans):
        kind = "quad-Bayer" if cfa.is_quad_bayer else "monochrome"
        raise RestoreError(
            f"Mosaic networks learned Bayer and X-Trans; this frame is {kind}, of which they know nothing. Restore it "
            f"by the method {'pnp' if cfa.is_quad_bayer else 'classic'!r}."
        )


def bounded(correction: Tensor, noise: Tensor) -> Tensor:
    """A correction, smoothly held within `LARGEST_CORRECTION` standard deviations: small ones pass unchanged.

    Args:
        correction: Of measured values.
        noise: Std of their noise, same shape and units.

    Returns:
        ``m c / sqrt(m^2 + c^2)``, m the bound: homogeneous, odd and rising in c.
    """
    bound = LARGEST_CORRECTION * noise
    return bound * correction * (bound.square() + correction.square() + TINY).rsqrt()
