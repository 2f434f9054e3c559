"""How steep a data term can get: what bounds the step of a gradient method."""

from __future__ import annotations

import torch
from torch import Tensor

from physrestore.solvers.iterate import Gradient

# Power iteration comes from below: its last relative change is this small, and the answer is raised by MARGIN.
TOLERANCE = 1e-3
MARGIN = 1.02
# Root mean square of the probe, in the units of the image: small against the image, large against rounding in float32.
PROBE = 0.01


def largest_curvature(
    gradient: Gradient, at: Tensor, *, generator: torch.Generator, tolerance: float = TOLERANCE, max_steps: int = 500
) -> Tensor:
    """Largest eigenvalue of the Hessian of f, per image, by power iteration on differences of its gradient.

    Exact differences for quadratic f; elsewhere the curvature near ``at``.

    Args:
        gradient: Of f.
        at: Where, (B, C, H, W).
        generator: Draws the first direction, on the CPU.
        tolerance: Relative change at which the iteration ends.
        max_steps: After which it gives up.

    Returns:
        (B, 1, 1, 1), raised by `MARGIN`; its inverse is a safe step.

    Raises:
        ValueError: the gradient does not change with the image, or ``max_steps`` were not enough.
    """
    base = gradient(at)
    probe = torch.randn(at.shape, generator=generator, dtype=at.dtype).to(at.device)
    largest = at.new_zeros(len(at), 1, 1, 1)
    for _ in range(max_steps):
        probe = PROBE * probe / _rms(probe)
        change = gradient(at + probe) - base
        before, largest = largest, _rms(change) / PROBE
        if not bool((largest > 0).all()):
            raise ValueError("The gradient does not change with the image: there is no curvature to measure.")
        if bool(((largest - before).abs() <= tolerance * largest).all()):
            return MARGIN * largest
        probe = change
    raise ValueError(
        f"The curvature was not found to {tolerance:g} in {max_steps} steps; the last value was "
        f"{float(largest.max()):.6g}. Allow more steps or a larger tolerance."
    )


def _rms(x: Tensor) -> Tensor:
    """Root mean square of each image, (B, 1, 1, 1)."""
    return x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
