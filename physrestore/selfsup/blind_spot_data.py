"""What a frame says, and how far each of its values is to be believed: one tensor of named planes, in linear light.

The likelihood works in linear light, not in a stabilised space. There the row offset of a sensor is an addition with
the same size at every brightness, clipping is a half-line, and the first two moments of the marginal law are exact:
``E[y] = mu`` and ``Var[y] = v + a mu + b`` for *any* prior with mean mu and variance v, because the noise variance is
linear in the light (law of total variance). So ``mu + v / (v + a mu + b) (y - mu)`` is the best linear estimate
whatever the shapes. Networks, which like even scales, see the root of the light (`Observed.root`) instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.errors import ProfileError
from noise_models.frame import RawFrame, tile_to
from noise_models.sensor import SensorNoise
from noise_models.stabilise import ANSCOMBE_OFFSET
from physrestore.classic.hot_pixels import repair_hot_pixels
from physrestore.classic.lines import row_offsets
from physrestore.pnp.defects import repair_defects
from physrestore.working_space import WorkingSpace

# A frame needs the neighbours that tell a defect from a picture.
SMALLEST_SIDE = 16
_LIGHT, _GAIN, _DARK, _BALANCE, _ROW, _KNOWN, _CENSORED, _SCORED = range(8)


@dataclass(frozen=True)
class Observed:
    """Mosaics and the law of their noise, in linear light: black is 0, white is 1.

    Attributes:
        planes: (B, 8, H, W) float: light, a, b, white balance, row noise, known, censored, scored; use the properties.
            Further planes may follow, for losses that know more.
        cfa: Colour filter array from their top-left.
    """

    planes: Tensor
    cfa: Cfa

    @classmethod
    def of_frame(
        cls, frame: RawFrame, noise: SensorNoise, *, subtract_rows: bool, find_defects: bool = True
    ) -> Observed:
        """One frame (B = 1). Column noise counts as noise of the pixel.

        Args:
            frame: Any colour filter array, monochrome too.
            noise: Of this camera at this ISO, with the gain known.
            subtract_rows: Whether the rows' offsets are estimated from differences between rows and subtracted here,
                for predictions that see their own row; else they stay in the light, and `row` describes them.
            find_defects: Whether isolated hot and dead sites are searched for; they become unknown.

        Raises:
            ProfileError: the noise describes other planes, or its gain is unknown.
            ValueError: the frame is too small to tell defects from a picture.
        """
        if min(frame.shape) < SMALLEST_SIDE:
            raise ValueError(f"A frame of {frame.shape} is too small: needed are {SMALLEST_SIDE}x{SMALLEST_SIDE}.")
        affine = noise.affine(frame.cfa, frame.black_level, frame.white_level)
        if affine.a.min() <= 0:
            raise ProfileError(
                f"The variance must grow with the light, but its slopes are {affine.a.tolist()}. Recalibrate."
            )
        span = frame.white_level - frame.black_level
        column = 0.0 if noise.column_noise_dn is None else noise.column_noise_dn.value
        law = (affine.a, affine.b + (column / span) ** 2, _balance(frame, noise), noise.row_noise_dn.value / span)
        light = frame.linear()[0, 0]
        gain, dark, balance, row = (tile_to(torch.from_numpy(v).float(), *frame.shape) for v in law)
        ones = torch.ones_like(light)
        if subtract_rows:
            light, row = _without_rows(frame, noise, light), torch.zeros_like(row)
        bottom = torch.from_numpy(frame.mosaic == 0).float()
        censored = frame.clipped()[0, 0].float() - bottom
        planes = torch.stack([light, gain, dark, balance, row, ones, censored, ones])
        observed = cls(planes[None], frame.cfa)
        if find_defects:
            stabilised = (2.0 * observed.root / (balance * gain).sqrt())[0, 0]
            search = repair_hot_pixels if frame.cfa.is_mono else repair_defects
            defective = search(stabilised, frame.cfa).defective
            observed.planes[0, _KNOWN][defective] = 0.0
            observed.planes[0, _CENSORED][defective] = 0.0
        return observed

    @classmethod
    def batch(cls, parts: Sequence[Observed]) -> Observed:
        """Several of one size and filter array as one.

        Raises:
            ValueError: there are none, or their sizes differ.
        """
        kinds = {(part.cfa.name, *part.shape) for part in parts}
        if len(kinds) != 1:
            raise ValueError(f"A batch needs at least one part, all of one array and shape, not {sorted(kinds)}.")
        return cls(torch.cat([part.planes for part in parts]), parts[0].cfa)

    def crop(self, rows: slice, columns: slice) -> Observed:
        """A window, without copying; steps are not allowed."""
        return Observed(self.planes[..., rows, columns], self.cfa.shifted(rows.start or 0, columns.start or 0))

    def to(self, target: torch.device | torch.dtype) -> Observed:
        """On another device or in another precision."""
        return Observed(self.planes.to(target), self.cfa)

    @property
    def shape(self) -> tuple[int, int]:
        """H and W."""
        height, width = self.planes.shape[-2:]
        return height, width

    @property
    def light(self) -> Tensor:
        """The measured values y, (B, 1, H, W); negative ones kept."""
        return self._plane(_LIGHT)

    @property
    def gain(self) -> Tensor:
        """A of ``variance = a x + b``, (B, 1, H, W)."""
        return self._plane(_GAIN)

    @property
    def dark(self) -> Tensor:
        """B of ``variance = a x + b``, (B, 1, H, W); row noise excluded."""
        return self._plane(_DARK)

    @property
    def balance(self) -> Tensor:
        """White-balance gain of the site's colour, (B, 1, H, W), at least 1."""
        return self._plane(_BALANCE)

    @property
    def row(self) -> Tensor:
        """Std of the offset that a row shares, (B, 1, H, W)."""
        return self._plane(_ROW)

    @property
    def known(self) -> Tensor:
        """1 where the site measured something (clipped ones too), 0 at defects; (B, 1, H, W)."""
        return self._plane(_KNOWN)

    @property
    def censored(self) -> Tensor:
        """1 where the light is only known to reach the value (clipped), -1 where it is at most that; else 0."""
        return self._plane(_CENSORED)

    @property
    def scored(self) -> Tensor:
        """1 where the site enters a training's likelihood, 0 where it is held out; (B, 1, H, W)."""
        return self._plane(_SCORED)

    @property
    def measured(self) -> Tensor:
        """Sites whose value is a measurement: known and not censored; (B, 1, H, W) bool."""
        return (self.known > 0) & (self.censored == 0)

    @property
    def colours(self) -> Tensor:
        """One-hot colour of every site, (B, 3 | 1, H, W); the two greens are one colour."""
        letters = "M" if self.cfa.is_mono else "RGB"
        index = torch.tensor([[letters.index(letter) for letter in row] for row in self.cfa.rows])
        sites = tile_to(index, *self.shape).to(self.planes.device)
        one_hot = torch.stack([sites == k for k in range(len(letters))]).to(self.planes)
        return one_hot.expand(self.planes.shape[0], -1, -1, -1)

    @property
    def offset(self) -> Tensor:
        """What is added to the light below the root: 3/8 a + b/a, (B, 1, H, W)."""
        return ANSCOMBE_OFFSET * self.gain + self.dark / self.gain

    @property
    def root(self) -> Tensor:
        """``sqrt(g max(y + 3/8 a + b/a, 0))``: white-balanced, noise of std `root_noise`; (B, 1, H, W)."""
        return (self.balance * (self.light + self.offset)).clamp(min=0.0).sqrt()

    @property
    def root_noise(self) -> Tensor:
        """Std of the noise of `root`, ``sqrt(g a) / 2``, (B, 1, H, W)."""
        return 0.5 * (self.balance * self.gain).sqrt()

    def noise_variance(self, mean: Tensor) -> Tensor:
        """``a max(mean, 0) + b``: variance of a value with this mean light, row noise excluded."""
        return self.gain * mean.clamp(min=0.0) + self.dark

    def with_planes(self, **planes: Tensor) -> Observed:
        """A copy with some of light, gain, dark, row, known, censored, scored replaced.

        Raises:
            KeyError: another name.
        """
        index = {
            "light": _LIGHT,
            "gain": _GAIN,
            "dark": _DARK,
            "row": _ROW,
            "known": _KNOWN,
            "censored": _CENSORED,
            "scored": _SCORED,
        }
        copy = self.planes.clone()
        for name, value in planes.items():
            copy[:, index[name]] = value.reshape(-1, *self.shape)
        return Observed(copy, self.cfa)

    def _plane(self, index: int) -> Tensor:
        return self.planes[:, index : index + 1]


def _without_rows(frame: RawFrame, noise: SensorNoise, light: Tensor) -> Tensor:
    offsets = row_offsets(frame, noise)
    if offsets is None:
        return light
    span = tile_to(torch.from_numpy(frame.white_level - frame.black_level).float(), *frame.shape)
    return light - torch.from_numpy(offsets).float()[:, None] / span


def _balance(frame: RawFrame, noise: SensorNoise) -> np.ndarray:
    """White-balance gain of every site of the period."""
    if frame.cfa.is_mono:
        return np.ones((1, 1))
    gains = WorkingSpace.of_frame(frame, noise).balance.double().numpy()
    return np.array([[gains["RGB".index(letter)] for letter in row] for row in frame.cfa.rows])
