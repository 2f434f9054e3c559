"""Realistic noise for batches of clean images, every image with the noise of its own drawn sensor and ISO.

The chain is that of the virtual camera (`noise_models.simulate`), vectorised over a batch and without a fixed body:
every image has fresh maps of PRNU, DSNU, hot sites and pixel read noise, as if it came from its own sensor. With light
x in units of white, per pixel::

    signal = scale x (1 + PRNU) + hot                 [DN], scale = white - black
    value  = K Poisson(signal / K) + read + black + black error + DSNU + row + column
    code   = clip(round(value), low code, white);     noisy = (code - black) / scale

Two modes: exact and without gradient (the default), and ``reparametrised`` with a gradient to the clean image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.errors import ProfileError
from noise_models.sampling.dark_library import DarkLibrary
from noise_models.sampling.laws import NoiseLaw
from noise_models.sampling.parameters import TAIL_KINDS, Channels, NoiseParameters
from noise_models.terms import HOT_FLOOR, ReadNoise, ShotNoise

# Below this mean the reparametrised shot noise keeps its std, for the slope of a square root ends at infinity. It is
# 1/1000 of the read variance of a very good sensor (0.3 e-).
FLOOR_ELECTRONS = 1e-4
# Below this shape the two terms of a Tukey-lambda quantile are taken at it: their difference changes by less than 1e-6.
TUKEY_ZERO = 1e-7


@dataclass(frozen=True, eq=False)
class NoisyBatch:
    """Degraded images and what degraded them.

    Attributes:
        noisy: Same shape, device and dtype as the clean images; linear, negative values kept.
        parameters: The noise of every image; `NoiseParameters.maps` spreads them over the images.
        cfa: Of the images.
    """

    noisy: Tensor
    parameters: NoiseParameters
    cfa: Cfa


class NoiseSampler:
    """Adds the noise of a law to batches of clean linear images.

    Attributes:
        law: Draws the sensor and ISO of every image.
        darks: Real dark frames in place of the modelled dark noise, or None.
        reparametrised: Whether the noise has a gradient to the clean image.
        quantise: Whether values are rounded to whole DN.
        clip: Whether codes end at the black clamp and at white.

    Raises:
        ProfileError: dark frames that do not hold every ISO of the law, or a law without ISOs.

    >>> from noise_models.published import published_profiles
    >>> sampler = published_profiles()[0].sampler(isos=[800.0, 6400.0])
    >>> clean = torch.full((4, 1, 64, 64), 0.1)
    >>> batch = sampler.sample(clean, cfa=Cfa.parse("RGGB"), generator=torch.Generator().manual_seed(3))
    >>> batch.noisy.shape, batch.parameters.iso.tolist()
    (torch.Size([4, 1, 64, 64]), [800.0, 800.0, 6400.0, 800.0])
    """

    def __init__(
        self,
        law: NoiseLaw,
        *,
        darks: DarkLibrary | None = None,
        reparametrised: bool = False,
        quantise: bool = True,
        clip: bool = True,
    ) -> None:
        """Set up the chain.

        Args:
            law: `ProfileLaw`, `WidePrior`, or one of your own.
            darks: Real dark noise. Read, row, column and black noise, DSNU and hot sites then come from patches of
                real frames, and only K, PRNU and the levels from the law.
            reparametrised: Shot noise is Gaussian with the variance of its mean (``K m``), so that the noisy image is
                a differentiable function of the clean one; rounding passes its gradient through, clipping stops it.
                False: Poisson, exact, without gradient.
            quantise: Round to whole DN.
            clip: Clip at the lowest code and at white.
        """
        if darks is not None:
            missing = sorted(set(getattr(law, "isos", ())) - set(darks.isos))
            if missing or not hasattr(law, "isos"):
                raise ProfileError(
                    f"Dark frames of ISO {', '.join(f'{iso:g}' for iso in darks.isos)} serve a law of these ISOs; this "
                    f"one draws {', '.join(f'ISO {iso:g}' for iso in missing) or 'no ISO'}. Give the law isos=."
                )
        self.law = law
        self.darks = darks
        self.reparametrised = reparametrised
        self.quantise = quantise
        self.clip = clip

    def sample(
        self,
        clean: Tensor,
        *,
        cfa: Cfa,
        generator: torch.Generator,
        parameters: NoiseParameters | None = None,
        corners: Tensor | None = None,
    ) -> NoisyBatch:
        """Degrade a batch.

        Args:
            clean: Linear light, 0 to 1 of white: mosaics (B, 1, H, W), or packed Bayer planes (B, 4, h, w) in the order
                R, G1, G2, B. Values below 0 stay and have no shot noise.
            cfa: Of the mosaics, from their top-left; of the mosaics behind packed planes.
            generator: Of all draws, best on the device of ``clean``.
            parameters: Of every image; None: drawn from the law.
            corners: (B, 2) row and column of the images' top-left on the sensor, for dark patches from the same place
                of the dark frames; None: any place of the right phase.

        Raises:
            CfaError: images of another shape.
            ProfileError: a law for other planes than those of ``cfa``.
            ValueError: not one set of parameters per image.
        """
        channels = Channels.of(clean, cfa)
        parameters = self.law.draw(len(clean), generator=generator) if parameters is None else parameters
        parameters.check(cfa)
        if len(parameters) != len(clean):
            raise ValueError(f"{len(clean)} images need as many sets of parameters, not {len(parameters)}.")
        working = clean if clean.dtype == torch.float64 else clean.float()
        packed = clean.shape[1] > 1
        with torch.set_grad_enabled(self.reparametrised and torch.is_grad_enabled()):
            light = working if packed else channels.split(working)
            noisy = _Readout(self, channels, parameters, generator).expose(light, corners)
            noisy = noisy if packed else channels.join(noisy, (clean.shape[-2], clean.shape[-1]))
        return NoisyBatch(noisy.to(clean.dtype), parameters, cfa)


class _Readout:
    """One exposure of a batch, on site planes (B, C, h, w)."""

    def __init__(
        self, sampler: NoiseSampler, channels: Channels, parameters: NoiseParameters, generator: torch.Generator
    ) -> None:
        self.sampler, self.channels, self.parameters, self.generator = sampler, channels, parameters, generator

    def expose(self, light: Tensor, corners: Tensor | None) -> Tensor:
        black, white = (self._plane(v, light) for v in (self.parameters.black_dn, self.parameters.white_dn))
        scale = white - black
        signal = self._respond(light * scale)
        if self.sampler.darks is not None:
            values = self._shot(signal, None) + self._real_dark(light, corners)
        else:
            values = self._dark_pattern(signal)
        codes = values + black
        if self.sampler.quantise:
            codes = codes.round().detach() + (codes - codes.detach())  # whole numbers; the gradient passes through
        if self.sampler.clip:
            low = self.parameters.low_code_dn[:, None, None, None].to(light)
            codes = codes.maximum(low).minimum(white)
        return (codes - black) / scale

    def _respond(self, signal: Tensor) -> Tensor:
        if not bool((self.parameters.prnu > 0).any()):
            return signal
        return signal * self._normal(signal).mul_(self._plane(self.parameters.prnu, signal)).add_(1.0)

    def _dark_pattern(self, signal: Tensor) -> Tensor:
        """Values above the black level [DN] with all modelled noise."""
        p = self.parameters
        if bool((p.hot_fraction > 0).any()):
            signal = signal + self._hot(signal)
        values = self._with_read_noise(signal)
        offset = self._plane(p.black_error_dn, signal)
        if bool((p.row_noise_dn > 0).any()):
            offset = offset + self.channels.rows(self._lines(signal, 2, p.row_noise_dn))
        values = values + offset
        if bool((p.column_noise_dn > 0).any()):
            values = values + self.channels.columns(self._lines(signal, 3, p.column_noise_dn))
        if bool((p.dsnu_dn > 0).any()):
            values = values + self._normal(signal).mul_(self._plane(p.dsnu_dn, signal))
        return values

    def _with_read_noise(self, signal: Tensor) -> Tensor:
        """The signal [DN] with shot noise and the read noise of every image's tail."""
        std, tukey = self._pixel_std(signal), self.parameters.tail_kind == TAIL_KINDS.index("tukey")
        heavy = torch.nonzero(tukey)[:, 0].to(signal.device)
        if self.sampler.reparametrised:
            # One normal number for shot and read noise: exact for Gaussian pixels, and its slope has no pole.
            normal_read = std.masked_fill(tukey[:, None, None, None].to(signal.device), 0.0)
            values = self._shot(signal, normal_read)
        else:
            values = self._shot(signal, None)
            normal = self._normal(signal) if len(heavy) < len(signal) else torch.zeros_like(signal)
            values += normal.index_fill_(0, heavy, 0.0).mul_(std)
        if len(heavy):
            shape = self.parameters.tail_shape[tukey]
            draws = tukey_lambda(signal[heavy], shape, generator=self.generator).mul_(std.expand_as(signal)[heavy])
            values = values.index_add(0, heavy, draws)
        return values

    def _pixel_std(self, signal: Tensor) -> Tensor:
        """Read noise of every pixel [DN]; broadcasts to the signal where no image has a lognormal tail."""
        std = self._plane(self.parameters.read_noise_dn, signal)
        width = self.parameters.tail_shape * (self.parameters.tail_kind == TAIL_KINDS.index("lognormal"))
        if not bool((width > 0).any()):
            return std
        # As in ReadNoise.pixel_std, with a width per image: the mean square of the map is the declared variance.
        width = width[:, None, None, None].to(signal)
        return self._normal(signal).mul_(width).sub_(width**2).exp_().mul_(std)

    def _shot(self, signal: Tensor, normal_read: Tensor | None) -> Tensor:
        """The signal [DN] with shot noise; reparametrised also with normal read noise of the given std [DN]."""
        gain = self._plane(self.parameters.gain_dn, signal)
        positive = signal.clamp(min=0.0)
        if not self.sampler.reparametrised:
            return ShotNoise(gain).sample(positive, generator=self.generator).add_(signal).sub_(positive)
        variance = gain**2 * (positive / gain).clamp(min=FLOOR_ELECTRONS)
        if normal_read is not None:
            variance = variance + normal_read**2
        return signal + variance.sqrt() * self._normal(signal)

    def _hot(self, signal: Tensor) -> Tensor:
        """Mean excess of every site [DN]: `HotSites` with a population per image."""
        fraction, excess = (
            v[:, None, None, None].to(signal) for v in (self.parameters.hot_fraction, self.parameters.hot_excess_dn)
        )
        hot = self._uniform(signal) < fraction
        tail = -torch.log1p(-self._uniform(signal))
        return excess * (HOT_FLOOR + (1.0 - HOT_FLOOR) * tail) * hot

    def _lines(self, signal: Tensor, axis: int, std: Tensor) -> Tensor:
        """One offset [DN] per sensor row (axis 2) or column (axis 3), (B, lines)."""
        lines = signal.shape[axis] * self.channels.cfa.period[axis - 2]
        return self._normal(signal.new_empty(len(signal), lines)).mul_(std[:, None].to(signal))

    def _real_dark(self, light: Tensor, corners: Tensor | None) -> Tensor:
        iso, darks, channels = self.parameters.iso, self.sampler.darks, self.channels
        if iso is None or darks is None:
            raise ProfileError("Real dark frames are chosen by ISO, and these parameters have none.")
        (ph, pw), cfa = channels.cfa.period, channels.cfa
        shape = (light.shape[-2] * ph, light.shape[-1] * pw)
        patches = darks.patches(iso.tolist(), shape, cfa=cfa, generator=self.generator, corners=corners)
        order = [i * pw + j for i, j in channels.sites]
        return channels.split(patches.to(light))[:, order]

    def _plane(self, values: Tensor, like: Tensor) -> Tensor:
        return self.channels.per_channel(values, self.parameters.planes, like)

    def _normal(self, like: Tensor) -> Tensor:
        device = self.generator.device
        return torch.randn(like.shape, generator=self.generator, device=device, dtype=like.dtype).to(like.device)

    def _uniform(self, like: Tensor) -> Tensor:
        device = self.generator.device
        return torch.rand(like.shape, generator=self.generator, device=device, dtype=like.dtype).to(like.device)


def tukey_lambda(like: Tensor, shape: Tensor, *, generator: torch.Generator) -> Tensor:
    """Tukey-lambda numbers of unit variance, one shape per image.

    The tail probability is drawn on a logarithmically fine scale, so that single precision reaches far tails too.

    Args:
        like: (B, ...): shape, device and dtype of the result.
        shape: lambda of every image, (B,); all above -1/2.
        generator: Of the draws.

    Raises:
        ValueError: a shape without a variance.
    """
    ReadNoise(1.0, "tukey", float(shape.min()))  # refuses shapes without a variance
    device, resolution = generator.device, torch.finfo(like.dtype).eps / 2.0  # the step of torch.rand
    sign = torch.rand(like.shape, generator=generator, device=device, dtype=like.dtype).mul_(2.0).sub_(1.0)
    tail = torch.rand(like.shape, generator=generator, device=device, dtype=like.dtype).mul_(resolution)
    tail = tail.add_((1.0 - sign.abs()).mul_(0.5)).clamp_(torch.finfo(like.dtype).tiny, 0.5)
    at_zero = shape.abs() < TUKEY_ZERO
    power = torch.where(at_zero, TUKEY_ZERO, shape)
    unit = torch.from_numpy(np.sqrt(stats.tukeylambda.var(power.numpy()))) * power
    trailing = (slice(None), *(None,) * (like.ndim - 1))
    power, unit = power[trailing].to(sign), unit[trailing].to(sign)
    high = torch.expm1(power * torch.log1p(-tail))
    return (high - torch.expm1(power * tail.log())).div_(unit).mul_(sign.sign()).to(like)
