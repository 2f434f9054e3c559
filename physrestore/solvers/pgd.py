"""Proximal gradient descent, plain or accelerated (FISTA): for operators without a cheap prox."""

from __future__ import annotations

import torch
from torch import Tensor

from physrestore.solvers.iterate import Denoise, Gradient, Iterate, Iterates, Step, StopReason


def pgd(
    x0: Tensor,
    *,
    gradient: Gradient,
    denoise: Denoise,
    gamma: Step,
    noise_level: float | Tensor,
    accelerate: bool = False,
    max_steps: int = 500,
) -> Iterates:
    """``x = D(v - gamma grad f(v))`` with v the last estimate or, accelerated, a point beyond it.

    Fixed points: ``x = D(x - gamma grad f(x))``; with D the prox of ``noise_level^2 g`` the minimisers of
    ``f + (noise_level^2 / gamma) g``. Momentum begins anew, image by image, when it points against the last step
    (gradient restart): with a learned denoiser it could otherwise swing without end.

    Args:
        x0: Start, (B, C, H, W).
        gradient: Of the negative log-likelihood f.
        denoise: The prior.
        gamma: Step, at most one over the curvature of f (`physrestore.solvers.curvature.largest_curvature`); a map is
            a diagonal preconditioner P, for which ``P^(1/2) (grad^2 f) P^(1/2) <= 1``.
        noise_level: Std for the prior.
        accelerate: FISTA.
        max_steps: After which it ends.

    Source:
        Beck & Teboulle, SIAM J. Imaging Sci. 2(1), 2009, eqs. (4.1)-(4.3); O'Donoghue & Candes, "Adaptive restart for
        accelerated gradient schemes", Found. Comput. Math. 15, 2015, section 3.2.
    """
    level = torch.as_tensor(noise_level, dtype=x0.dtype, device=x0.device)
    x, v = x0, x0
    t = x0.new_ones(len(x0), 1, 1, 1)
    for step in range(max_steps):
        z = v - gamma * gradient(v)
        before, x = x, denoise(z, level)
        yield Iterate(x=x, step=step, z=z, noise_level=level)
        if not accelerate:
            v = x
            continue
        against = ((v - x) * (x - before)).sum(dim=(1, 2, 3), keepdim=True) > 0
        t = torch.where(against, 1.0, t)
        t_next = (1 + (1 + 4 * t.square()).sqrt()) / 2
        v = x + torch.where(against, 0.0, (t - 1) / t_next) * (x - before)
        t = t_next
    return StopReason.MAX_STEPS
