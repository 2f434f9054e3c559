"""The story on one page: a frame and the noise it is known to have become a better frame."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore.classic import denoise_classic


class Method(StrEnum):
    """Ways to restore. Each is one module; this is the one table of them."""

    CLASSIC = "classic"  # variance stabilisation and a transform denoiser: no weights, no training


@dataclass(frozen=True)
class Restoration:
    """A restored frame.

    Attributes:
        mosaic: (H, W) uint16 [DN], same pedestal, levels and CFA as the source.
        noise_profile: Noise that remains, (S, O) per colour plane R, G, B (one pair for a monochrome sensor).
        method: Which method made it.
        strength: 0..100, as asked.
        seconds: Wall time of the restoration without reading and writing.
        numbers: What was done, by name: counts, stds [DN], factors.
    """

    mosaic: NDArray[np.uint16]
    noise_profile: tuple[tuple[float, float], ...]
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
    result = denoise_classic(frame, noise, strength=strength, progress=progress)
    return Restoration(
        mosaic=result.mosaic,
        noise_profile=result.noise_profile,
        method=method,
        strength=strength,
        seconds=time.perf_counter() - start,
        numbers=result.numbers,
    )
