"""How far each frame shows what a clean picture of the reference shows, judged by single sites.

Where there is a clean picture of the reference, whose own error is known, it says more than cells do
(`physrestore.burst.agreement`), in what a ghost as small as a few cells of X-Trans is tolerated for detail. It is
compared with every site: squared differences over what the noise, that error and a little displacement explain,
averaged over small and large windows. What exceeds their scatter is motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from physrestore.burst.agreement import TOLERANCE, weight_of
from physrestore.burst.frames import LinearFrame
from physrestore.burst.interpolation import look_up
from physrestore.burst.motion import Motion

# Displacement [sites] that no difference is held against.
PLACE_ERROR = 0.1
# The guide's expected error is calibrated for all pixels together; where it errs, its neighbours do, too, and by more.
GUIDE_ERRORS = 1.5
# Cells along the windows: the small one for sharp ghosts, the large one for faint ones.
WINDOWS = (3, 7)
# Rows of a frame worked on at once: places are 16 bytes a site.
BAND = 256


@dataclass(frozen=True, eq=False)
class Guide:
    """A clean picture of the reference.

    Attributes:
        light: (3, H, W), linear.
        error: Std that it is expected to be wrong by, (3, H, W); NaN: unknown.
    """

    light: Tensor
    error: Tensor


def shown(guide: Guide, frame: LinearFrame, motion: Motion, *, side: int, frames: int) -> Tensor:
    """Weight of a frame at every cell of the reference, (h, w), 0..1; 0 where it has no site, 1 where all are clipped.

    Args:
        guide: Of the reference.
        frame: In its exposure.
        motion: From the reference to the frame.
        side: Sites along a cell.
        frames: N, the reference included.
    """
    shape = tuple(size // side for size in guide.light.shape[-2:])
    sums = torch.zeros(3, shape[0] * shape[1])
    for start in range(0, frame.values.shape[0], BAND):
        ratio, known, row, column = _compared(guide, frame, motion, slice(start, start + BAND))
        down, right = (row / side).long(), (column / side).long()
        inside = (row >= 0) & (column >= 0) & (down < shape[0]) & (right < shape[1])
        cell, known = (down * shape[1] + right)[inside], known[inside].float()
        sums[0].index_add_(0, cell, torch.where(known > 0, ratio[inside], 0.0))
        sums[1].index_add_(0, cell, known)
        sums[2].index_add_(0, cell, torch.ones_like(known))
    total, count, covered = sums.reshape(3, *shape)
    worst = torch.zeros(shape)
    for window in WINDOWS:
        ratios, sites = (_window_sum(plane, window) for plane in (total, count))
        # A squared Gaussian scatters by sqrt(2).
        bar = 1.0 + TOLERANCE * (2.0 / sites.clamp(min=1.0)).sqrt()
        worst = torch.maximum(worst, torch.where(sites > 0, ratios / sites.clamp(min=1.0) - bar, 0.0))
    harm = F.max_pool2d(worst[None, None], 3, stride=1, padding=1)[0, 0]
    return torch.where(covered > 0, weight_of(harm, frames=frames), 0.0)


def _compared(guide: Guide, frame: LinearFrame, motion: Motion, rows: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Squared difference over what explains it, where it is known, and where each site lies; all (m,)."""
    values, colour = frame.values[rows].flatten(), frame.colour_index()[rows].flatten()
    height, width = guide.light.shape[-2:]
    last = min(rows.stop, frame.values.shape[0])
    row, column = torch.meshgrid(
        torch.arange(rows.start, last, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij"
    )
    row, column = (place.flatten() for place in motion.to_reference(row, column))
    seen = look_up(guide.light, colour, row, column)
    near = (row.round().long().clamp(0, height - 1), column.round().long().clamp(0, width - 1))
    error = guide.error[(colour, *near)]
    slopes = [
        look_up(guide.light, colour, row + down, column + right) - seen for down, right in ((0.5, 0.0), (0.0, 0.5))
    ]
    displaced = (2 * PLACE_ERROR) ** 2 * (slopes[0].square() + slopes[1].square())
    noise = frame.gain[colour] * seen.clamp(min=0.0) + frame.dark_variance[colour]
    ratio = (values - seen).square() / (noise + (GUIDE_ERRORS * error).square() + displaced)
    known = ~(frame.clipped | frame.defective)[rows].flatten() & ratio.isfinite()
    return ratio, known, row, column


def _window_sum(plane: Tensor, window: int) -> Tensor:
    padded = F.pad(plane[None, None], (window // 2,) * 4)
    return F.avg_pool2d(padded, window, stride=1)[0, 0] * window**2
