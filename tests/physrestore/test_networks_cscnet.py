"""CSCNet: the paper's size, equality with dense matrices, and the average over shifts that makes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from physrestore.errors import PriorError
from physrestore.networks.cscnet import CSCNet, CSCNetConfig
from physrestore.networks.shrinkage import soft_threshold
from physrestore.tiling import map_tiles
from tests.physrestore.network_laws import SIGMA, normal, parameters, scattered, uniform

SMALL = CSCNetConfig(filters=7, kernel=5, stride=3, unfoldings=3)


def small(config: CSCNetConfig = SMALL) -> CSCNet:
    network = scattered(CSCNet(config))
    assert isinstance(network, CSCNet)
    network.threshold.data.fill_(0.05)
    return network


def test_parameters_are_those_of_the_paper() -> None:
    assert parameters(CSCNet(CSCNetConfig())) == 63_700


def dense(filters: Tensor, side: int, stride: int, size: tuple[int, int]) -> Tensor:
    """(codes, pixels): every code's filter written out over the picture."""
    rows = []
    for i in range(0, size[0] - side + 1, stride):
        for j in range(0, size[1] - side + 1, stride):
            for one in filters:
                picture = torch.zeros(size, dtype=torch.float64)
                picture[i : i + side, j : j + side] = one.reshape(side, side)
                rows.append(picture.flatten())
    return torch.stack(rows)


def by_matrices(network: CSCNet, y: Tensor, synthesis: Tensor) -> Tensor:
    """The unfolding of the paper in matrices, on a picture that the grid fills."""
    config = network.config
    a, b, c = (
        dense(part.detach(), config.kernel, config.stride, (y.shape[-2], y.shape[-1]))
        for part in (synthesis, network.analysis, network.output)
    )
    threshold = network.threshold.detach().repeat(len(b) // config.filters)
    codes = soft_threshold(b @ y.flatten(), threshold)
    for _ in range(config.unfoldings - 1):
        codes = soft_threshold(codes - b @ (a.T @ codes - y.flatten()), threshold)
    return (c.T @ codes).reshape(y.shape)


@torch.no_grad()
def test_one_shift_equals_the_unfolding_in_matrices() -> None:
    network, x = small(), uniform(1, 1, 7, 9)
    # Grid positions 3 - shift .. of the mirrored picture: see the margins of the published code.
    y = F.pad(x, (3 - 2, 3 + 2 + 2, 3 - 1, 3 + 1 + 1), mode="reflect")
    inside = (..., slice(2, 2 + 7), slice(1, 1 + 9))
    torch.testing.assert_close(network.on_grid(x, 1, 2), by_matrices(network, y, network.synthesis)[inside])
    wrong = by_matrices(network, y, network.output)[inside]
    assert float((network.on_grid(x, 1, 2) - wrong).abs().max()) > 1e-3


@given(size=st.integers(1, 40), kernel=st.integers(1, 12), stride=st.integers(1, 8), data=st.data())
def test_margins_make_the_grid_fit_and_move_by_the_shift(
    size: int, kernel: int, stride: int, data: st.DataObject
) -> None:
    kernel = max(kernel, stride)
    shift = data.draw(st.integers(0, stride - 1))
    network = CSCNet(CSCNetConfig(filters=1, kernel=kernel, stride=stride, unfoldings=1))
    before, behind = network._margins(size, shift)
    assert (before + size + behind - kernel) % stride == 0
    assert before == stride - shift
    assert before + size + behind >= kernel
    assert behind >= shift + stride


@torch.no_grad()
def test_the_result_is_the_mean_over_all_shifts() -> None:
    network, x = small(), uniform(2, 1, 8, 11)
    each = torch.stack([network.on_grid(x, i, j) for i in range(3) for j in range(3)])
    torch.testing.assert_close(network(x, SIGMA), each.mean(0))
    assert float((each[0] - each[4]).abs().max()) > 1e-3


@torch.no_grad()
def gap_away_from_the_ends(denoise: Callable[[Tensor], Tensor], x: Tensor, *, halo: int) -> float:
    """As `tile_gap`, but for what is near the bottom and the right.

    There the published padding adds a filter more or less depending on where the picture begins on the grid.
    """
    pieces = map_tiles(lambda part: denoise(part[None])[0], x[0], tile=14, halo=halo, align=1)
    inside = (..., slice(None, -halo), slice(None, -halo))
    return float((pieces - denoise(x)[0])[inside].abs().max())


def test_tiles_anywhere_equal_the_whole_but_not_on_one_grid() -> None:
    network, x = small(), uniform(1, 1, 67, 65)
    reach = network.halo + SMALL.stride
    assert gap_away_from_the_ends(lambda y: network(y, SIGMA), x, halo=reach) < 1e-12
    assert gap_away_from_the_ends(lambda y: network(y, SIGMA), x, halo=reach - 2 * SMALL.stride) > 1e-9
    # A tile that starts off the grid sees another one.
    assert gap_away_from_the_ends(lambda y: network.on_grid(y, 0, 0), x, halo=reach + 1) > 1e-3


def test_the_untrained_iteration_is_stable() -> None:
    network = CSCNet(CSCNetConfig(filters=12, kernel=6, stride=3, unfoldings=60)).double()
    x = uniform(1, 1, 24, 24)
    with torch.no_grad():
        assert float(network(x, SIGMA).abs().max()) < 2.0
        for part in (network.synthesis, network.analysis):
            part.mul_(2.0)  # four times the step: diverges
        assert float(network(x, SIGMA).abs().max()) > 1e3


def test_gradients_are_those_of_the_value() -> None:
    network = small(CSCNetConfig(filters=2, kernel=3, stride=2, unfoldings=2))
    x = normal(1, 1, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: network(y, SIGMA), (x,))


@pytest.mark.parametrize("size", [(1, 1), (3, 20), (12, 2)])
def test_any_size_works(size: tuple[int, int]) -> None:
    assert CSCNet(SMALL)(torch.rand(1, 1, *size), torch.tensor(0.1)).shape == (1, 1, *size)


def test_colour_is_refused_by_a_gray_network() -> None:
    with pytest.raises(PriorError, match=r"CSCNet takes pictures of shape \(B, 1, H, W\)"):
        CSCNet(SMALL)(torch.rand(1, 3, 8, 8), torch.tensor(0.1))
