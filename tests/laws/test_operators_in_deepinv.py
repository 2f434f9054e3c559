"""Operators run inside deepinv, unchanged: physics, adjointness test, pseudo-inverse, and its solvers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from noise_models.cfa import XTRANS_ROWS, Cfa
from physrestore.deepinv_host import load_deepinv
from physrestore.demosaic import demosaic
from physrestore.noise import CalibratedNoise
from physrestore.operators.base import LinearOperator
from physrestore.operators.blur import Blur
from physrestore.operators.crop import Crop
from physrestore.operators.downsample import Downsample
from physrestore.operators.exposure import Exposure
from physrestore.operators.mosaic import Mosaic, PackedMosaic
from physrestore.operators.shading import Shading
from physrestore.operators.warp import Translation
from tests.laws import operator_laws as laws
from tests.laws.operator_table import ODD, OPERATORS, Case, random, shading_map, skew_kernel, uniform

dinv: Any = load_deepinv()


@pytest.mark.parametrize("case", OPERATORS, ids=lambda case: case.name)
def test_physics_and_adjointness_test(case: Case) -> None:
    operator = case.make()
    x = random(case.shape, 1)

    assert torch.equal(operator(x), operator.A(x))
    assert float(operator.adjointness_test(u=x, num_samples=case.shape[0])) < 1e-12


SHADE = shading_map(7, 9).where(uniform((1, 1, 7, 9), 8) > 0.2, 0.0)  # one site in five is dead

INVERTIBLE = {
    "mosaic": (Mosaic(Cfa(XTRANS_ROWS)), (1, 3, 7, 9)),
    "packed": (PackedMosaic(Cfa.parse("GBRG")), (1, 3, 6, 8)),
    "shading-of-mosaic": (Shading(SHADE) * Mosaic(Cfa.parse("GRBG")), (1, 3, 7, 9)),
    "crop": (Crop((7, 9), top=1, left=2, height=4, width=5), (1, 2, 7, 9)),
    "whole-shift": (Translation(torch.tensor([1.0, -2.0])), (1, 1, 7, 9)),
    "blur": (Blur.gaussian(0.5), (1, 2, 7, 9)),
    "blur-without-a-frequency": (Blur(torch.ones(1, 2) / 2), (1, 1, 6, 8)),
    "blur-reflect": (Blur.gaussian(0.4, boundary="reflect"), (1, 2, 7, 9)),
    "blur-unobserved": (Blur.gaussian(0.4, boundary="unobserved"), (1, 2, 9, 9)),
    "down": (Downsample(2), (1, 2, 8, 10)),
    "down-reflect": (Downsample(3, filter="area", boundary="reflect"), (1, 1, 9, 6)),
    "mosaic-of-blur": (Mosaic(Cfa.parse("RGGB")) * Blur.gaussian(0.4), (1, 3, 6, 8)),
}


@pytest.mark.parametrize("name", INVERTIBLE)
def test_pseudo_inverse_is_that_of_the_matrix(name: str) -> None:
    operator, shape = INVERTIBLE[name]
    y = random(tuple(operator.A(random(shape, 2)).shape), 3)  # not in the range where that is smaller

    expected = torch.linalg.pinv(laws.dense(operator, shape), rtol=1e-5) @ y.flatten()

    torch.testing.assert_close(operator.A_dagger(y).flatten(), expected, rtol=0, atol=1e-7)


def operators() -> list[tuple[str, Callable[[], LinearOperator]]]:
    return [
        ("mosaic", lambda: Mosaic(Cfa(XTRANS_ROWS))),
        ("blur", lambda: Blur.gaussian(0.7)),
        ("down", lambda: Downsample(2)),
        ("mosaic-of-blur", lambda: Mosaic(Cfa.parse("GRBG")) * Blur.gaussian(0.5)),
    ]


STEP = 0.9


@pytest.mark.parametrize("algorithm", ["PGD", "HQS", "ADMM"])
@pytest.mark.parametrize(("name", "make"), operators(), ids=[name for name, _ in operators()])
def test_deepinvs_solvers_reach_the_minimum(algorithm: str, name: str, make: Callable[[], LinearOperator]) -> None:
    """``1/2 |A x - y|^2 + lambda/2 |x|^2`` has one minimum: the prox of zero with gamma = 1/lambda."""
    operator = make()
    y = operator(uniform((2, 3, 12, 12), 1))
    weight = 0.5
    solver = getattr(dinv.optim, algorithm)(
        data_fidelity=dinv.optim.L2(), prior=dinv.optim.Tikhonov(), lambda_reg=weight, stepsize=STEP, max_iter=100
    )

    found = solver(y, operator)

    expected = operator.prox_l2(None, y, 1.0 / weight)
    if algorithm == "HQS":  # it splits the variable for good: its end is the fixed point of one prox after the other
        for _ in range(100):
            expected = operator.prox_l2(expected, y, STEP) / (1.0 + STEP * weight)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_plug_and_play_with_a_denoiser_of_deepinv() -> None:
    cfa = Cfa.parse("BGGR")
    operator = Mosaic(cfa, noise_model=CalibratedNoise(gain=0.001, sigma=0.03))
    smooth = torch.linspace(0.2, 0.8, 24)[:, None] * torch.ones(24)
    x = torch.stack([smooth, smooth.T, 1 - smooth])[None]
    y = operator(x)
    solver = dinv.optim.HQS(
        data_fidelity=dinv.optim.L2(),
        prior=dinv.optim.PnP(dinv.models.TVDenoiser(n_it_max=50)),
        stepsize=1.0,
        sigma_denoiser=0.01,
        max_iter=30,
    )

    start = demosaic(y, cfa)
    restored = solver(y, operator, init=start)

    assert (restored - x).square().mean() < 0.5 * (start - x).square().mean()


def test_noise_and_sensor_parts_are_applied_and_kept_by_composition() -> None:
    noise = CalibratedNoise(gain=0.01, sigma=0.02)
    operator = Mosaic(Cfa.parse("RGGB"), noise_model=noise) * Exposure(0.5)
    x = torch.full((1, 3, 8, 8), 0.5)

    assert operator.noise_model is noise
    noisy = operator(x, seed=3)
    assert torch.equal(noisy, noise(operator.A(x), seed=3))
    assert not torch.equal(noisy, operator.A(x))


def test_parameters_pass_through_physics_and_stay() -> None:
    operator = Mosaic(Cfa.parse("RGGB")) * Exposure(1.0)
    x = torch.ones(1, 3, 4, 4)

    assert float(operator(x, ratio=0.25).max()) == 0.25  # a plain number, which stock physics pass over in silence
    assert float(operator(x).max()) == 0.25
    operator.update(ratio=torch.tensor(2.0))
    assert float(operator(x).max()) == 2.0
    with pytest.raises(ValueError, match="An exposure ratio must be positive"):
        operator(x, ratio=-1.0)


def test_gradient_reaches_an_operators_parameter() -> None:
    kernel = skew_kernel().requires_grad_()
    x = random((1, 1, 9, 9), 4)

    assert torch.autograd.gradcheck(lambda k: Blur(skew_kernel(), boundary="reflect").A(x, kernel=k), kernel)
    assert torch.autograd.gradcheck(lambda k: Blur(skew_kernel()).A(x, kernel=k), kernel)


def test_stock_operators_compose_as_deepinv_composes_them() -> None:
    stock = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    with pytest.warns(UserWarning, match="will not be decomposable"):
        both = Mosaic(Cfa.parse("RGGB")) * stock
    x = random(ODD, 1)

    assert torch.equal(both.A(x), Mosaic(Cfa.parse("RGGB")).A(x))


def test_shading_of_the_scene_and_of_the_mosaic_agree() -> None:
    shade = shading_map(13, 17)
    x = random(ODD, 1)
    mosaic = Mosaic(Cfa.parse("GBRG"))

    torch.testing.assert_close((mosaic * Shading(shade)).A(x), (Shading(shade) * mosaic).A(x), rtol=0, atol=0)
