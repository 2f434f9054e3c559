"""GroupSC has no published weights at hand; what it computes is held to loops, and to laws of coding with a mask."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from physrestore.errors import PriorError
from physrestore.networks.group_threshold import group_threshold, soft_similarity, window_of
from physrestore.networks.groupsc import GroupSC, GroupSCConfig
from physrestore.networks.patches import take_patches
from tests.physrestore.network_laws import normal, parameters, scattered, uniform

SIGMA = torch.tensor(0.1)
TINY = GroupSCConfig(channels=2, patch=2, atoms=5, unfoldings=6, refresh=2, block=6, stride=4)


def tiny(config: GroupSCConfig = TINY) -> GroupSC:
    network = scattered(GroupSC(config))
    assert isinstance(network, GroupSC)
    return network


def complete(threshold: float, config: GroupSCConfig = TINY) -> GroupSC:
    """With an orthonormal dictionary of all patches: codes can hold everything."""
    values = config.channels * config.patch**2
    network = GroupSC(GroupSCConfig(**{**vars(config), "atoms": values})).double()
    basis, _ = torch.linalg.qr(normal(values, values))
    with torch.no_grad():
        network.synthesis.copy_(basis)
        network.output.copy_(basis)
        network.analysis.copy_(basis.t())
        network.threshold.fill_(threshold)
    return network.eval()


def bayer(height: int, width: int) -> Tensor:
    """RGGB as a mask (1, 3, H, W)."""
    mask = torch.zeros(1, 3, height, width, dtype=torch.float64)
    mask[:, 0, ::2, ::2] = mask[:, 1, ::2, 1::2] = mask[:, 1, 1::2, ::2] = mask[:, 2, 1::2, 1::2] = 1
    return mask


def test_parameters_are_as_many_as_published() -> None:
    assert parameters(GroupSC(GroupSCConfig.published())) == 119_188
    assert parameters(GroupSC(GroupSCConfig.published(channels=1))) == 68_434
    assert GroupSCConfig.published(mosaic=True).refresh == 8


def test_similarity_is_that_of_loops() -> None:
    features = normal(2, 12, 3)
    similarity = soft_similarity(features, window_of(3, 4, 1))
    for b in range(2):
        for i in range(12):
            for j in range(12):
                near = max(abs(i // 4 - j // 4), abs(i % 4 - j % 4)) <= 1
                expected = float(torch.exp(-(features[b, i] - features[b, j]).square().sum())) if near else 0.0
                assert float(similarity[b, i, j]) == pytest.approx(expected, abs=1e-12)
    wider = soft_similarity(features, window_of(3, 4, 2))
    assert float((wider - similarity).abs().max()) > 0.01


def test_without_a_threshold_nothing_shrinks() -> None:
    codes, similarity = normal(2, 9, 4), soft_similarity(normal(2, 9, 3), window_of(3, 3, 3))
    assert torch.equal(group_threshold(codes, similarity, torch.zeros(4).double()), codes)
    assert not torch.equal(group_threshold(codes, similarity, torch.full((4,), 1e-3).double()), codes)


def test_a_patch_like_no_other_is_soft_thresholded() -> None:
    codes, threshold = normal(1, 6, 4), torch.tensor([0.1, 0.5, 1.0, 2.0]).double()
    alone = torch.eye(6).double()[None]
    soft = codes.sign() * (codes.abs() - threshold).clamp(min=0.0)
    torch.testing.assert_close(group_threshold(codes, alone, threshold), soft, rtol=0, atol=1e-6)
    assert float((group_threshold(codes, alone + 0.5, threshold) - soft).abs().max()) > 0.05


def test_patches_alike_live_and_die_together() -> None:
    codes, together = normal(1, 50, 3), torch.ones(1, 50, 50).double()
    level = codes.square().mean(1).sqrt()[0]
    assert int(group_threshold(codes, together, 1.001 * level).count_nonzero()) == 0
    assert bool((group_threshold(codes, together, 0.999 * level) != 0).all())
    # One by one, some would have lived and some died at the same threshold.
    one_by_one = group_threshold(codes, torch.eye(50).double()[None], level)
    assert 0 < int((one_by_one.abs() > 1e-9).sum()) < 150


def test_the_order_of_patches_does_not_matter_to_the_threshold() -> None:
    codes, similarity = normal(1, 9, 4), soft_similarity(normal(1, 9, 3), window_of(3, 3, 1))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    threshold = torch.full((4,), 0.4).double()
    plain = group_threshold(codes, similarity, threshold)
    turned = group_threshold(codes[:, order], similarity[:, order][:, :, order], threshold)
    torch.testing.assert_close(turned, plain[:, order])
    half_turned = group_threshold(codes[:, order], similarity[:, order], threshold)
    assert float((half_turned - plain[:, order]).abs().max()) > 1e-3


def slowly(network: GroupSC, x: Tensor, mask: Tensor | None) -> Tensor:
    """One block (C, h, w) without border by loops over patches, atoms and pixels; as the paper writes it."""
    config, (channels, height, width) = network.config, x.shape
    side, threshold = config.patch, network.threshold
    places = [(i, j) for i in range(height - side + 1) for j in range(width - side + 1)]
    radius = min(height - side + 1, width - side + 1) // 2

    def taken(image: Tensor) -> list[Tensor]:
        return [image[:, i : i + side, j : j + side].flatten() for i, j in places]

    known = taken(torch.ones_like(x) if mask is None else mask)
    mean = [(p * k).sum() / k.sum() for p, k in zip(taken(x), known, strict=True)]
    patches = [(p - m) * k for p, k, m in zip(taken(x), known, mean, strict=True)]

    def alike(features: list[Tensor]) -> list[list[float]]:
        def near(a: int, b: int) -> bool:
            return all(abs(places[a][axis] - places[b][axis]) <= radius for axis in (0, 1))

        count = range(len(places))
        gaps = [[float((features[a] - features[b]).square().sum()) for b in count] for a in count]
        return [[math.exp(-gaps[a][b]) if near(a, b) else 0.0 for b in count] for a in count]

    def shrunk(codes: list[Tensor], weights: list[list[float]], level: Tensor) -> list[Tensor]:
        result = []
        for a, code in enumerate(codes):
            energy = sum(w * c.square() for w, c in zip(weights[a], codes, strict=True))
            size = (energy / sum(weights[a])).sqrt()
            result.append(torch.where(size > level, (1 - level / size) * code, torch.zeros_like(code)))
        return result

    def image_of(codes: list[Tensor]) -> Tensor:
        total, count = torch.zeros_like(x), torch.zeros_like(x)
        for (i, j), code, m in zip(places, codes, mean, strict=True):
            total[:, i : i + side, j : j + side] += (network.output @ code + m).view(channels, side, side)
            count[:, i : i + side, j : j + side] += 1
        return total / count

    first = [p * network.metric for p in patches]
    weights = alike(first if mask is None else [f.view(channels, -1).sum(0) for f in first])
    codes = shrunk([network.analysis @ p for p in patches], weights, threshold[0])
    share = float(torch.sigmoid(network.mix))
    for k in range(config.unfoldings - 1):
        if k % config.refresh == 0 and k != 0:
            new = alike([(p - m) * network.metric for p, m in zip(taken(image_of(codes)), mean, strict=True)])
            weights = [
                [(1 - share) * o + share * n for o, n in zip(*rows, strict=True)]
                for rows in zip(weights, new, strict=True)
            ]
        residuals = [(p - network.synthesis @ c) * k_ for p, c, k_ in zip(patches, codes, known, strict=True)]
        codes = shrunk(
            [c + network.analysis @ r for c, r in zip(codes, residuals, strict=True)], weights, threshold[k + 1]
        )
    return image_of(codes)


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True])
def test_the_network_is_that_of_loops(masked: bool) -> None:
    network, x = tiny(), uniform(1, 2, 4, 5)
    mask = None
    if masked:
        # Columns take turns, so that every patch has measured values of both channels.
        mask = torch.zeros_like(x)
        mask[:, 0, :, ::2] = mask[:, 1, :, 1::2] = 1
        x = x * mask
    patches = network._restore(x, torch.ones_like(x) if mask is None else mask, mosaic=masked)
    expected = slowly(network, x[0], None if mask is None else mask[0])
    count = torch.zeros(4, 5).double()
    total = torch.zeros(2, 4, 5).double()
    for (i, j), patch in zip([(i, j) for i in range(3) for j in range(4)], patches[0], strict=True):
        total[:, i : i + 2, j : j + 2] += patch.view(2, 2, 2)
        count[i : i + 2, j : j + 2] += 1
    torch.testing.assert_close(total / count, expected, rtol=0, atol=1e-6)
    network.mix += 1.0
    other = slowly(network, x[0], None if mask is None else mask[0])
    assert float((other - expected).abs().max()) > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (17, 11)])
def test_without_a_threshold_a_complete_dictionary_gives_back_any_picture(size: tuple[int, int]) -> None:
    x = uniform(2, 2, *size)
    torch.testing.assert_close(complete(0.0)(x, SIGMA), x)
    if min(size) > 1:
        assert float((complete(0.1)(x, SIGMA) - x).abs().max()) > 0.01


@torch.no_grad()
def test_measured_values_return_as_the_threshold_goes_to_zero() -> None:
    config = GroupSCConfig(channels=3, patch=3, unfoldings=8, refresh=3, block=12, stride=8)
    x, mask = uniform(1, 3, 14, 13), bayer(14, 13)
    gaps = []
    for threshold in (0.1, 0.01, 0.001, 0.0):
        error = (complete(threshold, config)(x, SIGMA, mask) - x).abs()
        gaps.append(float(error[mask.expand_as(error) > 0].max()))
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2]
    assert gaps[3] < 1e-12
    # What was not measured is not known: there it differs.
    assert float(error[mask.expand_as(error) == 0].max()) > 0.1


@torch.no_grad()
def test_what_was_not_measured_does_not_matter() -> None:
    network, mask = (
        tiny(GroupSCConfig(channels=3, patch=3, atoms=8, unfoldings=4, refresh=2, block=9, stride=6)),
        bayer(10, 11),
    )
    x, other = uniform(2, 3, 10, 11), uniform(2, 3, 10, 11, seed=5)
    mixed = torch.where(mask > 0, x, other)
    torch.testing.assert_close(network(mixed, SIGMA, mask), network(x, SIGMA, mask))
    assert float((network(mixed, SIGMA) - network(x, SIGMA)).abs().max()) > 0.01


@torch.no_grad()
def test_pictures_of_a_batch_are_apart_and_large_blocks_are_one() -> None:
    network, x = tiny(), uniform(2, 2, 13, 9)
    y = network(x, SIGMA)
    torch.testing.assert_close(network(x[1:], SIGMA), y[1:])
    whole = GroupSC(GroupSCConfig(**{**vars(TINY), "block": 99, "stride": 1})).double().eval()
    whole.load_state_dict(network.state_dict())
    larger = GroupSC(GroupSCConfig(**{**vars(TINY), "block": 120, "stride": 119})).double().eval()
    larger.load_state_dict(network.state_dict())
    torch.testing.assert_close(larger(x, SIGMA), whole(x, SIGMA))
    assert float((whole(x, SIGMA) - y).abs().max()) > 1e-6  # windows are larger


def test_blocks_cover_every_patch() -> None:
    network = tiny()
    for height, width in ((3, 6), (7, 15), (23, 8)):
        seen = torch.zeros(height, width)
        for rows, columns in network._blocks(height, width):
            seen[rows.start : rows.stop - 1, columns.start : columns.stop - 1] += 1
        assert bool((seen[:-1, :-1] > 0).all())
    with pytest.raises(ValueError, match=r"stride must be 1 to block - patch \+ 1 = 5, not 6"):
        GroupSCConfig(**{**vars(TINY), "stride": 6})


def test_every_parameter_learns_and_thresholds_stay_thresholds() -> None:
    network, x = tiny().train(), uniform(2, 2, 7, 8)
    torch.autograd.backward((network(x, SIGMA) - uniform(2, 2, 7, 8, seed=1)).square().mean())
    still = [name for name, values in network.named_parameters() if values.grad is None or not values.grad.any()]
    assert still == []
    with torch.no_grad():
        network.threshold[0] = -0.5
    network.project()
    assert float(network.threshold.detach().min()) == 0.0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(PriorError, match=r"mask of shape \(1, 2, 4, 4\) does not fit \(1, 2, 5, 5\)"):
        tiny()(torch.zeros(1, 2, 5, 5), SIGMA, torch.ones(1, 2, 4, 4))
    with pytest.raises(PriorError, match=r"GroupSC takes pictures of shape \(B, 2, H, W\), not \(1, 3, 5, 5\)"):
        tiny()(torch.zeros(1, 3, 5, 5), SIGMA)


def test_take_patches_orders_values_as_the_loops_do() -> None:
    x = uniform(1, 2, 4, 5)
    assert torch.equal(take_patches(x, 2)[0, 5], x[0, :, 1:3, 1:3].flatten())
