"""All frames on the reference, on one page: cells -> whole motion -> local offsets -> single sites -> agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from physrestore.burst.agreement import LEAST_AGREEMENT, agreement
from physrestore.burst.cells import cells_of
from physrestore.burst.frames import LinearFrame
from physrestore.burst.ghosts import Guide, Residuals, shown
from physrestore.burst.local import PITCH, local_offsets
from physrestore.burst.motion import Motion
from physrestore.burst.refine import refined
from physrestore.burst.root import Root
from physrestore.burst.whole import motion_between


@dataclass(frozen=True, eq=False)
class Aligned:
    """A frame in its place.

    Attributes:
        motion: From the reference to the frame.
        weight: Of the frame at every cell of the reference, (h, w), 0..1.
        used: False: it shows another scene; its weights are zero.
    """

    motion: Motion
    weight: Tensor
    used: bool


def align_burst(frames: Sequence[LinearFrame], root: Root, *, guide: Guide | None = None) -> tuple[Aligned, ...]:
    """Align every frame to the first.

    Args:
        frames: All in the exposure of the first.
        root: Of the first.
        guide: A clean picture of the first: motions are refined and ghosts found on single sites; None: by cells alone.
    """
    reference = cells_of(frames[0], root)
    weights = reference.weights()
    grey = reference.grey(weights)
    own = None if guide is None else Residuals.of(guide, frames[0], Motion.still(), side=reference.side)
    aligned = [Aligned(Motion.still(), torch.ones_like(grey.values), used=True)]
    for frame in frames[1:]:
        cells = cells_of(frame, root)
        moving = cells.grey(weights)
        fit = motion_between(grey, moving)
        matrix = torch.eye(3, dtype=torch.float64) if fit is None else fit.matrix
        offsets = local_offsets(grey, moving, matrix)
        motion = Motion.of(fit, offsets, pitch=PITCH, side=reference.side)
        if guide is not None:
            motion = refined(motion, frame, guide.light)
        if own is None or guide is None:
            weight = agreement(reference, cells, motion, frames=len(frames))
        else:
            weight = shown(own, Residuals.of(guide, frame, motion, side=reference.side), frames=len(frames))
        used = float(weight.mean()) >= LEAST_AGREEMENT
        aligned.append(Aligned(motion, weight if used else torch.zeros_like(weight), used))
    return tuple(aligned)
