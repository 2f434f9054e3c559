"""Symmetric positive definite systems by preconditioned conjugate gradients, batched, with an implicit gradient."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Linear = Callable[[Tensor], Tensor]

# Relative residual at which a solution counts as found: some roundings of the type away from what it can reach.
TOLERANCE = {torch.float32: 8e-7, torch.float64: 1e-11}
# A restart that does not halve the residual has met the floor that rounding sets, which rises with the condition of
# the system; up to this multiple of the tolerance it is taken as the solution that the dtype can hold.
LEAST_PROGRESS = 0.5
ROUNDING_FLOOR = 100.0


class InexactSolution(RuntimeWarning):
    """Conjugate gradients ended far from the solution: the result is the best iterate."""


@dataclass(frozen=True)
class CgResult:
    """What conjugate gradients found.

    Attributes:
        solution: (B, C, H, W).
        residual: ``|N x - b| / scale`` of every image, (B,), recomputed from the solution.
        iterations: Applications of N but those that only check.
        at_floor: Rounding, not the number of steps, kept the residual from the tolerance.
    """

    solution: Tensor
    residual: Tensor
    iterations: int
    at_floor: bool


def conjugate_gradient(
    normal: Linear,
    rhs: Tensor,
    *,
    precondition: Linear | None = None,
    scale: Tensor | None = None,
    tol: float,
    max_iter: int,
) -> CgResult:
    """Solve ``N x = b`` for every image of a batch on its own, from x = 0.

    The recursive residual drifts from the true one in single precision; where it claims success, the true one is
    computed, and the iteration restarts from there until that one agrees or no longer falls.

    Args:
        normal: N, symmetric positive semi-definite, (B, C, H, W) to the same.
        rhs: b, in the range of N.
        precondition: Approximate inverse of N, symmetric positive definite.
        scale: (B, 1, 1, 1), what the residual is compared with; None: the norm of ``rhs``.
        tol: Relative residual to reach.
        max_iter: Most applications of N.

    Source:
        Hestenes & Stiefel 1952; preconditioned as in Saad, Iterative Methods for Sparse Linear Systems, 2003,
        algorithm 9.1.
    """
    target = tol * (image_norm(rhs) if scale is None else scale)
    x, residual, iterations = torch.zeros_like(rhs), rhs, 0
    while iterations < max_iter and bool((image_norm(residual) > target).any()):
        step, used = _descend(normal, residual, precondition or _same, target, max_iter - iterations)
        before, candidate = image_norm(residual), x + step
        remaining = rhs - normal(candidate)
        better = image_norm(remaining) < before
        x, residual = torch.where(better, candidate, x), torch.where(better, remaining, residual)
        iterations += used
        stuck = (image_norm(residual) > LEAST_PROGRESS * before) | (image_norm(residual) <= target)
        if bool(stuck.all()):
            break
    relative = image_norm(residual) * tol / target.clamp(min=torch.finfo(rhs.dtype).tiny)
    short = bool((image_norm(residual) > target).any())
    return CgResult(x, relative.flatten(), iterations, at_floor=short and iterations < max_iter)


def solve(
    normal: Linear,
    rhs: Tensor,
    *,
    precondition: Linear | None = None,
    scale: Tensor | None = None,
    tol: float | None = None,
    max_iter: int,
) -> Tensor:
    """`conjugate_gradient` as a function one can differentiate once, whatever its number of iterations.

    The derivative is that of the exact solution: ``dx = N^-1 (db - dN x)``, one more solve in the backward pass. It
    reaches everything ``normal`` and ``rhs`` depend on.

    Args:
        normal: As there.
        rhs: As there.
        precondition: As there.
        scale: As there.
        tol: As there; None: `TOLERANCE` of the dtype.
        max_iter: As there.

    Returns:
        The solution, (B, C, H, W).

    Raises:
        ValueError: no tolerance is known for the dtype.

    Warns:
        InexactSolution: ``max_iter`` steps did not reach the tolerance, or rounding ended the descent at more than
            `ROUNDING_FLOOR` times the tolerance.
    """
    if tol is None:
        tol = TOLERANCE.get(rhs.dtype)
    if tol is None:
        raise ValueError(f"Conjugate gradients need float32 or float64, not {rhs.dtype}. Convert the images.")

    def run(b: Tensor, scale: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            found = conjugate_gradient(normal, b, precondition=precondition, scale=scale, tol=tol, max_iter=max_iter)
        worst = float(found.residual.max()) if found.residual.numel() else 0.0
        if not worst <= (ROUNDING_FLOOR * tol if found.at_floor else tol):
            warnings.warn(
                f"Conjugate gradients stopped after {found.iterations} steps at a relative residual of {worst:.1e}; "
                f"asked was {tol:.1e}. "
                + ("Use float64" if found.at_floor else f"Raise max_iter (now {max_iter}) or tol")
                + ", or a smaller gamma.",
                InexactSolution,
                stacklevel=4,
            )
        return found.solution

    solution = run(rhs.detach(), None if scale is None else scale.detach())
    if not torch.is_grad_enabled():
        return solution
    attached: Tensor = _Attach.apply(rhs - normal(solution), run)  # type: ignore[no-untyped-call]
    return solution + attached


class _Attach(torch.autograd.Function):
    """Zero, with the derivative of ``N^-1 r``: hangs the derivative of the equation on its solution."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor, run: Linear) -> Tensor:
        ctx.run = run
        return torch.zeros_like(residual)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.run(gradient), None


def _descend(normal: Linear, rhs: Tensor, precondition: Linear, target: Tensor, max_iter: int) -> tuple[Tensor, int]:
    """One run from zero until the recursive residual of every image meets its target."""
    x, residual = torch.zeros_like(rhs), rhs
    direction = preconditioned = precondition(residual)
    energy = _dot(residual, preconditioned)
    for k in range(1, max_iter + 1):
        image = normal(direction)
        # A finished image has nothing left to divide: it rests while the others go on.
        step = _ratio(energy, _dot(direction, image)) * (image_norm(residual) > target)
        x, residual = x + step * direction, residual - step * image
        if not bool((image_norm(residual) > target).any()):
            return x, k
        preconditioned = precondition(residual)
        previous, energy = energy, _dot(residual, preconditioned)
        direction = preconditioned + _ratio(energy, previous) * direction
    return x, max_iter


def _same(x: Tensor) -> Tensor:
    return x


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=(1, 2, 3), keepdim=True)


def image_norm(a: Tensor) -> Tensor:
    """Euclidean norm of every image of a batch, (B, 1, 1, 1)."""
    norm: Tensor = torch.linalg.vector_norm(a, dim=(1, 2, 3), keepdim=True)
    return norm


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / torch.where(b > 0, b, 1.0), 0.0)
