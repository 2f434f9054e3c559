"""What a batch of images is degraded with: the noise of one sensor per image, as numbers per colour plane.

Everything is kept in DN, the unit of a profile; values of normalised images, ``x = (DN - black) / (white - black)``,
are views. The numbers live on the CPU in double precision: they are few, and code that looks at them never waits for a
device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from noise_models.cfa import BAYER_PLANES, Cfa
from noise_models.errors import CfaError, ProfileError
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, AffineVariance

TailKind = Literal["gaussian", "lognormal", "tukey"]
TAIL_KINDS: tuple[TailKind, ...] = ("gaussian", "lognormal", "tukey")


@dataclass(frozen=True, eq=False)
class NoiseParameters:
    """The noise of B sensors, each at one ISO; P colour planes in the order of ``planes``.

    Attributes:
        planes: Names of the colour planes (`Cfa.plane_names`).
        iso: (B,); None: drawn from a law that knows no ISO.
        gain_dn: K [DN/e-], (B, P).
        read_noise_dn: Temporal dark noise of one pixel, std [DN], (B, P).
        row_noise_dn: Std of the offset of a row [DN], (B,).
        column_noise_dn: Std of the offset of a column [DN], (B,).
        prnu: Std of the relative sensitivity, ratio, (B, P).
        dsnu_dn: Std of the fixed offset of a pixel [DN], (B, P).
        black_dn: Black level that the linear values assume [DN], (B, P).
        black_error_dn: By how much the black level of this frame is above it [DN], (B, P): a value, not a std.
        white_dn: Level that is x = 1 and the highest code [DN], (B, P).
        low_code_dn: Lowest code that the camera writes [DN], (B,).
        tail_kind: Index into `TAIL_KINDS`, (B,) int64.
        tail_shape: As in `noise_models.terms.ReadNoise`; 0 for gaussian, (B,).
        hot_fraction: Share of hot sites, (B,).
        hot_excess_dn: Their mean excess over black [DN], (B,).
    """

    planes: tuple[str, ...]
    iso: Tensor | None
    gain_dn: Tensor
    read_noise_dn: Tensor
    row_noise_dn: Tensor
    column_noise_dn: Tensor
    prnu: Tensor
    dsnu_dn: Tensor
    black_dn: Tensor
    black_error_dn: Tensor
    white_dn: Tensor
    low_code_dn: Tensor
    tail_kind: Tensor
    tail_shape: Tensor
    hot_fraction: Tensor
    hot_excess_dn: Tensor

    def __len__(self) -> int:
        """Number of sensors, B."""
        return self.gain_dn.shape[0]

    @property
    def scale_dn(self) -> Tensor:
        """White minus black [DN], (B, P)."""
        return self.white_dn - self.black_dn

    @property
    def a(self) -> Tensor:
        """Slope of the temporal variance ``a x + b`` of a pixel, (B, P), in units of x."""
        return self.gain_dn / self.scale_dn

    @property
    def b(self) -> Tensor:
        """Its value in the dark: read noise and quantisation, (B, P), in units of x."""
        return (self.read_noise_dn**2 + QUANTISATION_VARIANCE_DN2) / self.scale_dn**2

    @property
    def row(self) -> Tensor:
        """Std of the offset of a row, (B, P), in units of x."""
        return self.row_noise_dn[:, None] / self.scale_dn

    @property
    def column(self) -> Tensor:
        """Std of the offset of a column, (B, P), in units of x."""
        return self.column_noise_dn[:, None] / self.scale_dn

    def affine(self, index: int, cfa: Cfa) -> AffineVariance:
        """The view ``a x + b`` of one sensor, per CFA site: the numbers of `SensorNoise.affine`.

        Raises:
            ProfileError: the planes are not those of ``cfa``.
        """
        self.check(cfa)
        sites = [[self.planes.index(name) for name in row] for row in cfa.plane_of_site]
        return AffineVariance(a=self.a[index].numpy()[np.array(sites)], b=self.b[index].numpy()[np.array(sites)])

    def maps(self, values: Tensor, clean: Tensor, cfa: Cfa) -> Tensor:
        """Spread values per plane over images, to condition a network or to weigh a residual.

        Args:
            values: (B, P), e.g. `a`.
            clean: Images (B, 1, H, W) or packed planes (B, 4, h, w); device and dtype follow them.
            cfa: Of the images, from their top-left.

        Returns:
            (B, 1, H, W) for mosaics, (B, 4, 1, 1) for packed planes.
        """
        self.check(cfa)
        values = values.to(clean)
        if clean.shape[1] == 1:
            return values[:, self._plane_map(clean, cfa)][:, None]
        return values[:, [self.planes.index(name) for name in BAYER_PLANES]][:, :, None, None]

    def variance(self, clean: Tensor, cfa: Cfa) -> Tensor:
        """Variance of every value of a single image around ``clean``: the part that pixels do not share.

        ``a x + b`` and the fixed patterns, which differ from pixel to pixel but not from frame to frame. Row and
        column noise, the black error, hot sites and clipping are left out.

        Args:
            clean: (B, 1, H, W) or packed (B, 4, h, w), in units of x.
            cfa: Of the images.
        """
        light = clean.clamp(min=0.0)
        fixed = self.maps((self.dsnu_dn / self.scale_dn) ** 2, clean, cfa) + self.maps(self.prnu**2, clean, cfa) * (
            light**2
        )
        return self.maps(self.a, clean, cfa) * light + self.maps(self.b, clean, cfa) + fixed

    def take(self, index: Tensor | Sequence[int]) -> Self:
        """The sensors of the given places, in their order; a place may be repeated."""
        places = torch.as_tensor(index, dtype=torch.int64)
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        taken: dict[str, Any] = {k: v[places] if isinstance(v, Tensor) else v for k, v in values.items()}
        return type(self)(**taken)

    def check(self, cfa: Cfa) -> None:
        """Refuse images whose CFA has other planes.

        Raises:
            ProfileError: the planes are not those of ``cfa``.
        """
        if set(self.planes) != set(cfa.plane_names):
            raise ProfileError(
                f"The noise has planes {', '.join(self.planes)}; images of a {cfa.name} sensor have "
                f"{', '.join(cfa.plane_names)}. Draw from a law of this kind of sensor."
            )

    def _plane_map(self, clean: Tensor, cfa: Cfa) -> Tensor:
        """Index into ``planes`` of every pixel, (H, W)."""
        order = torch.tensor([self.planes.index(name) for name in cfa.plane_names], device=clean.device)
        return order[cfa.plane_index(*clean.shape[-2:], device=clean.device)]


@dataclass(frozen=True)
class Channels:
    """Where the channels of site planes lie on the sensor.

    Sites of equal colour-filter place make a channel: every quantity of a plane is then one number a channel, and no
    map of the size of the image is needed.

    Attributes:
        cfa: Of the mosaic.
        sites: (row, column) inside the CFA period of every channel.
    """

    cfa: Cfa
    sites: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, clean: Tensor, cfa: Cfa) -> Self:
        """Of a mosaic (B, 1, H, W): its sites row by row; of packed planes (B, 4, h, w): R, G1, G2, B.

        Raises:
            CfaError: another number of channels, or packed planes of an array that is not Bayer.
        """
        if clean.ndim == 4 and clean.shape[1] == 1:
            height, width = cfa.period
            return cls(cfa, tuple((i, j) for i in range(height) for j in range(width)))
        if clean.ndim == 4 and clean.shape[1] == 4 and cfa.is_bayer:
            return cls(cfa, tuple(cfa.sites(plane)[0] for plane in BAYER_PLANES))
        raise CfaError(
            f"Images of a {cfa.name} sensor are mosaics (B, 1, H, W)"
            f"{' or packed planes (B, 4, h, w)' if cfa.is_bayer else ''}, not {tuple(clean.shape)}."
        )

    def per_channel(self, values: Tensor, planes: tuple[str, ...], like: Tensor) -> Tensor:
        """Values per plane (B, P) as (B, C, 1, 1) on the device and in the dtype of ``like``."""
        names = self.cfa.plane_of_site
        return values[:, [planes.index(names[i][j]) for i, j in self.sites]][:, :, None, None].to(like)

    def split(self, mosaic: Tensor) -> Tensor:
        """A mosaic (B, 1, H, W) as site planes (B, C, h, w); padded with zeros to whole periods."""
        side = self.cfa.period[0]
        height, width = mosaic.shape[-2:]
        padded = torch.nn.functional.pad(mosaic, (0, -width % side, 0, -height % side))
        return torch.nn.functional.pixel_unshuffle(padded, side)

    def join(self, planes: Tensor, shape: tuple[int, int]) -> Tensor:
        """The mosaic (B, 1, *shape); the inverse of `split`."""
        return torch.nn.functional.pixel_shuffle(planes, self.cfa.period[0])[..., : shape[0], : shape[1]]

    def rows(self, offsets: Tensor) -> Tensor:
        """Offsets of sensor rows (B, h * period) as seen by the channels, (B, C, h, 1)."""
        by_phase = offsets.reshape(len(offsets), -1, self.cfa.period[0])
        return by_phase[:, :, [i for i, _ in self.sites]].transpose(1, 2)[..., None]

    def columns(self, offsets: Tensor) -> Tensor:
        """Offsets of sensor columns (B, w * period) as seen by the channels, (B, C, 1, w)."""
        by_phase = offsets.reshape(len(offsets), -1, self.cfa.period[1])
        return by_phase[:, :, [j for _, j in self.sites]].transpose(1, 2)[:, :, None]
