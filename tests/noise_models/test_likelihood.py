"""Code probabilities are exact, sum to one and have finite slopes."""

import numpy as np
import pytest
import torch
from scipy import special, stats

from noise_models.errors import ProfileError
from noise_models.likelihood import CodeLikelihood
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise

# gain, noise, black, high, mean: few and many electrons, coarse and fine steps, both ends of the scale
CASES = [
    (1.0, 2.0, 100.0, 400, 50.0),
    (0.05, 3.0, 64.0, 255, 100.0),
    (0.02, 0.3, 10.25, 120, 60.0),
    (20.0, 1.5, 50.0, 500, 100.0),
    (1.0, 3.0, 0.0, 60, 0.5),
    (5.0, 30.0, 0.0, 100, 0.0),
    (0.5, 2.0, 512.0, 4095, 3000.0),
    (0.5, 2.0, 20.0, 300, 279.0),
    (0.001, 0.05, 5.0, 40, 20.0),
]


def brute_force(law: CodeLikelihood, mean: float) -> np.ndarray:
    """The same sum over every count, in scipy and without any choice of range."""
    electrons = mean / law.gain
    n = np.arange(int(electrons + 14 * np.sqrt(electrons) + 60))
    codes = np.arange(law.low, law.high + 1)
    centre = (law.black_level_dn + law.gain * n)[:, None]
    a = (np.where(codes == law.low, -np.inf, codes - 0.5) - centre) / law.noise_dn
    b = (np.where(codes == law.high, np.inf, codes + 0.5) - centre) / law.noise_dn
    window = np.where(a > 0, special.ndtr(-a) - special.ndtr(-b), special.ndtr(b) - special.ndtr(a))
    return stats.poisson.pmf(n, electrons) @ window


@pytest.mark.parametrize("case", CASES)
def test_exact_against_brute_force_and_sums_to_one(case: tuple[float, float, float, int, float]) -> None:
    gain, noise, black, high, mean = case
    law = CodeLikelihood(gain=gain, noise_dn=noise, black_level_dn=black, low=0, high=high)

    probability = law.log_prob(torch.arange(high + 1), torch.tensor(mean)).exp().numpy()

    expected = brute_force(law, mean)
    seen = expected > 1e-30
    np.testing.assert_allclose(probability[seen], expected[seen], rtol=1e-9)
    assert abs(probability.sum() - 1.0) < 1e-9
    assert (probability[~seen] < 1e-29).all()


def test_moments_of_the_codes_are_those_of_the_sensor() -> None:
    planes = {
        "M": PlaneNoise(
            gain=Estimate(value=0.7), read_noise_dn=Estimate(value=2.0), black_level_dn=Estimate(value=300.0)
        )
    }
    noise = SensorNoise(iso=100.0, planes=planes, row_noise_dn=Estimate(value=0.5))
    law = CodeLikelihood.of(noise, "M", high=2000)
    codes = torch.arange(2001)

    p = law.log_prob(codes, torch.tensor(250.0)).exp()

    mean = float((p * codes).sum())
    assert mean == pytest.approx(550.0, rel=1e-9)
    assert float((p * (codes - mean) ** 2).sum()) == pytest.approx(float(noise.variance("M", 250.0)), rel=1e-9)


def test_gaussian_approximation_sums_to_one_and_comes_close_for_many_electrons() -> None:
    codes = torch.arange(4096)
    for mean, close in ((5.0, False), (2000.0, True)):
        law = CodeLikelihood(gain=1.0, noise_dn=1.0, black_level_dn=100.0, low=0, high=4095)
        exact, normal = (f(codes, torch.tensor(mean)).exp() for f in (law.log_prob, law.gaussian_log_prob))
        assert float(normal.sum()) == pytest.approx(1.0, abs=1e-12)
        assert (float((exact - normal).abs().sum()) < 0.02) == close


@pytest.mark.parametrize("method", ["log_prob", "gaussian_log_prob"])
def test_slope_is_that_of_finite_differences_and_finite_everywhere(method: str) -> None:
    law = CodeLikelihood(gain=0.5, noise_dn=1.5, black_level_dn=20.0, low=0, high=255)
    log_prob = getattr(law, method)
    codes = torch.tensor([0, 18, 25, 60, 250, 255])
    mean = torch.tensor([3.0, 0.5, 4.0, 41.0, 225.0, 236.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: log_prob(codes, m), mean)

    far = torch.tensor([0.0, -5.0, 1e4], dtype=torch.float64, requires_grad=True)
    value = log_prob(torch.tensor([[0], [20], [255]]), far)
    (slope,) = torch.autograd.grad(value.sum(), far)
    assert bool(torch.isfinite(value).all())
    assert bool(torch.isfinite(slope).all())


def test_maximum_likelihood_finds_the_mean_under_heavy_clipping() -> None:
    """Half of the codes lie on the black clamp: their mean is biased, the likelihood is not."""
    law = CodeLikelihood(gain=0.9, noise_dn=4.0, black_level_dn=0.0, low=0, high=255)
    generator = torch.Generator().manual_seed(0)
    true = 0.5
    electrons = torch.poisson(torch.full((200_000,), true / law.gain), generator=generator)
    read = torch.randn(200_000, generator=generator) * law.noise_dn
    codes = (law.gain * electrons + read).round().clamp(0, 255)
    assert abs(float(codes.mean()) - true) > 1.0

    seen, counts = codes.unique(return_counts=True)
    grid = torch.linspace(0.1, 1.0, 91, dtype=torch.float64)
    best = grid[(law.log_prob(seen, grid[:, None]) * counts).sum(dim=1).argmax()]
    assert float(best) == pytest.approx(true, abs=0.08)  # 5 x 4.06 DN x 1.6 (half censored) / sqrt(200 000), grid 0.01


def test_wrong_input_is_refused() -> None:
    law = CodeLikelihood(gain=1.0, noise_dn=1.0, black_level_dn=0.0, low=0, high=10)
    with pytest.raises(ValueError, match=r"within 0\.\.10; they run from 0 to 11"):
        law.log_prob(torch.tensor([0, 11]), torch.tensor(1.0))
    with pytest.raises(ValueError, match="whole numbers"):
        law.gaussian_log_prob(torch.tensor([0.5]), torch.tensor(1.0))
    with pytest.raises(ValueError, match="positive gain"):
        CodeLikelihood(gain=0.0, noise_dn=1.0, black_level_dn=0.0, low=0, high=10)
    dark = PlaneNoise(read_noise_dn=Estimate(value=1.0), black_level_dn=Estimate(value=0.0))
    noise = SensorNoise(iso=100.0, planes={"M": dark}, row_noise_dn=Estimate(value=0.0))
    with pytest.raises(ProfileError, match="gain K, which is unknown"):
        CodeLikelihood.of(noise, "M", high=10)
