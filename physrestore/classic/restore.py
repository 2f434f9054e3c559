"""The classic chain on one page: DN -> rows -> variance 1 -> hot pixels -> denoise -> exact inverse -> DN."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noise_models.cfa import Cfa, pack, unpack
from noise_models.errors import ProfileError
from noise_models.frame import RawFrame, tile_to
from noise_models.sensor import AffineVariance, SensorNoise
from noise_models.stabilise import Anscombe
from physrestore.classic.dct import remove_white_noise, work
from physrestore.classic.hot_pixels import repair_hot_pixels
from physrestore.classic.lines import row_offsets
from physrestore.classic.rounding import DITHER_VARIANCE_DN2, round_dithered
from physrestore.errors import RestoreError

# Below this side there are not even the neighbours that tell a defect from a picture.
SMALLEST_SIDE = 16
# Rows of a plane transformed at once: bounds the temporaries of the inverse.
BAND = 256
# Side of the flat field on which the remaining noise is measured.
FLAT_SIDE = 128


@dataclass(frozen=True)
class ClassicResult:
    """A denoised mosaic and what was done to get it.

    Attributes:
        mosaic: (H, W) uint16 [DN]; pedestal, levels and CFA of the source.
        noise_profile: Noise that remains in smooth areas, in DNG form: (S, O) with variance(x) = S x + O, one pair
            per colour R, G, B (one pair for a monochrome sensor).
        remaining_variance: The same as a share of the source's variance, rounding excluded. Measured on a flat field
            of pure noise; around edges and in texture more remains.
        hot_pixels: Isolated defects replaced.
        row_noise_removed_dn: Std of the row offsets subtracted [DN]; 0 where row noise is negligible.
        seconds: Wall time.
    """

    mosaic: NDArray[np.uint16]
    noise_profile: tuple[tuple[float, float], ...]
    remaining_variance: float
    hot_pixels: int
    row_noise_removed_dn: float
    seconds: float

    @property
    def numbers(self) -> dict[str, float]:
        """What was done, by name."""
        return {
            "remaining_variance": self.remaining_variance,
            "hot_pixels": float(self.hot_pixels),
            "row_noise_removed_dn": self.row_noise_removed_dn,
        }


@dataclass(frozen=True)
class _Clean:
    """The estimate before it is blended with the source."""

    mosaic_dn: Tensor
    defective: Tensor
    row_noise_removed_dn: float


def denoise_classic(
    frame: RawFrame,
    noise: SensorNoise,
    *,
    strength: float = 100.0,
    progress: Callable[[float], None] | None = None,
    tile: int = 192,
) -> ClassicResult:
    """Remove calibrated noise from a mosaic.

    Clipped sites and the sites beside them keep their value (except isolated defects). Local means are kept: the
    inverse of the stabilisation is unbiased and rounding is dithered as the noise had dithered it.

    Args:
        frame: Bayer or monochrome, at least 16x16.
        noise: Noise of this camera at this ISO, with the gain known.
        strength: 0 returns the mosaic bit-identical, 100 removes all that is recognised as noise; between, the two
            are mixed linearly.
        progress: Called with the share done, 0..1.
        tile: Side of the tiles in packed pixels, even; trades memory against overhead and never changes the result.

    Raises:
        ValueError: strength outside 0..100.
        RestoreError: X-Trans, or a frame that is too small.
        ProfileError: the noise describes other planes, or its gain is unknown.
    """
    start = time.perf_counter()
    _check(frame, noise, strength)
    report = progress or (lambda _: None)
    affine = noise.affine(frame.cfa, frame.black_level, frame.white_level)
    mosaic, share, hot, rows = frame.mosaic, 1.0, 0, 0.0
    if strength > 0:
        clean = _estimate(frame, noise, tile=tile, report=report)
        mosaic = _finish(frame, noise, clean, weight=strength / 100.0)
        share = remaining_variance(len(frame.cfa.plane_names), strength=strength)
        hot, rows = int(clean.defective.sum()), clean.row_noise_removed_dn
    report(1.0)
    return ClassicResult(
        mosaic=mosaic,
        noise_profile=_noise_profile(frame, affine.a * share, affine.b * share, rounded=strength > 0),
        remaining_variance=share,
        hot_pixels=hot,
        row_noise_removed_dn=rows,
        seconds=time.perf_counter() - start,
    )


def remaining_variance(planes: int, *, strength: float = 100.0) -> float:
    """Share of the noise variance that the denoiser leaves in a flat area, mixed at a strength.

    Measured, not assumed: the same denoiser runs on a flat field of white noise (fixed seed).
    """
    noise, denoised = _flat_field(planes)
    weight = strength / 100.0
    return float(((1.0 - weight) * noise + weight * denoised).square().mean())


def _check(frame: RawFrame, noise: SensorNoise, strength: float) -> None:
    if not 0.0 <= strength <= 100.0:
        raise ValueError(f"strength is 0..100, not {strength}.")
    if frame.cfa.is_xtrans:
        raise RestoreError(
            "The classic method works on Bayer and monochrome sensors; this frame is X-Trans, whose 6x6 pattern has no "
            "regular colour planes to denoise. Use the method 'pnp'."
        )
    if min(frame.shape) < SMALLEST_SIDE:
        raise RestoreError(f"A frame of {frame.shape} is too small: needed are {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels.")
    if set(noise.planes) != set(frame.cfa.plane_names):
        raise ProfileError(
            f"This profile describes planes {', '.join(noise.planes)}; the frame has "
            f"{', '.join(frame.cfa.plane_names)}. Calibrate this camera itself."
        )


def _estimate(frame: RawFrame, noise: SensorNoise, *, tile: int, report: Callable[[float], None]) -> _Clean:
    """The denoised mosaic [DN], pedestal included, clipped sites not yet put back."""
    signal, offsets = _signal_above_black(frame, noise)
    transform = _stabiliser(noise, frame.cfa)
    stabilised = _in_bands(transform.forward, _planes(signal, frame.cfa))
    del signal
    repair = repair_hot_pixels(_mosaic(stabilised, frame.cfa), frame.cfa)
    stabilised = _planes(repair.mosaic, frame.cfa)
    height, width = frame.shape
    defective = repair.defective[:height, :width]
    del repair

    total, done = work(stabilised.shape), 0

    def on_pixels(count: int) -> None:
        nonlocal done
        done += count
        report(done / total)

    stabilised = remove_white_noise(stabilised, tile=tile, on_pixels=on_pixels)
    restored = _mosaic(_in_bands(transform.inverse, stabilised), frame.cfa)[:height, :width]
    restored = restored + tile_to(torch.from_numpy(frame.black_level).float(), height, width)
    if not bool(torch.isfinite(restored).all()):
        raise RestoreError(
            "The restored mosaic is not finite, which no 16-bit input may cause. Please report it with the file."
        )
    return _Clean(restored, defective, float(np.std(offsets)) if offsets is not None else 0.0)


def _signal_above_black(frame: RawFrame, noise: SensorNoise) -> tuple[Tensor, NDArray[np.float64] | None]:
    """DN above black without row offsets, even sides (an odd Bayer frame is extended by its mirror image)."""
    height, width = frame.shape
    signal = torch.from_numpy(frame.mosaic.astype(np.float32))
    signal -= tile_to(torch.from_numpy(frame.black_level).float(), height, width)
    offsets = row_offsets(frame, noise)
    if offsets is not None:
        signal -= torch.from_numpy(offsets).float()[:, None]
    ph, pw = frame.cfa.period
    extra = ((-height) % ph, (-width) % pw)
    if any(extra):
        # Reflection about the last site, not about the edge: it keeps the colours.
        rows, columns = (
            torch.from_numpy(np.pad(np.arange(size), (0, more), mode="reflect"))
            for size, more in zip((height, width), extra, strict=True)
        )
        signal = signal[rows][:, columns]
    return signal, offsets


def _finish(frame: RawFrame, noise: SensorNoise, clean: _Clean, *, weight: float) -> NDArray[np.uint16]:
    """Mix with the source, round, and put back what is clipped."""
    height, width = frame.shape
    source = torch.from_numpy(frame.mosaic.astype(np.float32))
    mixed = torch.lerp(source, clean.mosaic_dn, weight)
    read_noise = torch.tensor(
        [[noise.planes[name].read_noise_dn.value for name in row] for row in frame.cfa.plane_of_site]
    )
    rounded = round_dithered(mixed, tile_to(read_noise, height, width)).clamp_(0, np.iinfo(np.uint16).max)
    kept = _grow(frame.clipped()[0, 0] & ~clean.defective) & ~clean.defective
    return torch.where(kept, source, rounded).numpy().astype(np.uint16)


def _grow(mask: Tensor) -> Tensor:
    """The mask and the eight neighbours of each of its sites."""
    rows = mask.clone()
    rows[1:] |= mask[:-1]
    rows[:-1] |= mask[1:]
    grown = rows.clone()
    grown[:, 1:] |= rows[:, :-1]
    grown[:, :-1] |= rows[:, 1:]
    return grown


def _stabiliser(noise: SensorNoise, cfa: Cfa) -> Anscombe:
    """One transform for all planes, (C, 1, 1) parameters; quantisation counts as read noise."""
    names = cfa.plane_names
    dark = [float(noise.planes[name].variance(0.0)) for name in names]
    one = [float(noise.planes[name].variance(1.0)) for name in names]
    shape = (len(names), 1, 1)
    return Anscombe(
        gain=torch.tensor(one).sub_(torch.tensor(dark)).view(shape),
        read_noise_dn=torch.tensor(dark).sqrt_().view(shape),
    )


def _noise_profile(
    frame: RawFrame, a: NDArray[np.float64], b: NDArray[np.float64], *, rounded: bool
) -> tuple[tuple[float, float], ...]:
    """(S, O) per colour: the mean over the sites of that colour, with what rounding adds."""
    rounding = DITHER_VARIANCE_DN2 / (frame.white_level - frame.black_level) ** 2 if rounded else np.zeros_like(b)
    return AffineVariance(a=a, b=b + rounding).per_colour(frame.cfa)


@cache
def _flat_field(planes: int) -> tuple[Tensor, Tensor]:
    """White noise and what the denoiser leaves of it."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(planes, FLAT_SIDE, FLAT_SIDE, generator=generator)
    return noise, remove_white_noise(noise)


def _in_bands(function: Callable[[Tensor], Tensor], planes: Tensor) -> Tensor:
    """Apply a per-site function to (C, H, W) in place, a band of rows at a time."""
    for top in range(0, planes.shape[1], BAND):
        band = planes[:, top : top + BAND]
        band.copy_(function(band))
    return planes


def _planes(mosaic: Tensor, cfa: Cfa) -> Tensor:
    return mosaic[None].clone() if cfa.is_mono else pack(mosaic[None], cfa)


def _mosaic(planes: Tensor, cfa: Cfa) -> Tensor:
    return planes[0] if cfa.is_mono else unpack(planes, cfa)[0]
