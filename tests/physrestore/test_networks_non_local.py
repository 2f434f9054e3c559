"""The search for similar patches against loops, and patches against their adjoint."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from physrestore.networks import non_local
from physrestore.networks.lidia_patches import PatchMatrices, PatchSum, add_dilated, coverage, smooth, take_dilated
from physrestore.networks.non_local import box_sum, nearest_offsets
from tests.physrestore.network_laws import normal, uniform


@pytest.mark.parametrize("size", range(1, 10))
def test_box_sums_are_sums_over_boxes(size: int) -> None:
    x = uniform(2, 11, 13)
    slow = x.unfold(1, size, 1).unfold(2, size, 1).sum((-1, -2))
    torch.testing.assert_close(box_sum(x, size), slow, rtol=0, atol=1e-12)


def test_large_values_leave_no_rounding_beside_them() -> None:
    x = 1e-3 * uniform(40, 40).float()
    x[:, :20] *= 1e9
    exact = x.double().unfold(0, 7, 1).unfold(1, 7, 1).sum((-1, -2))[:, 20:]
    torch.testing.assert_close(box_sum(x, 7)[:, 20:].double(), exact, rtol=1e-6, atol=0)
    # What differences of running sums make of it: the reason for the other way.
    running = torch.nn.functional.pad(x.cumsum(0).cumsum(1), (1, 0, 1, 0))
    by_difference = running[7:, 7:] - running[:-7, 7:] - running[7:, :-7] + running[:-7, :-7]
    assert float((by_difference[:, 20:] / exact - 1).abs().max()) > 1.0


def slowly(image: Tensor, patch: int, radius: int, count: int, step: int) -> Tensor:
    """Shifts of the nearest patches by loops over patches and shifts."""
    reach, span = radius * step, step * (patch - 1) + 1
    height, width = (size - 2 * reach - span + 1 for size in image.shape[-2:])
    found = torch.empty(image.shape[0], height, width, count, dtype=torch.int16)

    def taken(b: int, top: int, left: int) -> Tensor:
        return image[b, 0, top : top + span : step, left : left + span : step]

    for b in range(image.shape[0]):
        for i in range(height):
            for j in range(width):
                own = taken(b, i + reach, j + reach)
                distances = [
                    float((taken(b, i + k * step, j + m * step) - own).square().sum())
                    for k in range(2 * radius + 1)
                    for m in range(2 * radius + 1)
                ]
                distances[len(distances) // 2] = -1.0
                order = sorted(range(len(distances)), key=distances.__getitem__)
                found[b, i, j] = torch.tensor(order[:count], dtype=torch.int16)
    return found


@pytest.mark.parametrize(
    ("patch", "radius", "count", "step"), [(3, 2, 5, 1), (2, 1, 9, 1), (3, 2, 4, 2), (1, 3, 3, 3), (2, 5, 3, 1)]
)
def test_nearest_patches_are_those_that_loops_find(patch: int, radius: int, count: int, step: int) -> None:
    margin = step * (2 * radius + patch - 1)
    image = uniform(2, 1, margin + 5, margin + 4)
    found = nearest_offsets(image, patch=patch, radius=radius, count=count, step=step)
    assert torch.equal(found, slowly(image, patch, radius, count, step))
    # Another patch size finds others.
    other = nearest_offsets(image, patch=patch + 1, radius=radius, count=count, step=step)
    assert not torch.equal(found[:, : other.shape[1], : other.shape[2]], other)


def test_the_size_of_tiles_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    image = uniform(1, 1, 30, 33)
    whole = nearest_offsets(image, patch=3, radius=6, count=5)
    monkeypatch.setattr(non_local, "_BUFFER", 2 * 13**2 * 7)
    monkeypatch.setattr(non_local, "_COLUMNS", 7)
    assert torch.equal(nearest_offsets(image, patch=3, radius=6, count=5), whole)


def test_among_equal_patches_the_own_comes_first() -> None:
    found = nearest_offsets(torch.zeros(1, 1, 20, 20), patch=3, radius=4, count=6)
    assert bool((found[..., 0] == 9 * 9 // 2).all())
    assert bool((found[..., 1:] != 9 * 9 // 2).all())


def test_what_holds_no_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(10, 10\) holds no window of 11 x 11: pad"):
        nearest_offsets(torch.zeros(1, 1, 10, 10), patch=3, radius=4, count=6)
    with pytest.raises(ValueError, match="window of 9 patches has no 10 nearest"):
        nearest_offsets(torch.zeros(1, 1, 10, 10), patch=3, radius=1, count=10)


@pytest.mark.parametrize(("patch", "step"), [(3, 1), (2, 2), (3, 2)])
def test_adding_patches_is_the_adjoint_of_taking_them(patch: int, step: int) -> None:
    x = normal(2, 3, 9, 10)
    taken = take_dilated(x, patch, step)
    patches = normal(*taken.shape, seed=1)
    there, back = (taken * patches).sum(), (x * add_dilated(patches, patch, step)).sum()
    torch.testing.assert_close(there, back)
    assert abs(float((x * add_dilated(patches.flip(3), patch, step)).sum() - there)) > 1e-3


@pytest.mark.parametrize(("patch", "step"), [(3, 1), (3, 2), (5, 2)])
def test_the_mean_of_a_pictures_own_patches_is_the_picture(patch: int, step: int) -> None:
    x = normal(2, 3, 13, 14)
    patches = take_dilated(x, patch, step)
    height, width = patches.shape[1:3]
    picture = PatchSum(x, (2, 3, height, width), patch=patch, step=step)
    picture.add(0, patches[:, :2])
    assert float((picture.mean() - x).abs().max()) > 0.1  # the rest is missing
    picture.add(2, patches[:, 2:])
    torch.testing.assert_close(picture.mean(), x)
    ones = torch.ones(1, height, width, patch**2)
    torch.testing.assert_close(coverage(height, width, patch, step), add_dilated(ones, patch, step)[0, 0])


def test_smoothing_is_binomial() -> None:
    x = torch.zeros(5, 5)
    x[2, 2] = 16.0
    assert smooth(x).tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


@pytest.mark.parametrize("step", [1, 2])
def test_matrices_hold_a_patch_and_then_its_nearest(step: int) -> None:
    patch, radius, count = 3, 2, 4
    margin = step * (2 * radius + patch - 1)
    image = uniform(2, 1, margin + 6, margin + 5)
    offsets = nearest_offsets(image, patch=patch, radius=radius, count=count, step=step)
    matrices = PatchMatrices(image, offsets, patch=patch, radius=radius, step=step)
    blocks = torch.cat(list(matrices.blocks(2, 3, 7)), dim=1).view(count, 2, 3, 5, patch**2)
    own = take_dilated(image[..., radius * step : -radius * step, radius * step : -radius * step], patch, step)
    torch.testing.assert_close(blocks[0], own[:, 2:5])
    distances = (blocks - blocks[0]).square().sum(-1)
    assert bool((distances[1:] >= distances[:-1]).all())
    assert bool((distances[1:] > 0).all())
