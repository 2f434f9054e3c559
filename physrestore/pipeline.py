"""The story on one page: a frame and the noise it is known to have become a better frame."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noise_models.frame import RawFrame, tile_to
from noise_models.sensor import SensorNoise
from physrestore.classic import denoise_classic


class Method(StrEnum):
    """Ways to restore. Each is one module; this is the one table of them."""

    CLASSIC = "classic"  # variance stabilisation and a transform denoiser, mosaic to mosaic
    PNP = "pnp"  # plug-and-play: joint demosaicking and denoising with a prior; every colour filter array


Progress = Callable[[float], None]
_Made = tuple[NDArray[np.uint16], Tensor | None, tuple[tuple[float, float], ...] | None, dict[str, float]]


@dataclass(frozen=True)
class Restoration:
    """A restored frame.

    Attributes:
        mosaic: (H, W) uint16 [DN], same pedestal, levels and CFA as the source.
        rgb: (3, H, W) linear camera RGB, black at 0, white at 1, where the method demosaics; else None.
        noise_profile: Noise that remains in ``mosaic``, (S, O) per colour plane R, G, B (one pair for a monochrome
            sensor); None: not known.
        method: Which method made it.
        strength: 0..100, as asked.
        seconds: Wall time of the restoration without reading and writing.
        numbers: What was done, by name: counts, stds [DN], factors.
    """

    mosaic: NDArray[np.uint16]
    rgb: Tensor | None
    noise_profile: tuple[tuple[float, float], ...] | None
    method: Method
    strength: float
    seconds: float
    numbers: dict[str, float]


def restore(
    frame: RawFrame,
    noise: SensorNoise,
    *,
    method: Method = Method.CLASSIC,
    strength: float = 100.0,
    progress: Callable[[float], None] | None = None,
) -> Restoration:
    """Remove the noise that ``noise`` describes from ``frame``.

    Args:
        frame: What the camera recorded.
        noise: Its noise at this ISO (`noise_choice.choose_noise` finds it).
        method: How.
        strength: 0 returns the mosaic bit-identical, 100 removes all that is recognised as noise.
        progress: Called with the share done, 0..1.

    Raises:
        ValueError: strength outside 0..100.
        ProfileError: the noise does not describe this colour filter array.
        RestoreError: the method cannot work on this kind of frame.
    """
    if not 0.0 <= strength <= 100.0:
        raise ValueError(f"strength is 0..100, not {strength}.")
    start = time.perf_counter()
    mosaic, rgb, remaining, numbers = _METHODS[method](frame, noise, strength, progress)
    return Restoration(
        mosaic=mosaic,
        rgb=rgb,
        noise_profile=remaining,
        method=method,
        strength=strength,
        seconds=time.perf_counter() - start,
        numbers=numbers,
    )


def _classic(frame: RawFrame, noise: SensorNoise, strength: float, progress: Progress | None) -> _Made:
    result = denoise_classic(frame, noise, strength=strength, progress=progress)
    return result.mosaic, None, result.noise_profile, result.numbers


def _pnp(frame: RawFrame, noise: SensorNoise, strength: float, progress: Progress | None) -> _Made:
    # Here, because it imports deepinv, which costs a second that `classic` shall not pay.
    from physrestore.pnp import restore_pnp

    result = restore_pnp(frame, noise, strength=strength, progress=progress)
    return sampled(result.rgb, frame), result.rgb, None, result.numbers


_METHODS = {Method.CLASSIC: _classic, Method.PNP: _pnp}


def sampled(rgb: Tensor, frame: RawFrame) -> NDArray[np.uint16]:
    """The mosaic [DN] that a noise-free camera would have recorded of a picture, rounded, clipped sites as they were.

    Args:
        rgb: (3, H, W) linear camera RGB, black at 0, white at 1.
        frame: Levels and array; sites that are clipped in it keep their value.
    """
    height, width = frame.shape
    index = torch.tensor([["RGB".index(colour) for colour in row] for row in frame.cfa.rows])
    x = rgb.gather(0, tile_to(index, height, width)[None])[0]
    black = tile_to(torch.from_numpy(frame.black_level).float(), height, width)
    white = tile_to(torch.from_numpy(frame.white_level).float(), height, width)
    codes = (black + x * (white - black)).round_().clamp_(0, np.iinfo(np.uint16).max)
    source = torch.from_numpy(frame.mosaic.astype(np.float32))
    return torch.where(frame.clipped()[0, 0], source, codes).numpy().astype(np.uint16)
