"""DnCNN and FFDNet: sizes of the papers, normalisation folded without a trace, tiles equal to the whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from physrestore.errors import PriorError
from physrestore.networks.dncnn import DnCNN, DnCNNConfig
from physrestore.networks.ffdnet import FFDNet, FFDNetConfig
from tests.physrestore.network_laws import SIGMA, normal, parameters, scattered, tile_gap, uniform

SMALL = DnCNNConfig(features=6, layers=4)
SMALL_FFD = FFDNetConfig(features=6, layers=3)


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (DnCNN(DnCNNConfig.published()), 555_137),
        (DnCNN(DnCNNConfig.published(channels=3)), 668_227),
        (FFDNet(FFDNetConfig.published()), 485_316),
        (FFDNet(FFDNetConfig.published(channels=3)), 852_108),
    ],
)
def test_parameters_are_those_of_the_papers(network: nn.Module, count: int) -> None:
    assert parameters(network) == count


def normalised() -> DnCNN:
    """A network whose normalisations have seen something."""
    network = scattered(DnCNN(replace(SMALL, batch_norm=True)))
    for norm in network.norms:
        norm.running_mean.copy_(normal(6, seed=5))
        norm.running_var.copy_(uniform(6, seed=6) + 0.5)
    return network


@torch.no_grad()
def test_folding_changes_nothing_but_the_layers() -> None:
    network, x = normalised(), uniform(1, 1, 12, 9)
    plain = network.folded()
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in plain.modules())
    torch.testing.assert_close(plain(x, SIGMA), network(x, SIGMA), rtol=0, atol=1e-12)

    network.norms[0].running_mean += 0.1

    assert float((plain(x, SIGMA) - network(x, SIGMA)).abs().max()) > 1e-3


def test_folding_a_network_without_normalisation_copies_it() -> None:
    network, x = scattered(DnCNN(SMALL)), uniform(1, 1, 8, 8)
    assert torch.equal(network.folded()(x, SIGMA), network(x, SIGMA))


def test_dncnn_subtracts_what_a_plain_stack_of_convolutions_finds() -> None:
    network, x = scattered(DnCNN(SMALL)), uniform(2, 1, 9, 7)
    hidden = x
    for k, layer in enumerate(network.convolutions):
        hidden = F.conv2d(hidden, layer.weight, layer.bias, padding=1)
        hidden = hidden.relu() if k < 3 else hidden
    torch.testing.assert_close(network(x, SIGMA), x - hidden)


def test_tiles_of_dncnn_equal_the_whole_given_its_halo() -> None:
    network, x = scattered(DnCNN(SMALL)), uniform(1, 1, 30, 33)
    assert tile_gap(lambda y: network(y, SIGMA), x, tile=10, halo=network.halo) < 1e-12
    assert tile_gap(lambda y: network(y, SIGMA), x, tile=10, halo=network.halo - 1) > 1e-12


def test_tiles_of_ffdnet_equal_the_whole_given_its_halo() -> None:
    network, x = scattered(FFDNet(SMALL_FFD)), uniform(1, 1, 33, 30)
    step = network.multiple
    assert tile_gap(lambda y: network(y, SIGMA), x, tile=10, halo=network.halo, align=step) < 1e-12
    assert tile_gap(lambda y: network(y, SIGMA), x, tile=10, halo=network.halo - step, align=step) > 1e-12


@torch.no_grad()
def test_ffdnet_reads_the_level_where_it_is() -> None:
    network, x = scattered(FFDNet(SMALL_FFD)), uniform(1, 1, 40, 16)
    even = torch.full((1, 1, 40, 16), 0.1, dtype=torch.float64)
    uneven = even.clone()
    uneven[..., 20:, :] = 0.3
    told, changed = network(x, even), network(x, uneven)
    torch.testing.assert_close(told, network(x, SIGMA))
    assert torch.equal(told[..., : 20 - network.halo, :], changed[..., : 20 - network.halo, :])
    assert float((told - changed)[..., 20:, :].abs().max()) > 1e-3


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 3)])
@pytest.mark.parametrize("network", [DnCNN(SMALL), FFDNet(SMALL_FFD)])
def test_any_size_works(network: nn.Module, size: tuple[int, int]) -> None:
    assert network(torch.rand(1, 1, *size), torch.tensor(0.1)).shape == (1, 1, *size)


@pytest.mark.parametrize("make", [lambda: DnCNN(SMALL), lambda: FFDNet(SMALL_FFD)])
def test_weights_do_not_depend_on_what_was_drawn_before(make: object) -> None:
    first = [values.clone() for values in make().parameters()]
    torch.rand(3)
    assert all(torch.equal(a, b) for a, b in zip(first, make().parameters(), strict=True))
    other = make()
    other.reset(torch.Generator().manual_seed(1))
    assert not torch.equal(first[0], next(iter(other.parameters())))


@pytest.mark.parametrize("network", [DnCNN(SMALL), FFDNet(SMALL_FFD)])
def test_colour_is_refused_by_gray_networks(network: nn.Module) -> None:
    colour: Tensor = torch.rand(1, 3, 8, 8)
    with pytest.raises(PriorError, match=r"not \(1, 3, 8, 8\)"):
        network(colour, torch.tensor(0.1))
