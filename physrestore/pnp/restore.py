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
from dataclasses import dataclass

from torch import Tensor

from noise_models.errors import ProfileError
from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore.errors import RestoreError
from physrestore.pnp.grain import put_back
from physrestore.pnp.joint import Measured, Pace, restore_jointly
from physrestore.pnp.prepare import prepare
from physrestore.priors.base import Prior
from physrestore.tiling import map_tiles, tiles

# Multiples of it are in phase with the array (2, 4 or 6) and with the coarsest patch grid of the cosine transform (8).
ALIGN = 24
TILE = 32 * ALIGN
# Read around a tile, and faded over between tiles. Errors at a tile's border decay with every site from it; what is
# left of them beyond the halo is measured by the seam test.
HALO = 2 * ALIGN
BLEND = 2 * ALIGN
SMALLEST_SIDE = 16


@dataclass(frozen=True)
class PnpResult:
    """A demosaicked and denoised picture.

    Attributes:
        rgb: (3, H, W) float32, linear camera RGB, white balance not applied: black at 0, white at 1, negative values
            kept; where clipped sites lost light that other colours show, above 1.
        numbers: What was done, by name: counts, stds [DN], gains.
        seconds: Wall time.
    """

    rgb: Tensor
    numbers: dict[str, float]
    seconds: float


def restore_pnp(
    frame: RawFrame,
    noise: SensorNoise,
    *,
    prior: Prior | None = None,
    strength: float = 100.0,
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
        progress: Called with the share done, 0..1.
        tile: Side of the tiles, a multiple of 24: memory against overhead.

    Raises:
        ValueError: strength outside 0..100, or a tile that is not a multiple of 24.
        RestoreError: a monochrome frame, or one that is too small.
        ProfileError: the noise describes other planes, or its gain is unknown.
    """
    begin = time.perf_counter()
    check_frame(frame, noise, strength)
    share = strength / 100.0
    ready = prepare(frame, noise, share=share)
    report = _Progress(progress, frame, tile=tile)
    space = ready.space

    def solve_tile(planes: Tensor) -> Tensor:
        values, source = planes[0], planes[3]
        known, clipped = planes[1] > 0, planes[2] > 0
        data = Measured(values[None, None], known, clipped, space.scale, frame.cfa)
        v = restore_jointly(data, prior=prior, on_iterate=lambda _: report.step(values.numel()))
        rgb = space.linear(v[0])
        if share == 1.0:
            return rgb
        return put_back(
            rgb, source, cfa=frame.cfa, balance=space.balance, share=1.0 - share, known=known, clipped=clipped
        )

    rgb = map_tiles(solve_tile, ready.planes, tile=tile, halo=HALO, blend=BLEND, align=ALIGN)
    report.done()
    balance = dict(zip(("balance_red", "balance_green", "balance_blue"), space.balance.tolist(), strict=True))
    numbers = {
        "hot_pixels": float(ready.defects),
        "row_noise_removed_dn": ready.row_noise_removed_dn,
        "clipped_share": float(ready.planes[2].mean()),
        "balance_from_scene": float(frame.colour.as_shot_neutral is None),
        **balance,
    }
    return PnpResult(rgb=rgb, numbers=numbers, seconds=time.perf_counter() - begin)


class _Progress:
    """Pixels times steps, as a share of what all tiles together will do."""

    def __init__(self, report: Callable[[float], None] | None, frame: RawFrame, *, tile: int) -> None:
        pieces = tiles(*frame.shape, tile=tile, halo=HALO, blend=BLEND, align=ALIGN)
        areas = (
            (rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in (p.read for p in pieces)
        )
        self._total = Pace.of(frame.cfa).steps * sum(areas)
        self._finished = 0
        self._report = report or (lambda _: None)

    def step(self, pixels: int) -> None:
        self._finished += pixels
        self._report(self._finished / self._total)

    def done(self) -> None:
        self._report(1.0)


def check_frame(frame: RawFrame, noise: SensorNoise, strength: float) -> None:
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
