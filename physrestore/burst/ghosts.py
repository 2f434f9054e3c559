"""How far each frame shows what a clean picture of the reference shows, judged by single sites.

Where there is a clean picture of the reference, whose own error is known, it says more than cells do
(`physrestore.burst.agreement`), in what a ghost as small as a few cells of X-Trans is tolerated for detail. It is
compared with every site: squared differences over what the noise, that error and a little displacement explain,
averaged over small and large windows; and the mean of a window against that of the reference's own sites. What exceeds
their scatter is motion.
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
# Standard errors that the squared mean may reach: with three colours its tail is longer than a Gaussian's.
MEAN_TOLERANCE = 5.0
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


@dataclass(frozen=True, eq=False)
class Residuals:
    """What the sites of one frame differ by from the guide, summed over cells of the reference.

    Attributes:
        ratio: Squared differences over what explains them, (h, w).
        count: Sites that were compared, (h, w).
        covered: All sites, (h, w).
        signed: Differences over the variance that explains them, per colour, (3, h, w).
        precision: The inverses of that variance, (3, h, w).
    """

    ratio: Tensor
    count: Tensor
    covered: Tensor
    signed: Tensor
    precision: Tensor

    @classmethod
    def of(cls, guide: Guide, frame: LinearFrame, motion: Motion, *, side: int) -> Residuals:
        """Of one frame; ``side``: sites along a cell."""
        shape = tuple(size // side for size in guide.light.shape[-2:])
        area = shape[0] * shape[1]
        sums = torch.zeros(9, area)
        for start in range(0, frame.values.shape[0], BAND):
            rows = slice(start, start + BAND)
            difference, explained, known, row, column = _compared(guide, frame, motion, rows)
            down, right = (row / side).long(), (column / side).long()
            inside = (row >= 0) & (column >= 0) & (down < shape[0]) & (right < shape[1])
            cell = (down * shape[1] + right)[inside]
            sums[2].index_add_(0, cell, torch.ones(cell.shape))
            used = inside & known
            cell = (down * shape[1] + right)[used]
            difference, explained = difference[used], explained[used]
            sums[0].index_add_(0, cell, difference.square() / explained)
            sums[1].index_add_(0, cell, torch.ones(cell.shape))
            of_colour = frame.colour_index()[rows].flatten()[used] * area + cell
            sums[3:6].view(-1).index_add_(0, of_colour, difference / explained)
            sums[6:9].view(-1).index_add_(0, of_colour, 1.0 / explained)
        planes = sums.reshape(9, *shape)
        return cls(planes[0], planes[1], planes[2], planes[3:6], planes[6:9])


def shown(own: Residuals, theirs: Residuals, *, frames: int) -> Tensor:
    """Weight of a frame at every cell of the reference, (h, w), 0..1; 0 where it has no site, 1 where all are clipped.

    Args:
        own: Of the reference itself.
        theirs: Of the frame.
        frames: N, the reference included.
    """
    worst = torch.zeros_like(own.ratio)
    for window in WINDOWS:
        ratio, count = (_window_sum(plane, window) for plane in (theirs.ratio, theirs.count))
        sites = count.clamp(min=1.0)
        # A squared Gaussian scatters by sqrt(2).
        by_energy = ratio / sites - 1.0 - TOLERANCE * (2.0 / sites).sqrt()
        worst = torch.maximum(worst, torch.where(count > 0, by_energy, 0.0))
        worst = torch.maximum(worst, torch.where(count > 0, _by_mean(own, theirs, window) / sites, 0.0))
    harm = F.max_pool2d(worst[None, None], 3, stride=1, padding=1)[0, 0]
    return torch.where(theirs.covered > 0, weight_of(harm, frames=frames), 0.0)


def _by_mean(own: Residuals, theirs: Residuals, window: int) -> Tensor:
    """Squared difference of the frames' mean colours over a window, in variances of a site, beyond what noise explains.

    Both frames differ alike by what the guide has wrong: it cancels. So even ghosts fainter than its error are seen.
    """
    signed, precision, own_signed, own_precision = (
        torch.stack([_window_sum(plane, window) for plane in planes])
        for planes in (theirs.signed, theirs.precision, own.signed, own.precision)
    )
    both = (precision > 0) & (own_precision > 0)
    tiny = torch.finfo(precision.dtype).tiny
    difference = signed / precision.clamp(min=tiny) - own_signed / own_precision.clamp(min=tiny)
    expected = torch.where(both, 1.0 + precision / own_precision.clamp(min=tiny), 0.0)
    found = torch.where(both, precision * difference.square(), 0.0)
    return (found - expected).sum(0) - MEAN_TOLERANCE * (2.0 * expected.square().sum(0)).sqrt()


def _compared(guide: Guide, frame: LinearFrame, motion: Motion, rows: slice) -> tuple[Tensor, ...]:
    """Difference, the variance that explains it, where both are known, row and column of each site; all (m,)."""
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
    explained = noise + (GUIDE_ERRORS * error).square() + displaced
    known = ~(frame.clipped | frame.defective)[rows].flatten() & explained.isfinite()
    return values - seen, explained, known, row, column


def _window_sum(plane: Tensor, window: int) -> Tensor:
    padded = F.pad(plane[None, None], (window // 2,) * 4)
    return F.avg_pool2d(padded, window, stride=1)[0, 0] * window**2
