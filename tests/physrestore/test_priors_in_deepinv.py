"""Our priors inside deepinv's own solvers, on small images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from physrestore.deepinv_host import load_deepinv
from physrestore.priors.as_deepinv import PriorDenoiser, as_deepinv
from physrestore.priors.base import PriorSpec
from physrestore.priors.deepinv_denoiser import DeepinvPrior
from physrestore.priors.network import NetworkPrior
from physrestore.priors.probe import synthetic_picture
from physrestore.priors.transform import TransformPrior
from physrestore.quality import psnr
from tests.physrestore.simple_priors import ANY_LEVEL, Gaussian

dinv = load_deepinv()

SIGMA = 0.05
# What the solvers of a fixed level give the prior: the holes are worse than the noise.
PRIOR_SIGMA = 2 * SIGMA


def problem() -> tuple[Tensor, Tensor, object]:
    """A picture of which a third of the pixels is missing."""
    clean = synthetic_picture(48, channels=1)
    draw = torch.Generator().manual_seed(0)
    mask = (torch.rand(clean.shape[1:], generator=draw) > 0.33).float()
    physics = dinv.physics.Inpainting(img_size=clean.shape[1:], mask=mask)
    return clean, physics.A(clean + SIGMA * torch.randn(clean.shape, generator=draw)), physics


def solvers() -> dict[str, object]:
    denoiser = as_deepinv(TransformPrior())
    common = {"data_fidelity": dinv.optim.L2(), "prior": dinv.optim.prior.PnP(denoiser), "max_iter": 12}
    return {
        "PGD": dinv.optim.PGD(stepsize=1.0, sigma_denoiser=PRIOR_SIGMA, **common),
        "HQS": dinv.optim.HQS(stepsize=1.0, sigma_denoiser=PRIOR_SIGMA, **common),
        "ADMM": dinv.optim.ADMM(stepsize=1.0, sigma_denoiser=PRIOR_SIGMA, **common),
        "DPIR": dinv.optim.DPIR(sigma=SIGMA, denoiser=denoiser),
        "RED": dinv.optim.GD(
            **{**common, "prior": dinv.optim.prior.RED(denoiser), "max_iter": 40},
            stepsize=0.5,
            sigma_denoiser=PRIOR_SIGMA,
        ),
    }


@pytest.mark.parametrize("name", ["PGD", "HQS", "ADMM", "DPIR", "RED"])
def test_the_default_prior_restores_in_every_solver(name: str) -> None:
    clean, y, physics = problem()
    out = solvers()[name](y, physics)  # type: ignore[operator]
    gain = psnr(out, clean, peak=1.0) - psnr(y, clean, peak=1.0)
    assert gain > 8


def test_the_score_is_tweedies() -> None:
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    score = dinv.optim.prior.ScorePrior(as_deepinv(Gaussian())).score(x, 0.5)
    torch.testing.assert_close(score, -x / 1.25)


@pytest.mark.parametrize("sigma", [0.1, torch.tensor([0.1, 0.2]), torch.full((2, 1, 8, 8), 0.1)])
def test_every_level_that_deepinv_gives_is_understood(sigma: float | Tensor) -> None:
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(as_deepinv(Gaussian())(x, sigma, physics=None), Gaussian().denoise(x, sigma))


def test_there_and_back_is_the_same_denoiser() -> None:
    x = torch.rand(1, 1, 16, 16)
    median = dinv.models.MedianFilter(kernel_size=3)
    there = DeepinvPrior(median, channels=1, noise="blind", halo=1, modulo=1)
    back = as_deepinv(there)
    assert isinstance(back, dinv.models.Denoiser)
    torch.testing.assert_close(back(x, 0.1), median(x, 0.1))


def test_a_trainable_network_is_registered_and_trains() -> None:
    network = torch.nn.Conv2d(1, 1, 3, padding=1)
    spec = PriorSpec(channels=1, noise="blind", sigma_range=ANY_LEVEL, halo=1)
    denoiser = as_deepinv(NetworkPrior(network, spec, condition="none"))
    assert {id(p) for p in denoiser.parameters()} == {id(p) for p in network.parameters()}
    denoiser(torch.rand(1, 1, 8, 8), 0.1).sum().backward()
    assert network.weight.grad is not None
    assert list(PriorDenoiser(Gaussian()).parameters()) == []
