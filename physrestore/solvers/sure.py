"""Which strength leaves the smallest error at the measured sites, by Stein's unbiased risk estimate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from physrestore.solvers.choice import Choice, Predict, choose

# Size of the probing step, in units of the noise: local, yet larger than the rounding of float32.
PROBE = 0.1


def choose_by_sure(
    y: Tensor,
    *,
    restore: Predict,
    variance: Tensor,
    measured: Tensor,
    candidates: Sequence[float],
    generator: torch.Generator,
) -> Choice:
    """Score by residual plus twice the divergence, the latter from one random probe.

    It judges measured values only: a colour that was interpolated badly elsewhere goes unseen (see
    `physrestore.solvers.held_out.choose_by_held_out`).

    Args:
        y: Data, (B, C, H, W).
        restore: The solver, called twice per candidate.
        variance: Of the noise of ``y``, taken as known and Gaussian.
        measured: Sites that count, bool.
        candidates: Strengths to try.
        generator: Draws the probe, on the CPU.

    Raises:
        ValueError: no candidate.

    Source:
        Ramani, Blu & Unser, "Monte-Carlo SURE", IEEE TIP 17(9), 2008, eq. (14).
    """
    signs = (2 * torch.randint(0, 2, y.shape, generator=generator) - 1).to(y)
    std = variance.sqrt()
    scores = []
    for strength in candidates:
        seen, moved = (restore(v, measured, strength) for v in (y, y + PROBE * std * signs))
        slope = signs * (moved - seen) / (PROBE * std)
        scores.append((((y - seen) / std).square() - 1 + 2 * slope)[measured].double())
    return choose(scores, candidates, method=f"SURE at {int(measured.sum())} photosites")
