"""Every term draws what it declares."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from noise_models.sensor import Estimate, Tail
from noise_models.terms import (
    Clipping,
    ColumnNoise,
    DarkShading,
    Dsnu,
    HotSites,
    Prnu,
    Quantisation,
    ReadNoise,
    RowNoise,
    ShotNoise,
)
from tests.moments import assert_moments

FRAME = torch.zeros(1000, 1000)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("mean", [0.0, 0.4, 30.0, 12_000.0])
@pytest.mark.parametrize("gain", [0.05, 2.5])
def test_shot_noise_keeps_the_mean_and_has_variance_gain_times_mean(mean: float, gain: float) -> None:
    term = ShotNoise(gain)
    level = torch.tensor(mean)

    samples = term.sample(level.expand(1000, 1000), generator=generator())

    assert_moments(samples, mean=float(term.mean(level)), variance=float(term.variance(level)))
    electrons = samples.double() / gain
    assert float((electrons - electrons.round()).abs().max()) < 0.05  # whole electrons, up to single precision


def test_moment_checker_finds_a_wrong_unit() -> None:
    """The planted error: a variance with K^2 in place of K."""
    samples = ShotNoise(0.9).sample(torch.tensor(30.0).expand(1000, 1000), generator=generator())

    with pytest.raises(AssertionError, match="variance"):
        assert_moments(samples, variance=0.9**2 * 30.0)
    with pytest.raises(AssertionError, match="mean"):
        assert_moments(samples, mean=30.05)


READ_NOISES = [
    ReadNoise(3.0),
    ReadNoise(3.0, "lognormal", 0.4),
    ReadNoise(3.0, "tukey", -0.1),
    ReadNoise(3.0, "tukey", 0.0),
    ReadNoise(3.0, "tukey", 0.14),
    ReadNoise(3.0, "tukey", 1e-9),
]


@pytest.mark.parametrize("term", READ_NOISES, ids=lambda t: f"{t.kind}{t.shape:g}")
def test_read_noise_has_the_declared_std_and_kurtosis(term: ReadNoise) -> None:
    rng = generator()

    noise = term.sample(term.pixel_std(FRAME, generator=rng), generator=rng).double().numpy()

    assert_moments(noise, mean=0.0, variance=term.variance())
    fourth = (noise / term.std) ** 4
    assert_moments(fourth, mean=3.0 + term.excess_kurtosis())


@pytest.mark.parametrize("shape", [-0.1, 0.0, 0.14])
def test_tukey_tail_beyond_four_sigma_is_that_of_the_law(shape: float) -> None:
    term = ReadNoise(1.0, "tukey", shape)
    count = 4_000_000

    noise = term.sample(torch.ones(count), generator=generator())

    unit = math.sqrt(float(stats.tukeylambda.var(shape)))
    expected = 2 * count * float(stats.tukeylambda.sf(4.0 * unit, shape))
    assert abs(int((noise.abs() > 4.0).sum()) - expected) <= 5.0 * math.sqrt(expected)


def test_tukey_tail_is_not_cut_by_the_uniform_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Single-precision uniforms have no value between 0 and 2^-24, so no draw beyond that quantile."""
    monkeypatch.setattr(torch, "rand", lambda size, *, dtype, **_: torch.full(size, 1e-12, dtype=dtype))

    noise = ReadNoise(1.0, "tukey", -0.2).sample(torch.ones(1), generator=generator())

    expected = stats.tukeylambda.ppf(1e-12, -0.2) / stats.tukeylambda.std(-0.2)
    assert float(noise) == pytest.approx(expected, rel=1e-5)
    assert expected < -9.0


def test_lognormal_spread_is_fixed_and_tukey_tails_are_not() -> None:
    """Two frames tell them apart: their squared residuals are correlated for a fixed spread only."""
    rng = generator()
    width = 0.3
    spread, tails = ReadNoise(1.0, "lognormal", width), ReadNoise(1.0, "tukey", -0.02)

    correlation = []
    for term in (spread, tails):
        std = term.pixel_std(FRAME, generator=rng)
        first, second = (term.sample(std, generator=rng).square().flatten().numpy() for _ in range(2))
        correlation.append(float(np.corrcoef(first, second)[0, 1]))

    # Cov(r1^2, r2^2) = Var(sigma^2) = e^(4 w^2) - 1 and Var(r^2) = 3 e^(4 w^2) - 1, at unit mean square.
    expected = math.expm1(4 * width**2) / (3 * math.exp(4 * width**2) - 1)
    assert correlation[0] == pytest.approx(expected, abs=0.0135)  # 5 sqrt(9 e^(24 w^2) / 1e6) / Var(r^2)
    assert abs(correlation[1]) < 5e-3


@pytest.mark.parametrize("shape", [-0.5, -0.7])
def test_tukey_shape_without_variance_is_refused(shape: float) -> None:
    with pytest.raises(ValueError, match=r"shape -0\.[57] has no variance"):
        ReadNoise(1.0, "tukey", shape)


def test_negative_lognormal_width_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        ReadNoise(1.0, "lognormal", -0.1)


def test_kurtosis_is_infinite_where_the_fourth_moment_is() -> None:
    assert ReadNoise(1.0, "tukey", -0.25).excess_kurtosis() == math.inf


def test_read_noise_of_a_profile_tail() -> None:
    assert ReadNoise.of(2.0, Tail()).kind == "gaussian"
    term = ReadNoise.of(2.0, Tail(kind="tukey", shape=Estimate(value=-0.05)))
    assert (term.kind, term.shape) == ("tukey", -0.05)


@pytest.mark.parametrize("term", [RowNoise(0.7), ColumnNoise(0.7)], ids=["row", "column"])
def test_line_noise_is_shared_by_the_line_and_white_across(term: RowNoise | ColumnNoise) -> None:
    like = torch.zeros(4, 200_000, 2) if isinstance(term, RowNoise) else torch.zeros(4, 2, 200_000)

    lines = term.sample(like, generator=generator())

    assert lines.expand_as(like).shape == like.shape
    assert lines.numel() == 4 * 200_000
    assert_moments(lines, mean=0.0, variance=term.variance())
    flat = lines.flatten().double()
    assert_moments(flat[1:] * flat[:-1], mean=0.0)


def test_prnu_and_dsnu_have_their_spread() -> None:
    assert_moments(Prnu(0.01).sample(FRAME, generator=generator()), mean=1.0, variance=1e-4)
    assert_moments(Dsnu(2.0).sample(FRAME, generator=generator()), mean=0.0, variance=4.0)


def test_prnu_in_per_cent_is_refused() -> None:
    with pytest.raises(ValueError, match=r"PRNU of 0\.8 .* per cent"):
        Prnu(0.8)


def test_dark_shading_is_smooth_and_exact() -> None:
    shading = DarkShading(1.5).sample(torch.zeros(300, 400), generator=generator()).double()

    assert float(shading.square().mean().sqrt()) == pytest.approx(1.5, rel=1e-5)
    assert abs(float(shading.mean())) < 1e-5
    assert float(shading.diff(dim=0).abs().max()) < 0.15  # a tenth of the rms from one pixel to the next


def test_hot_sites_have_fraction_and_mean_excess() -> None:
    excess = HotSites(0.01, 80.0).sample(FRAME, generator=generator())

    assert_moments((excess > 0).double(), mean=0.01)
    assert_moments(excess[excess > 0], mean=80.0)
    assert float(excess[excess > 0].min()) >= 40.0


def test_rounding_adds_a_twelfth_and_clipping_keeps_the_range() -> None:
    values = torch.rand(1_000_000, generator=generator()) * 50.0
    codes = Quantisation().apply(values)
    assert_moments(codes - values, mean=0.0, variance=Quantisation().variance())

    clipped = Clipping(10.0, 40.0).apply(codes)
    assert (float(clipped.min()), float(clipped.max())) == (10.0, 40.0)
    assert torch.equal(clipped[(codes > 10) & (codes < 40)], codes[(codes > 10) & (codes < 40)])


TERMS = [
    lambda x, g: ShotNoise(0.5).sample(x + 9.0, generator=g),
    lambda x, g: ReadNoise(1.0, "lognormal", 0.2).pixel_std(x, generator=g),
    lambda x, g: ReadNoise(1.0, "tukey", -0.1).sample(x + 1.0, generator=g),
    lambda x, g: RowNoise(1.0).sample(x, generator=g),
    lambda x, g: ColumnNoise(1.0).sample(x, generator=g),
    lambda x, g: Prnu(0.01).sample(x, generator=g),
    lambda x, g: Dsnu(1.0).sample(x, generator=g),
    lambda x, g: DarkShading(1.0).sample(x, generator=g),
    lambda x, g: HotSites(0.1, 5.0).sample(x, generator=g),
]


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_dtype_follows_the_input_and_the_seed_decides(term, dtype: torch.dtype) -> None:
    x = torch.zeros(16, 24, dtype=dtype)

    first, again, other = (term(x, generator(seed)) for seed in (3, 3, 4))

    assert first.dtype == dtype
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
