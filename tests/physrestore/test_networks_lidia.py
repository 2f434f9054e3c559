"""LIDIA: layers against plain algebra, passes against each other, the authors' weights against their quality."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from physrestore.errors import PriorError
from physrestore.networks import lidia_pass
from physrestore.networks.lidia import LIDIA, LIDIAConfig
from physrestore.networks.lidia_layers import RowWeights, SeparableBlock, SeparableLayer
from physrestore.networks.lidia_published import published_lidia, renamed
from physrestore.quality import psnr
from physrestore.weights import load
from tests.physrestore.network_laws import normal, parameters, uniform
from tests.shared_data import shared

LEVEL = 25 / 255
SIGMA = torch.tensor(0.1)
SMALL = LIDIAConfig(patch=3, features=4, neighbours=3, radius=3)


def tiny(config: LIDIAConfig = SMALL, *, seed: int = 1) -> LIDIA:
    """In float64, with every parameter and every remembered statistic drawn at random."""
    network, generator = LIDIA(config).double().eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in network.parameters():
            values.add_(0.2 * torch.randn(values.shape, generator=generator, dtype=torch.float64))
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm1d):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.running_mean.normal_(generator=generator)
                norm.running_var.uniform_(0.5, 2.0, generator=generator)
    return network


@pytest.mark.parametrize("rows", [(3, 5), (5, 2), (4, 4)])
def test_a_separable_layer_multiplies_from_both_sides(rows: tuple[int, int]) -> None:
    layer = SeparableLayer(rows, (6, 7)).double()
    layer.reset(torch.Generator().manual_seed(0))
    nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(1))
    x = normal(rows[0], 9, 6)
    slowly = torch.stack([layer.row_weight @ x[:, n] @ layer.column_weight.t() + layer.bias for n in range(9)], dim=1)
    torch.testing.assert_close(layer(x), slowly)
    assert float((layer(x.flip(0)) - slowly).detach().abs().max()) > 0.1


def test_normalisation_in_the_weights_is_normalisation_behind_them() -> None:
    layer = SeparableLayer((3, 4), (5, 6), norm=True, rectify=True).double()
    layer.reset(torch.Generator().manual_seed(0))
    assert layer.norm is not None
    x = normal(3, 50, 5)
    layer.norm.momentum = 1.0
    trained = layer(x)
    remembered = layer.eval()(x)
    # 300 values a row: the remembered variance is the unbiased one.
    torch.testing.assert_close(remembered, trained, rtol=5 / 300, atol=5 / 300)
    layer.norm.running_mean += 1.0
    assert float((layer(x) - trained).detach().abs().max()) > 0.1


def test_the_bypass_of_a_block_goes_from_the_second_layer_to_the_first() -> None:
    block = SeparableBlock((3, 3), (5, 4), norm=False, deep=True).double().eval()
    for layer in (block.first, block.second):
        assert isinstance(layer, SeparableLayer)
        layer.reset(torch.Generator().manual_seed(2))
    x = normal(3, 8, 5)
    first = block.first(x)
    assert block.second is not None
    assert block.bypass is not None
    for share in (0.0, 0.3, 1.0):
        nn.init.constant_(block.bypass, share)
        torch.testing.assert_close(block(x), share * first + (1 - share) * block.second(first))


def test_an_untrained_patch_and_its_neighbours_weigh_about_one() -> None:
    weights = RowWeights(5).eval()
    weights.reset(torch.Generator().manual_seed(0))
    assert float((weights(torch.rand(20, 5)) - 1).detach().abs().max()) < 0.2


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (LIDIAConfig.published(), 61_589),
        (LIDIAConfig.published(small=True), 40_226),
        (LIDIAConfig.published(channels=3), 94_067),
    ],
)
def test_parameters_are_as_many_as_published(config: LIDIAConfig, count: int) -> None:
    assert parameters(LIDIA(config)) == count


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (13, 10)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_comes_out_as_it_went_in(size: tuple[int, int], channels: int) -> None:
    network = tiny(LIDIAConfig(channels=channels, patch=3, features=4, neighbours=3, radius=2))
    x = uniform(2, channels, *size)
    y = network(x, SIGMA)
    assert y.shape == x.shape
    assert bool(torch.isfinite(y).all())
    torch.testing.assert_close(network(x[1:], SIGMA), y[1:])
    if min(size) > 1:
        assert float((y - x).abs().max()) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("own", [False, True])
def test_stripes_and_blocks_do_not_matter(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny(LIDIAConfig(patch=3, features=4, neighbours=3, radius=2, picture_statistics=own))
    x = uniform(1, 1, 17, 12)
    whole = network(x, SIGMA)
    monkeypatch.setattr(lidia_pass, "STRIPE", 40)
    monkeypatch.setattr(lidia_pass, "BLOCK", 11)
    torch.testing.assert_close(network(x, SIGMA), whole)


@torch.no_grad()
def test_a_pictures_own_statistics_are_those_of_training() -> None:
    config = LIDIAConfig(patch=3, features=4, neighbours=3, radius=2, picture_statistics=True)
    network, x = tiny(config), uniform(1, 1, 30, 32)
    before = {name: values.clone() for name, values in network.state_dict().items()}
    measured = network(x, SIGMA)
    for name, values in network.state_dict().items():
        assert torch.equal(values, before[name]), f"{name} was changed by looking at a picture"
    trained = network.train()(x, SIGMA)
    # All 1,088 patches are in the sample; the unbiased variance differs from the biased one by 1 in 1,088.
    assert float((measured - trained).abs().max()) < 5 / 1088 * float((trained - x).abs().max())
    remembered = tiny(SMALL)(x, SIGMA)
    assert float((remembered - trained).abs().max()) > 0.1 * float((trained - x).abs().max())


@torch.no_grad()
def test_what_is_further_away_than_the_reach_does_not_matter() -> None:
    network = tiny()
    reach = network.reach
    x = uniform(1, 1, 3, 2 * reach + 6)
    other, middle = x.clone(), reach + 3
    # Two pixels change places: the mean of the picture stays.
    other[0, 0, 1, [0, 1]] = x[0, 0, 1, [1, 0]]
    difference = (network(other, SIGMA) - network(x, SIGMA)).abs()
    assert float(difference[..., middle:].max()) < 1e-12
    assert float(difference[..., :4].max()) > 1e-4


@torch.no_grad()
def test_brightness_passes_through() -> None:
    # Numbers that leave no rounding: a mirrored border holds equally near patches, among which rounding would choose.
    network, x = tiny(), (1024 * uniform(1, 1, 8, 16)).round() / 1024
    torch.testing.assert_close(network(x + 3.0, SIGMA), network(x, SIGMA) + 3.0)
    assert float((network(x.square(), SIGMA) - network(x, SIGMA).square()).abs().max()) > 0.01


@torch.no_grad()
def test_scaled_by_the_noise_all_levels_are_one() -> None:
    x = uniform(2, 1, 12, 11)
    scaled = tiny(LIDIAConfig(patch=3, features=4, neighbours=3, radius=3, scaled=True))
    levels = torch.tensor([0.1, 0.2]).reshape(2, 1, 1, 1).double()
    twice = scaled(2 * x, 2 * levels)
    torch.testing.assert_close(twice, 2 * scaled(x, levels))
    assert float((twice - 2 * scaled(x, 2 * levels)).abs().max()) > 1e-3
    # A network for one level has no such symmetry, and does not look at the level.
    plain = tiny()
    assert float((plain(2 * x, 2 * SIGMA) - 2 * plain(x, SIGMA)).abs().max()) > 1e-3
    torch.testing.assert_close(plain(x, SIGMA), plain(x, 2 * SIGMA))


def test_a_map_of_noise_and_other_pictures_are_refused() -> None:
    scaled = LIDIA(LIDIAConfig(patch=3, features=4, neighbours=3, radius=2, scaled=True))
    with pytest.raises(PriorError, match=r"one noise level a picture, not a map of shape \(1, 1, 5, 5\)"):
        scaled(torch.zeros(1, 1, 5, 5), torch.full((1, 1, 5, 5), 0.1))
    with pytest.raises(PriorError, match=r"LIDIA takes pictures of shape \(B, 1, H, W\), not \(1, 3, 5, 5\)"):
        scaled(torch.zeros(1, 3, 5, 5), SIGMA)


def test_every_parameter_learns() -> None:
    network = tiny().train()
    loss = (network(uniform(2, 1, 9, 8), SIGMA) - uniform(2, 1, 9, 8, seed=1)).square().mean()
    torch.autograd.backward(loss)
    still = [name for name, values in network.named_parameters() if values.grad is None or not values.grad.any()]
    assert still == []


def test_in_evaluation_mode_gradients_are_those_of_small_steps() -> None:
    network, x = tiny(), uniform(1, 1, 5, 6)
    assert torch.autograd.gradcheck(
        lambda weights: _with(network, weights, x), network.net.noise.bias.detach().requires_grad_()
    )


def _with(network: LIDIA, bias: Tensor, x: Tensor) -> Tensor:
    output = torch.func.functional_call(network, {"net.noise.bias": bias}, (x, SIGMA))
    assert isinstance(output, Tensor)
    return output


def test_authors_names_become_ours() -> None:
    assert renamed("weights_net1.bn3.running_var") == "coarse_weights.norms.3.running_var"
    assert renamed("separable_fc_net.sep_part2.ver_hor_bn_re3.ver_hor.b") == "joint.second.bias"
    assert renamed("alpha1") == "coarse_weights.rate"


def test_other_weights_are_refused() -> None:
    with pytest.raises(PriorError, match=r"tensors are not those of the authors' LIDIA, .*: alpha2, .* 'state_dict'"):
        published_lidia({"alpha2": torch.zeros(1)}, level=LEVEL)


@torch.no_grad()
@pytest.mark.parametrize("sigma", [10 / 255, 25 / 255, 50 / 255])
def test_the_shipped_network_denoises_at_every_level_of_its_range(sigma: float) -> None:
    network = load("lidia-gray").network
    line = torch.arange(40.0)
    # Stripes across a ramp: edges and a slope, of which the network has seen neither.
    clean = (0.3 + 0.01 * line + 0.15 * torch.sign((0.4 * line[:, None] + 0.2 * line).sin()))[None, None]
    noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    gain = psnr(network(noisy, torch.tensor(sigma)), clean) - psnr(noisy, clean)
    assert gain > 3.0
    # Told half the noise it leaves more of it.
    assert psnr(network(noisy, torch.tensor(sigma / 2)), clean) - psnr(noisy, clean) < gain - 0.5


PUBLISHED = {
    "sigma_25_bw": LIDIAConfig.published(),
    "small_sigma_25_bw": LIDIAConfig.published(small=True),
    "sigma_25_c": LIDIAConfig.published(channels=3),
}


def authors(name: str) -> LIDIA:
    path = shared(f"weights/lidia/model_state_{name}.pt")
    return published_lidia(torch.load(path, weights_only=True, map_location="cpu")["state_dict"], level=LEVEL)


def picture(name: str, side: int | None) -> Tensor:
    """A square from the top left of a test picture, (1, C, H, W)."""
    values = torch.from_numpy(np.array(Image.open(shared(f"sets/{name}.png")))).float() / 255
    return (values[None, None] if values.dim() == 2 else values.movedim(2, 0)[None])[..., :side, :side]


@torch.no_grad()
def gained(network: LIDIA, clean: Tensor) -> float:
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    return psnr(network(clean + LEVEL * noise, torch.tensor(LEVEL)), clean)


@pytest.mark.data
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_fit(name: str) -> None:
    assert authors(name).config == PUBLISHED[name]


# PSNR [dB] of squares of this side from the top left, measured with these weights and this noise.
SIDE = 40
MEASURED = {
    ("sigma_25_bw", "bsd68/test001"): 26.744,
    ("small_sigma_25_bw", "bsd68/test001"): 26.834,
    ("sigma_25_c", "kodak24/01"): 30.580,
}


@pytest.mark.data
@pytest.mark.parametrize(("weights", "name"), MEASURED)
def test_published_weights_denoise_as_measured(weights: str, name: str) -> None:
    network, clean = authors(weights), picture(name, SIDE)
    assert gained(network, clean) == pytest.approx(MEASURED[weights, name], abs=0.01)
    # One matrix transposed: the right number of parameters is not enough.
    weight = network.net.joint.first.column_weight
    with torch.no_grad():
        weight.copy_(weight.t().clone())
    assert gained(network, clean) < MEASURED[weights, name] - 0.1
