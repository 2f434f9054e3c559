"""Split-Gibbs samples against the exact posterior of a Gaussian problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from physrestore.solvers.iterate import StopReason
from physrestore.solvers.solve import solve
from physrestore.solvers.split_gibbs import gaussian_data, noise_removal, split_gibbs
from tests.physrestore.quadratic_problem import N, QuadraticProblem, image, normal, problem

CHAINS = 2000
RHO = 0.5
STEPS = 25
ERRORS = 5.0  # standard errors
EYE = torch.eye(N, dtype=torch.float64)
P = problem()
BLURRED = torch.linalg.inv(torch.linalg.inv(P.precision) + RHO**2 * EYE)
COVARIANCE = torch.linalg.inv(P.hessian + BLURRED)
MEAN = (P.back[0] + BLURRED @ P.prior_mean) @ COVARIANCE


class Matrix:
    """The problem's matrix as an operator: data (B, 1, 12, 1), images (B, 1, 4, 4)."""

    def __init__(self, p: QuadraticProblem) -> None:
        self.p = p

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        return (x.flatten(1) @ self.p.matrix.T)[:, None, :, None]

    def A_adjoint(self, y: Tensor) -> Tensor:  # noqa: N802
        return image(y.flatten(1) @ self.p.matrix)

    def prox_weighted(self, z: Tensor, y: Tensor, weights: Tensor, gamma: float | Tensor) -> Tensor:
        w = weights.flatten()
        system = self.p.matrix.T @ (w[:, None] * self.p.matrix) + EYE / gamma
        return image(torch.linalg.solve(system, ((w * y.flatten(1)) @ self.p.matrix + z.flatten(1) / gamma).T).T)


def denoise(x: Tensor, level: Tensor) -> Tensor:
    """The Gaussian prior's posterior mean, at one level for all."""
    rho = float(level) ** -2
    return image((P.precision @ P.prior_mean + rho * x.flatten(1)) @ torch.linalg.inv(P.precision + rho * EYE))


def exact_prior(generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """The Gaussian prior's half in closed form."""
    covariance = torch.linalg.inv(P.precision + EYE / RHO**2)
    root = torch.linalg.cholesky(covariance)

    def draw(x: Tensor) -> Tensor:
        mean = (P.precision @ P.prior_mean + x.flatten(1) / RHO**2) @ covariance
        return image(mean + torch.randn(mean.shape, generator=generator, dtype=mean.dtype) @ root.T)

    return draw


def samples(seed: int = 0, *, prior: Callable[[torch.Generator], Any] = exact_prior, **changed: Any) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    y = P.y[:1].expand(CHAINS, -1)[:, None, :, None]
    settings: dict[str, Any] = {"weights": P.weights[None, None, :, None], "rho": RHO, **changed}
    data = gaussian_data(Matrix(P), y, generator=generator, **settings)
    x0 = image(P.prior_mean.expand(CHAINS, -1))
    return solve(split_gibbs(x0, draw_data=data, draw_prior=prior(generator), max_steps=STEPS)).x.flatten(1)


def moments_gap(x: Tensor) -> float:
    """Largest error of mean and covariance of independent samples, in standard errors."""
    n, spread = len(x), COVARIANCE.diag()
    of_mean = (x.mean(0) - MEAN).abs() / (spread / n).sqrt()
    error = ((spread[:, None] * spread + COVARIANCE.square()) / n).sqrt()
    return float(torch.cat([of_mean, ((torch.cov(x.T) - COVARIANCE).abs() / error).flatten()]).max())


def test_samples_have_mean_and_covariance_of_the_exact_posterior() -> None:
    assert moments_gap(samples()) < ERRORS


@pytest.mark.parametrize(
    "planted",
    [{"weights": 1.6 * P.weights[None, None, :, None]}, {"rho": 0.6 * RHO}],
    ids=["the data weigh too much", "the halves are split differently"],
)
def test_a_planted_error_shows_in_the_moments(planted: dict[str, Any]) -> None:
    assert moments_gap(samples(**planted)) > ERRORS


def test_data_that_are_not_redrawn_make_too_narrow_a_law() -> None:
    class Still(Matrix):
        """Solves for the measurement as it is."""

        def prox_weighted(self, z: Tensor, y: Tensor, weights: Tensor, gamma: float | Tensor) -> Tensor:
            return super().prox_weighted(z, P.y[:1].expand(len(z), -1)[:, None, :, None], weights, gamma)

    generator = torch.Generator().manual_seed(0)
    y = P.y[:1].expand(CHAINS, -1)[:, None, :, None]
    data = gaussian_data(Still(P), y, weights=P.weights[None, None, :, None], rho=RHO, generator=generator)
    start = image(P.prior_mean.expand(CHAINS, -1))
    x = solve(split_gibbs(start, draw_data=data, draw_prior=exact_prior(generator), max_steps=STEPS)).x

    assert moments_gap(x.flatten(1)) > ERRORS


def test_a_denoiser_draws_the_priors_half_ever_better() -> None:
    """The Gaussian prior's half, from its posterior mean alone: the covariance's error falls with the steps."""
    x = image(P.prior_mean + 0.3 * normal(1, N, seed=7)).expand(10_000, -1, -1, -1)
    exact = torch.linalg.inv(P.precision + EYE / RHO**2)
    mean = (P.precision @ P.prior_mean + x[0].flatten() / RHO**2) @ exact

    def gap(steps: int, last: float) -> tuple[float, float]:
        draw = noise_removal(denoise, rho=RHO, generator=torch.Generator().manual_seed(1), steps=steps, last=last)
        z = draw(x).flatten(1)
        of_mean = (z.mean(0) - mean).abs() / (exact.diag() / len(z)).sqrt()
        return float(of_mean.max()), float((torch.cov(z.T) - exact).norm() / exact.norm())

    coarse, fine = gap(4, 0.3), gap(200, 0.03)

    # The relative error of a covariance of 16 values from 10000 samples is sqrt(17 / 10000), 4 %.
    assert fine[0] < ERRORS
    assert fine[1] < 0.1
    assert coarse[1] > 2 * fine[1]


def test_the_whole_sampler_with_a_denoiser_is_near_the_posterior() -> None:
    def prior(generator: torch.Generator) -> Callable[[Tensor], Tensor]:
        return noise_removal(denoise, rho=RHO, generator=generator, steps=30, last=0.03)

    x = samples(prior=prior)

    assert float(((x.mean(0) - MEAN) / COVARIANCE.diag().sqrt()).abs().max()) < ERRORS / CHAINS**0.5
    assert float((torch.cov(x.T) - COVARIANCE).norm() / COVARIANCE.norm()) < 0.15


def test_unmeasured_values_are_left_to_the_prior_and_inputs_as_they_were() -> None:
    weights = P.weights.where(torch.arange(12) < 6, 0.0)[None, None, :, None]
    y = P.y[:1][:, None, :, None].clone()
    wild = y.where(weights > 0, 1e3)
    runs = []
    for data in (y, wild):
        before = data.clone()
        draw = gaussian_data(Matrix(P), data, weights=weights, rho=RHO, generator=torch.Generator().manual_seed(3))
        runs.append(draw(image(P.prior_mean[None])))
        assert torch.equal(data, before)

    torch.testing.assert_close(*runs)


def test_the_same_generator_gives_the_same_samples_and_the_chain_ends_for_its_reason() -> None:
    assert torch.equal(samples(1), samples(1))
    assert not torch.equal(samples(1), samples(2))
    still = split_gibbs(image(P.prior_mean[None]), draw_data=lambda z: z, draw_prior=lambda x: x, max_steps=2)
    assert solve(still).reason is StopReason.MAX_STEPS


@pytest.mark.parametrize(("steps", "last"), [(1, 0.1), (5, 0.0), (5, 1.0)])
def test_impossible_settings(steps: int, last: float) -> None:
    with pytest.raises(ValueError, match="at least 2 steps and a last level between 0 and 1"):
        noise_removal(denoise, rho=RHO, generator=torch.Generator(), steps=steps, last=last)
