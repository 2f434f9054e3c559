"""Which strength predicts photosites best that it was not shown."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from physrestore.solvers.choice import Choice, Predict, choose

# Share of the photosites that is held out: enough to score (5000 of a 400x400 crop), few enough not to be missed.
SHARE = 0.03


def choose_by_held_out(
    y: Tensor,
    *,
    restore: Predict,
    variance: Tensor,
    measured: Tensor,
    candidates: Sequence[float],
    period: tuple[int, int],
    generator: torch.Generator,
    share: float = SHARE,
) -> Choice:
    """Hide some photosites, restore without them, and score who predicts them.

    Unbiased for every solver and prior, without derivatives: the noise of a hidden site is independent of everything
    that was used. It judges values that were not measured: an interpolated colour, not a measured one. What is hidden
    is replaced by the mean of its neighbours, so that no restoration can see it.

    Args:
        y: Data, (B, C, H, W).
        restore: The solver.
        variance: Of the noise of ``y``, same shape.
        measured: Sites that count, bool, same shape.
        candidates: Strengths to try.
        period: Rows and columns to the next site of the same colour: that of the colour filter array.
        generator: Draws the sites, on the CPU.
        share: Of the sites to hide.

    Raises:
        ValueError: no candidate, or no site was hidden.
    """
    hidden = measured & (torch.rand(y.shape, generator=generator) < share).to(y.device)
    if not bool(hidden.any()):
        raise ValueError(f"A share of {share:g} hides none of {int(measured.sum())} measured sites: use a larger one.")
    kept = measured & ~hidden
    visible = torch.where(hidden, _neighbours(y, kept, period), y)
    # The hidden noise itself adds 1 to the whitened square.
    scores = [
        ((restore(visible, kept, strength) - y).square() / variance)[hidden].double() - 1 for strength in candidates
    ]
    return choose(scores, candidates, method=f"{int(hidden.sum())} held-out photosites")


def _neighbours(y: Tensor, kept: Tensor, period: tuple[int, int]) -> Tensor:
    """Mean of the kept ones among the eight nearest sites of the same colour; of the whole channel if there is none."""
    ones = torch.ones(y.shape[1], 1, 3, 3, dtype=y.dtype, device=y.device)

    def total(x: Tensor) -> Tensor:
        return F.conv2d(x, ones, padding=period, dilation=period, groups=y.shape[1])

    weight = kept.to(y)
    count = total(weight)
    everywhere = (weight * y).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True)
    return torch.where(count > 0, total(weight * y) / count.clamp(min=1.0), everywhere)
