"""A burst becomes one picture, on one page: one unit -> alignment -> weights -> joint solve in tiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore.burst.align import Aligned, align_burst
from physrestore.burst.cells import cell_side
from physrestore.burst.frames import LinearFrame, check_burst, relative_exposures
from physrestore.burst.gather import gather_tile
from physrestore.burst.joint import restore_together
from physrestore.burst.motion import Motion
from physrestore.burst.root import Root
from physrestore.errors import RestoreError
from physrestore.pnp.joint import Pace
from physrestore.priors.base import Prior
from physrestore.tiling import tiles
from physrestore.working_space import WorkingSpace

# As in `physrestore.pnp.restore`: in phase with every array and the patch grid of the prior.
ALIGN = 24
HALO = 2 * ALIGN
BLEND = 2 * ALIGN
# Normal equations take 300 bytes a pixel: 100 MB for a tile with its halo.
TILE = 20 * ALIGN


@dataclass(frozen=True, eq=False)
class BurstResult:
    """A picture made of several frames.

    Attributes:
        rgb: (3, H, W) float32, linear camera RGB of the first frame: black at 0, white at 1, negative values kept.
        effective_frames: (H, W): how many frames like the first the data at each pixel are worth. 1 where all others
            show something else; more than their number where they are exposed longer.
        motions: From the first frame to each.
        used: Of each frame: False if it shows another scene.
        numbers: What was done, by name.
        seconds: Wall time.
    """

    rgb: Tensor
    effective_frames: Tensor
    motions: tuple[Motion, ...]
    used: tuple[bool, ...]
    numbers: dict[str, float]
    seconds: float


def restore_burst(
    frames: Sequence[RawFrame],
    noises: Sequence[SensorNoise],
    *,
    prior: Prior | None = None,
    strength: float = 100.0,
    exposures: Sequence[float] | None = None,
    progress: Callable[[float], None] | None = None,
    tile: int = TILE,
) -> BurstResult:
    """Align, demosaic and denoise frames of one scene together; the picture is that of the first.

    Args:
        frames: Of one camera: same size and array, Bayer, quad-Bayer or X-Trans, at least 16x16. Things may move, and
            exposures differ.
        noises: Of each frame, with the gain known.
        prior: As for `physrestore.pnp.restore_pnp`.
        strength: 100 removes all that is recognised as noise; 0 gives the mean of the frames; between, a mixture.
        exposures: Values in DN that the frames give the same light, over those of the first; None: by their metadata.
        progress: Called with the share done, 0..1.
        tile: Side of the tiles, a multiple of 24.

    Raises:
        ValueError: strength outside 0..100, exposures that are not positive, or a tile that is not a multiple of 24.
        RestoreError: frames that do not belong together.
        ProfileError: a noise describes other planes, or its gain is unknown.
    """
    begin = time.perf_counter()
    if not 0.0 <= strength <= 100.0:
        raise ValueError(f"strength is 0..100, not {strength}.")
    check_burst(frames, noises)
    ratios = relative_exposures(frames) if exposures is None else _checked(exposures, len(frames))
    root = Root.of(WorkingSpace.of_frame(frames[0], noises[0]))
    linear = [
        LinearFrame.of(frame, noise, exposure=ratio, keep_all=strength == 0)
        for frame, noise, ratio in zip(frames, noises, ratios, strict=True)
    ]
    aligned = align_burst(linear, root)
    rgb, effective = _solve(
        linear, aligned, root, prior=prior, put_back=1 - strength / 100, tile=tile, report=progress or (lambda _: None)
    )
    return BurstResult(
        rgb=rgb,
        effective_frames=effective,
        motions=tuple(one.motion for one in aligned),
        used=tuple(one.used for one in aligned),
        numbers=_numbers(linear, aligned, effective),
        seconds=time.perf_counter() - begin,
    )


def _solve(
    frames: Sequence[LinearFrame],
    aligned: Sequence[Aligned],
    root: Root,
    *,
    prior: Prior | None,
    put_back: float,
    tile: int,
    report: Callable[[float], None],
) -> tuple[Tensor, Tensor]:
    """Tile by tile: picture and effective frames."""
    height, width = frames[0].values.shape
    rgb, effective = torch.zeros(3, height, width), torch.zeros(height, width)
    pieces = list(tiles(height, width, tile=tile, halo=HALO, blend=BLEND, align=ALIGN))
    steps, done = len(pieces) * Pace.of(frames[0].cfa).steps, 0

    def count(_: object) -> None:
        nonlocal done
        done += 1
        report(done / steps)

    side = cell_side(frames[0].cfa)
    for piece in pieces:
        together = gather_tile(frames, aligned, piece.read, side=side, root=root)
        light = restore_together(together, root, prior=prior, put_back=put_back, on_iterate=count)
        rgb[(slice(None), *piece.write)] += light[(slice(None), *piece.inside)] * piece.window
        effective[piece.write] += together.effective[piece.inside] * piece.window
    report(1.0)
    return rgb, effective


def _numbers(frames: Sequence[LinearFrame], aligned: Sequence[Aligned], effective: Tensor) -> dict[str, float]:
    height, width = frames[0].values.shape
    shifts = [one.motion.shift_at((height - 1) / 2, (width - 1) / 2) for one in aligned if one.used]
    return {
        "frames": float(len(frames)),
        "frames_used": float(sum(one.used for one in aligned)),
        "effective_frames": float(effective.mean()),
        "effective_frames_least": float(effective.min()),
        "largest_shift": max((down**2 + right**2) ** 0.5 for down, right in shifts),
        "hot_pixels": float(frames[0].defective.sum()),
        "row_noise_removed_dn": frames[0].row_noise_removed_dn,
        "clipped_share": float(frames[0].clipped.float().mean()),
    }


def _checked(exposures: Sequence[float], count: int) -> tuple[float, ...]:
    if len(exposures) != count:
        raise RestoreError(f"A burst of {count} frames needs as many relative exposures, not {len(exposures)}.")
    if not all(0 < ratio < float("inf") for ratio in exposures) or exposures[0] != 1:
        raise ValueError(f"Relative exposures are positive, the first frame's is 1; given were {tuple(exposures)}.")
    return tuple(exposures)
