"""The protocol and what follows from it; channels, values, maps, sides and tiles as the adapters handle them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from physrestore.errors import NoiseOutOfRange, PriorError
from physrestore.priors.base import PriorSpec, prox, red_gradient, score, shaped_like
from physrestore.priors.mixture import Mixture, Strength
from physrestore.priors.network import NetworkPrior
from physrestore.priors.transform import TransformPrior
from tests.physrestore.simple_priors import ANY_LEVEL, Gaussian


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spec(**changes: object) -> PriorSpec:
    return PriorSpec(**{"channels": 1, "noise": "map", "sigma_range": ANY_LEVEL, **changes})


@pytest.mark.parametrize("gamma", [0.25, torch.tensor([0.25, 4.0]), torch.full((1, 1, 6, 6), 0.5)])
def test_prox_red_and_score_match_the_closed_forms_of_a_gaussian(gamma: Tensor | float) -> None:
    x, prior = noise(2, 3, 6, 6), Gaussian()
    g = shaped_like(gamma, x)
    torch.testing.assert_close(prox(prior, x, gamma), x / (1 + g))  # argmin u^2/2 + (u - x)^2 / (2 gamma)
    torch.testing.assert_close(red_gradient(prior, x, g.sqrt()), x - x / (1 + g))
    torch.testing.assert_close(score(prior, x, g.sqrt()), -x / (1 + g))  # of N(0, 1 + sigma^2)


def test_a_variance_given_as_a_deviation_is_seen_by_the_same_law() -> None:
    x = noise(1, 1, 6, 6)
    assert float((Gaussian().denoise(x, 0.25) - x / 1.25).abs().max()) > 0.1


@pytest.mark.parametrize("sigma", [0.1, (2,), (2, 3), (1, 3, 1, 1), (2, 1, 4, 5), (1, 3, 4, 5)])
def test_every_shape_of_a_level_broadcasts(sigma: float | tuple[int, ...]) -> None:
    level = torch.rand(sigma) + 0.1 if isinstance(sigma, tuple) else sigma
    assert Gaussian().denoise(torch.zeros(2, 3, 4, 5), level).shape == (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("sigma", "message"),
    [(torch.ones(3), "does not fit"), (torch.ones(1, 1, 4, 4), "does not fit"), (0.0, "positive"), (-1.0, "positive"),
     (float("nan"), "positive"), (torch.tensor([0.1, 0.0]), "positive")],
)  # fmt: skip
def test_impossible_levels_are_refused(sigma: Tensor | float, message: str) -> None:
    with pytest.raises(PriorError, match=message):
        Gaussian().denoise(torch.zeros(2, 3, 4, 5), sigma)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"noise": "white"}, "one of map"), ({"sigma_range": (0.2, 0.1)}, "rising"),
     ({"sigma_range": (0.0, 0.0)}, "rising"),
     ({"noise": "fixed", "sigma_range": (0.1, 0.2)}, "one number"), ({"value_range": (1.0, 0.0)}, "black and white"),
     ({"halo": -1}, "halo >= 0"), ({"modulo": 0}, "modulo >= 1"), ({"channels": 0}, "channels >= 1")],
)  # fmt: skip
def test_impossible_declarations_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(PriorError, match=message):
        spec(**wrong)


DTYPES = st.sampled_from([torch.float32, torch.float64])


@given(height=st.integers(1, 70), width=st.integers(1, 70), channels=st.integers(1, 4), dtype=DTYPES)
def test_sides_channels_and_dtype_are_handled_for_the_network(
    height: int, width: int, channels: int, dtype: torch.dtype
) -> None:
    seen = []

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append((x.shape, sigma.shape, x.shape[-1] % 8, x.shape[-2] % 8))
        return x - sigma

    prior = NetworkPrior(network, spec(modulo=8), condition="argument")
    x, level = torch.rand(2, channels, height, width).to(dtype), torch.rand(1, channels, height, width) + 0.1
    out = prior.denoise(x, level)
    torch.testing.assert_close(out, x - level.to(dtype))
    assert all(x[1] == s[1] == 1 and x[0] == 2 * channels and (a, b) == (0, 0) for x, s, a, b in seen)


def test_own_values_are_black_plus_unit_times_linear() -> None:
    seen = {}

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        seen["black"], seen["white"], seen["sigma"] = float(x.min()), float(x.max()), sigma.flatten().tolist()
        return x

    bits = spec(noise="scalar", sigma_range=(0.0, 75.0), value_range=(16.0, 235.0))
    x = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])
    torch.testing.assert_close(NetworkPrior(network, bits, condition="argument").denoise(x, 0.1), x)
    assert (seen["black"], seen["white"]) == (16.0, 235.0)
    assert seen["sigma"] == pytest.approx([21.9])


def test_one_level_for_a_map_is_its_root_mean_square_per_image_and_channel() -> None:
    level = torch.tensor([3.0, 4.0])[:, None].expand(2, 2)[None, None] * torch.tensor([1.0, 2.0])[:, None, None, None]
    prior = NetworkPrior(lambda x, s: x + s[:, None, None, None], spec(noise="scalar"), condition="argument")
    out = prior.denoise(torch.zeros(2, 3, 2, 2), level)
    rms = 12.5**0.5
    torch.testing.assert_close(out, torch.tensor([rms, 2 * rms])[:, None, None, None].expand(2, 3, 2, 2))


def test_a_single_map_for_all_channels_is_their_root_mean_square() -> None:
    rgb = spec(channels=3)
    network = NetworkPrior(lambda x, s: x + s.expand_as(x), rgb, condition="argument", map_channels="one")
    out = network.denoise(torch.zeros(1, 3, 2, 2), torch.tensor([[1.0, 2.0, 2.0]]))
    torch.testing.assert_close(out, torch.full((1, 3, 2, 2), 3.0**0.5))


def test_the_level_as_further_channels() -> None:
    seen = []
    prior = NetworkPrior(lambda x: seen.append(x) or x[:, :3], spec(channels=3), condition="channels")
    prior.denoise(torch.zeros(1, 3, 4, 4), torch.tensor([[0.1, 0.2, 0.3]]))
    assert seen[0].shape == (1, 6, 4, 4)
    torch.testing.assert_close(seen[0][0, 3:, 0, 0], torch.tensor([0.1, 0.2, 0.3]))


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("halo", [4, 1])
def test_tiles_carry_the_map_and_a_sufficient_halo_makes_them_exact(mapped: bool, halo: int) -> None:
    def network(x: Tensor, sigma: Tensor) -> Tensor:
        return F.avg_pool2d(x * sigma, 9, stride=1, padding=4, count_include_pad=False)

    x = noise(2, 3, 90, 75)
    level = torch.rand(1, 3, 90, 75) + 0.1 if mapped else torch.tensor([0.5, 2.0])
    whole = NetworkPrior(network, spec(halo=4), condition="argument", tile=None).denoise(x, level)
    tiled = NetworkPrior(network, spec(halo=halo), condition="argument", tile=16).denoise(x, level)
    gap = float((whole - tiled).abs().max())
    assert gap < 1e-6 if halo == 4 else gap > 1e-2  # the second is the planted fault


def test_gradients_flow_through_tiles_only_where_declared() -> None:
    x = noise(1, 1, 40, 40).requires_grad_()
    through = NetworkPrior(lambda x, s: 2 * x + s, spec(), condition="argument", tile=16).denoise(x, 0.1)
    (gradient,) = torch.autograd.grad(through.sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, 2.0))
    cut = NetworkPrior(lambda x, s: 2 * x + s, spec(differentiable=False), condition="argument").denoise(x, 0.1)
    assert not cut.requires_grad


@pytest.mark.parametrize(("octaves", "taken"), [(0.24, True), (-0.24, True), (0.26, False), (-0.26, False)])
def test_a_fixed_level_is_refused_a_quarter_octave_away(octaves: float, taken: bool) -> None:
    fixed = spec(noise="fixed", sigma_range=(25.0, 25.0), value_range=(0.0, 255.0))
    prior, level = NetworkPrior(lambda x: x, fixed, condition="none"), 25 / 255 * 2**octaves
    if taken:
        prior.denoise(torch.zeros(1, 1, 4, 4), level)
        return
    with pytest.raises(
        NoiseOutOfRange, match=r"made for noise of standard deviation 0\.098 .* and no other.*0\.26 oct"
    ):
        prior.denoise(torch.zeros(1, 1, 4, 4), level)


def test_one_place_of_a_map_outside_the_range_is_enough_to_refuse() -> None:
    prior = NetworkPrior(lambda x, s: x + s, spec(sigma_range=(0.01, 0.2)), condition="argument")
    level = torch.full((1, 1, 4, 4), 0.1)
    level[..., 2, 2] = 0.5
    with pytest.raises(NoiseOutOfRange, match=r"0\.01 to 0\.2 .* given is 0\.1 to 0\.5"):
        prior.denoise(torch.zeros(1, 1, 4, 4), level)


def test_wrong_use_is_explained() -> None:
    with pytest.raises(PriorError, match="contradicts noise='fixed'"):
        NetworkPrior(lambda x: x, spec(noise="fixed", sigma_range=(1.0, 1.0)), condition="argument")
    with pytest.raises(PriorError, match="images of 3 channels, not 4"):
        NetworkPrior(lambda x: x, spec(channels=3, noise="blind"), condition="none").denoise(torch.zeros(1, 4, 4, 4), 1)
    with pytest.raises(PriorError, match="floating-point image"):
        Gaussian().denoise(torch.zeros(4, 4), 0.1)
    with pytest.raises(PriorError, match=r"made \(1, 1, 6, 6\) of an image of \(1, 1, 8, 8\).*does modulo=2 suit"):
        NetworkPrior(torch.nn.Conv2d(1, 1, 3), spec(noise="blind", modulo=2), condition="none").denoise(
            torch.zeros(1, 1, 7, 7), 0.1
        )
    network = NetworkPrior(torch.nn.Conv2d(1, 1, 1).to("meta"), spec(noise="blind"), condition="none")
    with pytest.raises(PriorError, match="network is on meta, the image on cpu"):
        network.denoise(torch.zeros(1, 1, 4, 4), 0.1)


def test_a_module_computes_in_its_own_dtype_and_evaluation_mode() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.Dropout(0.9)).double()
    prior = NetworkPrior(module, spec(noise="blind"), condition="none")
    x = noise(1, 1, 8, 8)
    torch.testing.assert_close(prior.denoise(x, 0.1), module[0](x.double()).float())


def test_mixture_and_strength_are_weighted_means() -> None:
    x = noise(1, 2, 8, 8)
    twice = NetworkPrior(lambda x: 2 * x, spec(noise="blind", sigma_range=(0.1, 2.0), halo=3), condition="none")
    mixed = Mixture([Gaussian(), twice], [1.0, 3.0])
    torch.testing.assert_close(mixed.denoise(x, 1.0), 0.25 * x / 2 + 0.75 * 2 * x)
    assert (mixed.spec.noise, mixed.spec.sigma_range, mixed.spec.halo) == ("map", (0.1, 2.0), 3)
    per_channel = Strength(twice, torch.tensor([0.0, 0.5])[:, None, None]).denoise(x, 1.0)
    torch.testing.assert_close(per_channel, torch.stack([x[:, 0], 1.5 * x[:, 1]], dim=1))
    with pytest.raises(PriorError, match="between 0 and 1"):
        Strength(twice, 1.5)
    with pytest.raises(PriorError, match="a weight for each of 1"):
        Mixture([twice], [1.0, 1.0])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_default_prior_removes_more_where_the_map_says_more(channels: int) -> None:
    level = torch.full((1, 1, 96, 96), 0.02)
    level[..., 48:] = 0.1
    out = TransformPrior().denoise(0.5 + level * noise(2, channels, 96, 96), level) - 0.5
    assert float(out[..., :40].std()) < 0.2 * 0.02
    assert float(out[..., 56:].std()) < 0.2 * 0.1
