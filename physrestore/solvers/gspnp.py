"""Gradient-step plug-and-play: a prior with an explicit energy, a line search, and a guarantee."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from physrestore.solvers.iterate import Denoise, Iterate, Iterates, Prox, StopReason, Value

# x -> (energy of each image (B,), its gradient (B, C, H, W))
Potential = Callable[[Tensor], tuple[Tensor, Tensor]]
# Armijo constant, in (0, 1/2), and factor of a backtracking step.
SUFFICIENT = 0.1
SHRINK = 0.5
# Below this share of the first step an image counts as being at rest.
SMALLEST_STEP = 1e-9


@dataclass(frozen=True)
class GradientStep:
    """The energy ``1/2 |x - N(x)|^2`` of a network N; ``x - gradient`` is the denoiser that N was trained as.

    A network that was not trained in this form has the energy too, but its gradient step is no denoiser.
    """

    network: Denoise
    noise_level: Tensor

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy (B,) and gradient (B, C, H, W), both without a graph."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = 0.5 * (leaf - self.network(leaf, self.noise_level)).flatten(1).square().sum(1)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient


@dataclass(frozen=True)
class _Point:
    x: Tensor
    objective: Tensor
    gradient: Tensor


def gradient_step_pnp(
    x0: Tensor,
    *,
    fidelity: Value,
    prox_fidelity: Prox,
    potential: Potential,
    weight: float,
    gamma: float = 1.0,
    max_steps: int = 400,
) -> Iterates:
    """Minimise ``f + weight g``: ``x = prox_{tau f}(x - tau weight grad g(x))`` with tau found by backtracking.

    Guarantee, for convex f and any g with a Lipschitz gradient: the objective never rises, it falls by at least
    ``0.1 / tau |change|^2`` at every step, and limit points are stationary. The step is searched for each image of a
    batch on its own, so an image's result does not depend on its neighbours.

    Args:
        x0: Start, (B, C, H, W).
        fidelity: The negative log-likelihood f, (B,).
        prox_fidelity: Its prox; called with gamma of shape (B, 1, 1, 1).
        potential: The prior's energy g and its gradient.
        weight: Of the prior.
        gamma: First step; it only ever shrinks.
        max_steps: After which it ends. It ends before with ``NO_DESCENT`` when no image can be improved.

    Raises:
        ValueError: the objective of ``x0`` is not finite.

    Source:
        Hurault, Leclaire & Papadakis, "Gradient step denoiser for convergent plug-and-play", ICLR 2022, algorithm 1.
    """

    def at(x: Tensor) -> _Point:
        value, gradient = potential(x)
        return _Point(x, fidelity(x) + weight * value, gradient)

    point, tau = at(x0), x0.new_full((len(x0), 1, 1, 1), gamma)
    if not bool(torch.isfinite(point.objective).all()):
        raise ValueError(f"The objective of the start is not finite: {point.objective.tolist()}.")
    for step in range(max_steps):
        while True:
            trial = at(prox_fidelity(point.x - tau * weight * point.gradient, tau))
            fall = point.objective - trial.objective
            moved = (trial.x - point.x).square().sum(dim=(1, 2, 3))
            ok = fall >= SUFFICIENT / tau.flatten() * moved  # false for NaN
            at_rest = ~ok & (tau.flatten() <= SMALLEST_STEP * gamma)
            if bool((ok | at_rest).all()):
                break
            tau = torch.where(ok[:, None, None, None], tau, SHRINK * tau)
        if bool(at_rest.all()):
            return StopReason.NO_DESCENT
        keep = ok[:, None, None, None]
        point = _Point(
            torch.where(keep, trial.x, point.x),
            torch.where(ok, trial.objective, point.objective),
            torch.where(keep, trial.gradient, point.gradient),
        )
        yield Iterate(x=point.x, step=step, objective=point.objective)
    return StopReason.MAX_STEPS
