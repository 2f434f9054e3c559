"""The space in which a mosaic is restored: white-balanced, and with the same noise everywhere.

A colour with the law ``variance = a x + b`` and the white-balance gain g becomes

    v = sqrt(g) sqrt(x + 3/8 a + b / a),    noise of std sqrt(g a) / 2,

which is the generalised Anscombe transform times ``sqrt(g a) / 2``. Three things follow. Noise is a constant per
colour, so the weights of the data never need refreshing and a prior needs no map. A grey object has the same value in
all colours (up to the small ``b / a``), so edges without colour have none after a colour transform. And since the
transform acts on every value alone, the mosaic of a transformed image is the transformed mosaic: the prox of the data
stays diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.frame import RawFrame, tile_to
from noise_models.sensor import AffineVariance, SensorNoise
from noise_models.stabilise import ANSCOMBE_OFFSET, Anscombe

COLOURS = "RGB"
# White-balance gains of daylight to candles stay below 4 for green against either colour.
LARGEST_GAIN = 4.0


@dataclass(frozen=True)
class WorkingSpace:
    """The transform of one frame.

    Attributes:
        gain: a of R, G, B, (3,): variance per signal, white is 1.
        dark_noise: sqrt(b) of R, G, B, (3,): std of the signal-independent noise, white is 1.
        balance: White-balance gains g, (3,), smallest 1.
    """

    gain: Tensor
    dark_noise: Tensor
    balance: Tensor

    @classmethod
    def of_frame(cls, frame: RawFrame, noise: SensorNoise) -> WorkingSpace:
        """The space of a frame and its noise; column noise counts as noise of the pixel.

        The white balance is the camera's; a frame without one is balanced to a grey mean of its unclipped sites.

        Raises:
            ProfileError: the noise describes other planes, or its gain is unknown.
        """
        affine = noise.affine(frame.cfa, frame.black_level, frame.white_level)
        column = 0.0 if noise.column_noise_dn is None else noise.column_noise_dn.value
        b = affine.b + (column / (frame.white_level - frame.black_level)) ** 2
        law = torch.tensor(AffineVariance(a=affine.a, b=b).per_colour(frame.cfa))
        neutral = frame.colour.as_shot_neutral
        white = _mean_colour(frame) if neutral is None else torch.tensor(neutral)
        return cls(law[:, 0], law[:, 1].sqrt(), white.max() / white)

    @property
    def scale(self) -> Tensor:
        """Std of the noise in this space, (3, 1, 1)."""
        return 0.5 * (self.balance * self.gain).sqrt().reshape(3, 1, 1)

    @property
    def black(self) -> Tensor:
        """Value of no light in this space, (3, 1, 1)."""
        return working_black(self._law)[0]

    @property
    def _law(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.gain[None], self.dark_noise[None] ** 2, self.balance[None]

    def stabilise(self, mosaic: Tensor, cfa: Cfa) -> Tensor:
        """Linear mosaic (H, W), black at 0 and white at 1, to noise of variance 1."""
        period = _colour_of_site(cfa)
        gain, dark = (tile_to(values[period], *mosaic.shape) for values in (self.gain, self.dark_noise))
        return Anscombe(gain, dark).forward(mosaic)

    def balanced(self, stabilised: Tensor, cfa: Cfa) -> Tensor:
        """Mosaic (H, W) with noise of variance 1 to this space."""
        return stabilised * tile_to(self.scale.flatten()[_colour_of_site(cfa)], *stabilised.shape)

    def light(self, v: Tensor) -> Tensor:
        """Values (3, H, W) that a network took for noise-free to camera RGB: the algebraic inverse.

        `linear` suits denoisers that average noisy values, this one those that were trained to give `working_value` of
        the noise-free light.
        """
        return working_light(v[None], self._law)[0]

    def linear(self, v: Tensor) -> Tensor:
        """Noise-free values (3, H, W) of this space back to camera RGB, without bias.

        White balance is undone; black is at 0, white at 1, negative values are kept.
        """
        gain, dark = (values.reshape(3, 1, 1) for values in (self.gain, self.dark_noise))
        return Anscombe(gain, dark).inverse(v / self.scale)


def one_hot(cfa: Cfa, height: int, width: int) -> Tensor:
    """Which colour every site of a mosaic measures, (1, 3, H, W) float32: 1 for the measured one of R, G, B."""
    index = tile_to(_colour_of_site(cfa), height, width)
    return torch.stack([(index == k).float() for k in range(len(COLOURS))])[None]


def working_value(light: Tensor, law: tuple[Tensor, Tensor, Tensor], colours: Tensor | None = None) -> Tensor:
    """Values of light in the space, batched: of colour pictures, or of mosaics.

    For noise-free light this is the value whose inverse `working_light` is: a network that learns to give it needs no
    correction for the mean of a root.

    Args:
        light: (B, 3, H, W), or mosaics (B, 1, H, W); linear, white is 1.
        law: a and b of the variance ``a x + b``, and the white-balance gains, each (B, 3).
        colours: For mosaics: `one_hot` of their sites.
    """
    a, b, balance = (_of_sites(values, colours) for values in law)
    return (balance * (light + ANSCOMBE_OFFSET * a + b / a).clamp(min=0.0)).sqrt()


def working_black(law: tuple[Tensor, Tensor, Tensor], colours: Tensor | None = None) -> Tensor:
    """Value of no light: (B, 3, 1, 1), or (B, 1, H, W) of mosaics; arguments as of `working_value`.

    Networks get values above it. Where read noise outweighs shot noise at all levels, these are nearly a straight line
    of light, whose scale a homogeneous network does not see.
    """
    return working_value(
        torch.zeros_like(law[0])[..., None, None] if colours is None else colours[:, :1] * 0, law, colours
    )


def working_light(v: Tensor, law: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Light of noise-free values (B, 3, H, W): the algebraic inverse of `working_value`; may be slightly negative."""
    a, b, balance = (_of_sites(values, None) for values in law)
    return v * v.abs() / balance - ANSCOMBE_OFFSET * a - b / a


def working_noise(a: Tensor, balance: Tensor) -> Tensor:
    """Std of the noise of every colour, (B, 3, 1, 1), of a and the white-balance gains, (B, 3)."""
    return 0.5 * (balance * a).sqrt()[..., None, None]


def _of_sites(values: Tensor, colours: Tensor | None) -> Tensor:
    """(B, 3) over the channels of colour pictures (B, 3, 1, 1), or the sites of mosaics (B, 1, H, W)."""
    per_colour = values[..., None, None]
    return per_colour if colours is None else (per_colour * colours).sum(1, keepdim=True)


def _colour_of_site(cfa: Cfa) -> Tensor:
    """Which of R, G, B each site of the period measures."""
    return torch.tensor([[COLOURS.index(letter) for letter in row] for row in cfa.rows])


def _mean_colour(frame: RawFrame) -> Tensor:
    """Mean of each colour over unclipped sites; white where nothing is unclipped or nothing was seen."""
    x, good = frame.linear()[0, 0], ~frame.clipped()[0, 0]
    colour = tile_to(_colour_of_site(frame.cfa), *frame.shape)
    sites = [x[good & (colour == k)].double() for k in range(len(COLOURS))]
    means = torch.tensor([float(values.mean()) if values.numel() else 0.0 for values in sites])
    # A scene without one colour (a red light) must not set a gain beyond what any light source asks for.
    return means.clamp(min=float(means.max()) / LARGEST_GAIN) if bool((means > 0).any()) else torch.ones(3)
