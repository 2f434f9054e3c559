"""The virtual camera: light and a `SensorNoise` become raw frames. The oracle of calibration, the source of the demo.

Per site, with the scale ``white - black`` of the site and light x in 0..1::

    electrons ~ Poisson((scale x PRNU + dark signal) / K)
    DN        = K electrons + read noise + black + dark shading + DSNU + row + column + frame jitter
    code      = clip(round(DN), black clamp, white)

so that away from the ends the temporal mean above black is ``scale x`` and the variance `SensorNoise.variance`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from noise_models.cfa import Cfa
from noise_models.errors import ProfileError
from noise_models.frame import Colour, MaskedArea, RawFrame, Shot, Source, tile_to
from noise_models.sensor import PlaneNoise, SensorNoise
from noise_models.terms import (
    Clipping,
    ColumnNoise,
    DarkShading,
    Dsnu,
    HotSites,
    Prnu,
    Quantisation,
    ReadNoise,
    RowNoise,
    ShotNoise,
)

# Sites that are processed at once: 4 MB a single-precision temporary, whatever the frame.
SITES_PER_BLOCK = 1 << 20
MAX_CODE = 65535.0
# XYZ (D65) to linear sRGB, IEC 61966-2-1: the camera space of a scene given in linear sRGB.
XYZ_TO_LINEAR_SRGB = (
    (3.2406255, -1.5372080, -0.4986286),
    (-0.9689307, 1.8757561, 0.0415175),
    (0.0557101, -0.2040211, 1.0569959),
)
D65 = 21  # EXIF LightSource


@dataclass(frozen=True, eq=False)
class FixedPattern:
    """What makes one sensor body: (H, W) maps over masked columns and visible area, in this order.

    Attributes:
        response: Relative sensitivity of every site (PRNU), mean 1.
        offset_dn: Fixed offset to the black level [DN]: dark shading and DSNU.
        hot_dn: Mean dark signal of hot sites [DN] at the exposure of the profile's darks; 0 elsewhere.
        read_std_dn: Read noise of every site [DN].
    """

    response: Tensor
    offset_dn: Tensor
    hot_dn: Tensor
    read_std_dn: Tensor

    @classmethod
    def draw(cls, noise: SensorNoise, cfa: Cfa, shape: tuple[int, int], *, seed: int) -> FixedPattern:
        """Draw a body. Each map has its own stream: changing one quantity of ``noise`` moves no other map.

        Args:
            noise: Of one ISO. The same seed gives the same body at another ISO.
            cfa: From the top-left of the maps.
            shape: (H, W) of the maps.
            seed: Non-negative.
        """
        prnu, dsnu, shading, hot, read = _streams(seed, 5)
        zeros = torch.zeros(()).expand(shape)  # a view: quantities the profile does not have cost no memory

        def site(quantity: str) -> Tensor:
            return tile_to(per_site(noise, cfa, quantity).float(), *shape)

        response, offset, hot_dn = torch.ones(()).expand(shape), zeros, zeros
        if any(plane.prnu is not None for plane in noise.planes.values()):
            response = Prnu(site("prnu")).sample(zeros, generator=prnu)
        if any(plane.dsnu_dn is not None for plane in noise.planes.values()):
            offset = Dsnu(site("dsnu_dn")).sample(zeros, generator=dsnu)
        if noise.dark_shading_dn is not None:
            offset = offset + DarkShading(noise.dark_shading_dn.value).sample(zeros, generator=shading)
        if noise.hot_pixels is not None:
            population = noise.hot_pixels
            hot_dn = HotSites(population.fraction.value, population.excess_dn.value).sample(zeros, generator=hot)
        read_std = ReadNoise.of(site("read_noise_dn"), noise.tail).pixel_std(zeros, generator=read)
        return cls(response=response, offset_dn=offset, hot_dn=hot_dn, read_std_dn=read_std)


class VirtualCamera:
    """A sensor body with the given noise, exposed on demand.

    The dark signal grows with the exposure time where the profile has a dark current: its black level and its hot
    sites are taken as those of its shortest dark (of no exposure where it names none).

    Attributes:
        noise: What the camera declares.
        cfa: From the top-left of the visible area.
        shape: (H, W) of the visible area.
        black_level: Per CFA site [DN], shape ``cfa.period``.
        white_level: Per CFA site [DN]: the lower of ``white_level`` and the profile's saturation.
        pattern: The fixed pattern of this body.

    Raises:
        ProfileError: the profile's planes are not those of ``cfa``, or its gain is unknown.
        ValueError: levels that do not fit 16 bit or each other, or a shot of another ISO.

    >>> from noise_models.sensor import Estimate, PlaneNoise
    >>> plane = PlaneNoise(gain=Estimate(value=0.5), read_noise_dn=Estimate(value=3.0),
    ...                    black_level_dn=Estimate(value=512.0))
    >>> noise = SensorNoise(iso=800.0, planes={"M": plane}, row_noise_dn=Estimate(value=0.2))
    >>> camera = VirtualCamera(noise, cfa=Cfa.parse("M"), shape=(64, 64))
    >>> frame = camera.flat(0.1, generator=torch.Generator().manual_seed(1))
    >>> round(float(frame.linear().mean()), 2)
    0.1
    """

    def __init__(
        self,
        noise: SensorNoise,
        *,
        cfa: Cfa,
        shape: tuple[int, int],
        white_level: float = 16383.0,
        seed: int = 0,
        shot: Shot | None = None,
        masked_columns: int = 0,
        black_clamp: float = 0.0,
    ) -> None:
        """Draw the body.

        Args:
            noise: Of one ISO.
            cfa: From the top-left of the visible area.
            shape: (H, W) of the visible area, each at least 1.
            white_level: Highest code [DN].
            seed: Of the fixed pattern; non-negative.
            shot: Camera and exposure written into the frames; its ISO is that of ``noise``.
            masked_columns: Optical-black columns left of the visible area.
            black_clamp: Lowest code that the camera writes [DN].
        """
        _check_profile(noise, cfa)
        shot = shot or Shot(make="Virtual", model="Virtual camera")
        if shot.iso not in (None, noise.iso):
            raise ValueError(
                f"The shot says ISO {shot.iso:g}, the noise is that of ISO {noise.iso:g}. Give both alike."
            )
        if min(shape) < 1 or masked_columns < 0:
            raise ValueError(f"No sensor has {shape} visible sites and {masked_columns} masked columns.")
        self.noise, self.cfa, self.shape = noise, cfa, shape
        self.black_level = per_site(noise, cfa, "black_level_dn").numpy()
        saturation = per_site(noise, cfa, "saturation_dn", missing=white_level).numpy()
        self.white_level = np.floor(np.minimum(saturation, white_level))
        self._low_code = float(np.ceil(black_clamp))
        _check_levels(self.black_level, self.white_level, self._low_code)
        self._masked = masked_columns
        self._sensor_cfa = cfa.shifted(0, -masked_columns)
        self._shot = replace(shot, iso=noise.iso)
        self.pattern = FixedPattern.draw(noise, self._sensor_cfa, (shape[0], masked_columns + shape[1]), seed=seed)

    def expose(self, scene: Tensor, *, generator: torch.Generator, exposure: float = 1.0) -> RawFrame:
        """Photograph a scene.

        Args:
            scene: (3, H, W) linear light in the camera's red, green and blue, or (1, H, W) grey; not negative.
            generator: Of the temporal noise; on the CPU.
            exposure: Factor on the scene; light of ``1 / exposure`` reaches the white level.

        Raises:
            ValueError: a scene of another shape, or with values that are no light.
        """
        return self._capture(self._mosaic(scene, exposure), generator, self._shot.exposure_s)

    def flat(self, level: float | Tensor, *, generator: torch.Generator) -> RawFrame:
        """Photograph an even light.

        Args:
            level: Fraction of the scale from black to white; an (H, W) map for uneven light.
            generator: Of the temporal noise; on the CPU.

        Raises:
            ValueError: a map of another shape, or values that are no light.
        """
        light = torch.as_tensor(level, dtype=torch.float32, device="cpu")
        if light.ndim not in (0, 2) or (light.ndim == 2 and light.shape != self.shape):
            raise ValueError(f"A flat needs one level or a map of shape {self.shape}, not {tuple(light.shape)}.")
        return self._capture(_light(light).expand(self.shape), generator, self._shot.exposure_s)

    def dark(self, *, generator: torch.Generator, exposure_s: float | None = None) -> RawFrame:
        """Photograph nothing, for ``exposure_s`` seconds or as long as the camera's shot."""
        dark = torch.zeros(()).expand(self.shape)
        return self._capture(dark, generator, self._shot.exposure_s if exposure_s is None else exposure_s)

    def clean(self, scene: Tensor, *, exposure: float = 1.0) -> NDArray[np.float32]:
        """The mosaic of `expose` without any noise or fixed pattern: (H, W) [DN], black included, clipped at white."""
        black, white = (tile_to(torch.from_numpy(v).float(), *self.shape) for v in (self.black_level, self.white_level))
        mosaic = self._mosaic(scene, exposure).mul(white - black).add_(black).minimum(white)
        return np.asarray(mosaic.numpy(), dtype=np.float32)

    def _mosaic(self, scene: Tensor, exposure: float) -> Tensor:
        """The light that falls on every visible site through its filter: (H, W)."""
        channels = 1 if self.cfa.is_mono else 3
        if scene.shape not in ((1, *self.shape), (channels, *self.shape)):
            raise ValueError(
                f"A {self.cfa.name} sensor of {self.shape} needs a scene of shape {(channels, *self.shape)} or "
                f"{(1, *self.shape)}, not {tuple(scene.shape)}. Crop or resize the scene."
            )
        scene = _light(scene.detach().to(device="cpu", dtype=torch.float32))
        if scene.shape[0] == 1:
            return scene[0] * exposure
        colour = torch.tensor([["RGB".index(letter) for letter in row] for row in self.cfa.rows])
        return scene.gather(0, tile_to(colour, *self.shape)[None])[0].mul_(exposure)

    def _capture(self, light: Tensor, generator: torch.Generator, exposure_s: float | None) -> RawFrame:
        """One frame of the whole sensor, in blocks of rows."""
        height, width = self.pattern.response.shape
        like = torch.zeros(()).expand(height, width)
        noise = self.noise
        jitter = 0.0 if noise.black_jitter_dn is None else noise.black_jitter_dn.value
        lines = float(torch.randn((), generator=generator)) * jitter + torch.zeros(1, width)
        if noise.column_noise_dn is not None:
            lines += ColumnNoise(noise.column_noise_dn.value).sample(like, generator=generator)
        row_offset = RowNoise(noise.row_noise_dn.value).sample(like, generator=generator)
        period = self._sensor_cfa.period[0]
        step = period * max(1, SITES_PER_BLOCK // (width * period))
        codes = np.empty((height, width), dtype=np.uint16)
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            signal = self._signal(rows, light[rows], exposure_s)
            codes[rows] = self._read_out(rows, signal, row_offset[rows] + lines, generator).numpy()
        return self._frame(codes, exposure_s)

    def _signal(self, rows: slice, light: Tensor, exposure_s: float | None) -> Tensor:
        """Mean of the charge in some rows [DN]: light and dark signal."""
        scale = torch.from_numpy(np.roll(self.white_level - self.black_level, self._masked, axis=1)).float()
        current = self._site("dark_current") * self._site("gain")  # DN/s
        seconds, growth = self._dark_time(exposure_s)
        covered = F.pad(light, (self._masked, 0))
        signal = covered * tile_to(scale, *covered.shape) * self.pattern.response[rows]
        return signal + self.pattern.hot_dn[rows] * growth + tile_to(current * seconds, *covered.shape)

    def _read_out(self, rows: slice, signal: Tensor, lines: Tensor, generator: torch.Generator) -> Tensor:
        """Codes of some rows, the first of which starts a CFA period."""
        gain, black = (tile_to(self._site(name), *signal.shape) for name in ("gain", "black_level_dn"))
        white = torch.from_numpy(np.roll(self.white_level, self._masked, axis=1)).float()
        values = ShotNoise(gain).sample(signal, generator=generator)
        values += ReadNoise.of(0.0, self.noise.tail).sample(self.pattern.read_std_dn[rows], generator=generator)
        values += black + self.pattern.offset_dn[rows] + lines
        return Clipping(self._low_code, tile_to(white, *signal.shape)).apply(Quantisation().apply(values))

    def _site(self, quantity: str) -> Tensor:
        """A quantity per CFA site of the sensor, masked columns first."""
        return per_site(self.noise, self._sensor_cfa, quantity).float()

    def _dark_time(self, exposure_s: float | None) -> tuple[float, float]:
        """Seconds by which the exposure exceeds that of the profile's darks, and the ratio of both."""
        reference = 0.0 if self.noise.exposure_s is None else self.noise.exposure_s[0]
        if exposure_s is None:
            return 0.0, 1.0
        return max(0.0, exposure_s - reference), exposure_s / reference if reference > 0 else 1.0

    def _frame(self, codes: NDArray[np.uint16], exposure_s: float | None) -> RawFrame:
        masked = (MaskedArea("left", codes[:, : self._masked].copy(), self._sensor_cfa),) if self._masked else ()
        srgb = Colour((1.0, 1.0, 1.0), XYZ_TO_LINEAR_SRGB, D65)
        return RawFrame(
            mosaic=np.ascontiguousarray(codes[:, self._masked :]),
            cfa=self.cfa,
            black_level=self.black_level.copy(),
            white_level=self.white_level.copy(),
            masked=masked,
            shot=replace(self._shot, exposure_s=exposure_s),
            colour=Colour() if self.cfa.is_mono else srgb,
            source=Source(decoder="noise_models virtual camera", integrity_evidence="Made in memory."),
        )


def _check_levels(black: NDArray[np.float64], white: NDArray[np.float64], low_code: float) -> None:
    lowest, highest = max(low_code, float(black.max())), float(white.max())
    if low_code < 0 or lowest >= white.min() or highest > MAX_CODE:
        raise ValueError(
            f"Black level {black.max():g}, black clamp {low_code:g} and white level {white.min():g}..{highest:g} "
            f"must rise in this order within 0..{MAX_CODE:g}. Give all levels in DN."
        )


def _check_profile(noise: SensorNoise, cfa: Cfa) -> None:
    if set(noise.planes) != set(cfa.plane_names):
        raise ProfileError(
            f"The noise has planes {', '.join(noise.planes)}; a {cfa.name} sensor has {', '.join(cfa.plane_names)}. "
            "Give noise and CFA of one camera."
        )
    unknown = [name for name, plane in noise.planes.items() if plane.gain is None]
    if unknown:
        raise ProfileError(
            f"The gain K of {', '.join(unknown)} is unknown, so light has no shot noise. Calibrate with flats first."
        )


def _streams(seed: int, count: int) -> list[torch.Generator]:
    """Independent generators of one seed."""
    sequences = np.random.SeedSequence(seed).spawn(count)
    return [torch.Generator().manual_seed(int(s.generate_state(1, np.uint32)[0])) for s in sequences]


def per_site(noise: SensorNoise, cfa: Cfa, quantity: str, *, missing: float = 0.0) -> Tensor:
    """The value of a `PlaneNoise` quantity at every site of the period, ``missing`` where a plane does not have it."""

    def value(plane: PlaneNoise) -> float:
        estimate = getattr(plane, quantity)
        return missing if estimate is None else float(estimate.value)

    return torch.tensor([[value(noise.planes[name]) for name in row] for row in cfa.plane_of_site], dtype=torch.float64)


def _light(light: Tensor) -> Tensor:
    """The light itself; refuses negative and non-finite values."""
    low, high = light.aminmax()
    if not (low >= 0 and torch.isfinite(high)):
        raise ValueError(f"Light cannot be negative or not finite; it runs from {float(low):g} to {float(high):g}.")
    return light
