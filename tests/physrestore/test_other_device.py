"""On another device everything computes as on the CPU, or says why it does not: see `tests.pretended_device`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noise_models.cfa import XTRANS_ROWS, Cfa
from physrestore import weights
from physrestore.cli.prior_names import move_prior
from physrestore.deepinv_host import load_deepinv
from physrestore.errors import PriorError
from physrestore.fast import restore_fast
from physrestore.fast.engine import Engine
from physrestore.networks.colour_net import ColourNet, ColourNetConfig
from physrestore.networks.mosaic_net import MosaicNet, MosaicNetConfig
from physrestore.pnp import restore_pnp
from physrestore.priors.base import PriorSpec
from physrestore.priors.deepinv_denoiser import DeepinvPrior
from physrestore.priors.network import NetworkPrior
from physrestore.selfsup.adapt import AdaptSettings, adapt
from physrestore.selfsup.distil import DistilSettings
from physrestore.selfsup.distil_files import distil_squares
from physrestore.selfsup.folder import hide_held_out
from physrestore.selfsup.frames import noisy_frame
from physrestore.selfsup.tasks import Demosaicking
from physrestore.training.fit import fit
from physrestore.training.recipe import Recipe
from tests.laws import operator_table
from tests.laws.operator_table import Case, random, uniform
from tests.laws.test_fidelities import RGGB, TERMS, Mosaic
from tests.physrestore.test_fast import shot
from tests.physrestore.test_selfsup_blind_spot_files import drawn, model, square
from tests.physrestore.toy_tasks import Regression
from tests.pretended_device import pretended_device

XTRANS = Cfa(XTRANS_ROWS)
CASES = (
    *operator_table.MOSAICS,
    *operator_table.BLURS,
    *operator_table.REDUCTIONS,
    *operator_table.WARPS,
    *operator_table.DIAGONALS,
    *operator_table.COMPOSED,
)
FLOAT32 = {"rtol": 1e-4, "atol": 1e-5}


def on_both(compute: Callable[[Any], Tensor], **tolerance: float) -> None:
    """The same numbers on the CPU and elsewhere, where ``compute`` is given the device."""
    expected = compute(torch.device("cpu"))
    with pretended_device() as device:
        torch.testing.assert_close(compute(device).cpu(), expected, **tolerance)


def small_mosaic_net() -> MosaicNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MosaicNet(MosaicNetConfig(channels=(4, 6))).eval()


# --- the pretence itself


def test_what_mixes_devices_is_refused() -> None:
    here = torch.ones(3)
    with pretended_device() as device:
        there = here.to(device)
        assert (there.device, there.new_zeros(2).device, torch.tensor([1.0], device=device).device) == (device,) * 3
        with pytest.raises(RuntimeError, match="tensors of two devices"):
            _ = there + here
        with pytest.raises(RuntimeError, match="tensors of two devices"):
            _ = nn.Linear(3, 1)(there)  # a network that was not moved
        with pytest.raises(RuntimeError, match="with a generator of cpu"):
            torch.randn(3, device=device, generator=drawn())
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()


def test_what_may_mix_devices_does() -> None:
    here = torch.arange(4.0)
    with pretended_device() as device:
        there = here.to(device)
        torch.testing.assert_close((2.0 * there * torch.tensor(0.5)).cpu(), here)  # numbers are of any device
        torch.testing.assert_close(there[torch.tensor([2, 0])].cpu(), torch.tensor([2.0, 0.0]))
        there[1:3] = 7.0
        assert there.tolist() == [0.0, 7.0, 7.0, 3.0]
        slope = torch.ones(4, device=device, requires_grad=True)
        (slope * there).sum().backward()
        assert slope.grad is not None
        torch.testing.assert_close(slope.grad.cpu(), there.cpu())


# --- operators and data terms


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_operators_follow_the_image(case: Case) -> None:
    x = random(case.shape, 1, torch.float32)

    def compute(device: torch.device) -> Tensor:
        operator = case.make().to(device)
        y = operator.A(x.to(device))
        weights = 0.5 + uniform(tuple(y.shape), 2, torch.float32).to(device)
        z = operator.prox_weighted(x.to(device), y, weights, 0.7)
        return torch.cat([y.flatten(), operator.A_adjoint(y).flatten(), z.flatten()])

    on_both(compute, **FLOAT32)


@pytest.mark.parametrize("name", TERMS)
def test_data_terms_follow_the_image(name: str) -> None:
    x, y = uniform((1, 3, 6, 8), 1), uniform((1, 1, 6, 8), 2)

    def compute(device: torch.device) -> Tensor:
        term, operator, here = TERMS[name](y).to(device), Mosaic(RGGB).to(device), (x.to(device), y.to(device))
        parts = (term.fn(*here, operator), term.grad(*here, operator), term.prox(*here, operator, gamma=0.3))
        return torch.cat([part.flatten() for part in parts])

    on_both(compute)


# --- restoring


@pytest.mark.parametrize("cfa", [RGGB, XTRANS], ids=["bayer", "xtrans"])
def test_fast_and_its_expected_errors(cfa: Cfa) -> None:
    frame, noise, _ = shot(cfa, 96, electrons=200.0)
    network = weights.load("mosaic-small").network

    def compute(device: torch.device) -> Tensor:
        engine = Engine(device, torch.float32, "for comparison")
        made = restore_fast(frame, noise, network=network, uncertainty=True, engine=engine)
        assert made.uncertainty is not None
        return torch.cat([made.rgb, made.uncertainty])

    on_both(compute, equal_nan=True)


@pytest.mark.parametrize("cfa", [RGGB, XTRANS], ids=["bayer", "xtrans"])
def test_pnp_and_its_expected_errors(cfa: Cfa) -> None:
    frame, noise, _ = shot(cfa, 72, electrons=200.0)

    def compute(device: torch.device) -> Tensor:
        made = restore_pnp(frame, noise, uncertainty=True, device=device)
        assert made.uncertainty is not None
        return torch.cat([made.rgb, made.uncertainty])

    on_both(compute, equal_nan=True)


def test_pnp_sharpens_and_enlarges() -> None:
    frame, noise, _ = shot(RGGB, 72, electrons=2000.0)
    kernel = operator_table.skew_kernel(5, 5).float()
    on_both(lambda device: restore_pnp(frame, noise, blur=kernel, scale=2, device=device).rgb)


def test_priors_with_networks_go_where_they_are_asked() -> None:
    frame, noise, _ = shot(RGGB, 72, electrons=200.0)
    spec = PriorSpec(channels=3, noise="map", sigma_range=(0.0, float("inf")), halo=8, modulo=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ColourNet(ColourNetConfig(channels=(4, 6))).eval()
        denoiser = load_deepinv().models.DRUNet(3, 3, nc=(4, 4, 4, 4), pretrained=None)
    with pretended_device() as device, pytest.raises(PriorError, match="The network is on cpu"):
        restore_pnp(frame, noise, prior=NetworkPrior(network, spec, condition="argument"), device=device)

    def by_network(device: torch.device) -> Tensor:
        prior = NetworkPrior(network, spec, condition="argument")
        move_prior(prior, device)
        return restore_pnp(frame, noise, prior=prior, device=device).rgb

    def by_deepinv(device: torch.device) -> Tensor:
        prior = DeepinvPrior(denoiser, channels=3)
        move_prior(prior, device)
        return restore_pnp(frame, noise, prior=prior, device=device).rgb

    on_both(by_network)
    on_both(by_deepinv)


# --- learning


def test_training(tmp_path: Path) -> None:
    recipe = Recipe(steps=5, learning_rate=0.01)

    def compute(device: torch.device) -> Tensor:
        trained = fit(Regression(), recipe, tmp_path / device.type, device=device)
        return torch.cat([weight.detach().flatten().cpu() for weight in trained.network.parameters()])

    on_both(compute)


def test_adaptation() -> None:
    frame, noise, _ = shot(RGGB, 288, electrons=60.0)
    image = noisy_frame(frame, noise)

    def compute(device: torch.device) -> Tensor:
        adapted = adapt(
            small_mosaic_net().to(device),
            image.to(device),
            generator=drawn(),
            settings=AdaptSettings(steps=3),
            task=Demosaicking(frame.cfa),
        )
        return torch.cat([weight.detach().flatten().cpu() for weight in adapted.best.parameters()])

    on_both(compute)


def test_a_blind_spot_and_its_student() -> None:
    squares = []
    for seed in range(2):
        one, *_ = square(192, seed=seed)
        squares.append(replace(one, observed=hide_held_out(one.observed, seed=seed)))
    settings = DistilSettings(steps=2, crop=48, batch=2, learning_rate=1e-3)

    def compute(device: torch.device) -> Tensor:
        teacher, start = model().to(device), small_mosaic_net()
        student = distil_squares(teacher, squares, start=start, generator=drawn(), settings=settings, device=device)
        return torch.cat([weight.detach().flatten().cpu() for weight in student.network.parameters()])

    # Adam makes the last digits of a gradient as large as any other.
    on_both(compute, rtol=0, atol=0.1 * settings.learning_rate)
