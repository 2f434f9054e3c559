"""A burst becomes one picture, on one page: one unit -> alignment -> weights -> solve in tiles, by network or prior."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore.burst.align import Aligned, align_burst
from physrestore.burst.by_network import ROUNDS, NetworkSolver
from physrestore.burst.cells import cell_side
from physrestore.burst.frames import LinearFrame, check_burst, relative_exposures
from physrestore.burst.gather import gather_tile
from physrestore.burst.ghosts import Guide
from physrestore.burst.joint import restore_together
from physrestore.burst.motion import Motion
from physrestore.burst.root import Root
from physrestore.burst.sites import sites_of
from physrestore.errors import RestoreError
from physrestore.fast import default_network, restore_fast
from physrestore.fast.engine import choose_engine
from physrestore.networks.mosaic_net import MosaicNet
from physrestore.pnp.joint import Pace
from physrestore.priors.base import Prior
from physrestore.tiling import Tile, tiles
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
        uncertainty: Std of every value of ``rgb``, same shape; NaN where light was clipped in all frames; None: not
            asked for.
        motions: From the first frame to each.
        used: Of each frame: False if it shows another scene.
        numbers: What was done, by name.
        seconds: Wall time.
    """

    rgb: Tensor
    effective_frames: Tensor
    uncertainty: Tensor | None
    motions: tuple[Motion, ...]
    used: tuple[bool, ...]
    numbers: dict[str, float]
    seconds: float


# What one tile becomes, (4 or 7, h, w): linear light, how many frames its pixels are worth, and the std of the light.
_Solve = Callable[[Tile], Tensor]


def restore_burst(
    frames: Sequence[RawFrame],
    noises: Sequence[SensorNoise],
    *,
    prior: Prior | None = None,
    network: nn.Module | None = None,
    strength: float = 100.0,
    exposures: Sequence[float] | None = None,
    uncertainty: bool = False,
    progress: Callable[[float], None] | None = None,
    tile: int = TILE,
) -> BurstResult:
    """Align, demosaic and denoise frames of one scene together; the picture is that of the first.

    Args:
        frames: Of one camera: same size and array, Bayer, quad-Bayer or X-Trans, at least 16x16. Things may move, and
            exposures differ.
        noises: Of each frame, with the gain known.
        prior: A denoiser of pictures, as for `physrestore.pnp.restore_pnp`, to be used instead of a network.
        network: A `MosaicNet`, as for `physrestore.fast.restore_fast`; None: the shipped one, unless a prior is given;
            quad-Bayer, on which it falls behind the weight-free `DemosaicPrior`, is left to that.
        strength: 100 removes all that is recognised as noise; 0 gives the mean of the frames; between, a mixture.
        exposures: Values in DN that the frames give the same light, over those of the first; None: by their metadata.
        uncertainty: Also give an expected error per value.
        progress: Called with the share done, 0..1.
        tile: Side of the tiles, a multiple of 24.

    Raises:
        ValueError: strength outside 0..100, exposures that are not positive, a tile that is not a multiple of 24, or
            both a prior and a network.
        RestoreError: frames that do not belong together, a network for another purpose, or an uncertainty where a prior
            restores, whose errors were not calibrated.
        ProfileError: a noise describes other planes, or its gain is unknown.
    """
    begin = time.perf_counter()
    if not 0.0 <= strength <= 100.0:
        raise ValueError(f"strength is 0..100, not {strength}.")
    if prior is not None and network is not None:
        raise ValueError("A burst is restored with a prior or with a network, not with both. Leave one out.")
    check_burst(frames, noises)
    ratios = relative_exposures(frames) if exposures is None else _checked(exposures, len(frames))
    root = Root.of(WorkingSpace.of_frame(frames[0], noises[0]))
    linear = [
        LinearFrame.of(frame, noise, exposure=ratio, keep_all=strength == 0)
        for frame, noise, ratio in zip(frames, noises, ratios, strict=True)
    ]
    count = _Steps(progress or (lambda _: None))
    together = partial(_Burst, linear, root=root, put_back=1 - strength / 100, count=count)
    by_network = network is not None or (prior is None and not frames[0].cfa.is_quad_bayer)
    if uncertainty and not by_network:
        raise RestoreError(
            "The expected error of a burst is known for networks only. Leave out the prior, or do not ask."
        )
    if by_network:
        used = network or default_network()
        alone = restore_fast(frames[0], noises[0], network=used, uncertainty=True)
        assert alone.uncertainty is not None
        guide = Guide(alone.rgb, alone.uncertainty)
        assert isinstance(used, MosaicNet)  # or the fast method had refused it
        aligned = align_burst(linear, root, guide=guide)
        solve, steps = _by_network(together(aligned), guide, used, uncertain=uncertainty), ROUNDS
    else:
        aligned = align_burst(linear, root)
        solve, steps = _by_prior(together(aligned), prior), Pace.of(frames[0].cfa).steps
    made = _in_tiles(solve, frames[0].shape, count, channels=7 if uncertainty else 4, steps=steps, tile=tile)
    return BurstResult(
        rgb=made[:3],
        effective_frames=made[3],
        uncertainty=made[4:] if uncertainty else None,
        motions=tuple(one.motion for one in aligned),
        used=tuple(one.used for one in aligned),
        numbers=_numbers(linear, aligned, made[3]),
        seconds=time.perf_counter() - begin,
    )


class _Steps:
    """Counts what the tiles do, as a share of all."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self.report, self.total, self.done = report, 1, 0

    def __call__(self, *_: object) -> None:
        self.done += 1
        self.report(self.done / self.total)


@dataclass(frozen=True, eq=False)
class _Burst:
    """Frames in their places."""

    frames: Sequence[LinearFrame]
    aligned: Sequence[Aligned]
    root: Root
    put_back: float
    count: _Steps

    @property
    def side(self) -> int:
        return cell_side(self.frames[0].cfa)


def _by_network(burst: _Burst, guide: Guide, network: MosaicNet, *, uncertain: bool) -> _Solve:
    run = choose_engine().prepare(network)
    solver = NetworkSolver(run, burst.root, burst.put_back, uncertain, burst.count)

    def solve(piece: Tile) -> Tensor:
        pairs = zip(burst.frames, burst.aligned, strict=True)
        looks = [sites_of(frame, aligned, piece.read, side=burst.side) for frame, aligned in pairs if aligned.used]
        corner = burst.frames[0].cfa.shifted(piece.read[0].start, piece.read[1].start)
        here = (slice(None), *piece.read)
        made = solver(Guide(guide.light[here], guide.error[here]), looks, corner)
        return torch.cat([made.light, made.effective[None], *([] if made.std is None else [made.std])])

    return solve


def _by_prior(burst: _Burst, prior: Prior | None) -> _Solve:
    def solve(piece: Tile) -> Tensor:
        together = gather_tile(burst.frames, burst.aligned, piece.read, side=burst.side, root=burst.root)
        light = restore_together(together, burst.root, prior=prior, put_back=burst.put_back, on_iterate=burst.count)
        return torch.cat([light, together.effective[None]])

    return solve


def _in_tiles(solve: _Solve, shape: tuple[int, int], count: _Steps, *, channels: int, steps: int, tile: int) -> Tensor:
    """What all tiles become, faded into each other, (channels, H, W)."""
    made = torch.zeros(channels, *shape)
    pieces = list(tiles(*shape, tile=tile, halo=HALO, blend=BLEND, align=ALIGN))
    count.total = len(pieces) * steps
    for piece in pieces:
        made[(slice(None), *piece.write)] += solve(piece)[(slice(None), *piece.inside)] * piece.window
    return made


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
