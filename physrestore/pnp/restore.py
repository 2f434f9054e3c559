"""From a mosaic to camera RGB on one page: rows -> working space -> defects -> joint solve in tiles -> linear light.

Measured on six Kodak24 crops, four of which also served to choose the constants (PSNR [dB] of linear camera RGB;
``python -m tests.benchmarks pnp``):

====================================  ========  =======  ======  ======  ========
full scale                            no noise  4000 e-  800 e-  160 e-  CPU-s/MP
====================================  ========  =======  ======  ======  ========
Bayer: classic, then Malvar           35.66     35.20    34.18   31.35   2.9
Bayer: Malvar, denoised at 1.5 sigma  36.67     36.50    35.40   31.99   3.0
Bayer: this                           40.53     39.23    36.95   32.64   19
X-Trans: tent, denoised               29.21     29.20    29.03   27.99   3.1
X-Trans: this                         40.25     39.04    36.80   32.33   24
====================================  ========  =======  ======  ======  ========

Where it falls short: it costs seven times the classic method; small saturated details in noise lose some colour (a bar
6 sites wide keeps about half on X-Trans at 2000 electrons); the finest regular texture on X-Trans (a fence at its
resolution limit) keeps some false colour.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.errors import ProfileError
from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore.errors import RestoreError
from physrestore.pnp.budget import plan_steps
from physrestore.pnp.prepare import Prepared, prepare
from physrestore.pnp.sharpen import Optics
from physrestore.pnp.tile import ALIGN, TileSolver
from physrestore.priors.base import Prior
from physrestore.tiling import map_tiles_within_memory, tiles

TILE = 32 * ALIGN
# Below it, the halo is four times what it surrounds.
SMALLEST_TILE = 4 * ALIGN
# Read around a tile, and faded over between tiles. Errors at a tile's border decay with every site from it; what is
# left of them beyond the halo is measured by the seam test.
HALO = 2 * ALIGN
BLEND = 2 * ALIGN
SMALLEST_SIDE = 16
# A kernel must end inside the halo, with room for the prior's reach.
LARGEST_KERNEL = HALO + 1
# Pieces on which an unfamiliar prior's error is measured, per axis, and their side.
PIECES, PIECE_SIDE = 2, 192


@dataclass(frozen=True)
class PnpResult:
    """A demosaicked and denoised picture.

    Attributes:
        rgb: (3, sH, sW) float32, linear camera RGB, white balance not applied: black at 0, white at 1, negative values
            kept; where clipped sites lost light that other colours show, above 1.
        numbers: What was done, by name: counts, stds [DN], gains.
        seconds: Wall time.
        uncertainty: Std of every value of ``rgb``; NaN where the sensor was saturated. None: not asked for.
        notes: What the user should know.
    """

    rgb: Tensor
    numbers: dict[str, float]
    seconds: float
    uncertainty: Tensor | None = None
    notes: tuple[str, ...] = field(default=())


def restore_pnp(
    frame: RawFrame,
    noise: SensorNoise,
    *,
    prior: Prior | None = None,
    strength: float = 100.0,
    blur: Tensor | None = None,
    scale: int = 1,
    uncertainty: bool = False,
    device: torch.device | str = "cpu",
    budget_seconds: float | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    tile: int = TILE,
) -> PnpResult:
    """Demosaic and denoise a mosaic with its calibrated noise.

    Args:
        frame: Bayer, quad-Bayer or X-Trans, at least 16x16.
        noise: Noise of this camera at this ISO, with the gain known.
        prior: A denoiser of white-balanced pictures that are about the square root of linear light, black near 0 and
            white at 1; None: the weight-free `DemosaicPrior`.
        strength: 100 removes all that is recognised as noise; at 0 every measured value is kept, and only what is
            between them is restored; between, the two are mixed linearly.
        blur: Kernel of a blur to undo, (kh, kw), sum one, in sensor sites.
        scale: Pixels of the result per site along a line.
        uncertainty: Also give the std of every value. That of a prior of one's own is measured on four pieces of the
            picture, at sites that are hidden from it.
        device: Where to solve; the result is on the CPU.
        budget_seconds: Wall time for the solve: steps are given up, down to three.
        seed: Of the hidden sites.
        progress: Called with the share done, 0..1.
        tile: Side of the tiles, a multiple of 24: memory against overhead. Halved as often as memory runs out.

    Raises:
        ValueError: strength outside 0..100, or a tile that is not a multiple of 24.
        RestoreError: a monochrome frame, one that is too small, a kernel that is too large, an uncertainty that is not
            calibrated, or too little memory.
        ProfileError: the noise describes other planes, or its gain is unknown.
    """
    begin = time.perf_counter()
    check_frame(frame, noise, strength)
    _check_optics(blur, scale, uncertainty)
    ready = prepare(frame, noise, share=strength / 100.0)
    solver = TileSolver(
        ready.space,
        frame.cfa,
        Optics(blur, scale),
        prior=prior,
        share=strength / 100.0,
        uncertain=uncertainty,
        device=torch.device(device),
    )
    notes: list[str] = []
    numbers = _numbers(frame, ready)
    if budget_seconds is not None:
        plan = plan_steps(
            solver.trial,
            ready.planes,
            pixels=_read(frame, tile),
            most=solver.steps,
            budget_seconds=budget_seconds,
            beside=None if prior is None and solver.optics.is_plain else solver.trial_beside,
        )
        notes += filter(None, [plan.note(wanted=solver.steps, budget_seconds=budget_seconds)])
        solver.steps = plan.steps
        numbers |= {"steps": float(plan.steps), "expected_seconds": plan.seconds}
    if uncertainty and prior is not None:
        solver.error_factor = solver.measured_error_factor(_pieces(ready.planes), seed=seed)
        numbers["error_factor"] = solver.error_factor
    report = _Progress(progress, solver.work * _read(frame, tile))
    solver.on_work = report.step

    def again(side: int) -> None:
        notes.append(f"Memory ran out: solved in tiles of {side}x{side} pixels.")
        report.restart(solver.work * _read(frame, side))

    planes, _ = map_tiles_within_memory(
        solver,
        ready.planes,
        tile=tile,
        smallest=min(tile, SMALLEST_TILE),
        halo=HALO,
        blend=BLEND,
        align=ALIGN,
        on_retry=again,
    )
    report.done()
    rgb = planes[: 3 * scale**2]
    return PnpResult(
        rgb=rgb if scale == 1 else F.pixel_shuffle(rgb, scale),
        numbers=numbers,
        seconds=time.perf_counter() - begin,
        uncertainty=planes[3:] if uncertainty else None,
        notes=tuple(notes),
    )


def _numbers(frame: RawFrame, ready: Prepared) -> dict[str, float]:
    balance = zip(("balance_red", "balance_green", "balance_blue"), ready.space.balance.tolist(), strict=True)
    return {
        "hot_pixels": float(ready.defects),
        "row_noise_removed_dn": ready.row_noise_removed_dn,
        "clipped_share": float(ready.planes[2].mean()),
        "balance_from_scene": float(frame.colour.as_shot_neutral is None),
        **dict(balance),
    }


class _Progress:
    """Pixels times steps, as a share of what all tiles together will do; never backwards."""

    def __init__(self, report: Callable[[float], None] | None, total: int) -> None:
        self._report = report or (lambda _: None)
        self._shown = 0.0
        self.restart(total)

    def restart(self, total: int) -> None:
        self._total, self._finished = total, 0

    def step(self, pixels: int) -> None:
        self._finished += pixels
        self._shown = max(self._shown, self._finished / self._total)
        self._report(self._shown)

    def done(self) -> None:
        self._report(1.0)


def _read(frame: RawFrame, tile: int) -> int:
    """Pixels that all tiles together read."""
    pieces = tiles(*frame.shape, tile=tile, halo=HALO, blend=BLEND, align=ALIGN)
    reads = (piece.read for piece in pieces)
    return sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in reads)


def _pieces(planes: Tensor) -> list[Tensor]:
    """Places all over the picture, in phase with the array; the whole of a small one."""
    if max(planes.shape[-2:]) <= PIECES * PIECE_SIDE:
        return [planes]
    tops, lefts = (
        [max(0, (2 * k + 1) * size // (2 * PIECES) - PIECE_SIDE // 2) // ALIGN * ALIGN for k in range(PIECES)]
        for size in planes.shape[-2:]
    )
    return [planes[:, top : top + PIECE_SIDE, left : left + PIECE_SIDE] for top in tops for left in lefts]


def _check_optics(blur: Tensor | None, scale: int, uncertainty: bool) -> None:
    if blur is not None and max(blur.shape) > LARGEST_KERNEL:
        raise RestoreError(
            f"A blur kernel of {blur.shape[0]}x{blur.shape[1]} sites is too large: at most "
            f"{LARGEST_KERNEL}x{LARGEST_KERNEL} can be undone in tiles. Crop the kernel to its core."
        )
    if uncertainty and (blur is not None or scale != 1):
        raise RestoreError(
            "The uncertainty is calibrated for the sensor's own pixels only, not with --deblur or --scale. Leave out "
            "one of them (--no-uncertainty)."
        )


def check_frame(frame: RawFrame, noise: SensorNoise, strength: float) -> None:
    """Refuse a frame that cannot be demosaicked with this noise.

    Raises:
        ValueError: strength outside 0..100.
        RestoreError: a monochrome frame, or one that is too small.
        ProfileError: the noise describes other planes.
    """
    if not 0.0 <= strength <= 100.0:
        raise ValueError(f"strength is 0..100, not {strength}.")
    if frame.cfa.is_mono:
        raise RestoreError("A monochrome frame has no colours to demosaic. Use the method 'classic'.")
    if min(frame.shape) < SMALLEST_SIDE:
        raise RestoreError(f"A frame of {frame.shape} is too small: needed are {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels.")
    if set(noise.planes) != set(frame.cfa.plane_names):
        raise ProfileError(
            f"This profile describes planes {', '.join(noise.planes)}; the frame has "
            f"{', '.join(frame.cfa.plane_names)}. Calibrate this camera itself."
        )
