"""The workhorse and its colour sibling: what their construction promises, with networks that break each promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from noise_models.cfa import BAYER_PHASES, XTRANS_ROWS, Cfa
from physrestore import weights
from physrestore.networks.colour_net import ColourNet, ColourNetConfig
from physrestore.networks.mosaic_net import LARGEST_CORRECTION, MosaicNet, MosaicNetConfig, bounded
from physrestore.networks.unet import UNet
from physrestore.working_space import one_hot
from tests.physrestore.network_laws import normal, parameters, scattered, uniform

SMALL = MosaicNetConfig(channels=(4, 6, 8))
FLAT = MosaicNetConfig(channels=(5,), blocks=2)
XTRANS = Cfa(XTRANS_ROWS)
# Float64 throughout: what remains is rounding of sums of about a thousand terms.
ROUNDING = 1e-11

Restore = Callable[[Tensor, Tensor, Tensor], Tensor]


def lively(network: nn.Module) -> nn.Module:
    """Float64, with weights of the size that training gives: at the start many are almost zero and hide faults."""
    network = scattered(network)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for values in network.parameters():
            fan_in = values[0].numel()
            values.add_(torch.randn(values.shape, generator=generator, dtype=torch.float64) / math.sqrt(fan_in))
    return network


def case(cfa: Cfa, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """A mosaic, its noise, and the colours of its sites."""
    return uniform(2, 1, height, width), uniform(2, 1, 1, 1, seed=1) * 0.1, one_hot(cfa, height, width).double()


@torch.no_grad()
def scale_gap(network: Restore, *, factor: float = 0.37) -> float:
    mosaic, noise, colours = case(XTRANS, 24, 24)
    scaled = network(factor * mosaic, factor * noise, colours)
    return float((scaled - factor * network(mosaic, noise, colours)).abs().max())


def test_values_and_noise_times_c_give_the_result_times_c() -> None:
    network = lively(MosaicNet(SMALL))
    assert scale_gap(network) < ROUNDING
    # Planted: a bias, and a network that is not told the scaled noise.
    assert scale_gap(lambda *inputs: network(*inputs) + 1e-3) > 1e-4
    assert scale_gap(lambda mosaic, noise, colours: network(mosaic, 0 * noise + 0.05, colours)) > 1e-4


def test_the_colour_sibling_is_homogeneous_too() -> None:
    network = lively(ColourNet(ColourNetConfig(channels=(4, 6))))
    x, sigma = uniform(1, 3, 10, 9), uniform(1, 3, 1, 1, seed=2)
    with torch.no_grad():
        gap = network(3.0 * x, 3.0 * sigma) - 3.0 * network(x, sigma)
        planted = network(3.0 * x, sigma) - 3.0 * network(x, sigma)
    assert float(gap.abs().max()) < ROUNDING
    assert float(planted.abs().max()) > 1e-3


@torch.no_grad()
def largest_correction(network: Restore, noise: float) -> float:
    """Largest change of a measured value."""
    mosaic, _, colours = case(XTRANS, 24, 18)
    out = network(mosaic, torch.tensor(noise, dtype=torch.float64), colours)
    return float((((out - mosaic) * colours).abs()).max())


def test_a_measured_value_changes_by_a_few_standard_deviations_at_most() -> None:
    for unshuffle in (1, 2):
        network = lively(MosaicNet(MosaicNetConfig(channels=(4, 6, 8), unshuffle=unshuffle)))
        assert largest_correction(network, 0.0) == 0.0  # no noise, no harm
        assert 0.5 * LARGEST_CORRECTION * 0.01 < largest_correction(network, 0.01) <= LARGEST_CORRECTION * 0.01
        # Planted: the same trunk without the bound.
        assert largest_correction(lambda m, n, c, f=network: f(m, 1e3 + 0 * n, c), 0.01) > 1.0  # type: ignore[misc]


def test_the_bound_leaves_small_corrections_alone() -> None:
    noise, small = torch.tensor(0.01, dtype=torch.float64), torch.linspace(-0.004, 0.004, 9, dtype=torch.float64)
    assert float((bounded(small, noise) - small).abs().max()) < 0.01 * 0.004
    assert float(bounded(torch.tensor(1.0, dtype=torch.float64), noise)) < LARGEST_CORRECTION * 0.01
    assert torch.equal(bounded(-small, noise), -bounded(small, noise))
    assert bool((bounded(small, 0 * noise) == 0).all())


@torch.no_grad()
def shift_gap(network: MosaicNet, cfa: Cfa, down: int, right: int) -> float:
    """Largest change of the result, away from the borders, when the frame starts further down and to the right."""
    margin = network.halo + down + right
    side = 2 * margin + 48
    mosaic, noise, colours = case(cfa, side, side)
    whole = network(mosaic, noise, colours)[..., down:, right:]
    part = network(mosaic[..., down:, right:], noise, colours[..., down:, right:])
    inside = (..., slice(margin, -margin), slice(margin, -margin))
    return float((whole - part)[inside].abs().max())


@pytest.mark.parametrize("cfa", [Cfa.parse("GBRG"), XTRANS], ids=["bayer", "xtrans"])
def test_a_shift_by_whole_periods_shifts_the_result(cfa: Cfa) -> None:
    network = lively(MosaicNet(SMALL))
    step = math.lcm(cfa.period[0], network.multiple)
    assert shift_gap(network, cfa, step, 2 * step) < ROUNDING
    assert shift_gap(network, cfa, 2, 0) > 1e-4  # half of the coarsest level's grid: another picture


@pytest.mark.parametrize(("down", "right"), [(0, 1), (1, 0), (1, 1)])
def test_one_set_of_weights_serves_every_phase(down: int, right: int) -> None:
    """Without coarser levels a shift by one site, which changes the phase, shifts the result."""
    assert shift_gap(lively(MosaicNet(FLAT)), Cfa.parse("RGGB"), down, right) < ROUNDING
    packed = lively(MosaicNet(MosaicNetConfig(channels=(5,), unshuffle=2)))  # knows its phase: breaks the law
    assert shift_gap(packed, Cfa.parse("RGGB"), down, right) > 1e-4


@pytest.mark.parametrize("unshuffle", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 5), (7, 8), (9, 30)])
def test_any_size_goes_in_and_comes_out(height: int, width: int, unshuffle: int) -> None:
    network = MosaicNet(MosaicNetConfig(channels=(4, 6, 8), unshuffle=unshuffle)).double()
    mosaic, noise, colours = case(Cfa.parse("RGGB"), height, width)
    assert network(mosaic, noise, colours).shape == (2, 3, height, width)
    siblings = ColourNet(ColourNetConfig(channels=(4, 6), unshuffle=unshuffle)).double()
    assert siblings(uniform(1, 3, height, width), noise[:1]).shape == (1, 3, height, width)


def test_a_sigma_of_one_number_a_picture_or_a_map_mean_the_same() -> None:
    network = lively(ColourNet(ColourNetConfig(channels=(4, 6))))
    x = uniform(2, 3, 8, 8)
    with torch.no_grad():
        number, whole = network(x, torch.tensor(0.1)), network(x, torch.full((2, 3, 8, 8), 0.1))
    assert torch.equal(number, whole)


def unet_parameters(inputs: int, outputs: int, channels: tuple[int, ...], blocks: int) -> int:
    """Counted by hand: 3x3 head and tail, two 3x3 a block, 2x2 down, 1x1 to four times the channels up."""
    count = 9 * (inputs * channels[0] + channels[0] * outputs)
    for level, width in enumerate(channels):
        ways = 1 if level == len(channels) - 1 else 2
        count += ways * blocks * 2 * 9 * width**2
    return count + sum(4 * a * b + 4 * a * b for a, b in pairwise(channels))


@pytest.mark.parametrize(
    ("config", "megabytes"), [(MosaicNetConfig(), 1.0), (MosaicNetConfig((32, 64, 96, 128)), 4.0)], ids=["s", "l"]
)
def test_parameters_and_size_of_the_file(config: MosaicNetConfig, megabytes: float) -> None:
    count = parameters(MosaicNet(config))
    assert count == unet_parameters(9, 3, config.channels, config.blocks) + 9 * 25
    assert 2 * count < megabytes * 1e6  # two bytes a weight


def test_the_colour_siblings_parameters() -> None:
    config = ColourNetConfig()
    assert parameters(ColourNet(config)) == unet_parameters(36, 12, config.channels, config.blocks)


def reach(network: MosaicNet) -> int:
    """Largest distance from an output to an input on which it depends, over all outputs of one period of the grid."""
    side = 2 * network.halo + 2 * network.multiple
    middle = network.halo // network.multiple * network.multiple + network.multiple
    furthest = 0
    for k in range(network.multiple):
        mosaic = uniform(1, 1, side, side).requires_grad_()
        out = network(mosaic, torch.tensor(0.1, dtype=torch.float64), one_hot(Cfa.parse("RGGB"), side, side).double())
        (slope,) = torch.autograd.grad(out[0, :, middle + k, middle + k].sum(), mosaic)
        touched = torch.nonzero(slope[0, 0])
        furthest = max(furthest, int((touched - (middle + k)).abs().max()))
    return furthest


@pytest.mark.parametrize(
    "config",
    [SMALL, FLAT, MosaicNetConfig(channels=(3, 4), blocks=2), MosaicNetConfig(channels=(3, 4), unshuffle=2)],
    ids=["three levels", "one level", "two blocks", "packed"],
)
def test_the_halo_holds_all_an_output_depends_on(config: MosaicNetConfig) -> None:
    network = lively(MosaicNet(config))
    measured = reach(network)
    assert measured <= network.halo
    # Not wastefully wide either: rounding to whole blocks of the coarsest level at most.
    assert measured >= network.halo - 2 * network.multiple


@pytest.mark.parametrize("phase", BAYER_PHASES)
@torch.no_grad()
def test_it_starts_as_bilinear_interpolation_of_the_contrast_on_every_phase(phase: str) -> None:
    network = MosaicNet(MosaicNetConfig(channels=(4, 6))).double()
    nn.init.zeros_(network.trunk.tail.weight)  # nearly nothing at the start; here nothing
    cfa, side = Cfa.parse(phase), 10
    mosaic, noise, colours = case(cfa, side, side)
    out, light = network(mosaic, noise, colours), network.local_mean(mosaic * colours, colours)
    contrast = mosaic - light
    for i in range(1, side - 1):
        for j in range(1, side - 1):
            for colour in range(3):
                near = [
                    (di, dj) for di in (-1, 0, 1) for dj in (-1, 0, 1) if colours[0, colour, i + di, j + dj]
                ]  # bilinear: itself, or the mean of the nearest ones
                if (0, 0) in near:
                    near = [(0, 0)]
                elif colour == 1:
                    near = [(di, dj) for di, dj in near if abs(di) + abs(dj) == 1]
                mean = torch.stack([contrast[:, colour, i + di, j + dj] for di, dj in near]).mean(0)
                torch.testing.assert_close(out[:, colour, i, j], light[:, colour, i, j] + mean, rtol=0, atol=1e-9)
    # Planted: the same mosaic read with the colours of another phase.
    other = one_hot(cfa.shifted(0, 1), side, side).double()
    assert float((network(mosaic, noise, other) - out).abs().max()) > 0.1


def test_the_trunk_wants_multiples_and_adds_its_skips() -> None:
    trunk = lively(UNet(2, 1, channels=(3, 4), blocks=1))
    assert trunk.factor == 2
    x = normal(1, 2, 4, 6)
    with torch.no_grad():
        whole = trunk(x)
        nn.init.zeros_(trunk.up[0].weight)
        without = trunk(x)
    assert whole.shape == (1, 1, 4, 6)
    assert float((whole - without).abs().max()) > 1e-3  # the coarse way counts
    assert float(without.abs().max()) > 1e-3  # and so does the skip


# --- what the shipped networks learned

HUES = {
    "yellow": (1, 1, 0),
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "cyan": (0, 1, 1),
    "pink": (1, 0, 1),
}


def bias_of_a_hue(network: MosaicNet, hue: tuple[int, ...]) -> float:
    """Largest mean error of a colour at sites that did not measure it, on a flat patch; white is 1."""
    side, std, dark = 64, 0.005, 0.05
    clean = (0.9 * torch.tensor(hue).clamp(min=dark)).sqrt().reshape(1, 3, 1, 1)
    colours = one_hot(Cfa.parse("RGGB"), side, side)
    noise = std * torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = network((clean * colours).sum(1, keepdim=True) + noise, torch.full_like(noise, std), colours)
    missing = (1 - colours)[..., 16:-16, 16:-16]
    errors = ((made - clean)[..., 16:-16, 16:-16] * missing).sum((0, 2, 3)) / missing.sum((0, 2, 3))
    return float(errors.abs().max())


@pytest.mark.parametrize("name", ["mosaic-small", "mosaic-large"])
@pytest.mark.parametrize("hue", HUES)
def test_missing_colours_are_not_guessed_from_the_others(name: str, hue: str) -> None:
    """A network that saw few saturated colours took cyan for grey: its red was wrong by 0.06 to 0.2."""
    network = weights.load(name).network
    assert isinstance(network, MosaicNet)
    assert bias_of_a_hue(network, HUES[hue]) < 0.01


def test_a_network_that_guesses_grey_would_be_seen() -> None:
    network = MosaicNet(MosaicNetConfig(channels=(4, 6))).eval()
    honest = network.forward

    def grey(*parts: Tensor) -> Tensor:
        return honest(*parts).mean(1, keepdim=True).expand(-1, 3, -1, -1)

    network.forward = grey  # type: ignore[method-assign]
    assert all(bias_of_a_hue(network, hue) > 0.1 for hue in HUES.values())
