"""The fast method on one page: rows, defects -> working space -> one pass of the network in tiles -> linear light."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noise_models.cfa import Cfa
from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore import weights
from physrestore.errors import RestoreError
from physrestore.fast.engine import Engine, Run, choose_engine
from physrestore.networks.mosaic_net import MosaicNet
from physrestore.pnp.grain import put_back
from physrestore.pnp.prepare import prepare
from physrestore.pnp.restore import check_frame
from physrestore.tiling import map_tiles
from physrestore.working_space import WorkingSpace, one_hot

DEFAULT = "mosaic-large"  # of the shipped networks
# Multiples of it are in phase with every colour filter array (2, 4, 6) and with the networks' coarsest level.
ALIGN = 48
TILE = 24 * ALIGN
# Read around a tile and thrown away. Wider than what the weights reach in effect: the seam test measures what is left.
HALO = ALIGN
# Std of what a shipped network gets wrong at measured sites when there is no noise, in the working space (white is
# about 1): below it, the measured value is the better one. Measured on Kodak24 at 1e6 electrons.
NETWORK_ERROR = 0.002
# Noise of the working space, relative to white, that training reached; beyond it the result is a guess.
LARGEST_NOISE = 0.25
# Side and level of the flat area on which the remaining noise is measured: a grey of a fifth of white.
FLAT_SIDE, FLAT_LEVEL = 96, 0.45


@dataclass(frozen=True)
class FastResult:
    """A restored picture.

    Attributes:
        rgb: (3, H, W) float32, linear camera RGB, white balance not applied: black at 0, white at 1.
        numbers: What was done, by name.
        noise_profile: Noise that remains in smooth areas of the mosaic, (S, O) per colour R, G, B, white is 1.
        notes: What the user should know; empty if all is well.
        seconds: Wall time.
    """

    rgb: Tensor
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
    device: torch.device | str = "cpu",
    engine: Engine | None = None,
    progress: Callable[[float], None] | None = None,
    tile: int = TILE,
) -> FastResult:
    """Denoise and demosaic a mosaic in one pass of a network that is told the calibrated noise.

    Args:
        frame: Bayer, quad-Bayer or X-Trans, at least 16x16.
        noise: Noise of this camera at this ISO, with the gain known.
        network: Weights; `physrestore.weights.load` has the shipped ones.
        strength: 100 removes all that is recognised as noise; at 0 every measured value is kept.
        device: Where to compute.
        engine: How to compute; None: the fastest that is exact enough on ``device``.
        progress: Called with the share done, 0..1.
        tile: Side of the tiles, a multiple of 48.

    Raises:
        ValueError: strength outside 0..100, or a tile that is not a multiple of 48.
        RestoreError: a monochrome frame, one that is too small, or a network for another purpose.
        ProfileError: the noise describes other planes, or its gain is unknown.
    """
    begin = time.perf_counter()
    check_frame(frame, noise, strength)
    if not isinstance(network, MosaicNet):
        raise RestoreError(
            f"The fast method needs a MosaicNet, which takes mosaics; {type(network).__name__} is none. Networks that "
            "denoise pictures are priors of the method 'pnp'."
        )
    engine = engine or choose_engine(device)
    share = strength / 100.0
    ready = prepare(frame, noise, share=share)
    space = ready.space
    run = engine.prepare(network)
    pattern = one_hot(frame.cfa, ALIGN, ALIGN).to(engine.device)

    def solve_tile(planes: Tensor) -> Tensor:
        colours = _tiled(pattern, *planes.shape[-2:])
        above = planes[:3].to(engine.device, copy=True)
        above[0] -= (space.black.to(colours) * colours[0]).sum(0)
        v = _clean(run, above, colours, space).cpu()
        rgb = space.light(v + space.black)
        if share == 1.0:
            return rgb
        known, clipped = planes[1] > 0, planes[2] > 0
        return put_back(
            rgb, planes[3], cfa=frame.cfa, balance=space.balance, share=1.0 - share, known=known, clipped=clipped
        )

    total, done = ready.planes[0].numel(), 0

    def on_tile(pixels: int) -> None:
        nonlocal done
        done += pixels
        if progress is not None:
            progress(done / total)

    rgb = map_tiles(solve_tile, ready.planes, tile=tile, halo=HALO, align=ALIGN, on_tile=on_tile)
    if not bool(torch.isfinite(rgb).all()):
        raise RestoreError(f"The network's result on {engine.name} is not finite. Try the method 'pnp', and report it.")
    level = float(space.scale.max())
    left = 1.0 if share == 0 else (1.0 - share + share * _std_left(run, space, engine)) ** 2
    numbers = {
        "remaining_variance": left,
        "hot_pixels": float(ready.defects),
        "row_noise_removed_dn": ready.row_noise_removed_dn,
        "clipped_share": float(ready.planes[2].mean()),
        "noise_in_working_space": level,
    }
    return FastResult(
        rgb=rgb,
        numbers=numbers,
        noise_profile=tuple(
            (left * a, left * b) for a, b in zip(space.gain.tolist(), space.dark_noise.square().tolist(), strict=True)
        ),
        notes=_notes(level),
        seconds=time.perf_counter() - begin,
    )


def _clean(run: Run, planes: Tensor, colours: Tensor, space: WorkingSpace) -> Tensor:
    """(3, h, w) of the working space; measured sites keep what their noise is too small to have spoilt."""
    values, known, clipped = planes[0], planes[1] > 0, planes[2] > 0
    scale = space.scale.to(planes)
    noise = (scale[None] * colours).sum(1, keepdim=True)
    v = run(values[None, None], noise, colours)[0]
    trust = scale.square() / (scale.square() + NETWORK_ERROR**2)  # Wiener: the network's error against the noise
    measured = (colours[0] > 0) & known
    mixed = torch.where(measured, values + trust * (v - values), v)
    # Of a clipped site only a lower bound is known.
    return torch.where((colours[0] > 0) & clipped, torch.maximum(mixed, values), mixed)


def _std_left(run: Run, space: WorkingSpace, engine: Engine) -> float:
    """Share of the noise's std that is left in a flat grey area: measured on one, with a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    colours = one_hot(Cfa.parse("RGGB"), FLAT_SIDE, FLAT_SIDE)
    level = (space.scale[None] * colours).sum(1)
    noisy = FLAT_LEVEL + level * torch.randn(level.shape, generator=generator)
    planes = torch.cat([noisy, torch.ones_like(noisy), torch.zeros_like(noisy)]).to(engine.device)
    v = _clean(run, planes, colours.to(engine.device), space).cpu()
    residual = ((v * colours[0]).sum(0) - FLAT_LEVEL) / level[0]
    return float(residual.std())


def _tiled(pattern: Tensor, height: int, width: int) -> Tensor:
    repeats = (-(-height // pattern.shape[-2]), -(-width // pattern.shape[-1]))
    return pattern.repeat(1, 1, *repeats)[..., :height, :width]


def _notes(level: float) -> tuple[str, ...]:
    if level <= LARGEST_NOISE:
        return ()
    warning = (
        f"The noise at white is {level:.2f} of it in the working space; the network was trained up to "
        f"{LARGEST_NOISE}. Structures in the result may be guesses."
    )
    return (warning,)
