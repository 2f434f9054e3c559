"""The transform makes the noise white, and its inverse is unbiased: at every level, gain and read noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from noise_models.stabilise import ANSCOMBE_OFFSET, LOWEST_READ_NOISES, Anscombe, expected_stabilised

SAMPLES = 200_000
READ_NOISES = (0.3, 1.0, 3.0, 30.0)


def transform(gain: float = 1.0, read_noise: float = 1.0, *, dtype: torch.dtype = torch.float64) -> Anscombe:
    """Of a gain [DN/e-] and a read noise [e-]."""
    return Anscombe(gain=torch.tensor(gain, dtype=dtype), read_noise_dn=torch.tensor(gain * read_noise, dtype=dtype))


def sample(mean: float, read_noise: float, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(mean, SAMPLES) + rng.normal(0.0, read_noise, SAMPLES)


@pytest.mark.parametrize("read_noise", READ_NOISES)
@pytest.mark.parametrize("mean", [0.0, 0.5, 2.0, 10.0, 100.0, 1e5])
def test_variance_is_one_in_the_stated_range(mean: float, read_noise: float) -> None:
    gain = 0.37
    stabilised = transform(gain, read_noise).forward(torch.from_numpy(gain * sample(mean, read_noise)))
    variance = float(stabilised.var())
    slack = 5 * math.sqrt(2 / SAMPLES)
    level = mean + read_noise**2
    tolerance = 0.04 if level >= 15 else 0.12
    assert variance < 1 + tolerance + slack
    if level >= 2:
        assert variance > 1 - tolerance - slack


def test_a_wrong_gain_does_not_pass_for_stable() -> None:
    stabilised = transform(1.0, 1.0).forward(torch.from_numpy(1.3 * sample(100.0, 1.0)))
    assert float(stabilised.var()) > 1.2


@pytest.mark.parametrize("read_noise", READ_NOISES)
def test_the_table_is_the_expectation_of_samples(read_noise: float) -> None:
    for mean in (0.0, 0.3, 4.0, 60.0):
        values = transform(1.0, read_noise).forward(torch.from_numpy(sample(mean, read_noise)))
        error = 5 * float(values.std()) / math.sqrt(SAMPLES)
        assert float(expected_stabilised(np.array([mean]), read_noise)[0]) == pytest.approx(
            float(values.mean()), abs=error
        )


@pytest.mark.parametrize("read_noise", [0.3, 0.47, 1.0, 2.9, 11.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inverse_of_the_expectation_is_the_mean(read_noise: float, dtype: torch.dtype) -> None:
    gain = 2.5
    mean = np.concatenate([-np.array([0.5, 0.2, 0.05]) * read_noise, [0.0], np.geomspace(0.01, 1e4, 60)])
    expected = torch.from_numpy(expected_stabilised(mean, read_noise)).to(dtype)
    recovered = transform(gain, read_noise, dtype=dtype).inverse(expected).double().numpy() / gain
    # 0.005 e- from the table; the rounding of float32, doubled by the square, on the level under the root.
    level = np.maximum(mean, 0) + read_noise**2 + 1
    rounding = 8 * torch.finfo(dtype).eps * level
    np.testing.assert_array_less(np.abs(recovered - mean), 0.005 + 2e-5 * np.abs(mean) + rounding)


def test_inverse_of_a_bright_expectation_is_the_mean() -> None:
    """At 1e5 e- the law is narrow: the second-order expansion of E[f] is exact to 1e-6 e-."""
    mean, read_noise = 1e5, 3.0
    shifted, variance = mean + ANSCOMBE_OFFSET + read_noise**2, mean + read_noise**2
    third = mean
    expected = (
        2
        * math.sqrt(shifted)
        * (1 - variance / (8 * shifted**2) + third / (16 * shifted**3) - 15 * variance**2 / (128 * shifted**4))
    )
    recovered = float(transform(1.0, read_noise).inverse(torch.tensor([expected], dtype=torch.float64)))
    assert recovered == pytest.approx(mean, abs=0.01)


def test_the_algebraic_inverse_is_biased() -> None:
    """The planted error: were the exact inverse replaced by this one, the tests above would fail."""
    expected = expected_stabilised(np.array([1.0]), 1.0)[0]
    assert expected**2 / 4 - ANSCOMBE_OFFSET - 1.0 < 1.0 - 0.1


def test_averages_of_dark_pixels_come_back_unbiased() -> None:
    """Means of 64 transformed values scatter around E[f]; at zero light their inverse must average to zero."""
    read_noise = 2.0
    values = transform(1.0, read_noise).forward(torch.from_numpy(sample(0.0, read_noise, seed=3)))
    restored = transform(1.0, read_noise).inverse(values.reshape(-1, 64).mean(1))
    error = 5 * float(restored.std()) / math.sqrt(restored.numel())
    assert abs(float(restored.mean())) < error + 0.03
    assert float(restored.clamp(min=0).mean()) > 0.05  # clamping at zero would brighten black


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_maps_and_batches(dtype: torch.dtype) -> None:
    gain = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=dtype).view(4, 1, 1)
    read_noise = torch.tensor([1.0, 2.0, 8.0, 4.0], dtype=dtype).view(4, 1, 1)
    signal = torch.rand(3, 4, 5, 7, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 500
    before = signal.clone()
    together = Anscombe(gain=gain, read_noise_dn=read_noise)
    forward, back = together.forward(signal), together.inverse(together.forward(signal))
    assert forward.dtype == back.dtype == dtype
    assert torch.equal(signal, before)
    for c in range(4):
        alone = Anscombe(gain=gain[c, 0, 0], read_noise_dn=read_noise[c, 0, 0])
        torch.testing.assert_close(forward[:, c], alone.forward(signal[:, c]))
        torch.testing.assert_close(back[:, c], alone.inverse(forward[:, c]))


def test_inverse_is_monotone_and_bounded_below() -> None:
    for read_noise in READ_NOISES:
        z = torch.linspace(0, 3 * read_noise + 40, 4000, dtype=torch.float64)
        x = transform(1.0, read_noise).inverse(z)
        assert bool(torch.isfinite(x).all())
        assert bool((x.diff() >= -1e-6).all())
        assert float(x.min()) == pytest.approx(-LOWEST_READ_NOISES * read_noise)


@pytest.mark.parametrize(
    ("gain", "read_noise", "match"),
    [
        (0.0, 1.0, "gain must be"),
        (math.nan, 1.0, "gain must be"),
        (1.0, -1.0, "read_noise_dn"),
        (1.0, math.inf, "read"),
    ],
)
def test_impossible_values_are_refused(gain: float, read_noise: float, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Anscombe(gain=torch.tensor(gain), read_noise_dn=torch.tensor(read_noise))
