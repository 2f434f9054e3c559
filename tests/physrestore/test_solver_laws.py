"""Every solver reaches the answer of a dense solve, and none does with a planted error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from physrestore.solvers.admm import admm
from physrestore.solvers.curvature import MARGIN, largest_curvature
from physrestore.solvers.gspnp import GradientStep, gradient_step_pnp
from physrestore.solvers.hqs import hqs
from physrestore.solvers.iterate import Iterates, StopReason
from physrestore.solvers.pgd import pgd
from physrestore.solvers.red import red
from physrestore.solvers.schedule import Level, Schedule
from physrestore.solvers.solve import SolverDiverged, solve
from physrestore.solvers.stopping import RelativeChange
from tests.physrestore.quadratic_problem import N, QuadraticProblem, image, normal, problem

WEIGHT = 0.7
TOLERANCE = 1e-8  # of the solution's largest error; the iterations stop at a relative change of 1e-13
# A line search reads values, which are flat at the minimum: it finds it to the square root of the precision only.
LINE_SEARCH_TOLERANCE = 1e-7
P = problem()
CURVATURE = float(torch.linalg.eigvalsh(P.hessian).max())
X0 = image(normal(2, N, seed=6))
REST = RelativeChange(1e-13)


def level(gamma: float | Tensor) -> Tensor:
    """The noise level at which a solver with this gamma minimises f + WEIGHT g."""
    return (WEIGHT * torch.as_tensor(gamma, dtype=torch.float64)).sqrt()


def gradient_step(x0: Tensor, p: QuadraticProblem = P, **changed: Any) -> Iterates:
    parts = {"fidelity": p.fidelity, "prox_fidelity": p.prox_fidelity, "potential": p.potential, "weight": WEIGHT}
    return gradient_step_pnp(x0, **{**parts, "gamma": 1.0, "max_steps": 5000, **changed})


def by_pgd(x0: Tensor, p: QuadraticProblem = P, **changed: Any) -> Iterates:
    gamma = changed.pop("gamma", 1 / CURVATURE)
    parts = {"gradient": p.gradient, "denoise": p.denoise, "gamma": gamma, "noise_level": level(gamma)}
    return pgd(x0, **{**parts, "max_steps": 5000, **changed})


def by_admm(x0: Tensor, p: QuadraticProblem = P, **changed: Any) -> Iterates:
    gamma = changed.pop("gamma", 0.3)
    parts = {"prox_fidelity": p.prox_fidelity, "denoise": p.denoise, "gamma": gamma, "noise_level": level(gamma)}
    return admm(x0, **{**parts, "max_steps": 5000, **changed})


def accelerated(x0: Tensor, p: QuadraticProblem = P, **changed: Any) -> Iterates:
    return by_pgd(x0, p, accelerate=True, **changed)


def by_hqs(x0: Tensor, p: QuadraticProblem = P) -> Iterates:
    schedule = [Level(level(gamma), torch.tensor(gamma, dtype=torch.float64)) for gamma in (1.0, 0.3, 0.1)]
    return hqs(x0, prox_fidelity=p.prox_fidelity, denoise=p.denoise, schedule=schedule)


def by_red(x0: Tensor, p: QuadraticProblem = P, **changed: Any) -> Iterates:
    parts = {"gradient": p.gradient, "denoise": p.denoise, "noise_level": 0.5, "curvature": CURVATURE, "weight": 0.8}
    return red(x0, **{**parts, "max_steps": 20000, **changed})


MINIMISERS = {"pgd": by_pgd, "fista": accelerated, "admm": by_admm, "gradient step": gradient_step}
ALL = {**MINIMISERS, "hqs": by_hqs, "red": by_red}


@pytest.mark.parametrize("name", MINIMISERS)
def test_the_minimiser_of_data_plus_prior(name: str) -> None:
    solution = solve(MINIMISERS[name](X0), stop=REST)

    assert solution.reason in {StopReason.CONVERGED, StopReason.NO_DESCENT}
    tolerance = LINE_SEARCH_TOLERANCE if name == "gradient step" else TOLERANCE
    assert (solution.x - P.minimiser(WEIGHT)).abs().max() < tolerance


@pytest.mark.parametrize("solver", [by_pgd, accelerated, by_admm])
def test_a_map_as_step_changes_the_way_but_not_the_end(solver: Callable[..., Iterates]) -> None:
    gamma = (0.3 + 0.7 * torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)).double()) / CURVATURE

    x = solve(solver(X0, gamma=gamma), stop=REST).x

    assert (x - P.minimiser(WEIGHT)).abs().max() < TOLERANCE


@pytest.mark.parametrize(
    "planted",
    [
        {"gradient": lambda x: -P.gradient(x)},  # wrong sign
        {"gamma": 2.5 / CURVATURE, "denoise": lambda x, _: x},  # beyond the stable step
        {"noise_level": level(1 / CURVATURE) * 1.1},  # another weight of the prior
        {"denoise": lambda x, s: P.denoise(x, s.square())},  # variance where a std belongs
    ],
)
def test_a_planted_error_misses_the_minimiser(planted: dict[str, Any]) -> None:
    try:
        x = solve(by_pgd(X0, **planted), stop=REST).x
    except SolverDiverged:
        return
    assert (x - P.minimiser(WEIGHT)).abs().max() > 1e-3


def test_acceleration_needs_fewer_steps_and_restarts() -> None:
    plain, fast = (solve(solver(X0), stop=REST).steps for solver in (by_pgd, accelerated))

    assert fast < plain / 2


def swirl(x: Tensor, noise_level: Tensor) -> Tensor:
    """A contraction that is no prox: its Jacobian is not symmetric."""
    rotation = torch.linalg.qr(normal(N, N, seed=9)).Q
    return image(0.8 * torch.tanh(x.flatten(1) @ rotation)) + 0.0 * noise_level


def test_admm_and_pgd_rest_at_the_same_point_for_any_denoiser_and_hqs_elsewhere() -> None:
    gamma = 0.5 / CURVATURE
    forward_backward = solve(by_pgd(X0, gamma=gamma, denoise=swirl), stop=REST).x
    split = solve(by_admm(X0, gamma=gamma, denoise=swirl), stop=REST).x
    constant = Schedule(torch.ones(()).double(), (1.0,) * 500, weight=1 / gamma)
    half = solve(hqs(X0, prox_fidelity=P.prox_fidelity, denoise=swirl, schedule=constant), stop=REST).x

    assert (forward_backward - split).abs().max() < TOLERANCE
    assert (forward_backward - swirl(forward_backward - gamma * P.gradient(forward_backward), X0)).abs().max() < 1e-10
    assert (half - split).abs().max() > 1e-3


def test_hqs_at_a_constant_level_minimises_prior_plus_moreau_envelope() -> None:
    gamma = 0.4
    constant = Schedule(torch.ones(()).double() * level(gamma), (1.0,) * 2000, weight=WEIGHT)
    # The envelope's Hessian is H (I + gamma H)^-1, and its gradient at 0 is minus (I + gamma H)^-1 A^T W y.
    shrunk = torch.linalg.inv(torch.eye(N).double() + gamma * P.hessian)
    system = shrunk @ P.hessian + WEIGHT * P.precision
    expected = torch.linalg.solve(system, (P.back @ shrunk + WEIGHT * P.precision @ P.prior_mean).T).T

    solution = solve(hqs(X0, prox_fidelity=P.prox_fidelity, denoise=P.denoise, schedule=constant), stop=REST)

    assert (solution.x - image(expected)).abs().max() < TOLERANCE
    assert (solution.x - P.minimiser(WEIGHT)).abs().max() > 1e-3


def test_red_is_bayes_rule_under_the_blurred_prior() -> None:
    variance, weight = 0.25, 0.8
    blurred = torch.linalg.inv(torch.linalg.inv(P.precision) + variance * torch.eye(N).double())
    system = P.hessian + weight * blurred
    expected = torch.linalg.solve(system, (P.back + weight * blurred @ P.prior_mean).T).T

    x = solve(by_red(X0), stop=REST).x

    assert (x - image(expected)).abs().max() < TOLERANCE
    assert (solve(by_red(X0, weight=0.9), stop=REST).x - image(expected)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_its_images_and_the_start_is_left_alone(name: str) -> None:
    start = X0.clone()
    first, second = problem(), problem()
    first, second = (QuadraticProblem(**{**vars(p), "y": p.y[k : k + 1]}) for k, p in enumerate((first, second)))

    def after_twenty(x0: Tensor, p: QuadraticProblem) -> Tensor:
        return [iterate.x for _, iterate in zip(range(20), ALL[name](x0, p), strict=False)][-1]

    together = after_twenty(X0, P)
    alone = torch.cat([after_twenty(X0[:1], first), after_twenty(X0[1:], second)])

    assert torch.equal(X0, start)
    assert torch.allclose(together, alone, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ALL)
def test_earlier_iterates_are_never_overwritten(name: str) -> None:
    kept = [(iterate.x, iterate.x.clone()) for _, iterate in zip(range(5), ALL[name](X0), strict=False)]

    assert all(torch.equal(x, copy) for x, copy in kept)


class Bumpy(torch.nn.Module):
    """A small network: its energy is not convex."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = torch.nn.Parameter(0.4 * normal(4, 1, 3, 3, seed=11))

    def forward(self, x: Tensor, noise_level: Tensor) -> Tensor:
        features = torch.nn.functional.conv2d(x, self.kernel, padding=1)
        return torch.nn.functional.conv_transpose2d(torch.sin(2 * features), self.kernel, padding=1) + noise_level


def test_the_objective_never_rises_even_where_it_is_not_convex_and_the_first_step_too_long() -> None:
    potential = GradientStep(Bumpy(), torch.tensor(0.1).double())
    start = P.fidelity(X0) + WEIGHT * potential(X0)[0]

    iterates = list(gradient_step(X0, potential=potential, gamma=100.0, max_steps=300))
    values = torch.stack([start, *(iterate.objective for iterate in iterates if iterate.objective is not None)])

    assert len(values) > 20
    assert (values[1:] <= values[:-1]).all()
    x = iterates[-1].x
    assert torch.allclose(values[-1], P.fidelity(x) + WEIGHT * potential(x)[0])
    steepness = (P.gradient(x) + WEIGHT * potential(x)[1]).norm()
    assert steepness < 1e-3 * (P.gradient(X0) + WEIGHT * potential(X0)[1]).norm()


def test_a_gradient_of_the_wrong_sign_is_refused_by_the_line_search() -> None:
    def wrong(x: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = P.potential(x)
        return value, -gradient

    solution = solve(gradient_step(X0, potential=wrong), stop=REST)

    assert solution.reason is StopReason.NO_DESCENT
    assert (solution.x - P.minimiser(WEIGHT)).abs().max() > 1e-3


def test_the_energy_of_a_network_has_the_gradient_it_says() -> None:
    potential = GradientStep(Bumpy(), torch.tensor(0.1).double())
    direction, h = normal(2, 1, 4, 4, seed=12), 1e-6
    slope = (potential(X0 + h * direction)[0] - potential(X0 - h * direction)[0]) / (2 * h)

    with torch.no_grad():  # as inside solve
        gradient = potential(X0)[1]

    assert not gradient.requires_grad
    assert torch.allclose((gradient * direction).flatten(1).sum(1), slope, rtol=1e-6)


def test_an_objective_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="objective of the start is not finite"):
        next(gradient_step(X0, fidelity=lambda x: P.fidelity(x) / 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_largest_curvature_bounds_the_hessian_closely(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)

    found = largest_curvature(lambda x: P.gradient(x.double()).to(dtype), X0.to(dtype), generator=generator)

    assert found.shape == (2, 1, 1, 1)
    assert ((found > CURVATURE) & (found < 1.002 * MARGIN * CURVATURE)).all()


def test_a_gradient_that_ignores_the_image_has_no_curvature() -> None:
    with pytest.raises(ValueError, match="no curvature"):
        largest_curvature(torch.ones_like, X0, generator=torch.Generator().manual_seed(0))


def test_a_curvature_that_takes_too_long_is_not_returned() -> None:
    with pytest.raises(ValueError, match=r"not found to 0\.001 in 2 steps"):
        largest_curvature(P.gradient, X0, generator=torch.Generator().manual_seed(0), max_steps=2)
