"""Data terms, compositions, schedules and rules as objects: batches, memory, types and pickles, with planted errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore.fidelity.weighted import WeightedL2
from physrestore.operators.base import LinearOperator
from physrestore.operators.composition import Composition
from physrestore.operators.mosaic import Mosaic
from physrestore.solvers.iterate import Iterate
from physrestore.solvers.locked import NoiseLocked
from physrestore.solvers.schedule import Level, Schedule, noise_locked
from physrestore.solvers.stopping import MaxSteps, RelativeChange
from tests.laws import object_laws as laws
from tests.laws.operator_laws import dense
from tests.laws.operator_table import COMPOSED, Case, random, uniform
from tests.laws.test_fidelities import TERMS, every_term

ODD = (2, 3, 7, 9)
OPERATOR = Mosaic(Cfa.parse("GRBG"))


def inputs(seed: int = 0) -> tuple[Tensor, Tensor]:
    """A point and a measurement, one in twenty of its values far off."""
    x = uniform(ODD, 10 + seed)
    y = OPERATOR.A(uniform(ODD, 20 + seed))
    return x, y + 0.1 * random(tuple(y.shape), 30 + seed) + 0.8 * (uniform(tuple(y.shape), 40 + seed) < 0.05)


def calls(term: Any) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """What a data term can be asked."""
    return {
        "value": lambda x, y: term.fn(x, y, OPERATOR),
        "gradient": lambda x, y: term.grad(x, y, OPERATOR),
        "prox": lambda x, y: term.prox(x, y, OPERATOR, gamma=0.1),
    }


@every_term
@pytest.mark.parametrize("what", ["value", "gradient", "prox"])
def test_an_image_depends_on_itself_only(term: str, what: str) -> None:
    x, y = inputs()

    assert laws.mixing_gap(calls(TERMS[term](y[:1]))[what], (x, y), inputs(1)) < 1e-9


@every_term
@pytest.mark.parametrize("what", ["gradient", "prox"])
def test_inputs_are_left_alone_and_types_follow(term: str, what: str) -> None:
    x, y = inputs()
    call = calls(TERMS[term](y))[what]

    assert laws.is_left_alone(call, (x, y))
    assert laws.follows_type(call, (x, y), rtol=2e-3 if term == "exact" else 1e-3)


@pytest.mark.parametrize("case", COMPOSED, ids=lambda case: case.name)
def test_the_adjoint_of_a_product_is_the_product_of_adjoints_reversed(case: Case) -> None:
    both = case.make()
    assert isinstance(both, Composition)
    y = random(tuple(both.A(random(case.shape, 1)).shape), 2)

    assert torch.equal(both.A_adjoint(y), both.inner.A_adjoint(both.outer.A_adjoint(y)))


def test_the_matrix_of_a_product_is_the_product_of_matrices() -> None:
    shape = (1, 3, 4, 5)
    case = next(c for c in COMPOSED if c.name == "mosaic-of-blur")
    both = case.make()
    assert isinstance(both, Composition)

    product = dense(both.outer, shape) @ dense(both.inner, shape)

    torch.testing.assert_close(dense(both, shape), product, rtol=0, atol=1e-12)
    torch.testing.assert_close(dense_adjoint(both, shape), product.T, rtol=0, atol=1e-12)
    assert float((dense(both, shape) - dense(both.outer, shape)).norm()) > 0.1


def dense_adjoint(operator: LinearOperator, shape: tuple[int, ...]) -> Tensor:
    """The matrix of the adjoint, column by column."""
    like = operator.A(torch.zeros(shape, dtype=torch.float64))
    basis = torch.eye(like.numel(), dtype=torch.float64).reshape(-1, *like.shape)
    return torch.stack([operator.A_adjoint(e).flatten() for e in basis], dim=1)


def mean_of_both(x: Tensor, sigma: Tensor) -> Tensor:
    """A prior that shrinks."""
    return x / (1 + sigma.square())


SOLVER_OBJECTS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "schedule": (noise_locked(torch.tensor(0.02), steps=4), lambda s: [float(level.gamma) for level in s]),
    "level": (Level(torch.tensor(0.1), torch.tensor(2.0)), lambda level: level.gamma),
    "rule": (
        RelativeChange(1e-3) | MaxSteps(3),
        lambda rule: rule(None, Iterate(x=torch.ones(1, 1, 2, 2), step=2)),
    ),
    "noise-locked solver": (
        NoiseLocked(Mosaic(Cfa.parse("RGGB")), torch.ones_like, mean_of_both, OPERATOR.A_adjoint, 3, 0.08),
        lambda solver: solver.solve(inputs()[1], torch.ones_like(inputs()[1], dtype=torch.bool), 1.0)[0].x,
    ),
}


@pytest.mark.parametrize("name", SOLVER_OBJECTS)
def test_solver_objects_survive_pickling(name: str) -> None:
    thing, use = SOLVER_OBJECTS[name]

    assert laws.survives_pickling(thing, use)


class Mixing(WeightedL2):
    """Normalises its slope by the batch."""

    def slope(self, u: Tensor, y: Tensor) -> Tensor:
        return super().slope(u, y) / y.abs().mean()


class Writing(WeightedL2):
    """Works in the memory it is given."""

    def grad(self, x: Tensor, y: Tensor, physics: Any, **_: Any) -> Tensor:
        y -= physics.A(x)
        return -physics.A_adjoint(y)


class Widening(WeightedL2):
    """Answers in double precision whatever it is asked in."""

    def slope(self, u: Tensor, y: Tensor) -> Tensor:
        return super().slope(u, y).double()


class Forgetful(Schedule):
    """Loses its weight on the way."""

    def __reduce__(self) -> Any:
        return Schedule, (self.noise, self.factors)


def test_each_law_sees_its_planted_error() -> None:
    x, y = inputs()
    right = calls(WeightedL2(2.0))["gradient"]

    assert laws.mixing_gap(right, (x, y), inputs(1)) < 1e-12
    assert laws.mixing_gap(calls(Mixing(2.0))["gradient"], (x, y), inputs(1)) > 1e-3
    assert laws.is_left_alone(right, (x, y))
    assert not laws.is_left_alone(calls(Writing(2.0))["gradient"], (x.clone(), y.clone()))
    assert not laws.is_left_alone(lambda x, _: x[:, :1], (x.clone(), y))
    assert laws.follows_type(right, (x, y), rtol=1e-3)
    assert not laws.follows_type(calls(Widening(2.0))["gradient"], (x, y), rtol=1e-3)
    forgetful = Forgetful(torch.tensor(0.1), (2.0, 1.0), weight=0.5)
    assert not laws.survives_pickling(forgetful, lambda s: [float(level.gamma) for level in s])
