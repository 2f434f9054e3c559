"""Deep K-SVD: the paper's sizes, LISTA against the lasso, a loop over patches, stripes equal to the whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from physrestore.errors import PriorError
from physrestore.networks import deep_ksvd
from physrestore.networks.deep_ksvd import DeepKSVD, DeepKSVDConfig, cosine_dictionary, lista
from tests.physrestore.network_laws import SIGMA, normal, parameters, scattered, tile_gap, uniform

SMALL = DeepKSVDConfig(patch=3, atoms_per_axis=4, unfoldings=3, hidden=(5, 4), stages=2)


def small(**changes: Any) -> DeepKSVD:
    network = scattered(DeepKSVD(replace(SMALL, **changes)))
    assert isinstance(network, DeepKSVD)
    return network


@pytest.mark.parametrize(("stages", "count"), [(1, 35_138), (2, 53_891), (3, 72_644)])
def test_parameters_are_those_of_the_paper(stages: int, count: int) -> None:
    assert parameters(DeepKSVD(DeepKSVDConfig(stages=stages))) == count


def test_cosines_have_length_one_and_all_but_one_no_mean() -> None:
    atoms = cosine_dictionary(8, 16).double()
    assert atoms.shape == (64, 256)
    torch.testing.assert_close(atoms.norm(dim=0), torch.ones(256, dtype=torch.float64), rtol=0, atol=1e-6)
    means = atoms.mean(0).abs()
    assert int((means > 1e-6).sum()) == 1
    assert float(means[0]) == pytest.approx(1 / 8, rel=1e-6)


def slope_beyond_threshold(unfoldings: int) -> float:
    """By how much the lasso's condition |D'(y - D z)| <= threshold is missed."""
    dictionary, signal = normal(9, 16), normal(5, 9, seed=1)
    curvature = torch.linalg.matrix_norm(dictionary, 2).square()
    explained = lista(signal, dictionary, curvature, torch.full((5, 1), 0.3, dtype=torch.float64), unfoldings)
    return float(((signal - explained) @ dictionary).abs().max()) - 0.3


def test_many_unfoldings_solve_the_lasso_and_few_do_not() -> None:
    assert slope_beyond_threshold(3000) < 1e-6
    assert slope_beyond_threshold(7) > 1e-3


def test_lista_equals_the_published_form_with_the_gram_matrix() -> None:
    dictionary, signal, threshold = normal(9, 16), normal(5, 9, seed=1), uniform(5, 1, seed=2)
    step = 1 / torch.linalg.matrix_norm(dictionary, 2).square()
    mixing = torch.eye(16, dtype=torch.float64) - step * dictionary.T @ dictionary
    codes = torch.zeros(5, 16, dtype=torch.float64)
    for _ in range(4):
        codes = codes @ mixing + step * signal @ dictionary
        codes = codes.sign() * (codes.abs() - step * threshold).clamp(min=0)
    torch.testing.assert_close(lista(signal, dictionary, 1 / step, threshold, 4), codes @ dictionary.T)


def loop(network: DeepKSVD, x: Tensor, stage: int) -> Tensor:
    """One stage of an unconditioned network, patch by patch."""
    side, weights = network.config.patch, network.weights[stage]
    total, weight = torch.zeros_like(x), torch.zeros_like(x)
    for i in range(x.shape[0] - side + 1):
        for j in range(x.shape[1] - side + 1):
            patch = x[i : i + side, j : j + side].flatten()
            threshold = network.thresholds[stage](patch).clamp(min=0)
            decoded = lista(patch, network.dictionary, network.curvature, threshold, network.config.unfoldings)
            total[i : i + side, j : j + side] += weights * decoded.clamp(-1, 1).reshape(side, side)
            weight[i : i + side, j : j + side] += weights
    return total / weight


@torch.no_grad()
def test_network_equals_a_loop_over_patches() -> None:
    network, x = small(), uniform(1, 1, 7, 6)
    first = loop(network, x[0, 0], 0)
    torch.testing.assert_close(network(x, SIGMA)[0, 0], loop(network, first, 1))
    assert float((network(x, SIGMA)[0, 0] - loop(network, first, 0)).abs().max()) > 1e-6


@torch.no_grad()
@pytest.mark.parametrize("conditioned", [False, True])
def test_stripes_change_nothing(conditioned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = small(conditioned=conditioned), uniform(2, 1, 17, 9)
    level = uniform(2, 1, 17, 9, seed=8) + 0.1
    whole = network(x, level)
    monkeypatch.setattr(deep_ksvd, "PATCHES_AT_ONCE", 50)
    torch.testing.assert_close(network(x, level), whole, rtol=0, atol=1e-13)
    monkeypatch.setattr(deep_ksvd, "PATCHES_AT_ONCE", 1)  # at least a row at a time
    torch.testing.assert_close(network(x, level), whole, rtol=0, atol=1e-13)


class LargestTensor(TorchDispatchMode):
    """Records the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.numel = max(self.numel, made.numel())
        return made


@torch.no_grad()
def test_memory_is_bounded_by_the_stripe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep_ksvd, "PATCHES_AT_ONCE", 200)
    network, x = small(), uniform(1, 1, 90, 40)
    with LargestTensor() as seen:
        network(x, SIGMA)
    assert seen.numel <= max(200 * SMALL.atoms, x.numel())
    monkeypatch.setattr(deep_ksvd, "PATCHES_AT_ONCE", 1 << 16)
    with LargestTensor() as unbounded:
        network(x, SIGMA)
    assert unbounded.numel > 2 * seen.numel


@torch.no_grad()
def test_tiles_equal_the_whole_given_the_halo() -> None:
    network, x = small(), uniform(1, 1, 25, 22)
    assert tile_gap(lambda y: network(y, SIGMA), x, tile=9, halo=network.halo) < 1e-12
    assert tile_gap(lambda y: network(y, SIGMA), x, tile=9, halo=network.halo - 1) > 1e-9


@torch.no_grad()
def test_a_conditioned_network_scales_with_light_and_noise_and_another_does_not() -> None:
    x = uniform(1, 1, 12, 10)

    def gap(network: DeepKSVD) -> float:
        scaled = network(3.0 * x + 0.4, 3.0 * SIGMA)
        return float((scaled - 3.0 * network(x, SIGMA) - 0.4).abs().max())

    assert gap(small(conditioned=True)) < 1e-12
    assert gap(small()) > 1e-2


@torch.no_grad()
def test_more_noise_means_smoother_patches() -> None:
    network, x = small(conditioned=True), uniform(1, 1, 30, 30)
    left = [float(network(x, level * torch.ones_like(x)).var()) for level in (0.05, 0.2, 0.8)]
    assert left[0] > left[1] > left[2]


@torch.no_grad()
def test_thresholds_are_never_negative() -> None:
    network, x = small(stages=1), uniform(1, 1, 8, 8)
    network.thresholds[0][-1].weight.zero_()
    network.thresholds[0][-1].bias.fill_(-5.0)
    negative = network(x, SIGMA)
    network.thresholds[0][-1].bias.fill_(0.0)
    assert torch.equal(negative, network(x, SIGMA))
    network.thresholds[0][-1].bias.fill_(0.5)
    assert float((negative - network(x, SIGMA)).abs().max()) > 1e-2


@torch.no_grad()
def test_a_map_of_one_level_is_that_level() -> None:
    network, x = small(conditioned=True), uniform(1, 1, 9, 8)
    torch.testing.assert_close(network(x, torch.full_like(x, 0.1)), network(x, SIGMA))
    rows = torch.linspace(0.05, 0.4, 9, dtype=torch.float64).reshape(1, 1, 9, 1)
    assert float((network(x, rows) - network(x, SIGMA)).abs().max()) > 1e-3


@pytest.mark.parametrize("conditioned", [False, True])
def test_gradients_are_those_of_the_value(conditioned: bool) -> None:
    network, x = small(conditioned=conditioned), normal(1, 1, 5, 6).mul(0.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: network(y, SIGMA), (x,))


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 2)])
@pytest.mark.parametrize("conditioned", [False, True])
def test_any_size_works(size: tuple[int, int], conditioned: bool) -> None:
    network, x = DeepKSVD(replace(SMALL, conditioned=conditioned)), torch.rand(1, 1, *size)
    assert network(x, torch.tensor(0.1)).shape == x.shape
    assert network(x, torch.full_like(x, 0.1)).shape == x.shape


def test_colour_is_refused() -> None:
    with pytest.raises(PriorError, match=r"Deep K-SVD takes pictures of shape \(B, 1, H, W\)"):
        DeepKSVD(SMALL)(torch.rand(1, 3, 8, 8), torch.tensor(0.1))
