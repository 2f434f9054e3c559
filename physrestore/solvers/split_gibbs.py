"""Samples of the posterior by turns: the data's half drawn exactly, the prior's half by its denoiser."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from physrestore.solvers.iterate import Denoise, Iterate, Iterates, StopReason
from physrestore.solvers.noise_level import Operator

# x -> a sample of what is left to know.
Draw = Callable[[Tensor], Tensor]


def split_gibbs(x0: Tensor, *, draw_data: Draw, draw_prior: Draw, max_steps: int = 500) -> Iterates:
    """Draw from ``exp(-f(x) - |x - z|^2 / (2 rho^2)) p(z)``, x and z by turns, each given the other.

    x has the posterior under the prior blurred by noise of std rho: the same law as `langevin` of that noise level has,
    but without a step to choose, and with far less memory from step to step where the data say much. The prior is left
    to `draw_prior`, so any conditional sampler will do.

    Args:
        x0: Start, (B, C, H, W). Several chains are several entries of the batch.
        draw_data: z -> x from ``exp(-f(x) - |x - z|^2 / (2 rho^2))``, e.g. `gaussian_data`.
        draw_prior: x -> z from ``p(z) exp(-|x - z|^2 / (2 rho^2))``, e.g. `noise_removal`, of the same rho.
        max_steps: After which it ends; the first are on the way from ``x0``
            (`physrestore.solvers.posterior.posterior_moments`).

    Source:
        M. Vono, N. Dobigeon, P. Chainais, "Split-and-augmented Gibbs sampler", IEEE Trans. Signal Process. 67(6), 2019,
        algorithm 1; F. Coeurdoux, N. Dobigeon, P. Chainais, "Plug-and-play split Gibbs sampler: embedding deep
        generative priors in Bayesian inference", IEEE Trans. Image Process. 33, 2024 (a denoiser as the prior's half).
    """
    x = x0
    for step in range(max_steps):
        z = draw_prior(x)
        x = draw_data(z)
        yield Iterate(x=x, step=step, z=z)
    return StopReason.MAX_STEPS


def gaussian_data(
    operator: Operator, y: Tensor, *, weights: Tensor, rho: float | Tensor, generator: torch.Generator
) -> Draw:
    """The data's half for Gaussian noise, exact: the minimum of a problem whose data and centre are both redrawn.

    Args:
        operator: Forward operator.
        y: Measurement.
        weights: Inverse variances, broadcasting to ``y``; zero where nothing was measured.
        rho: Std of the split, a number or broadcasting to the image.
        generator: Drawn on the CPU.

    Source:
        G. Papandreou, A. Yuille, "Gaussian sampling by local perturbations", NIPS 2010, section 2.
    """
    level = torch.as_tensor(rho, dtype=y.dtype, device=y.device)
    spread = torch.where(weights > 0, weights, torch.inf).rsqrt()

    def draw(z: Tensor) -> Tensor:
        moved_y = y + spread * _normal(y, generator)
        return operator.prox_weighted(z + level * _normal(z, generator), moved_y, weights, level.square())

    return draw


def noise_removal(
    denoise: Denoise, *, rho: float | Tensor, generator: torch.Generator, steps: int = 20, last: float = 0.1
) -> Draw:
    """The prior's half from a denoiser: the noise of std rho is taken out in steps, a little put back after each.

    Exact in the limit of many steps down to no noise, for a denoiser that is the posterior mean at every level. Every
    step of finite length leaves out a part of the posterior's own spread: variances are too small by up to about
    ``log(1 / last) / steps``, a ninth with the defaults.

    Args:
        denoise: The prior, good from rho down to ``last * rho``.
        rho: Std of the split.
        generator: Drawn on the CPU.
        steps: Calls of the prior.
        last: Lowest level as a share of rho; below it the prior's mean stands for a sample.

    Raises:
        ValueError: fewer than two steps, or a last level that is not below the first.

    Source:
        J. Ho, A. Jain, P. Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020, equation 7, for noise that
        is added and nothing scaled.
    """
    if steps < 2 or not 0 < last < 1:
        raise ValueError(f"Needed: at least 2 steps and a last level between 0 and 1 of rho, not {steps} and {last:g}.")
    ratio = last ** (1.0 / (steps - 1))

    def draw(x: Tensor) -> Tensor:
        z, level = x, torch.as_tensor(rho, dtype=x.dtype, device=x.device)
        for _ in range(steps - 1):
            clean = denoise(z, level)
            # The noise of the next level given that of this one and the clean picture: Gaussian.
            spread = ratio * level * (1.0 - ratio**2) ** 0.5
            z = clean + ratio**2 * (z - clean) + spread * _normal(z, generator)
            level = ratio * level
        return denoise(z, level)

    return draw


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
