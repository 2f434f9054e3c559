"""The fast method on one page: rows, defects -> working space -> one pass of the network in tiles -> linear light."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from noise_models.cfa import Cfa
from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore import weights
from physrestore.errors import RestoreError
from physrestore.fast.engine import Engine, choose_engine
from physrestore.fast.tile import FastTile
from physrestore.networks.mosaic_net import MosaicNet, check_array
from physrestore.pnp.prepare import prepare
from physrestore.pnp.restore import check_frame
from physrestore.tiling import map_tiles
from physrestore.working_space import one_hot

DEFAULT = "mosaic-large"  # of the shipped networks
# Multiples of it are in phase with every colour filter array (2, 4, 6) and with the networks' coarsest level.
ALIGN = 48
TILE = 24 * ALIGN
# Read around a tile and thrown away. Wider than what the weights reach in effect: the seam test measures what is left.
HALO = ALIGN
# Noise of the working space, relative to white, that training reached; beyond it the result is a guess.
LARGEST_NOISE = 0.25
# Side and level of the flat area on which the remaining noise is measured: a grey of a fifth of white.
FLAT_SIDE, FLAT_LEVEL, FLAT_CFA = 96, 0.45, Cfa.parse("RGGB")


@dataclass(frozen=True)
class FastResult:
    """A restored picture.

    Attributes:
        rgb: (3, H, W) float32, linear camera RGB, white balance not applied: black at 0, white at 1.
        uncertainty: Std of every value of ``rgb``, same shape; NaN where light was clipped; None: not asked for.
        numbers: What was done, by name.
        noise_profile: Noise that remains in smooth areas of the mosaic, (S, O) per colour R, G, B, white is 1.
        notes: What the user should know; empty if all is well.
        seconds: Wall time.
    """

    rgb: Tensor
    uncertainty: Tensor | None
    numbers: dict[str, float]
    noise_profile: tuple[tuple[float, float], ...]
    notes: tuple[str, ...]
    seconds: float


def default_network() -> MosaicNet:
    """The shipped network of this method.

    Raises:
        WeightsError: its file is missing or damaged.
    """
    network = weights.load(DEFAULT).network
    assert isinstance(network, MosaicNet)
    return network


def restore_fast(
    frame: RawFrame,
    noise: SensorNoise,
    *,
    network: nn.Module,
    strength: float = 100.0,
    uncertainty: bool = False,
    device: torch.device | str = "cpu",
    engine: Engine | None = None,
    progress: Callable[[float], None] | None = None,
    tile: int = TILE,
) -> FastResult:
    """Denoise and demosaic a mosaic in one pass of a network that is told the calibrated noise.

    Args:
        frame: Bayer or X-Trans, at least 16x16.
        noise: Noise of this camera at this ISO, with the gain known.
        network: Weights; `physrestore.weights.load` has the shipped ones.
        strength: 100 removes all that is recognised as noise; at 0 every measured value is kept.
        uncertainty: Also give an expected error per value.
        device: Where to compute.
        engine: How to compute; None: the fastest that is exact enough on ``device``.
        progress: Called with the share done, 0..1.
        tile: Side of the tiles, a multiple of 48.

    Raises:
        ValueError: strength outside 0..100, or a tile that is not a multiple of 48.
        RestoreError: a monochrome or quad-Bayer frame, one that is too small, or a network for another purpose.
        ProfileError: the noise describes other planes, or its gain is unknown.
    """
    begin = time.perf_counter()
    check_frame(frame, noise, strength)
    if not isinstance(network, MosaicNet):
        raise RestoreError(
            f"The fast method needs a MosaicNet, which takes mosaics; {type(network).__name__} is none. Networks that "
            "denoise pictures are priors of the method 'pnp'."
        )
    check_array(frame.cfa)
    engine = engine or choose_engine(device)
    share = strength / 100.0
    ready = prepare(frame, noise, share=share)
    space = ready.space
    solve = FastTile(engine.prepare(network), space, frame.cfa, engine.device, share, uncertain=uncertainty)
    total, done = ready.planes[0].numel(), 0

    def on_tile(pixels: int) -> None:
        nonlocal done
        done += pixels
        if progress is not None:
            progress(done / total)

    def finite(planes: Tensor) -> Tensor:
        out = solve(planes)
        if not bool(torch.isfinite(out[:3]).all()):
            raise RestoreError(f"The network's result on {engine.name} is not finite. Try 'pnp', and report it.")
        return out

    made = map_tiles(finite, ready.planes, tile=tile, halo=HALO, align=ALIGN, on_tile=on_tile)
    rgb, std = made[:3], made[3:]
    level = float(space.scale.max())
    left = 1.0 if share == 0 else (1.0 - share + share * _std_left(replace(solve, share=1.0, cfa=FLAT_CFA))) ** 2
    numbers = {
        "remaining_variance": left,
        "hot_pixels": float(ready.defects),
        "row_noise_removed_dn": ready.row_noise_removed_dn,
        "clipped_share": float(ready.planes[2].mean()),
        "noise_in_working_space": level,
    }
    return FastResult(
        rgb=rgb,
        uncertainty=std if uncertainty else None,
        numbers=numbers,
        noise_profile=tuple(
            (left * a, left * b) for a, b in zip(space.gain.tolist(), space.dark_noise.square().tolist(), strict=True)
        ),
        notes=_notes(level),
        seconds=time.perf_counter() - begin,
    )


def _std_left(solve: FastTile) -> float:
    """Share of the noise's std that is left in a flat grey area: measured on one, with a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    colours = one_hot(FLAT_CFA, FLAT_SIDE, FLAT_SIDE)[0]
    level, flat = ((value * colours).sum(0) for value in (solve.space.scale, solve.space.black + FLAT_LEVEL))
    noisy = flat + level * torch.randn(level.shape, generator=generator)
    v = solve.values(torch.stack([noisy, torch.ones_like(noisy), torch.zeros_like(noisy)]))
    return float((((v * colours).sum(0) - flat) / level).std())


def _notes(level: float) -> tuple[str, ...]:
    if level <= LARGEST_NOISE:
        return ()
    warning = (
        f"The noise at white is {level:.2f} of it in the working space; the network was trained up to "
        f"{LARGEST_NOISE}. Structures in the result may be guesses."
    )
    return (warning,)
