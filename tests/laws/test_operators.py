"""Laws that every operator keeps, and that a wrong one breaks."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch.autograd.gradcheck import GradcheckError

from physrestore.operators.base import LinearOperator
from physrestore.operators.exposure import Exposure
from tests.laws import operator_laws as laws
from tests.laws.operator_table import OPERATORS, Case, random, uniform

every_operator = pytest.mark.parametrize("case", OPERATORS, ids=lambda case: case.name)


@every_operator
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_adjoint(case: Case, dtype: torch.dtype, bound: float) -> None:
    operator = case.make()

    assert laws.adjoint_gap(operator, case.shape, dtype) < bound


@every_operator
def test_linear(case: Case) -> None:
    assert laws.linearity_gap(case.make(), case.shape) < 1e-13


@every_operator
def test_hand_adjoint_is_autograds(case: Case) -> None:
    assert laws.vjp_gap(case.make(), case.shape) < 1e-13


@every_operator
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
@pytest.mark.parametrize("gamma", [0.1, 3.0])
def test_prox_is_optimal(case: Case, gamma: float, dtype: torch.dtype, bound: float) -> None:
    operator = case.make()
    z, y, weights = laws.data(operator, case.shape, dtype)
    steps = torch.tensor([gamma, 3 * gamma], dtype=dtype)[: case.shape[0], None, None, None]

    assert laws.prox_residual(operator, z, y, None, gamma) < bound
    assert laws.prox_residual(operator, z, y, weights, gamma) < bound
    assert laws.prox_residual(operator, z, y, weights[:, :, :1, :1] + 0.5, steps) < bound


@every_operator
def test_prox_with_a_gamma_map_is_optimal(case: Case) -> None:
    operator = case.make()
    z, y, weights = laws.data(operator, case.shape, torch.float64)

    assert laws.prox_residual(operator, z, y, weights, 0.5 + uniform(tuple(z.shape), 12)) < 1e-10


@every_operator
def test_prox_l2_is_the_prox_without_weights(case: Case) -> None:
    operator = case.make()
    z, y, _ = laws.data(operator, case.shape, torch.float64)

    assert torch.equal(operator.prox_l2(z, y, 2.0), operator.prox_weighted(z, y, 1.0, 2.0))
    torch.testing.assert_close(operator.prox_l2(None, y, 2.0), operator.prox_l2(torch.zeros_like(z), y, 2.0))
    torch.testing.assert_close(operator.prox_l2(0.5, y, 2.0), operator.prox_l2(torch.full_like(z, 0.5), y, 2.0))


@pytest.mark.parametrize("case", [c for c in OPERATORS if c.closed], ids=lambda case: case.name)
def test_closed_forms_are_closed(case: Case) -> None:
    operator = case.make()
    z, y, weights = laws.data(operator, case.shape, torch.float64)

    exact = operator.prox_weighted(z, y, weights, 5.0, max_iter=0)  # conjugate gradients would warn

    assert laws.prox_residual(operator, z, y, weights, 5.0) < 1e-14
    assert torch.equal(exact, operator.prox_weighted(z, y, weights, 5.0))


@every_operator
def test_inputs_and_settings_stay_as_they_were(case: Case) -> None:
    operator = case.make()
    z, y, weights = laws.data(operator, case.shape, torch.float64)
    before = [t.clone() for t in (z, y, weights)]
    settings = (operator.solver, operator.max_iter, operator.tol)

    operator.A(z), operator.A_adjoint(y), operator.prox_weighted(z, y, weights, 2.0), operator.prox_l2(z, y, 2.0)

    assert all(torch.equal(a, b) for a, b in zip((z, y, weights), before, strict=True))
    assert (operator.solver, operator.max_iter, operator.tol) == settings


@every_operator
def test_images_of_a_batch_do_not_mix(case: Case) -> None:
    operator = case.make()
    x = random(case.shape, 13)
    other = torch.cat([x[:1], random(case.shape, 14)[1:]])

    torch.testing.assert_close(operator.A(x)[0], operator.A(other)[0], rtol=0, atol=1e-14)
    torch.testing.assert_close(operator.A_adjoint(operator.A(x))[0], operator.A_adjoint(operator.A(other))[0])


@every_operator
def test_pickling(case: Case) -> None:
    operator = case.make()
    again = pickle.loads(pickle.dumps(operator))
    x = random(case.shape, 15)

    assert torch.equal(again(x), operator(x))


def test_deepinvs_clone_is_independent() -> None:
    operator = Exposure(1.0)
    clone = operator.clone()
    clone.update(ratio=2.0)

    assert float(operator.ratio) == 1.0
    assert float(clone.ratio) == 2.0


@every_operator
def test_dtype_and_shape_follow(case: Case) -> None:
    operator = case.make()
    x = random(case.shape, 16, torch.float32)

    assert operator.A(x).dtype == operator.A_adjoint(operator.A(x)).dtype == torch.float32
    assert operator.A_adjoint(operator.A(x)).shape == x.shape
    torch.testing.assert_close(operator.A(x), operator.A(x.double()).float(), rtol=1e-4, atol=1e-5)


SMALL = {"mosaic-GRBG": 5, "packed-RGGB": 4, "blur-circular": 5, "blur-reflect": 5, "blur-unobserved": 6}
SMALL |= {"separable-reflect": 5, "down2-bicubic": 4, "exposure": 4, "warp-bicubic": 4, "shift-per-image": 4}
SMALL |= {"mosaic-of-blur": 5, "blur-of-exposure": 4, "burst-frame": 4}


@pytest.mark.parametrize("case", [c for c in OPERATORS if c.name in SMALL], ids=lambda case: case.name)
def test_gradients(case: Case) -> None:
    operator, side = case.make(), SMALL[case.name]
    shape = (*case.shape[:2], side, side)
    z, y, weights = (t.requires_grad_() for t in laws.data(operator, shape, torch.float64))
    gamma = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(operator.A, z, fast_mode=True)
    assert torch.autograd.gradcheck(operator.A_adjoint, y, fast_mode=True)
    assert torch.autograd.gradcheck(operator.prox_weighted, (z, y, weights + 0.1, gamma), fast_mode=True)


class Leaning(LinearOperator):
    """The identity, wrong in the one way that its name says."""

    def __init__(self, wrong: str) -> None:
        super().__init__()
        self.wrong = wrong

    def A(self, x: torch.Tensor, **_: object) -> torch.Tensor:  # noqa: N802
        return {"affine": x + 1.0, "shifted": x.roll(1, -1), "detached": x.detach() * 1.0}.get(self.wrong, x)

    def A_adjoint(self, y: torch.Tensor, **_: object) -> torch.Tensor:  # noqa: N802
        return y.roll(1, -1) if self.wrong == "shifted" else y

    def gram_diagonal(self, weights: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return weights.sqrt() if self.wrong == "gram" else weights


def test_each_law_sees_its_planted_error() -> None:
    shape = (2, 3, 13, 17)
    right = Leaning("nothing")
    z, y, weights = laws.data(right, shape, torch.float64)

    assert laws.adjoint_gap(Leaning("shifted"), shape, torch.float64) > 0.1
    assert laws.linearity_gap(Leaning("affine"), shape) > 0.1
    assert laws.vjp_gap(Leaning("shifted"), shape) > 0.1
    assert laws.vjp_gap(Leaning("detached"), shape) > 0.1
    assert laws.prox_residual(Leaning("gram"), z, y, weights, 2.0) > 0.01
    assert laws.adjoint_gap(right, shape, torch.float64) < 1e-12
    assert laws.prox_residual(right, z, y, weights, 2.0) < 1e-14


def test_gradcheck_sees_a_planted_error() -> None:
    x = random((1, 1, 3, 3), 1).requires_grad_()

    with pytest.raises(GradcheckError):
        torch.autograd.gradcheck(lambda x: x.detach() * x, x)
