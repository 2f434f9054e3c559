"""The story on one page: a frame and the noise it is known to have become a better frame."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from noise_models.frame import RawFrame, tile_to
from noise_models.sensor import SensorNoise
from physrestore.classic import denoise_classic
from physrestore.confidence import Confidence
from physrestore.contract import WORDS, Made, Options, Progress, refuse_beyond
from physrestore.errors import RestoreError

if TYPE_CHECKING:
    from torch import nn

    from physrestore.fast import FastResult
    from physrestore.selfsup.blind_spot import BlindSpotModel

# Rows worked on at once, a multiple of every period (1, 2, 4, 6): intermediate values stay in the cache.
BAND = 96


class Method(StrEnum):
    """Ways to restore. Each is one module; `_METHODS` is the one table of them."""

    FAST = "fast"  # one pass of a small trained network that is told the calibrated noise
    SELFSUP = "selfsup"  # the same network, first adapted to this very photo; or a blind spot of one's own folder
    CLASSIC = "classic"  # variance stabilisation and a transform denoiser, mosaic to mosaic
    PNP = "pnp"  # plug-and-play: joint demosaicking and denoising with a prior; every colour filter array


@dataclass(frozen=True, kw_only=True, eq=False)
class Restoration(Made):
    """A restored frame; what the method made, and how.

    Attributes:
        method: Which method made it.
        strength: 0..100, as asked.
        scale: Pixels of ``rgb`` per site of the sensor along a line.
        confidence: ``uncertainty`` in one number; None without it.
        seconds: Wall time of the restoration without reading and writing.
    """

    method: Method
    strength: float
    scale: int = 1
    confidence: Confidence | None = None
    seconds: float


def restore(
    frame: RawFrame,
    noise: SensorNoise,
    *,
    method: Method = Method.FAST,
    strength: float | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Restoration:
    """Remove the noise that ``noise`` describes from ``frame``.

    Args:
        frame: What the camera recorded.
        noise: Its noise at this ISO (`noise_choice.choose_noise` finds it).
        method: How.
        strength: 0 returns the mosaic bit-identical, 100 removes all that is recognised as noise; None: that of
            ``options``.
        options: What else is asked for; None: nothing.
        progress: Called with the share done, 0..1.

    Raises:
        ValueError: strength outside 0..100.
        ProfileError: the noise does not describe this colour filter array.
        RestoreError: the method cannot work on this kind of frame, or does not know an option.
    """
    options = options or Options()
    if strength is not None:
        options = replace(options, strength=strength)
    check_options(method, options)
    start = time.perf_counter()
    made = _METHODS[method].make(frame, noise, options, progress)
    span = float(np.mean(frame.white_level - frame.black_level))
    return Restoration(
        **vars(made),
        method=method,
        strength=options.strength,
        scale=options.scale,
        confidence=None if made.uncertainty is None else Confidence.of(made.uncertainty, span_dn=span),
        seconds=time.perf_counter() - start,
    )


def check_options(method: Method, options: Options) -> None:
    """Refuse what a method does not know before anything is read.

    Raises:
        RestoreError: an option that the method does not know, or a device that is not there.
    """
    _check_blind_spot(method, options)  # first: others that know networks do not know this one
    refuse_beyond(options, method=method.value, knows={one.value: knows(one) for one in _METHODS})
    _ = options.torch_device


def _check_blind_spot(method: Method, options: Options) -> None:
    """A blind-spot network goes with one method, and is not adapted any more."""
    if options.network is None or not _is_blind_spot(options.network):
        return
    if method is not Method.SELFSUP:
        raise RestoreError(f"A blind-spot network is no prior of the method {method.value!r}. Use --method selfsup.")
    if options.budget_seconds is not None:
        raise RestoreError("A blind-spot network is not adapted to single photos. Leave out --budget.")


def _is_blind_spot(network: nn.Module) -> bool:
    from physrestore.selfsup.blind_spot import BlindSpotModel

    return isinstance(network, BlindSpotModel)


def knows(method: Method) -> frozenset[str]:
    """Names in `contract.WORDS` of what a method can be asked for."""
    return _METHODS[method].knows


@dataclass(frozen=True)
class _Way:
    """A method: what it does, and which options beyond strength and seed (names in `contract.WORDS`) it knows."""

    make: Callable[[RawFrame, SensorNoise, Options, Progress | None], Made]
    knows: frozenset[str]

    def __post_init__(self) -> None:
        assert self.knows <= WORDS.keys()


def _fast(frame: RawFrame, noise: SensorNoise, options: Options, progress: Progress | None) -> Made:
    if options.burst:
        from physrestore.networks.mosaic_net import check_array

        check_array(frame.cfa)  # pnp restores others, by its own prior
        return _burst(frame, noise, options, progress)
    from physrestore.fast import default_network, restore_fast

    result = restore_fast(
        frame,
        noise,
        network=options.network or default_network(),
        strength=options.strength,
        uncertainty=options.uncertainty,
        device=options.torch_device,
        progress=progress,
    )
    return _of_one_pass(result, frame)


def _of_one_pass(result: FastResult, frame: RawFrame) -> Made:
    return Made(
        mosaic=sampled(result.rgb, frame),
        rgb=result.rgb,
        uncertainty=result.uncertainty,
        noise_profile=result.noise_profile,
        numbers=result.numbers,
        notes=result.notes,
    )


def _selfsup(frame: RawFrame, noise: SensorNoise, options: Options, progress: Progress | None) -> Made:
    from physrestore.fast import default_network
    from physrestore.selfsup.blind_spot import BlindSpotModel
    from physrestore.selfsup.method import restore_selfsup

    if isinstance(options.network, BlindSpotModel):
        return _blind_spot(frame, noise, options.network, options, progress)
    result = restore_selfsup(
        frame,
        noise,
        network=options.network or default_network(),
        strength=options.strength,
        budget_seconds=options.budget_seconds,
        uncertainty=options.uncertainty,
        device=options.torch_device,
        seed=options.seed,
        progress=progress,
    )
    return replace(_of_one_pass(result.restored, frame), numbers=result.numbers, notes=result.notes)


def _blind_spot(
    frame: RawFrame, noise: SensorNoise, model: BlindSpotModel, options: Options, progress: Progress | None
) -> Made:
    from physrestore.selfsup.blind_spot_method import restore_mosaic

    result = restore_mosaic(
        frame, noise, model=model, strength=options.strength, device=options.torch_device, progress=progress
    )
    return Made(
        mosaic=result.mosaic,
        uncertainty=result.std[None] if options.uncertainty else None,
        numbers=result.numbers,
        notes=result.notes,
    )


def _classic(frame: RawFrame, noise: SensorNoise, options: Options, progress: Progress | None) -> Made:
    result = denoise_classic(frame, noise, strength=options.strength, progress=progress)
    return Made(mosaic=result.mosaic, noise_profile=result.noise_profile, numbers=result.numbers)


def _burst(frame: RawFrame, noise: SensorNoise, options: Options, progress: Progress | None) -> Made:
    from physrestore.burst import restore_burst

    beyond = options.asked & {"blur", "scale", "device", "budget_seconds"}
    if beyond:
        words = ", ".join(sorted(WORDS[name] for name in beyond))
        raise RestoreError(f"A burst cannot be combined with {words}. Leave that out, or restore the frame alone.")
    noises = (noise, *(options.burst_noises or (noise,) * len(options.burst)))
    result = restore_burst(
        (frame, *options.burst),
        noises,
        prior=options.prior,
        network=options.network,
        strength=options.strength,
        uncertainty=options.uncertainty,
        progress=progress,
    )
    dropped = [number for number, used in enumerate(result.used, start=1) if not used]
    said = () if not dropped else (f"Frames {', '.join(map(str, dropped))} of the burst show another scene: not used.",)
    return Made(
        mosaic=sampled(result.rgb, frame),
        rgb=result.rgb,
        uncertainty=result.uncertainty,
        numbers=result.numbers,
        notes=said,
    )


def _pnp(frame: RawFrame, noise: SensorNoise, options: Options, progress: Progress | None) -> Made:
    if options.burst:
        return _burst(frame, noise, options, progress)
    # Here, because it imports deepinv, which costs a second that `classic` shall not pay.
    from physrestore.pnp import restore_pnp
    from physrestore.pnp.sharpness import found_blur

    found = found_blur(frame, noise) if isinstance(options.blur, str) else None
    result = restore_pnp(
        frame,
        noise,
        prior=options.prior,
        strength=options.strength,
        blur=options.blur if isinstance(options.blur, Tensor) else None if found is None else found.kernel,
        scale=options.scale,
        uncertainty=options.uncertainty,
        device=options.torch_device,
        budget_seconds=options.budget_seconds,
        seed=options.seed,
        progress=progress,
    )
    of_sites = result.rgb if options.scale == 1 else F.avg_pool2d(result.rgb, options.scale)
    return Made(
        mosaic=sampled(of_sites, frame),
        rgb=result.rgb,
        uncertainty=result.uncertainty,
        numbers=result.numbers | ({} if found is None else found.numbers),
        notes=(*(() if found is None else (found.note,)), *result.notes),
    )


_METHODS = {
    Method.FAST: _Way(_fast, knows=frozenset({"network", "device", "uncertainty", "burst"})),
    Method.SELFSUP: _Way(_selfsup, knows=frozenset({"network", "device", "budget_seconds", "uncertainty"})),
    Method.CLASSIC: _Way(_classic, knows=frozenset()),
    Method.PNP: _Way(_pnp, knows=frozenset(WORDS) - {"network"}),
}


def sampled(rgb: Tensor, frame: RawFrame) -> NDArray[np.uint16]:
    """The mosaic [DN] that a noise-free camera would have recorded of a picture, rounded, clipped sites as they were.

    Args:
        rgb: (3, H, W) linear camera RGB, black at 0, white at 1.
        frame: Levels and array; sites that are clipped in it keep their value.
    """
    mosaic = np.empty(frame.shape, dtype=np.uint16)
    for start in range(0, frame.shape[0], BAND):
        rows = slice(start, start + BAND)
        # Levels and colours repeat from the first row of every band.
        mosaic[rows] = _sampled_rows(rgb[:, rows], replace(frame, mosaic=frame.mosaic[rows], masked=()))
    return mosaic


def _sampled_rows(rgb: Tensor, part: RawFrame) -> NDArray[np.uint16]:
    height, width = part.shape
    index = torch.tensor([["RGB".index(colour) for colour in row] for row in part.cfa.rows])
    x = rgb.gather(0, tile_to(index, height, width)[None])[0]
    black = tile_to(torch.from_numpy(part.black_level).float(), height, width)
    white = tile_to(torch.from_numpy(part.white_level).float(), height, width)
    codes = (black + x * (white - black)).round_().clamp_(0, np.iinfo(np.uint16).max)
    source = torch.from_numpy(part.mosaic.astype(np.float32))
    return torch.where(part.clipped()[0, 0], source, codes).numpy().astype(np.uint16)
