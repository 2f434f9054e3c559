"""The code table against the exact sum, quadrature against closed forms and dense integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate as dense
from scipy import stats
from torch import Tensor

from noise_models.errors import ProfileError
from noise_models.likelihood import CodeLikelihood
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise, Tail
from noise_models.terms import ReadNoise, ShotNoise
from physrestore.selfsup.posterior import Evidence, posterior
from physrestore.selfsup.quadrature import CodeTable, _tukey_cdf, exact_posterior, integrate

BLACK = 200.0


def noise_of(gain: float, read: float, tail: Tail | None = None) -> SensorNoise:
    plane = PlaneNoise(
        gain=Estimate(value=gain), read_noise_dn=Estimate(value=read), black_level_dn=Estimate(value=BLACK)
    )
    return SensorNoise(iso=800.0, planes={"M": plane}, row_noise_dn=Estimate(value=0.0), tail=tail or Tail())


@pytest.mark.parametrize(("gain", "read"), [(3.0, 4.0), (0.4, 1.1), (20.0, 30.0)])
def test_table_is_the_exact_code_probability(gain: float, read: float) -> None:
    table = CodeTable.of(noise_of(gain, read), "M", highest_mean_dn=40.0 * gain)
    law = CodeLikelihood(gain, read, BLACK, 0, 65535)
    for electrons in (0.0, 0.3, 2.0, 11.0, 39.0):
        mean = torch.tensor(electrons * gain)
        spread = math.sqrt(gain * float(mean) + read**2)
        codes = torch.arange(round(float(mean) - 4 * spread), round(float(mean) + 5 * spread))
        exact = law.log_prob(codes + BLACK, mean)
        found = table.log_likelihood(codes.double(), mean)
        # Between nodes of the table, a linear rule of step h errs by h^2 / 8 times the curvature of log p.
        torch.testing.assert_close(found, exact, atol=1e-2, rtol=0)
        if electrons > 0:
            assert not torch.allclose(found, law.gaussian_log_prob(codes + BLACK, mean), atol=1e-2)


@pytest.mark.parametrize(
    "tail", [Tail(kind="lognormal", shape=Estimate(value=0.4)), Tail(kind="tukey", shape=Estimate(value=-0.1))]
)
def test_table_has_the_tail_of_the_sampler(tail: Tail) -> None:
    """Far codes are as frequent as the noise sampler draws them, and not as a Gaussian law says."""
    gain, read, electrons, count = 2.0, 6.0, 3.0, 400_000
    table = CodeTable.of(noise_of(gain, read, tail), "M", highest_mean_dn=40.0)
    generator = torch.Generator().manual_seed(5)
    like = torch.full((count,), electrons * gain, dtype=torch.float64)
    shot = ShotNoise(gain).sample(like, generator=generator)
    law = ReadNoise.of(read, tail)
    drawn = (shot + law.sample(law.pixel_std(like, generator=generator), generator=generator)).round()
    codes = torch.arange(-100.0, 160.0, dtype=torch.float64)
    prob = table.log_likelihood(codes, like[:1]).exp()
    gauss = CodeTable.of(noise_of(gain, read), "M", highest_mean_dn=40.0)
    for low in (30.0, 40.0):
        expected = float(prob[codes >= low].sum())
        seen = float((drawn >= low).double().mean())
        assert seen == pytest.approx(expected, abs=5 * math.sqrt(expected / count))
        wrong = float(gauss.log_likelihood(codes, like[:1]).exp()[codes >= low].sum())
        assert abs(seen - wrong) > 5 * math.sqrt(max(wrong, expected) / count)


def test_tukey_law_is_scipys() -> None:
    z = np.array([-30.0, -9.0, -2.0, -0.3, 0.0, 0.4, 3.0])
    for shape in (-0.2, 0.0, 0.1):
        np.testing.assert_allclose(_tukey_cdf(shape)(z), stats.tukeylambda.cdf(z, shape), rtol=1e-4, atol=1e-12)


def gaussian_likelihood(light: Tensor, noise: Tensor, x: Tensor) -> Tensor:
    return -0.5 * ((light[:, None] - x).square() / noise[:, None] + (2 * math.pi * noise[:, None]).log())


def test_quadrature_is_exact_for_gaussian_laws() -> None:
    generator = torch.Generator().manual_seed(2)
    mean, light = (torch.rand(200, generator=generator, dtype=torch.float64) for _ in range(2))
    variance, noise = (10 ** (-4 + 2 * torch.rand(200, generator=generator, dtype=torch.float64)) for _ in range(2))
    near = mean + (light - 0.5) * 6 * (variance + noise).sqrt()
    total, found = integrate(mean, variance, noise, near, lambda x: gaussian_likelihood(near, noise, x))
    shaped = [x[None, None, None] for x in (mean, variance, noise, near)]
    zero = torch.zeros_like(shaped[0])
    exact = posterior(shaped[0], shaped[1], Evidence(shaped[3], shaped[2], zero == 0, zero))
    marginal = stats.norm.logpdf(near.numpy(), mean.numpy(), (variance + noise).sqrt().numpy())
    np.testing.assert_allclose(total, marginal, atol=1e-4)
    std = exact.variance[0, 0, 0].sqrt()
    torch.testing.assert_close(found.mean / std, exact.mean[0, 0, 0] / std, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.variance, exact.variance[0, 0, 0], rtol=1e-3, atol=0)


def test_few_electrons_against_dense_integration() -> None:
    gain, read, span = 5.0, 3.0, 1000.0
    law = CodeLikelihood(gain, read, BLACK, 0, 65535)
    table = CodeTable.of(noise_of(gain, read), "M", highest_mean_dn=300.0)
    for mu, sigma, code in ((2.0, 1.0, 0), (2.0, 1.5, 23), (6.0, 3.0, 4), (10.0, 2.0, 90)):
        mean, std = mu * gain / span, sigma * gain / span
        x = np.linspace(mean - 8 * std, mean + 8 * std, 4001)
        likelihood = law.log_prob(torch.tensor(code + BLACK), torch.from_numpy(x * span).clamp(min=0.0)).exp().numpy()
        weight = stats.norm.pdf(x, mean, std) * likelihood
        first = dense.trapezoid(weight * x, x) / dense.trapezoid(weight, x)
        second = dense.trapezoid(weight * (x - first) ** 2, x) / dense.trapezoid(weight, x)
        one = [torch.tensor([v], dtype=torch.float64) for v in (mean, std**2, 0.0, code / span)]
        one[2] = torch.tensor([(gain * mean * span + read**2) / span**2])
        found = exact_posterior(*one, table=table, span_dn=span)
        assert float(found.mean) == pytest.approx(first, abs=0.004 * std)
        assert float(found.variance) == pytest.approx(second, rel=0.01)


def test_an_outlier_of_a_heavy_tail_is_disbelieved() -> None:
    heavy = Tail(kind="tukey", shape=Estimate(value=-0.2))
    span = 1000.0
    one = [torch.tensor([v], dtype=torch.float64) for v in (0.02, 0.004**2, (20.0 + 16.0) / span**2, 0.1)]
    believed, doubted = (
        exact_posterior(*one, table=CodeTable.of(noise_of(1.0, 4.0, tail), "M", highest_mean_dn=400.0), span_dn=span)
        for tail in (Tail(), heavy)
    )
    assert float(doubted.mean) < 0.6 * float(believed.mean)


def test_no_sites_and_no_gain() -> None:
    table = CodeTable.of(noise_of(1.0, 4.0), "M", highest_mean_dn=40.0)
    nothing = torch.zeros(0)
    assert exact_posterior(nothing, nothing, nothing, nothing, table=table, span_dn=1.0).mean.numel() == 0
    plane = PlaneNoise(read_noise_dn=Estimate(value=3.0), black_level_dn=Estimate(value=BLACK))
    dark_only = SensorNoise(iso=800.0, planes={"M": plane}, row_noise_dn=Estimate(value=0.0))
    with pytest.raises(ProfileError, match="needs its gain K"):
        CodeTable.of(dark_only, "M", highest_mean_dn=40.0)
