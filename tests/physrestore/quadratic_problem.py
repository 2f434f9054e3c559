"""A restoration whose every answer is known in closed form: quadratic data term, quadratic prior, small images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SIDE = 4
N = SIDE * SIDE


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass(frozen=True)
class QuadraticProblem:
    """``f = 1/2 (A x - y)^T W (A x - y)`` and ``g = 1/2 (x - m)^T Q (x - m)`` on images (B, 1, 4, 4), float64."""

    matrix: Tensor
    weights: Tensor
    precision: Tensor
    prior_mean: Tensor
    y: Tensor

    @property
    def hessian(self) -> Tensor:
        return self.matrix.T @ (self.weights[:, None] * self.matrix)

    @property
    def back(self) -> Tensor:
        """``A^T W y`` of every image, (B, n)."""
        return (self.weights * self.y) @ self.matrix

    def fidelity(self, x: Tensor) -> Tensor:
        return 0.5 * (self.weights * (x.flatten(1) @ self.matrix.T - self.y).square()).sum(1)

    def gradient(self, x: Tensor) -> Tensor:
        return image(x.flatten(1) @ self.hessian - self.back)

    def prox_fidelity(self, x: Tensor, gamma: float | Tensor) -> Tensor:
        """With gamma a number, per image (B, 1, 1, 1), or a map."""
        rho = 1 / vector(gamma, x)
        systems = self.hessian + torch.diag_embed(rho)
        return image(torch.linalg.solve(systems, self.back + rho * x.flatten(1)))

    def denoise(self, x: Tensor, noise_level: Tensor) -> Tensor:
        """The prox of ``noise_level^2 g``: the posterior mean of a Gaussian image under this noise."""
        rho = 1 / vector(noise_level, x).square()
        systems = self.precision + torch.diag_embed(rho)
        return image(torch.linalg.solve(systems, self.precision @ self.prior_mean + rho * x.flatten(1)))

    def potential(self, x: Tensor) -> tuple[Tensor, Tensor]:
        away = x.flatten(1) - self.prior_mean
        gradient = away @ self.precision
        return 0.5 * (away * gradient).sum(1), image(gradient)

    def minimiser(self, weight: float) -> Tensor:
        """Of ``f + weight g``, by a dense solve."""
        system = self.hessian + weight * self.precision
        return image(torch.linalg.solve(system, (self.back + weight * self.precision @ self.prior_mean).T).T)


def image(x: Tensor) -> Tensor:
    return x.reshape(-1, 1, SIDE, SIDE)


def vector(value: float | Tensor, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=like.dtype).expand_as(like).flatten(1)


def problem(batch: int = 2) -> QuadraticProblem:
    """Twelve measurements of sixteen values, variances over a factor of ten, a correlated prior."""
    factor = normal(N, N, seed=3)
    return QuadraticProblem(
        matrix=normal(12, N, seed=1) / 4,
        weights=1 + 9 * torch.linspace(0, 1, 12, dtype=torch.float64),
        precision=torch.eye(N, dtype=torch.float64) + factor @ factor.T / N,
        prior_mean=normal(N, seed=4),
        y=normal(batch, 12, seed=5),
    )
