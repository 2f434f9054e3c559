"""The workhorse's task: noisy mosaics of any camera to clean camera RGB, in the working space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from noise_models.cfa import BAYER_PLANES, XTRANS_ROWS, Cfa
from noise_models.sampling import NoiseLaw, NoiseParameters, NoiseSampler, ProfileLaw, WidePrior
from physrestore.networks.mosaic_net import MosaicNet, MosaicNetConfig
from physrestore.training.pictures import Pictures
from physrestore.training.unprocess import Unprocessing
from physrestore.working_space import COLOURS, one_hot, working_black, working_noise, working_value

BAYER = ("RGGB", "BGGR", "GRBG", "GBRG")
# Share of batches of X-Trans mosaics, and of Bayer batches with the noise of a published camera instead of any camera.
XTRANS_SHARE, PROFILE_SHARE = 0.2, 0.3
# Row offsets are estimated and subtracted before the network; about this share of their std is left.
ROW_NOISE_LEFT = 0.3
# Share of images with more read noise than the law draws, and up to how much more: hot sensors, old sensors, and long
# exposures, whose noise is nearly the same in light and dark.
NOISY_READOUT_SHARE, NOISIEST_READOUT = 0.2, 10.0
# Spread (std of the logarithm) of the noise level that the network is told about the true one: profiles have errors.
LEVEL_SPREAD = 0.05
# The error of a good restoration grows about as the noise to this power; divided by it, all noise levels count alike.
# Below a floor the error between measured sites is that of demosaicking; that of measured ones goes on to fall.
ERROR_POWER, MEASURED_FLOOR, BETWEEN_FLOOR = 0.7, 0.002, 0.01
# Weight of a colour that was not measured at a site against one that was: interpolation's errors are larger and would
# take most of a small network's capacity, at the cost of low noise on the mosaic itself.
INTERPOLATED = 0.2


@dataclass(frozen=True)
class MosaicTask:
    """See `physrestore.training.fit.Task`.

    Attributes:
        pictures: sRGB scenes.
        network: Size of the network.
        side: Of a patch, pixels; a multiple of 2.
        count: Patches a batch.
        noise: "calibrated": the whole model. "gaussian": Gaussian noise with the same variance at every level of light,
            without rows, tails, patterns and rounding; it exists to measure what the rest of the model is worth.
        fixed: Train for the noise of this law alone; None: any camera.
        unprocessing: Of the scenes.
    """

    pictures: Pictures = field(repr=False)
    network: MosaicNetConfig = field(default_factory=MosaicNetConfig)
    side: int = 128
    count: int = 16
    noise: Literal["calibrated", "gaussian"] = "calibrated"
    fixed: NoiseLaw | None = field(default=None, repr=False)
    unprocessing: Unprocessing = field(default_factory=Unprocessing)

    def build(self) -> nn.Module:
        """The network."""
        return MosaicNet(self.network)

    def batch(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Noisy values, their noise, colours of the sites, clean values."""
        cfa, law = self._sensor(generator)
        display = self.pictures.crops(self.count, self.side, generator=generator)
        light, balance = self.unprocessing.draw(display, generator=generator)
        parameters = law.draw(self.count, generator=generator)
        parameters = _harder(parameters, generator) if self.fixed is None else parameters
        parameters = replace(parameters, row_noise_dn=ROW_NOISE_LEFT * parameters.row_noise_dn)
        colours = one_hot(cfa, self.side, self.side)
        mosaic = (light * colours).sum(1, keepdim=True)
        noisy = self._expose(mosaic, cfa, parameters, generator)
        a, b = (_per_colour(values, parameters.planes) for values in (parameters.a, parameters.b))
        spread = torch.exp(LEVEL_SPREAD * torch.randn(self.count, 1, generator=generator))
        a, b = a * spread.square(), b * spread.square()
        space = (a, b, balance)
        values = working_value(noisy, space, colours) - working_black(space, colours)
        clean = working_value(light, space) - working_black(space)
        noise = working_noise(a, balance) * torch.ones_like(colours)
        return values, (noise * colours).sum(1, keepdim=True), colours, clean

    def loss(self, network: Callable[..., Tensor], batch: tuple[Tensor, ...]) -> Tensor:
        """Mean absolute error in the working space, every noise level with the same weight."""
        values, noise, colours, clean = batch
        error = (network(values, noise, colours).float() - clean).abs()
        level = noise.mean(dim=(1, 2, 3), keepdim=True)
        measured, between = (level.clamp(min=floor) ** ERROR_POWER for floor in (MEASURED_FLOOR, BETWEEN_FLOOR))
        weight = torch.where(colours > 0, 1.0 / measured, INTERPOLATED / between)
        return (weight * error).mean()

    def _expose(self, mosaic: Tensor, cfa: Cfa, parameters: NoiseParameters, generator: torch.Generator) -> Tensor:
        if self.noise == "calibrated":
            law = WidePrior(planes=parameters.planes)  # not drawn from: the parameters are given
            return NoiseSampler(law).sample(mosaic, cfa=cfa, generator=generator, parameters=parameters).noisy
        a, b = (parameters.maps(values, mosaic, cfa) for values in (parameters.a, parameters.b))
        std = (a * mosaic + b).sqrt()
        return (mosaic + std * torch.randn(mosaic.shape, generator=generator)).clamp(max=1.0)

    def _sensor(self, generator: torch.Generator) -> tuple[Cfa, NoiseLaw]:
        first, second, third = torch.rand(3, generator=generator).tolist()
        if self.fixed is not None:
            bayer = set(self.fixed.planes) == set(BAYER_PLANES)
            return Cfa.parse(BAYER[int(second * len(BAYER))]) if bayer else _xtrans(generator), self.fixed
        if first < XTRANS_SHARE:
            cfa = _xtrans(generator)
            return cfa, WidePrior(planes=cfa.plane_names)
        cfa = Cfa.parse(BAYER[int(second * len(BAYER))])
        laws = _published_laws() if third < PROFILE_SHARE else [WidePrior()]
        return cfa, laws[int(torch.randint(len(laws), (), generator=generator))]


def _xtrans(generator: torch.Generator) -> Cfa:
    top, left = torch.randint(6, (2,), generator=generator).tolist()
    return Cfa(XTRANS_ROWS).shifted(top, left)


@cache
def _published_laws() -> tuple[NoiseLaw, ...]:
    from noise_models.published import published_profiles

    return tuple(ProfileLaw(profile) for profile in published_profiles())


def _harder(parameters: NoiseParameters, generator: torch.Generator) -> NoiseParameters:
    """Some of the images with a noisier read-out."""
    share, size = torch.rand(2, len(parameters), 1, generator=generator, dtype=torch.float64)
    factor = torch.where(share < NOISY_READOUT_SHARE, NOISIEST_READOUT**size, 1.0)
    return replace(parameters, read_noise_dn=factor * parameters.read_noise_dn)


def _per_colour(values: Tensor, planes: tuple[str, ...]) -> Tensor:
    """(B, P) of planes to (B, 3) of R, G, B: the mean over the planes of a colour."""
    columns = [values[:, [k for k, name in enumerate(planes) if name[0] == colour]].mean(1) for colour in COLOURS]
    return torch.stack(columns, dim=1).float()
