"""Losses that hide sites: nothing of a hidden value is seen, colours stay apart, and the error there is right."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from noise_models.cfa import XTRANS_ROWS, Cfa
from physrestore.selfsup.losses.neighbours import Neighbours
from physrestore.selfsup.losses.noise2void import Noise2Void
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from physrestore.selfsup.losses.sites import random_rows, random_sites, replaced
from tests.physrestore.unbiased import Recorder, assert_unbiased, excess, gaussian, photons, scene, smoother, std_map

DRAWS = 400
MAP = PixelNoise.of(sigma=std_map())
ARRAYS = [None, Cfa.parse("RGGB"), Cfa.parse("GBRG").shifted(0, 1), Cfa(XTRANS_ROWS).shifted(1, 2)]
ids = ["one colour", "RGGB", "GBRG shifted", "X-Trans"]


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def letters(cfa: Cfa, side: int) -> list[list[str]]:
    period = len(cfa.rows)
    return [[cfa.rows[i % period][j % period] for j in range(side)] for i in range(side)]


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.Conv2d(6, 1, 5, padding=2, padding_mode="circular")
    ).double()


@pytest.mark.parametrize("cfa", ARRAYS, ids=ids)
@pytest.mark.parametrize("size", [(12, 12), (13, 17)])
def test_no_output_at_a_hidden_site_depends_on_any_hidden_value(cfa: Cfa | None, size: tuple[int, int]) -> None:
    y = torch.rand(1, 1, *size, generator=drawn(), dtype=torch.float64, requires_grad=True)
    hidden = random_sites(y, share=0.2, generator=drawn(1))

    masked, filled = replaced(y, hidden, cfa=cfa, generator=drawn(2))
    network()(masked)[filled].square().sum().backward()

    assert y.grad is not None
    assert filled.sum() > 0.7 * hidden.sum()
    assert torch.equal(y.grad[filled], torch.zeros_like(y.grad[filled]))
    assert bool((y.grad[~hidden] != 0).any())


def test_the_planted_error_of_masks_is_seen() -> None:
    y = torch.rand(1, 1, 12, 12, generator=drawn(), dtype=torch.float64, requires_grad=True)
    hidden = random_sites(y, share=0.2, generator=drawn(1))

    masked = torch.where(hidden, y.roll(1, -1), y)  # donors may be hidden themselves
    network()(masked)[hidden].square().sum().backward()

    assert y.grad is not None
    assert bool((y.grad[hidden] != 0).any())


@pytest.mark.parametrize("cfa", [array for array in ARRAYS if array is not None], ids=ids[1:])
def test_donors_have_the_colour_of_the_site(cfa: Cfa) -> None:
    colours = torch.tensor([["RGB".index(c) for c in row] for row in letters(cfa, 24)], dtype=torch.float32)
    y = colours[None, None]  # every value tells its colour

    for seed in range(5):
        hidden = random_sites(y, share=0.3, generator=drawn(seed))
        assert torch.equal(replaced(y, hidden, cfa=cfa, generator=drawn(seed + 9))[0], y)
        assert not torch.equal(replaced(y, hidden, cfa=None, generator=drawn(seed + 9))[0], y)


def test_sites_without_a_donor_are_not_counted_as_filled() -> None:
    y = torch.rand(1, 1, 6, 6)

    masked, filled = replaced(y, torch.ones_like(y, dtype=torch.bool), cfa=None, generator=drawn())

    assert not bool(filled.any())
    assert torch.equal(masked, y)
    with pytest.raises(ValueError, match="no site that counts"):
        Noise2Void(share=0.999)(smoother, y, PixelNoise.of(sigma=0.1), generator=drawn())
    with pytest.raises(ValueError, match="one channel"):
        replaced(torch.rand(1, 4, 6, 6), torch.ones(1, 4, 6, 6) > 0, cfa=Cfa.parse("RGGB"), generator=drawn())


@pytest.mark.parametrize("cfa", ARRAYS, ids=ids)
def test_noise2void_is_the_error_at_hidden_sites(cfa: Cfa | None) -> None:
    x = scene()
    y = gaussian(x, MAP, DRAWS)

    assert_unbiased(excess(Noise2Void(cfa), smoother, y, x, MAP))

    scalar = PixelNoise.of(sigma=std_map().mean() * 1.5)
    with pytest.raises(AssertionError, match="mean"):
        assert_unbiased(excess(Noise2Void(cfa), smoother, y, x, scalar))


def test_noise2void_of_photons() -> None:
    noise = PixelNoise.of(gain=torch.tensor(0.02, dtype=torch.float64), sigma=0.03)
    x = scene()

    assert_unbiased(excess(Noise2Void(), smoother, photons(x, noise, DRAWS), x, noise))


def test_rows_are_hidden_whole_where_they_share_noise() -> None:
    noise = PixelNoise.of(sigma=0.03, row=0.1)
    x = scene()
    y = gaussian(x, noise, DRAWS)

    assert_unbiased(excess(Noise2Void(share=0.2, hide="rows"), smoother, y, x, noise))

    with pytest.raises(ValueError, match="rows share an offset"):
        Noise2Void()(smoother, y, noise, generator=drawn())
    blind_to_rows = PixelNoise.of(sigma=(0.03**2 + 0.1**2) ** 0.5)  # what single sites would make of it
    with pytest.raises(AssertionError, match="mean"):
        assert_unbiased(excess(Noise2Void(share=0.2), smoother, y, x, blind_to_rows))
    hidden = random_rows(y, share=0.5, generator=drawn())
    assert torch.equal(hidden.all(-1), hidden.any(-1))


@pytest.mark.parametrize(("cfa", "cell"), [(None, 2), (Cfa.parse("GRBG"), 4), (Cfa(XTRANS_ROWS), 12)])
def test_neighbours_are_the_error_at_half_size_where_light_is_equal(cfa: Cfa | None, cell: int) -> None:
    blocks = torch.rand(1, 1, 24 // cell, 24 // cell, generator=drawn(), dtype=torch.float64)
    x = 0.2 + 0.6 * blocks.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
    half = x[..., : 12 // (cell // 2) * (cell // 2), :]
    half = blocks.repeat_interleave(cell // 2, 2).repeat_interleave(cell // 2, 3) * 0.6 + 0.2
    y = gaussian(x, MAP, DRAWS)
    loss = Neighbours(cfa, consistency=0.0)

    def differences(noise: PixelNoise) -> Tensor:
        recorder = Recorder(smoother)
        risk = loss.risk(recorder, y, noise, generator=drawn(4))
        return (risk.values - (recorder.first - half).square()).flatten(1).mean(1)

    assert_unbiased(differences(MAP))
    with pytest.raises(AssertionError, match="mean"):
        assert_unbiased(differences(PixelNoise.of(sigma=0.12)))


@pytest.mark.parametrize("cfa", ARRAYS, ids=ids)
def test_halves_keep_colours_apart_and_share_no_site(cfa: Cfa | None) -> None:
    side = 25
    numbers = torch.arange(side * side, dtype=torch.float64).reshape(1, 1, side, side)
    fed: list[Tensor] = []

    def listener(v: Tensor, std: Tensor) -> Tensor:
        fed.append(v)
        return v

    risk = Neighbours(cfa, consistency=0.0).risk(listener, numbers, PixelNoise.of(sigma=1e-9), generator=drawn())

    first = fed[0][0, 0].long()
    distance = risk.values.clamp(min=0).sqrt().round().long()  # second - first, as numbers
    period = 1 if cfa is None else len(cfa.rows)
    assert set(distance.unique().tolist()) == {period, period * side}
    if cfa is not None:
        name = letters(cfa, side)
        for i, row in enumerate(first.tolist()):
            assert [name[n // side][n % side] for n in row] == [name[i][j] for j in range(len(row))]


def test_consistency_makes_up_for_the_difference_of_neighbours() -> None:
    """For f(y) = c y the second term is ((c - 1) g_2 y)^2: zero for c = 1, whatever the neighbours are."""
    y = torch.rand(2, 1, 12, 12, generator=drawn(), dtype=torch.float64)
    noise = PixelNoise.of(sigma=1e-9)

    for factor in (1.0, 0.6):
        plain, whole = (
            Neighbours(consistency=c).risk(lambda v, _: factor * v, y, noise, generator=drawn(7)).values  # noqa: B023
            for c in (0.0, 2.0)
        )
        fed: list[Tensor] = []
        Neighbours().risk(lambda v, _: fed.append(v) or v, y, noise, generator=drawn(7))  # type: ignore[func-returns-value]  # noqa: B023
        second = fed[0] - Neighbours(consistency=0.0).risk(lambda v, _: v, y, noise, generator=drawn(7)).values.sqrt()
        other = fed[0] + Neighbours(consistency=0.0).risk(lambda v, _: v, y, noise, generator=drawn(7)).values.sqrt()
        added = whole - plain
        candidates = torch.stack([2.0 * ((factor - 1) * side).square() for side in (second, other)])
        assert float((candidates - added).abs().amin(0).max()) < 1e-6


def test_neighbours_refuse_what_they_cannot_split() -> None:
    y = torch.rand(1, 1, 8, 8)

    with pytest.raises(ValueError, match="no two periods"):
        Neighbours(Cfa(XTRANS_ROWS))(smoother, y, PixelNoise.of(sigma=0.1), generator=drawn())
    with pytest.raises(ValueError, match="rows share an offset"):
        Neighbours()(smoother, y, PixelNoise.of(sigma=0.1, row=0.1), generator=drawn())
    with pytest.raises(ValueError, match="consistency must not be negative"):
        Neighbours(consistency=-1.0)
