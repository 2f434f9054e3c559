"""Regularisation by denoising: a gentle prior, mixed in by gradient steps."""

from __future__ import annotations

import torch
from torch import Tensor

from physrestore.solvers.iterate import Denoise, Gradient, Iterate, Iterates, StopReason


def red(
    x0: Tensor,
    *,
    gradient: Gradient,
    denoise: Denoise,
    noise_level: float | Tensor,
    curvature: float | Tensor,
    weight: float = 1.0,
    max_steps: int = 500,
) -> Iterates:
    """``x = x - step (grad f(x) + weight (x - D(x)) / noise_level^2)``.

    Fixed points are the zeros of that bracket. Where D is the posterior mean, ``(x - D(x)) / noise_level^2`` is the
    negative score of the image prior blurred by that noise (Tweedie), and weight 1 is Bayes' rule; where its Jacobian
    is symmetric with eigenvalues in 0..1, the iteration descends on a convex cost and converges.

    Args:
        x0: Start, (B, C, H, W).
        gradient: Of the negative log-likelihood f.
        denoise: The prior D.
        noise_level: Std for the prior.
        curvature: Bound on the Hessian of f: a number, per image (B, 1, 1, 1), or a map where it is diagonal.
        weight: Of the prior: 0 leaves the data alone.
        max_steps: After which it ends.

    Source:
        Romano, Elad & Milanfar, "The little engine that could", SIAM J. Imaging Sci. 10(4), 2017, section 4.2;
        Reehorst & Schniter, IEEE Trans. Comput. Imaging 5(1), 2019 (when the bracket is a gradient).
    """
    level = torch.as_tensor(noise_level, dtype=x0.dtype, device=x0.device)
    pull = weight / level.square()
    step_size = 1.0 / (curvature + pull)
    x = x0
    for step in range(max_steps):
        x = x - step_size * (gradient(x) + pull * (x - denoise(x, level)))
        yield Iterate(x=x, step=step, noise_level=level)
    return StopReason.MAX_STEPS
