"""CDLNet: the paper's sizes, equality with strided convolutions, thresholds that grow with noise, the mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from physrestore.errors import PriorError
from physrestore.networks.cdlnet import CDLNet, CDLNetConfig, analyse, kernels_on_blocks, synthesise
from physrestore.networks.shrinkage import soft_threshold
from tests.physrestore.network_laws import SIGMA, normal, parameters, scattered, tile_gap, uniform

SMALL = CDLNetConfig(filters=5, kernel=5, stride=2, unfoldings=3)


def small(**changes: Any) -> CDLNet:
    network = scattered(CDLNet(replace(SMALL, **changes)))
    assert isinstance(network, CDLNet)
    network.threshold.data.mul_(5.0)
    network.project()
    return network


def test_parameters_are_those_of_the_paper() -> None:
    assert parameters(CDLNet(CDLNetConfig.published())) == 64_000
    assert parameters(CDLNet(CDLNetConfig.published(large=True))) == 507_000


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_blocks_compute_strided_convolutions(stride: int, kernel: int) -> None:
    x, filters = normal(2, 3, 24, 12), normal(4, 3, kernel, kernel, seed=1)
    codes = analyse(x, filters, stride)
    torch.testing.assert_close(codes, F.conv2d(x, filters, stride=stride, padding=kernel // 2))
    back = F.conv_transpose2d(codes, filters, stride=stride, padding=kernel // 2, output_padding=stride - 1)
    torch.testing.assert_close(synthesise(codes, filters, stride), back)


def test_kernels_on_blocks_hold_every_weight_once() -> None:
    filters = normal(2, 1, 7, 7)
    blocks = kernels_on_blocks(filters, 2)
    assert blocks.shape == (2, 4, 4, 4)
    assert sorted(blocks[blocks != 0].tolist()) == sorted(filters.flatten().tolist())


def adjoint_gap(stride: int, filters: Tensor, other: Tensor) -> float:
    x, codes = normal(1, 2, 12, 12, seed=2), normal(1, 4, 12 // stride, 12 // stride, seed=3)
    forward = float((analyse(x, filters, stride) * codes).sum())
    return abs(forward - float((x * synthesise(codes, other, stride)).sum())) / abs(forward)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_synthesis_is_the_adjoint_of_analysis(stride: int) -> None:
    filters = normal(4, 2, 5, 5, seed=1)
    assert adjoint_gap(stride, filters, filters) < 1e-12
    assert adjoint_gap(stride, filters, filters.flip(3)) > 1e-3


def by_strided_convolutions(network: CDLNet, y: Tensor, sigma: Tensor, mask: Tensor, out: int = 0) -> Tensor:
    """The published network in torch's own strided convolutions, for sides that are multiples of the stride."""
    stride, radius = network.config.stride, network.config.kernel // 2
    mean = (y * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True)
    signal = mask * (y - mean)

    def up(codes: Tensor, k: int) -> Tensor:
        return F.conv_transpose2d(codes, network.synthesis[k], stride=stride, padding=radius, output_padding=stride - 1)

    codes = torch.zeros(1)
    for k in range(network.config.unfoldings):
        threshold = (network.threshold[k, 0] + sigma * network.threshold[k, 1]).reshape(1, -1, 1, 1)
        wanted = signal - mask * up(codes, k) if k else signal
        step = F.conv2d(wanted, network.analysis[k], stride=stride, padding=radius)
        codes = soft_threshold(codes + step if k else step, threshold)
    return mean + up(codes, out)


@torch.no_grad()
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_network_equals_its_definition(stride: int) -> None:
    network, x = small(stride=stride, channels=2), uniform(2, 2, 12, 18)
    mask = (uniform(2, 2, 12, 18, seed=5) > 0.3).double()
    torch.testing.assert_close(network(x, SIGMA), by_strided_convolutions(network, x, SIGMA, torch.ones_like(x)))
    torch.testing.assert_close(network(x, SIGMA, mask), by_strided_convolutions(network, x, SIGMA, mask))
    # The last synthesis in place of the first: the published network makes its result with the first.
    wrong = by_strided_convolutions(network, x, SIGMA, mask, out=2)
    assert float((network(x, SIGMA, mask) - wrong).abs().max()) > 1e-4


def active(network: CDLNet, x: Tensor, sigma: float) -> list[int]:
    """Codes that are not zero, one count per picture."""
    signal = network._blocks(x - x.mean((2, 3), keepdim=True))
    level = torch.full((len(x), 1, 1, 1), sigma, dtype=torch.float64)
    return (network._codes(signal, None, level) != 0).sum((1, 2, 3)).tolist()


@torch.no_grad()
def test_thresholds_grow_with_the_noise() -> None:
    network, x = small(), uniform(1, 1, 24, 24)
    counts = [active(network, x, sigma)[0] for sigma in (0.0, 0.5, 1.0, 3.0)]
    assert counts[0] > counts[1] > counts[2] > counts[3]
    levels = torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64).reshape(3, 1, 1, 1)
    thresholds = network._threshold(1, levels)
    assert bool((thresholds[1:] > thresholds[:-1]).all())

    network.threshold[:, 1] = 0.0  # thresholds that know nothing of the noise

    assert active(network, x, 0.0) == active(network, x, 3.0)


@torch.no_grad()
def test_projection_lands_in_the_set_and_stays() -> None:
    network = small()
    network.analysis.mul_(10.0)
    network.synthesis[0, 0] = 0.01
    network.threshold[0, 0, 0] = -1.0
    short = network.synthesis[0, 0].clone()
    assert float(network.analysis.flatten(2).norm(dim=2).max()) > 1.0

    network.project()

    assert float(network.analysis.flatten(2).norm(dim=2).max()) <= 1.0 + 1e-12
    assert float(network.threshold.min()) >= 0.0
    assert torch.equal(network.synthesis[0, 0], short)  # what was inside is not moved
    before = [values.clone() for values in network.parameters()]
    network.project()
    for values, earlier in zip(network.parameters(), before, strict=True):
        torch.testing.assert_close(values, earlier, rtol=0, atol=1e-15)


@torch.no_grad()
def test_without_constant_thresholds_the_map_is_homogeneous_and_with_them_it_is_not() -> None:
    x = uniform(1, 1, 16, 16)

    def gap(network: CDLNet) -> float:
        return float((network(0.2 * x, 0.2 * SIGMA) - 0.2 * network(x, SIGMA)).abs().max())

    assert gap(small(constant_thresholds=False)) < 1e-14
    assert gap(small()) > 1e-3


def mosaic_mask(height: int, width: int) -> Tensor:
    """RGGB."""
    mask = torch.zeros(1, 3, height, width, dtype=torch.float64)
    mask[:, 0, ::2, ::2] = mask[:, 1, ::2, 1::2] = mask[:, 1, 1::2, ::2] = mask[:, 2, 1::2, 1::2] = 1
    return mask


@torch.no_grad()
def test_what_was_not_measured_does_not_matter() -> None:
    network, mask = small(channels=3), mosaic_mask(12, 14)
    x, other = uniform(1, 3, 12, 14), uniform(1, 3, 12, 14, seed=9)
    mixed = torch.where(mask > 0, x, other)
    torch.testing.assert_close(network(x, SIGMA, mask), network(mixed, SIGMA, mask), rtol=0, atol=1e-14)
    assert float((network(x, SIGMA) - network(mixed, SIGMA)).abs().max()) > 1e-2
    torch.testing.assert_close(network(x, SIGMA, torch.ones_like(x)), network(x, SIGMA))


@torch.no_grad()
def test_an_even_colour_is_demosaicked_exactly() -> None:
    network, mask = small(channels=3), mosaic_mask(13, 11)
    colour = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).reshape(1, 3, 1, 1).expand(1, 3, 13, 11)
    torch.testing.assert_close(network(colour * mask, SIGMA, mask), colour)
    # Had the unmeasured zeros been taken for values, the mean would be too low.
    assert float((network(colour * mask, SIGMA) - colour).abs().max()) > 0.05


@torch.no_grad()
def test_tiles_equal_the_whole_given_halo_and_mean() -> None:
    network, x = small(), uniform(1, 1, 61, 50)
    mean, step = x.mean((2, 3), keepdim=True), network.multiple

    def whole_mean(y: Tensor) -> Tensor:
        return network(y, SIGMA, mean=mean)

    assert tile_gap(whole_mean, x, tile=16, halo=network.halo, align=step) < 1e-12
    assert tile_gap(whole_mean, x, tile=16, halo=network.halo // 2, align=step) > 1e-9
    assert tile_gap(lambda y: network(y, SIGMA), x, tile=16, halo=network.halo, align=step) > 1e-6


@torch.no_grad()
def test_a_map_of_one_level_is_that_level() -> None:
    network, x = small(), uniform(1, 1, 9, 12)
    torch.testing.assert_close(network(x, torch.full_like(x, 0.1)), network(x, SIGMA))
    columns = torch.linspace(0.05, 1.0, 12, dtype=torch.float64)
    assert float((network(x, columns) - network(x, SIGMA)).abs().max()) > 1e-3


def test_the_untrained_iteration_is_stable() -> None:
    network, x = CDLNet(replace(SMALL, filters=12, unfoldings=40)).double(), uniform(1, 1, 32, 32)
    with torch.no_grad():
        assert float((network(x, SIGMA) - x.mean()).abs().max()) < 1.0
        network.analysis.mul_(4.0)
        assert float(network(x, SIGMA).abs().max()) > 1e3


def test_gradients_are_those_of_the_value() -> None:
    network, x = small(filters=3, kernel=3), normal(1, 1, 6, 5).requires_grad_()
    mask = (uniform(1, 1, 6, 5) > 0.2).double()
    assert torch.autograd.gradcheck(lambda y: network(y, SIGMA, mask), (x,))


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 4)])
def test_any_size_works(size: tuple[int, int]) -> None:
    x = torch.rand(1, 1, *size)
    assert CDLNet(SMALL)(x, torch.full_like(x, 0.1)).shape == x.shape


def test_filters_without_a_middle_are_refused() -> None:
    with pytest.raises(PriorError, match="kernel must be odd, not 6"):
        CDLNet(replace(SMALL, kernel=6))


def test_colour_is_refused_by_a_gray_network() -> None:
    with pytest.raises(PriorError, match=r"CDLNet takes pictures of shape \(B, 1, H, W\)"):
        CDLNet(SMALL)(torch.rand(1, 3, 8, 8), torch.tensor(0.1))
