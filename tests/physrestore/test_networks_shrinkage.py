"""The parts that sparse networks share: shrinkage, patches, borders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from physrestore.errors import PriorError
from physrestore.networks.borders import (
    level_in_blocks,
    mirror_indices,
    pad_mirrored,
    pad_to_multiple,
    require_pictures,
)
from physrestore.networks.patches import add_patches, average_patches, take_patches, weight_of_pixels
from physrestore.networks.shrinkage import largest_eigenvalue, lista_step, soft_threshold
from tests.physrestore.network_laws import normal, uniform


def test_soft_threshold_minimises_what_it_is_the_prox_of() -> None:
    grid = torch.linspace(-4, 4, 80_001, dtype=torch.float64)
    for value in (-2.3, -0.4, 0.0, 0.7, 3.1):
        cost = 0.5 * (grid - value).square() + 0.8 * grid.abs()
        shrunk = soft_threshold(torch.tensor(value, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64))
        assert float(shrunk) == pytest.approx(float(grid[cost.argmin()]), abs=1e-4)  # the grid's step


def firmness(shrink: object, seed: int) -> float:
    """Smallest <Sx - Sy, (x - y) - (Sx - Sy)>: not negative for a prox."""
    x, y = normal(1000, seed=seed), normal(1000, seed=seed + 1)
    moved = shrink(x) - shrink(y)
    return float((moved * (x - y - moved)).min())


def test_soft_threshold_is_firmly_nonexpansive_and_hard_threshold_is_not() -> None:
    level = torch.tensor(0.5, dtype=torch.float64)
    assert firmness(lambda x: soft_threshold(x, level), 0) >= -1e-15
    assert firmness(lambda x: x * (x.abs() > level), 0) < -1e-3


def test_negative_thresholds_continue_as_in_the_published_code() -> None:
    x, threshold = normal(500), torch.tensor(-0.3, dtype=torch.float64)
    above, below = (x > threshold).double(), (x < -threshold).double()
    torch.testing.assert_close(
        soft_threshold(x, threshold), above * (x - threshold) + below * (x + threshold), rtol=0, atol=1e-15
    )


def test_soft_threshold_has_the_gradient_of_its_value() -> None:
    x = normal(40)
    x = x[(x.abs() - 0.5).abs() > 1e-3].requires_grad_()  # away from the kinks
    threshold = torch.full_like(x, 0.5).requires_grad_()
    assert torch.autograd.gradcheck(soft_threshold, (x, threshold))


def test_iterating_the_step_solves_the_lasso() -> None:
    # Nearly orthogonal atoms: the iteration is at rest after a thousand steps.
    dictionary = torch.cat([torch.eye(12), 0.3 * normal(12, 8)], dim=1).double()
    signal = normal(3, 12, seed=1)
    curvature = torch.linalg.matrix_norm(dictionary, 2).square()
    codes = torch.zeros(3, 20, dtype=torch.float64)
    for _ in range(3000):
        correlation = (signal - codes @ dictionary.T) @ dictionary
        codes = lista_step(codes, correlation / curvature, 0.5 / curvature)
    slope = (signal - codes @ dictionary.T) @ dictionary
    assert float(slope.abs().max()) < 0.5 + 1e-6
    torch.testing.assert_close(slope[codes != 0], 0.5 * codes.sign()[codes != 0], rtol=0, atol=1e-6)


def test_power_method_finds_the_largest_eigenvalue() -> None:
    root = normal(9, 9)
    matrix = root @ root.T
    top = float(torch.linalg.eigvalsh(matrix).max())
    assert largest_eigenvalue(lambda x: matrix @ x, normal(9, seed=2), iterations=500) == pytest.approx(top, rel=1e-9)
    assert largest_eigenvalue(lambda x: matrix @ x, normal(9, seed=2), iterations=1) < 0.99 * top


@pytest.mark.parametrize("stride", [1, 3])
def test_adding_patches_is_the_adjoint_of_taking_them(stride: int) -> None:
    x = normal(2, 3, 11, 14)
    patches = take_patches(x, 5, stride=stride)
    other = normal(*patches.shape, seed=3)
    back = add_patches(other, (11, 14), 5, stride=stride)
    assert float((patches * other).sum()) == pytest.approx(float((x * back).sum()), rel=1e-12)
    assert float((patches * other).sum()) != pytest.approx(float((x * back.flip(3)).sum()), rel=1e-3)


def naive_average(patches: Tensor, weights: Tensor, size: tuple[int, int]) -> Tensor:
    side = len(weights)
    total, weight = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    places = [(i, j) for i in range(size[0] - side + 1) for j in range(size[1] - side + 1)]
    for patch, (i, j) in zip(patches, places, strict=True):
        total[i : i + side, j : j + side] += weights * patch.reshape(side, side)
        weight[i : i + side, j : j + side] += weights
    return total / weight


def test_patch_averaging_equals_a_loop_over_patches() -> None:
    patches, weights = normal(1, 4 * 6, 9), uniform(3, 3, seed=4) + 0.1
    averaged = average_patches(patches, weights, (6, 8))
    torch.testing.assert_close(averaged[0, 0], naive_average(patches[0], weights, (6, 8)))
    assert float((averaged[0, 0] - naive_average(patches[0], weights.T, (6, 8))).abs().max()) > 1e-3


def test_weight_of_pixels_is_the_sum_of_the_weights_over_them() -> None:
    weights = uniform(4, 4)
    ones = weights.flatten().expand(1, 5 * 7, 16)
    torch.testing.assert_close(weight_of_pixels(weights, (8, 10)), add_patches(ones, (8, 10), 4))


@given(before=st.integers(0, 30), size=st.integers(1, 12), after=st.integers(0, 30))
def test_mirror_agrees_with_numpy(before: int, size: int, after: int) -> None:
    line = np.arange(size)
    expected = np.pad(line, (before, after), mode="reflect" if size > 1 else "edge")
    assert mirror_indices(before, size, after).tolist() == expected.tolist()


def test_mirrored_border_of_a_picture() -> None:
    x = normal(1, 2, 5, 7)
    torch.testing.assert_close(
        pad_mirrored(x, left=2, right=3, top=1, bottom=4), F.pad(x, (2, 3, 1, 4), mode="reflect")
    )
    assert pad_to_multiple(x, 4).shape == (1, 2, 8, 8)
    assert pad_to_multiple(x[..., :4, :4], 4).shape == (1, 2, 4, 4)


def test_level_in_blocks_keeps_variance() -> None:
    sigma = uniform(2, 1, 8, 6)
    blocks = level_in_blocks(sigma, (8, 6), 2)
    assert blocks.shape == (2, 1, 4, 3)
    torch.testing.assert_close(blocks.square().mean(), sigma.square().mean())
    assert abs(float(blocks.mean() - sigma.mean())) > 1e-3  # it is the variance that is kept
    assert level_in_blocks(torch.tensor(0.3), (8, 6), 2).shape == (1, 1, 1, 1)
    rows = torch.tensor([1.0, 1.0, 3.0, 3.0]).reshape(1, 1, 4, 1)
    assert level_in_blocks(rows, (4, 5), 2)[0, 0].tolist() == [[1.0] * 3, [3.0] * 3]


@pytest.mark.parametrize("shape", [(4, 4), (1, 3, 4, 4), (0, 1, 4, 4), (1, 1, 0, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PriorError, match=r"DnCNN takes pictures of shape \(B, 1, H, W\), not"):
        require_pictures(torch.zeros(shape), channels=1, network="DnCNN")
