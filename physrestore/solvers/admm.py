"""Alternating direction method of multipliers: data and prior agree at the end."""

from __future__ import annotations

import torch
from torch import Tensor

from physrestore.solvers.iterate import Denoise, Iterate, Iterates, Prox, Step, StopReason


def admm(
    x0: Tensor,
    *,
    prox_fidelity: Prox,
    denoise: Denoise,
    gamma: Step,
    noise_level: float | Tensor,
    max_steps: int = 200,
) -> Iterates:
    """``z = prox_{gamma f}(x - u); x = D(z + u); u = u + z - x``.

    Its fixed points are those of `pgd` with the same gamma and noise level, whatever the denoiser: ``x = D(x - gamma
    grad f(x))``. With D the prox of ``noise_level^2 g`` they minimise ``f + (noise_level^2 / gamma) g``.

    Args:
        x0: Start, (B, C, H, W).
        prox_fidelity: Of the negative log-likelihood f.
        denoise: The prior.
        gamma: Step: a number or a map. It changes the speed; with ``noise_level^2 / gamma`` kept and D a prox, not
            the solution.
        noise_level: Std for the prior.
        max_steps: After which it ends.

    Source:
        Venkatakrishnan, Bouman & Wohlberg, "Plug-and-play priors for model based reconstruction", GlobalSIP 2013.
    """
    level = torch.as_tensor(noise_level, dtype=x0.dtype, device=x0.device)
    x, u = x0, torch.zeros_like(x0)
    for step in range(max_steps):
        z = prox_fidelity(x - u, gamma)
        given = z + u
        x = denoise(given, level)
        u = given - x
        yield Iterate(x=x, step=step, z=given, noise_level=level)
    return StopReason.MAX_STEPS
