"""Laws of the data terms: gradient, prox for every operator, likelihood, and their life inside deepinv."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.likelihood import CodeLikelihood
from physrestore.deepinv_host import load_deepinv
from physrestore.fidelity.exact import ExactPoissonGaussian
from physrestore.fidelity.poisson import ShiftedPoisson
from physrestore.fidelity.robust import Huber, StudentT
from physrestore.fidelity.rows import RowNoiseL2
from physrestore.fidelity.weighted import WeightedL2
from physrestore.noise import CalibratedNoise
from physrestore.operators.adapt import Adapted, as_operator
from physrestore.operators.base import LinearOperator
from physrestore.operators.blur import Blur
from physrestore.operators.conjugate_gradient import InexactSolution
from physrestore.operators.exposure import Exposure
from physrestore.operators.mosaic import Mosaic, PackedMosaic
from tests.laws import operator_laws as laws
from tests.laws.operator_table import random, skew_kernel, uniform
from tests.moments import assert_moments

dinv: Any = load_deepinv()
RGGB = Cfa.parse("RGGB")
SHAPE = (2, 3, 6, 8)


def weights_for(y: Tensor) -> Tensor:
    return 100.0 ** uniform(tuple(y.shape), 3, y.dtype)


TERMS: dict[str, Callable[[Tensor], Any]] = {
    "weighted": lambda y: WeightedL2(weights_for(y)),
    "clipped": lambda y: WeightedL2(weights_for(y), clipped=uniform(tuple(y.shape), 4) < 0.3),
    "huber": lambda y: Huber(weights_for(y)),
    "student": lambda y: StudentT(weights_for(y), degrees=4.0),
    "poisson": lambda y: ShiftedPoisson(0.02, 0.05),
    "exact": lambda y: ExactPoissonGaussian(0.05, 0.04, step=0.01, low=-0.1, high=1.2),
    "rows": lambda y: RowNoiseL2(weights_for(y), 0.2 + 0.1 * uniform((1, 1, 1, y.shape[3]), 5)),
}
OPERATORS: dict[str, Callable[[], Any]] = {
    "mosaic": lambda: Mosaic(RGGB),
    "packed": lambda: PackedMosaic(RGGB),
    "blur": lambda: Blur(skew_kernel(), boundary="reflect"),
    "mosaic-of-blur": lambda: Mosaic(RGGB) * Blur(skew_kernel()),
    "stock-blur": lambda: dinv.physics.Blur(skew_kernel()[None, None], padding="circular"),
}
every_term = pytest.mark.parametrize("term", TERMS)
every_operator = pytest.mark.parametrize("operator", OPERATORS)


def problem(operator: Any, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """z, and a measurement with noise, a twentieth of it far off."""
    truth = uniform(SHAPE, 1, dtype)
    y = operator.A(truth)
    far = 0.8 * (uniform(tuple(y.shape), 6, dtype) < 0.05)
    return truth + 0.2 * random(SHAPE, 2, dtype), y + 0.1 * random(tuple(y.shape), 7, dtype) + far


def prox_residual(term: Any, operator: Any, z: Tensor, y: Tensor, gamma: float) -> float:
    x = term.prox(z, y, operator, gamma=gamma)
    pull = term.grad(x, y, operator)
    sizes = [part.flatten(1).norm(dim=1) for part in (pull, x / gamma, z / gamma)]
    return float(((pull + (x - z) / gamma).flatten(1).norm(dim=1) / sum(sizes)).max())


@every_term
@every_operator
def test_gradient_is_the_values(term: str, operator: str) -> None:
    physics = OPERATORS[operator]()
    x, y = problem(physics)
    fidelity = TERMS[term](y)
    x.requires_grad_()

    (expected,) = torch.autograd.grad(fidelity.fn(x, y, physics).sum(), x)

    assert fidelity(x, y, physics).shape == (2,)
    torch.testing.assert_close(fidelity.grad(x, y, physics), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(physics.A_adjoint(fidelity.grad_d(physics.A(x), y)), expected, rtol=1e-10, atol=1e-10)


@every_term
@every_operator
@pytest.mark.parametrize("gamma", [0.02, 1.0])
def test_prox_is_optimal(term: str, operator: str, gamma: float) -> None:
    physics = OPERATORS[operator]()
    z, y = problem(physics)

    assert prox_residual(TERMS[term](y), physics, z, y, gamma) < 1e-9


@every_term
def test_prox_is_optimal_in_single_precision(term: str) -> None:
    physics = Mosaic(RGGB) * Blur(skew_kernel())
    z, y = problem(physics, torch.float32)

    assert prox_residual(TERMS[term](y), physics, z, y, 0.3) < 5e-5


@every_term
def test_prox_in_the_measurements_space(term: str) -> None:
    z, y = problem(Exposure(1.0))
    fidelity = TERMS[term](y)

    x = fidelity.prox_d(z, y, gamma=0.3)

    torch.testing.assert_close(x + 0.3 * fidelity.grad_d(x, y), z, rtol=0, atol=1e-7)


# Student's t is not convex: its prox is not twice smooth enough. The exact likelihood is of whole codes.
@pytest.mark.parametrize("term", [name for name in TERMS if name not in {"student", "exact"}])
def test_prox_is_differentiable(term: str) -> None:
    physics = Mosaic(RGGB) * Blur(skew_kernel())
    y = physics.A(uniform((1, 3, 4, 4), 1)) + 0.1
    z = uniform((1, 3, 4, 4), 2)
    fidelity = TERMS[term](y)
    gamma = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(
        lambda z, y, gamma: fidelity.prox(z, y, physics, gamma=gamma),
        (z.requires_grad_(), y.requires_grad_(), gamma),
        fast_mode=True,
        atol=1e-4,
    )


def test_weighted_fidelity_on_blur_where_deepinvs_is_wrong() -> None:
    """``L2(sigma=map)`` hands the map to a prox that takes it for a step: far off for a blur."""
    kernel = torch.ones(1, 1, 3, 3, dtype=torch.float64) / 9
    stock = dinv.physics.Blur(kernel, padding="circular")
    shape = (1, 1, 8, 8)
    sigma = 0.1 + uniform(shape, 3)
    y, z = stock.A(uniform(shape, 1)) + sigma * random(shape, 4), uniform(shape, 2)
    matrix = laws.dense(Adapted(stock), shape)
    w = sigma.flatten() ** -2
    expected = torch.linalg.solve(
        matrix.T @ (w[:, None] * matrix) + torch.eye(64), matrix.T @ (w * y.flatten()) + z.flatten()
    )

    ours = [WeightedL2(sigma**-2).prox(z, y, physics) for physics in (stock, Blur(kernel))]
    theirs = dinv.optim.L2(sigma=sigma).prox(z, y, stock)

    for x in ours:
        assert float((x.flatten() - expected).abs().max()) < 1e-8
    assert float((theirs.flatten() - expected).abs().max()) > 0.05


def test_clipped_values_pull_upwards_only() -> None:
    y = torch.ones(1, 1, 1, 4)
    clipped = torch.tensor([[[[False, False, True, True]]]])
    z = torch.tensor([[[[0.5, 2.0, 0.5, 2.0]]]])

    x = WeightedL2(1.0, clipped=clipped).prox(z, y, Exposure(1.0))

    assert x.flatten().tolist() == pytest.approx([0.75, 1.5, 0.75, 2.0])


def test_row_precision_is_the_inverse_covariance() -> None:
    """Packed planes: the first two share their rows, the last two theirs."""
    own, row = 0.5 + uniform((1, 4, 2, 3), 1), 0.3 + uniform((1, 4, 2, 3), 2)
    term = RowNoiseL2(1.0 / own, row, row_groups=(0, 0, 1, 1))
    covariance = torch.diag(own.flatten())
    for planes in ((0, 1), (2, 3)):
        for line in range(2):
            member = torch.zeros(1, 4, 2, 3, dtype=torch.float64)
            member[:, list(planes), line] = row[:, list(planes), line]
            covariance += torch.outer(member.flatten(), member.flatten())
    r = random((1, 4, 2, 3), 3)

    expected = torch.linalg.solve(covariance, r.flatten())

    torch.testing.assert_close(term.apply_precision(r).flatten(), expected, rtol=0, atol=1e-12)
    assert float(term.distance(r, torch.zeros_like(r))) == pytest.approx(float(0.5 * r.flatten() @ expected))
    ignored = WeightedL2(1.0 / (own + row**2)).grad_d(r, torch.zeros_like(r)).flatten()
    assert float((ignored - expected).norm() / expected.norm()) > 0.1


def test_knowing_the_rows_removes_them() -> None:
    """Rows of one offset each, a prior that is sure of nothing but smoothness: the row term takes the offset out."""
    noise = CalibratedNoise(gain=1e-6, sigma=0.01, row=0.2)
    x = torch.linspace(0.2, 0.8, 64).expand(1, 1, 32, 64)
    y = noise(x, seed=1)
    gamma = 0.01

    knowing = RowNoiseL2.of_noise(noise, y.clamp(min=0.0)).prox(x + 0.05, y, Exposure(1.0), gamma=gamma)
    ignoring = WeightedL2(1.0 / 0.01**2).prox(x + 0.05, y, Exposure(1.0), gamma=gamma)

    assert (knowing - x).square().mean() < 0.1 * (ignoring - x).square().mean()


@pytest.mark.parametrize("mean", [0.02, 0.5])
def test_shifted_poisson_has_the_score_of_the_noise(mean: float) -> None:
    """At the true mean its slope averages zero with the variance 1 / (a x + b^2)."""
    gain, sigma = 0.01, 0.05
    noise = CalibratedNoise(gain=gain, sigma=sigma)
    x = torch.full((1, 1, 400, 500), mean, dtype=torch.float64)

    slope = ShiftedPoisson.of_noise(noise).slope(x, noise(x, seed=5))

    assert_moments(slope.numpy(), mean=0.0, variance=1.0 / (gain * mean + sigma**2), resolution=1e-3)


def test_shifted_poisson_against_the_exact_likelihood() -> None:
    """Its score, in sigmas, at codes up to three sigmas off: near the exact one, where a Gaussian's is far."""
    gain, noise_dn, mean_dn, black = 2.0, 4.0, 50.0, 512.0
    law = CodeLikelihood(gain=gain, noise_dn=noise_dn, black_level_dn=black, low=0, high=16383)
    std = math.sqrt(gain * mean_dn + noise_dn**2)
    y = (mean_dn + std * torch.arange(-3.0, 4.0, dtype=torch.float64)).round()

    def score(log_prob: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        mean = torch.full_like(y, mean_dn).requires_grad_()
        return torch.autograd.grad(-log_prob(y + black, mean).sum(), mean)[0] * std

    term = ShiftedPoisson(gain, math.sqrt(noise_dn**2 + 1 / 12))
    shifted = term.slope(torch.full_like(y, mean_dn)[None, None, None], y[None, None, None]).flatten() * std

    assert float((shifted - score(law.log_prob)).abs().max()) < 0.16
    assert float((score(law.gaussian_log_prob) - score(law.log_prob)).abs().max()) > 0.5


def test_shifted_poisson_goes_on_smoothly_below_zero() -> None:
    y = torch.tensor([[[[-0.2, 0.0, 0.3]]]], dtype=torch.float64)
    term = ShiftedPoisson(0.1, 0.2)
    for u in (torch.full_like(y, -1e-7), torch.full_like(y, 1e-7)):
        torch.testing.assert_close(term.slope(u, y), term.slope(torch.zeros_like(y), y), rtol=1e-4, atol=1e-4)
    for u in (-0.3, -0.01, 0.01, 0.7):
        point = torch.full_like(y, u).requires_grad_()
        (slope,) = torch.autograd.grad(term.penalty(point, y).sum(), point)
        torch.testing.assert_close(term.slope(point, y), slope)


def test_robust_terms_bound_an_outliers_pull() -> None:
    y, u = torch.zeros(1, 1, 1, 3), torch.tensor([[[[0.1, 10.0, 1000.0]]]])

    assert Huber(4.0).slope(u, y).flatten().tolist() == pytest.approx([0.4, 2 * 1.345, 2 * 1.345])
    assert float(StudentT(4.0, degrees=3.0).slope(u, y)[..., 2]) < 0.01
    assert float(WeightedL2(4.0).slope(u, y)[..., 2]) == 4000.0


# Near zero light the exact likelihood is too steep for any gradient step; of the other two, the shorter.
@pytest.mark.parametrize(
    ("term", "algorithm"),
    [(t, a) for t in TERMS for a in ("PGD", "HQS", "ADMM") if t != "exact"] + [("exact", "HQS")],
)
def test_deepinvs_solvers_take_them(term: str, algorithm: str) -> None:
    operator = Mosaic(RGGB)
    _, y = problem(operator)
    fidelity = TERMS[term](y)
    step = 0.005
    solver = getattr(dinv.optim, algorithm)(
        data_fidelity=fidelity, prior=dinv.optim.Tikhonov(), lambda_reg=20.0, stepsize=step, max_iter=100
    )

    x = solver(y, operator)

    if algorithm == "HQS":  # the end of one prox after the other, x being the prior's
        x = fidelity.prox(x, y, operator, gamma=step)
        balance = fidelity.grad(x, y, operator) + (x - x / (1 + 20.0 * step)) / step
    else:
        balance = fidelity.grad(x, y, operator) + 20.0 * x
    assert float(balance.norm() / (20.0 * x).norm()) < 5e-3  # Student's t is slow from so far away


@every_term
def test_pickling(term: str) -> None:
    operator = Mosaic(RGGB)
    x, y = problem(operator)
    fidelity = TERMS[term](y)

    again = pickle.loads(pickle.dumps(fidelity))

    assert torch.equal(again(x, y, operator), fidelity(x, y, operator))


def test_of_noise_takes_variance_and_rows() -> None:
    noise = CalibratedNoise(gain=0.01, sigma=0.02, row=0.03)
    mean = torch.full((1, 1, 2, 2), 0.5)

    assert float(WeightedL2.of_noise(noise, mean).weights[0, 0, 0, 0]) == pytest.approx(1 / (0.005 + 4e-4 + 9e-4))
    assert float(RowNoiseL2.of_noise(noise, mean).weights[0, 0, 0, 0]) == pytest.approx(1 / (0.005 + 4e-4))
    assert float(ShiftedPoisson.of_noise(noise).sigma) == pytest.approx((4e-4 + 9e-4) ** 0.5)


def test_adapted_physics_keeps_its_parts() -> None:
    stock = dinv.physics.Blur(
        skew_kernel()[None, None], padding="circular", noise_model=dinv.physics.GaussianNoise(0.1)
    )
    operator = as_operator(stock)
    x = random((1, 1, 9, 9), 1)

    assert isinstance(operator, LinearOperator)
    assert as_operator(operator) is operator
    assert torch.equal(operator.A(x), stock.A(x))
    assert operator.noise_model is stock.noise_model
    assert laws.adjoint_gap(operator, (1, 1, 9, 9), torch.float64) < 1e-12
    with pytest.raises(TypeError, match="Only a deepinv LinearPhysics can be adapted, not a ReLU"):
        as_operator(torch.nn.ReLU())


def test_errors_and_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    y = torch.ones(1, 1, 4, 4)
    one = Exposure(1.0)
    with pytest.raises(ValueError, match="weights must not be negative"):
        WeightedL2(-1.0)(y, y, one)
    with pytest.raises(ValueError, match="positive number of sigmas, not 0"):
        Huber(1.0, threshold=0.0)
    with pytest.raises(ValueError, match="positive degrees of freedom, not -1"):
        StudentT(1.0, degrees=-1.0)
    with pytest.raises(ValueError, match="sigma must be positive everywhere"):
        ShiftedPoisson(0.1, 0.0)(y, y, one)
    with pytest.raises(ValueError, match="are of 2 channels; y has 1"):
        RowNoiseL2(1.0, 0.1, row_groups=(0, 1))(y, y, one)
    with pytest.raises(ValueError, match="gamma must be positive"):
        Huber(1.0).prox(y, y, one, gamma=-1.0)
    monkeypatch.setattr("physrestore.fidelity.base.MAX_STEPS", 1)
    with pytest.warns(InexactSolution, match="The prox of Huber is not solved after 1 steps"):
        Huber(1.0).prox(5 * y, y, one)


def test_the_prox_law_sees_a_planted_error() -> None:
    class Halved(WeightedL2):
        def curvature(self, u: Tensor, y: Tensor) -> Tensor:
            return 0.5 * super().curvature(u, y)

        def slope(self, u: Tensor, y: Tensor) -> Tensor:
            return 0.5 * super().slope(u, y)

    physics = Mosaic(RGGB)
    z, y = problem(physics)
    wrong, right = Halved(weights_for(y)), WeightedL2(weights_for(y))

    x = wrong.prox(z, y, physics, gamma=1.0)

    assert float((right.grad(x, y, physics) + x - z).norm() / z.norm()) > 0.1
