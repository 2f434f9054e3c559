"""How far each frame shows what the reference shows, judged by the noise: weights that leave out what has moved.

Two frames of one scene differ by their noise and by a little where the picture is steep. The squared difference over
that expectation is averaged over small and large windows; what exceeds its own scatter is motion, and gives the
squared error B^2 that the frame would bring in. If all N - 1 other frames erred like this one, the error of their mean
with the reference would be smallest at the weight ``1 / (1 + (N - 1) B^2 / sigma^2)``: that is the weight, less a
quarter: what weighs less than that is left out.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from physrestore.burst.cells import Cells
from physrestore.burst.motion import Motion
from physrestore.burst.smoothing import NOISE_KEPT, SMOOTH, gradient, smooth
from physrestore.burst.warping import grid, sample

# Cells: alignment, aliasing and interpolation are trusted to this; a difference that such a shift explains is none.
PLACE_ERROR = 0.15
# Detail finer than the smoothing is undersampled by cells; this share of its power may differ between frames.
UNDERSAMPLED = 0.25
# White noise in a plane less its smoothed self.
DETAIL_NOISE = 1.0 - 2.0 * max(SMOOTH) ** 2 + NOISE_KEPT
# Cells along the windows: the small one for sharp ghosts, the large one for faint ones.
WINDOWS = (5, 15)
# Standard errors of a window's mean that noise alone may reach.
TOLERANCE = 3.0
# A weight below this is none, those above rise from there: where the reference did not measure a colour, another frame
# decides over the prior however little it weighs.
NO_WEIGHT = 0.25
# A frame whose mean weight is below this shows another scene, or could not be aligned.
LEAST_AGREEMENT = 0.1


def agreement(reference: Cells, frame: Cells, motion: Motion, *, frames: int) -> Tensor:
    """Weight of a frame at every cell of the reference.

    Args:
        reference: Cells of the reference.
        frame: Cells of the frame.
        motion: From the reference to the frame.
        frames: N, the reference included.

    Returns:
        (h, w), 0..1; 0 outside the frame, and 1 where one of both is clipped, which says nothing about motion.
    """
    template = smooth(reference.colours)
    side = reference.side
    row, column = grid(*template.shape[-2:])
    middle = (side - 1) / 2
    site_row, site_column = motion.to_frame(side * row + middle, side * column + middle)
    planes = torch.cat([smooth(frame.colours), frame.variance, frame.good[None].float()])
    moved, inside = sample(planes, (site_row - middle) / side, (site_column - middle) / side)
    noise = NOISE_KEPT * (reference.variance + moved[3:6])
    slopes = torch.stack([torch.stack(gradient(plane)).square().sum(0) for plane in template])
    tolerated = noise + PLACE_ERROR**2 * slopes + UNDERSAMPLED * _detail(reference, template)
    ratio = (moved[:3] - template).square() / tolerated
    comparable = inside & reference.good & (moved[6] > 1 - 1e-3)
    excess = _excess(ratio.mean(0), comparable)
    # Back from smoothed differences of two frames to single sites of one.
    sites_per_colour = side**2 / len(template)
    harm = 2 * NOISE_KEPT / sites_per_colour * excess
    return torch.where(inside, weight_of(harm, frames=frames), 0.0)


def weight_of(harm: Tensor, *, frames: int) -> Tensor:
    """Weight of sites that bring in an error, 0..1.

    Args:
        harm: ``B^2 / sigma^2``: squared error over the variance of a site's noise.
        frames: N, the reference included.
    """
    weight = 1.0 / (1.0 + (frames - 1) * harm)
    return ((weight - NO_WEIGHT) / (1.0 - NO_WEIGHT)).clamp(min=0.0)


def _detail(reference: Cells, template: Tensor) -> Tensor:
    """Power of what smoothing removes, without the noise's, averaged over the small window, (3, h, w)."""
    power = (reference.colours - template).square() - DETAIL_NOISE * reference.variance
    reach = WINDOWS[0] // 2
    return F.avg_pool2d(power[None], WINDOWS[0], stride=1, padding=reach, count_include_pad=False)[0].clamp(min=0.0)


def _excess(ratio: Tensor, comparable: Tensor) -> Tensor:
    """By how much the mean over windows exceeds what noise explains; the most that any window near by shows."""
    worst = torch.zeros_like(ratio)
    for window in WINDOWS:
        reach = (window // 2,) * 4
        both = torch.stack([ratio * comparable, comparable.to(ratio)])[None]
        total, count = F.avg_pool2d(F.pad(both, reach), window, stride=1)[0]
        mean = torch.where(count > 0, total / count.clamp(min=1 / window**2), 1.0)
        # Fewer comparable cells scatter more.
        bar = 1.0 + TOLERANCE * _scatter(window) / count.clamp(min=1 / window**2).sqrt()
        worst = torch.maximum(worst, (mean - bar).clamp(min=0.0))
    return F.max_pool2d(worst[None, None], 3, stride=1, padding=1)[0, 0]


@cache
def _scatter(window: int) -> float:
    """Std of the mean over a window of squared, smoothed noise of variance 1, three colours."""
    taps = torch.tensor(SMOOTH)
    correlation = F.conv1d(F.pad(taps[None, None], (4, 4)), taps.flip(0)[None, None])[0, 0]
    correlation = correlation / correlation.max()
    lag = torch.arange(window)[:, None] - torch.arange(window)
    middle = len(correlation) // 2
    reach = (lag + middle).clamp(0, len(correlation) - 1)
    squared = torch.where((lag.abs() <= middle), correlation[reach].square(), 0.0)
    along = float(squared.mean())
    return float((2.0 / 3.0) ** 0.5 * along)
