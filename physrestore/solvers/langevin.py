"""Samples of the posterior: Langevin dynamics with a denoiser as the prior's score."""

from __future__ import annotations

import torch
from torch import Tensor

from physrestore.solvers.iterate import Denoise, Gradient, Iterate, Iterates, Step, StopReason


def langevin(
    x0: Tensor,
    *,
    gradient: Gradient,
    denoise: Denoise,
    noise_level: float | Tensor,
    step: Step,
    generator: torch.Generator,
    max_steps: int = 2000,
) -> Iterates:
    """Draw from ``exp(-f(x)) p(x)``, with p the image prior blurred by noise of std ``noise_level``.

    The score of p is ``(D(x) - x) / noise_level^2`` (Tweedie; D the posterior mean). Each step's noise is the mean of
    two successive draws: unlike the usual Langevin step, which is too wide by a term of the order of the step, this
    one samples every Gaussian posterior without bias. What remains is the blur of the prior: choose ``noise_level``
    well below the detail that counts.

    Args:
        x0: Start, (B, C, H, W). Several chains are several entries of the batch.
        gradient: Of the negative log-likelihood f.
        denoise: The prior.
        noise_level: Std for the prior.
        step: At most `stable_step`; a map is a diagonal preconditioner and leaves the law as it is.
        generator: Of the noise; drawn on the CPU.
        max_steps: After which it ends. The first ones are on the way from ``x0``: see
            `physrestore.solvers.posterior.posterior_moments`.

    Source:
        Laumont et al., "Bayesian imaging using plug & play priors: when Langevin meets Tweedie", SIAM J. Imaging Sci.
        15(2), 2022 (the sampler); Leimkuhler & Matthews, "Rational construction of stochastic numerical methods for
        molecular sampling", Appl. Math. Res. Express 2013(1) (the averaged noise).
    """

    def draw() -> Tensor:
        return torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device)

    level = torch.as_tensor(noise_level, dtype=x0.dtype, device=x0.device)
    size = torch.as_tensor(step, dtype=x0.dtype, device=x0.device)
    x, noise = x0, draw()
    for k in range(max_steps):
        following = draw()
        drift = (denoise(x, level) - x) / level.square() - gradient(x)
        x = x + size * drift + (size / 2).sqrt() * (noise + following)
        noise = following
        yield Iterate(x=x, step=k, noise_level=level)
    return StopReason.MAX_STEPS


def stable_step(curvature: float | Tensor, noise_level: float | Tensor) -> Step:
    """The step for a data term of this curvature: half of what is still stable.

    Args:
        curvature: Bound on the Hessian of f: a number, per image, or a map where it is diagonal (inverse variances).
        noise_level: Std for the prior; a denoiser never curves more than ``1 / noise_level^2``.
    """
    return 1.0 / (curvature + 1.0 / noise_level**2)
