"""Muon: what it does to a matrix, how far it steps, and what an interruption leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from physrestore.training.fit import fit
from physrestore.training.muon import SMALLEST_SIDE, Muon, orthogonal
from physrestore.training.recipe import Recipe
from tests.physrestore.network_laws import normal
from tests.physrestore.toy_tasks import Regression

# Where the quintic iteration leaves singular values; the source states about 0.7 to 1.2 for values above 1e-2.
LOWEST, HIGHEST = 0.65, 1.25


@pytest.mark.parametrize("shape", [(20, 20), (12, 300), (300, 12)])
def test_singular_values_become_nearly_equal_and_vectors_stay(shape: tuple[int, int]) -> None:
    u, _, vt = torch.linalg.svd(normal(*shape), full_matrices=False)
    before = torch.logspace(0, -1.5, min(shape), dtype=torch.float64)
    after = orthogonal((u * before) @ vt)
    in_its_base = u.mT @ after @ vt.mT
    values = in_its_base.diagonal()
    assert float((in_its_base - values.diag()).abs().max()) < 1e-10
    assert LOWEST < float(values.min()) <= float(values.max()) < HIGHEST
    # Planted: without the iteration they stay as unequal as they were.
    assert float(before.max() / before.min()) > 30


def steps_of(optimiser: torch.optim.Optimizer, weight: nn.Parameter, slope: Tensor) -> Tensor:
    before = weight.detach().clone()
    weight.grad = slope.clone()
    optimiser.step()
    assert weight.grad is not None
    assert torch.equal(weight.grad, slope)  # gradients are not the optimiser's to change
    return weight.detach() - before


def test_a_step_is_as_large_as_adams_and_small_weights_get_adams_own() -> None:
    rate = 1e-3
    bank = nn.Parameter(normal(16, 8, 3, 3))
    change = steps_of(Muon([bank], lr=rate), bank, normal(16, 8, 3, 3, seed=1))
    assert 0.15 * rate < float(change.square().mean().sqrt()) < 0.25 * rate
    for shape in [(SMALLEST_SIDE - 1, 8, 3, 3), (40,)]:
        one, two = nn.Parameter(normal(*shape)), nn.Parameter(normal(*shape))
        slope = normal(*shape, seed=1)
        assert torch.equal(
            steps_of(Muon([one], lr=rate), one, slope), steps_of(torch.optim.Adam([two], lr=rate), two, slope)
        )


def test_a_closure_is_called_once_before_the_step() -> None:
    plain, asked = (nn.Parameter(normal(16, 16)) for _ in range(2))
    target = normal(16, 16, seed=1)
    one, two = Muon([plain], lr=0.01), Muon([asked], lr=0.01)
    calls = []

    def closure() -> Tensor:
        two.zero_grad()
        loss = (asked - target).square().sum()
        loss.backward()
        calls.append(float(loss.detach()))
        return loss

    for _ in range(3):
        one.zero_grad()
        (plain - target).square().sum().backward()
        one.step()
        assert float(two.step(closure).detach()) == calls[-1]
    assert len(calls) == 3
    assert torch.equal(plain, asked)


class Wide(Regression):
    """With a layer that counts as a bank."""

    def build(self) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))


def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    recipe = Recipe(steps=12, learning_rate=0.01, save_every=4, log_every=4, optimiser="muon")
    whole = fit(Wide(), recipe, tmp_path / "whole")
    calls = iter([False] * 5 + [True])
    fit(Wide(), recipe, tmp_path / "parts", stop=lambda: next(calls))
    resumed = fit(Wide(), recipe, tmp_path / "parts")
    adam = fit(Wide(), replace(recipe, optimiser="adam"), tmp_path / "adam")
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name])
    gaps = [float((v - adam.network.state_dict()[n]).abs().max()) for n, v in whole.network.state_dict().items()]
    assert max(gaps) > 0  # another optimiser, another result
