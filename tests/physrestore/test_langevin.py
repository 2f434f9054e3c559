"""Samples and approximate stds against the exact posterior of a Gaussian problem."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from physrestore.solvers.coverage import calibrate_std, coverage
from physrestore.solvers.iterate import Iterate, StopReason
from physrestore.solvers.langevin import langevin, stable_step
from physrestore.solvers.posterior import posterior_moments
from physrestore.solvers.solve import solve
from physrestore.solvers.uncertainty import tweedie_std
from tests.physrestore.quadratic_problem import N, QuadraticProblem, image, normal, problem

CHAINS = 400
LEVEL = 0.5  # of the prior: its blur is part of the exact answer below
ERRORS = 5.0  # standard errors
EYE = torch.eye(N, dtype=torch.float64)


def many(p: QuadraticProblem) -> QuadraticProblem:
    """The same data for every chain."""
    return QuadraticProblem(**{**vars(p), "y": p.y[:1].expand(CHAINS, -1)})


P = many(problem())
CURVATURE = float(torch.linalg.eigvalsh(P.hessian).max())
BLURRED = torch.linalg.inv(torch.linalg.inv(P.precision) + LEVEL**2 * EYE)
COVARIANCE = torch.linalg.inv(P.hessian + BLURRED)
MEAN = (P.back[0] + BLURRED @ P.prior_mean) @ COVARIANCE


def chain(seed: int = 0, **changed: Any) -> Iterator[Iterate]:
    parts = {"gradient": P.gradient, "denoise": P.denoise, "noise_level": LEVEL, "step": stable_step(CURVATURE, LEVEL)}
    x0 = image(MEAN + normal(CHAINS, N, seed=99) @ torch.linalg.cholesky(COVARIANCE).T)
    generator = torch.Generator().manual_seed(seed)
    return langevin(x0, generator=generator, **{**parts, "max_steps": 150, **changed})


def moments_gap(samples: Tensor) -> tuple[float, float]:
    """Largest error of mean and covariance of independent samples (n, N), in standard errors."""
    n = len(samples)
    of_mean = (samples.mean(0) - MEAN).abs() / (COVARIANCE.diag() / n).sqrt()
    spread = COVARIANCE.diag()
    error = ((spread[:, None] * spread + COVARIANCE.square()) / n).sqrt()
    of_covariance = (torch.cov(samples.T) - COVARIANCE).abs() / error
    return float(of_mean.max()), float(of_covariance.max())


def last(iterates: Iterator[Iterate]) -> Tensor:
    """The end of every chain: the chains are independent, so are these samples."""
    return solve(iterates).x.flatten(1)


def test_samples_have_mean_and_covariance_of_the_exact_posterior() -> None:
    assert max(moments_gap(last(chain()))) < ERRORS


def test_a_map_as_step_leaves_the_law() -> None:
    step = stable_step(CURVATURE, LEVEL) * torch.linspace(0.3, 1, N).double().reshape(1, 1, 4, 4)

    assert max(moments_gap(last(chain(step=step, max_steps=300)))) < ERRORS


@pytest.mark.parametrize(
    "planted",
    [
        {"gradient": lambda x: 1.6 * P.gradient(x)},  # data weighed wrongly
        {"noise_level": 1.6 * LEVEL},  # another prior
        {"denoise": lambda x, s: 2 * x - P.denoise(x, s), "max_steps": 20},  # the score's sign
    ],
)
def test_a_planted_error_shows_in_the_moments(planted: dict[str, Any]) -> None:
    assert max(moments_gap(last(chain(**planted)))) > ERRORS


def test_the_usual_noise_would_be_too_wide_where_the_posterior_is_narrow() -> None:
    """What the averaged noise is for: in the narrowest direction a plain Langevin step of this size misses by far."""
    step, generator = float(stable_step(CURVATURE, LEVEL)), torch.Generator().manual_seed(0)
    x = image(MEAN.expand(CHAINS, -1))
    for _ in range(150):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        score = (P.denoise(x, torch.tensor(LEVEL).double()) - x) / LEVEL**2 - P.gradient(x)
        x = x + step * score + (2 * step) ** 0.5 * noise
    variances, directions = torch.linalg.eigh(COVARIANCE)

    def ratio(samples: Tensor) -> float:
        return float(((samples - MEAN) @ directions[:, 0]).square().mean() / variances[0])

    error = (2 / CHAINS) ** 0.5
    assert abs(ratio(last(chain())) - 1) < ERRORS * error
    assert ratio(x.flatten(1)) - 1 > ERRORS * error


def test_the_same_generator_gives_the_same_samples_and_the_start_is_left_alone() -> None:
    x0 = image(MEAN.expand(CHAINS, -1).clone())
    start = x0.clone()
    parts: dict[str, Any] = {"gradient": P.gradient, "denoise": P.denoise, "noise_level": LEVEL, "step": 0.01}
    runs = [
        last(langevin(x0, **parts, generator=torch.Generator().manual_seed(seed), max_steps=5)) for seed in (1, 1, 2)
    ]

    assert torch.equal(x0, start)
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_gathered_moments_are_those_of_the_samples_used() -> None:
    used = torch.stack([i.x for i in chain(max_steps=60) if i.step >= 10 and i.step % 5 == 0])

    moments = posterior_moments(chain(max_steps=60), n_samples=10, burn_in=10, thin=5)

    assert moments.n_samples == len(used) == 10
    assert torch.allclose(moments.mean, used.mean(0))
    assert torch.allclose(moments.std, used.std(0))


def test_split_rhat_tells_a_long_chain_from_one_that_still_travels() -> None:
    settled = posterior_moments(chain(max_steps=900), n_samples=400, burn_in=100, thin=2)
    travelling = (Iterate(x=0.1 * normal(2, 1, 4, 4, seed=k) + k / 10, step=k) for k in range(40))

    assert float(settled.split_rhat.median()) < 1.05
    assert (posterior_moments(travelling, n_samples=40, burn_in=0).split_rhat > 1.2).all()


def test_the_std_of_one_long_chain_is_that_of_the_posterior() -> None:
    moments = posterior_moments(chain(max_steps=900), n_samples=400, burn_in=100, thin=2)
    exact = COVARIANCE.diag().sqrt().reshape(1, 1, 4, 4)

    # Chains are independent: their mean variance is exact but for the correlation inside a chain, which biases it low.
    ratio = moments.std.square().mean(0) / exact.square()
    assert ((ratio > 0.9) & (ratio < 1.03)).all()


def test_a_chain_that_is_too_short_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"ended after 10 of 20 samples.* = 30"):
        posterior_moments(chain(max_steps=20), n_samples=20, burn_in=10)


def test_the_chain_ends_for_its_reason() -> None:
    assert solve(chain(max_steps=3)).reason is StopReason.MAX_STEPS


def test_tweedies_std_is_exact_for_a_gaussian_prior() -> None:
    """Denoising: the posterior covariance is (Q + 1 / noise^2)^-1."""
    noise, batch = 0.5, 3000
    z = image(P.prior_mean + normal(batch, N, seed=1))
    exact = torch.linalg.inv(P.precision + EYE / noise**2).diag()

    std = tweedie_std(
        P.denoise, z, torch.tensor(noise).double(), generator=torch.Generator().manual_seed(0), window=1, probes=4
    )

    # One probe of one value is exact but for the other values' signs; their mean over the batch is within errors.
    seen = std.square().flatten(1)
    error = seen.std(0) / batch**0.5
    assert ((seen.mean(0) - exact).abs() < ERRORS * error + 0.01 * exact).all()
    assert ((seen.mean(0) - noise**2).abs() > 10 * error).any(), "the noise itself would pass"


def test_tweedies_std_follows_a_noise_map() -> None:
    z = normal(1, 1, 32, 32, seed=2)
    noise = torch.linspace(0.1, 0.5, 32).double().expand(1, 1, 32, 32)

    def shrink(x: Tensor, level: Tensor) -> Tensor:
        """The posterior mean for independent values of variance 1."""
        return x / (1 + level.square())

    std = tweedie_std(shrink, z, noise, generator=torch.Generator().manual_seed(0), window=1)

    assert torch.allclose(std, noise / (1 + noise.square()).sqrt())


@pytest.mark.parametrize(("probes", "window"), [(0, 9), (4, 8)])
def test_tweedies_std_refuses_impossible_settings(probes: int, window: int) -> None:
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="odd window"):
        tweedie_std(
            P.denoise, image(P.prior_mean), torch.tensor(0.5), generator=generator, probes=probes, window=window
        )


def test_posterior_stds_cover_the_truth_as_often_as_they_say() -> None:
    """Truth drawn from the prior, data from the truth: what the posterior says is right on the average."""
    n = 4000
    truth = P.prior_mean + normal(n, N, seed=20) @ torch.linalg.cholesky(torch.linalg.inv(BLURRED)).T
    y = truth @ P.matrix.T + normal(n, 12, seed=21) / P.weights.sqrt()
    mean = ((P.weights * y) @ P.matrix + BLURRED @ P.prior_mean) @ COVARIANCE
    std = COVARIANCE.diag().sqrt()

    inside = coverage(mean - truth, std)

    # Of 4000 independent images; their 16 values count as one, which can only make the error larger.
    error = (0.95 * 0.05 / n) ** 0.5
    assert abs(inside - 0.95) < ERRORS * error
    assert abs(coverage(mean - truth, 0.8 * std) - 0.95) > ERRORS * error


def test_calibration_finds_the_factor_and_checks_it_on_other_images() -> None:
    stds = [0.5 + normal(1, 3, 40, 40, seed=k).abs() for k in range(8)]
    errors = [2.0 * std * normal(1, 3, 40, 40, seed=100 + k) for k, std in enumerate(stds)]

    found = calibrate_std(errors, stds)

    # A 95 % quantile of 4800 values has a standard error of 1.6 %; eight of them are averaged.
    assert found.factor == pytest.approx(2.0, rel=ERRORS * 0.016 / 8**0.5)
    assert found.before < 0.75
    assert found.after == pytest.approx(0.95, abs=0.01)
    assert found.n_images == 8


def test_one_image_is_no_calibration() -> None:
    with pytest.raises(ValueError, match="at least two images"):
        calibrate_std([torch.ones(1)], [torch.ones(1)])
