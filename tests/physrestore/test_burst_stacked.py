"""A stack of operators keeps the laws of its parts; normal equations say the same in fewer numbers."""

from __future__ import annotations

import pytest
import torch

from noise_models.cfa import XTRANS_ROWS, Cfa
from physrestore.burst.normal import NormalEquations, Sites
from physrestore.operators.base import LinearOperator
from physrestore.operators.blur import Blur
from physrestore.operators.crop import Crop
from physrestore.operators.exposure import Exposure
from physrestore.operators.mosaic import Mosaic
from physrestore.operators.stacked import Stacked
from physrestore.operators.warp import Translation, Warp
from tests.laws import operator_laws as laws
from tests.laws.operator_table import random, turn, uniform

RGGB, XTRANS = Cfa.parse("RGGB"), Cfa(XTRANS_ROWS)
SHAPE = (2, 3, 13, 17)


def burst(cfa: Cfa) -> Stacked:
    """Three frames of one scene; the reference first."""
    turned = [Warp(turn(degrees), interpolation="bicubic") for degrees in (2.0, -3.0)]
    return Stacked([Mosaic(cfa), *(Mosaic(cfa) * warp for warp in turned)])


def stacks() -> dict[str, Stacked]:
    pixel_shift = [Mosaic(RGGB) * Translation(torch.tensor([float(i), float(j)])) for i in (0, 1) for j in (0, 1)]
    return {
        "burst": burst(RGGB),
        "burst-xtrans": burst(XTRANS),
        "pixel-shift": Stacked(pixel_shift),
        "exposures": Stacked([Mosaic(RGGB) * Exposure(ratio) for ratio in (1.0, 0.25)]),
        "one": Stacked([Exposure(0.5)]),
    }


@pytest.mark.parametrize("name", stacks())
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_the_adjoint_is_the_sum_of_adjoints(name: str, dtype: torch.dtype, bound: float) -> None:
    assert laws.adjoint_gap(stacks()[name], SHAPE, dtype) < bound


@pytest.mark.parametrize("name", stacks())
def test_a_stack_is_linear_and_its_prox_optimal(name: str) -> None:
    operator = stacks()[name]
    z, y, weights = laws.data(operator, SHAPE, torch.float64)

    assert laws.linearity_gap(operator, SHAPE) < 1e-13
    assert laws.vjp_gap(operator, SHAPE) < 1e-13
    assert laws.prox_residual(operator, z, y, weights, 2.0) < 1e-10


def test_a_stack_of_diagonals_has_a_closed_form() -> None:
    operator = stacks()["pixel-shift"]
    z, y, weights = laws.data(operator, SHAPE, torch.float64)

    exact = operator.prox_weighted(z, y, weights, 5.0, max_iter=0)  # conjugate gradients would warn

    assert operator.gram_diagonal(weights, y) is not None
    assert torch.equal(exact, operator.prox_weighted(z, y, weights, 5.0))
    assert burst(RGGB).gram_diagonal(weights[:, :3], y[:, :3]) is None


class _Forgetful(Stacked):
    """Leaves the last part out of the adjoint."""

    def A_adjoint(self, y: torch.Tensor, **params: object) -> torch.Tensor:  # noqa: N802
        total = super().A_adjoint(y, **params)
        return total - self.parts[-1].A_adjoint(self.split(y)[-1])


def test_the_law_sees_a_part_that_is_left_out() -> None:
    wrong = _Forgetful(list(burst(RGGB).parts))

    assert laws.adjoint_gap(wrong, SHAPE, torch.float64) > 0.1


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one operator"):
        Stacked([])
    different: list[LinearOperator] = [Exposure(1.0), Crop((13, 17), top=0, left=0, height=4, width=4)]
    with pytest.raises(ValueError, match="must measure one shape"):
        Stacked(different).A(random(SHAPE, 1))
    with pytest.raises(ValueError, match="multiple of as many channels, not 3"):
        Stacked([Exposure(1.0), Exposure(1.0)]).A_adjoint(random(SHAPE, 1))
    with pytest.raises(ValueError, match="multiple of as many channels"):
        Stacked([Blur(torch.ones(1, 1)), Exposure(1.0)]).gram_diagonal(random((1, 1, 1, 1), 1).abs(), random(SHAPE, 2))


def normal_equations(cfa: Cfa, values: torch.Tensor, weights: torch.Tensor) -> NormalEquations:
    """Of the frames of `burst`, from the places where their sites look."""
    height, width = values.shape[-2:]
    found = NormalEquations((height, width))
    colour = torch.tensor([["RGB".index(c) for c in row] for row in cfa.rows])
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    index = colour[rows % len(cfa.rows), columns % len(cfa.rows[0])].flatten()
    for k, matrix in enumerate((torch.eye(3, dtype=torch.float64), turn(2.0), turn(-3.0))):
        u, v, depth = (matrix[i, 0] * columns + matrix[i, 1] * rows + matrix[i, 2] for i in range(3))
        sites = ((v / depth).flatten(), (u / depth).flatten(), index, values[k].flatten(), weights[k].flatten())
        found.add(Sites(*sites))
    return found


@pytest.mark.parametrize("cfa", [RGGB, XTRANS], ids=["bayer", "xtrans"])
def test_normal_equations_are_those_of_the_stack(cfa: Cfa) -> None:
    operator = burst(cfa)
    y = random((1, 3, 13, 17), 3, torch.float32)
    weights = uniform((1, 3, 13, 17), 4, torch.float32)
    x = random((1, 3, 13, 17), 5, torch.float32)

    found = normal_equations(cfa, y[0], weights[0])

    torch.testing.assert_close(found.apply(x), operator.A_adjoint(weights * operator.A(x)), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.right[None], operator.A_adjoint(weights * y), rtol=0, atol=1e-5)
    ones = operator.A_adjoint(weights * operator.A(torch.ones_like(x)))
    torch.testing.assert_close(found.density[None], ones, rtol=0, atol=1e-5)
    # and a frame that looks half a site aside is seen
    moved = normal_equations(cfa, y[0], weights[0])
    moved.add(Sites(*(torch.tensor([v]) for v in (5.5, 5.5)), torch.tensor([1]), torch.ones(1), torch.ones(1)))
    assert float((moved.apply(x) - found.apply(x)).abs().max()) > 0.01
