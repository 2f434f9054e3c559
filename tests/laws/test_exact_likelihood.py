"""The exact likelihood as a data term: against sums over all counts, its limits, and what the approximations miss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor

from noise_models.likelihood import CodeLikelihood
from physrestore.fidelity.electron_sum import Window, negative_log_likelihood
from physrestore.fidelity.exact import DARKEST, ExactPoissonGaussian
from physrestore.fidelity.poisson import ShiftedPoisson
from physrestore.fidelity.weighted import WeightedL2
from physrestore.noise import CalibratedNoise
from physrestore.operators.exposure import Exposure
from tests.laws.operator_table import uniform

ONE = Exposure(1.0)


def line(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[None, None, None]


def all_counts(mean: float, lower: float, upper: float, spread: float) -> tuple[float, float, float]:
    """``-log p`` and its derivatives in the mean, in electrons, from every count that a double can tell from none."""
    top = max(mean, lower if math.isfinite(lower) else 0.0)
    n = np.arange(0, int(top + 40 * math.sqrt(top) + 40 * spread + 200), dtype=np.float64)
    high, low = np.full(n.shape, upper) - n, np.full(n.shape, lower) - n
    # From whichever side is the tail.
    q = np.where(
        high + low > 0, special.ndtr(-low / spread) - special.ndtr(-high / spread),
        special.ndtr(high / spread) - special.ndtr(low / spread),
    )  # fmt: skip
    log_terms = n * math.log(mean) - mean - special.gammaln(n + 1) + np.log(np.maximum(q, 1e-300))
    total = special.logsumexp(log_terms)
    share = np.exp(log_terms - total)
    first = float((share * n).sum())
    factorial = float((share * n * (n - 1)).sum())
    return -total, 1 - first / mean, (first**2 - factorial) / mean**2


@pytest.mark.parametrize("spread", [0.3, 1.5, 4.0, 30.0])
@pytest.mark.parametrize("step", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("mean", [0.002, 0.4, 7.0, 60.0, 900.0])
def test_the_sum_is_that_over_all_counts(mean: float, step: float, spread: float) -> None:
    std = math.sqrt(mean + spread**2)
    codes = [mean + k * std for k in (-3.0, 0.0, 0.7, 4.0)]
    edges = [(c - step / 2, c + step / 2) for c in codes]
    edges += [(-math.inf, mean - std), (-math.inf, mean + 2 * std), (mean - 2 * std, math.inf), (mean + std, math.inf)]
    lower, upper = torch.tensor(edges, dtype=torch.float64).T

    found = negative_log_likelihood(torch.full_like(lower, mean), Window(lower, upper, torch.full_like(lower, spread)))

    expected = np.array([all_counts(mean, a, b, spread) for a, b in edges])
    np.testing.assert_allclose(found.value.numpy(), expected[:, 0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.first.numpy() * std, expected[:, 1] * std, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found.second.numpy() * std**2, expected[:, 2] * std**2, rtol=1e-5, atol=1e-6)


def test_it_is_the_code_likelihood_of_the_noise_model() -> None:
    black, high = 512.0, 4095
    law = CodeLikelihood(gain=2.0, noise_dn=4.0, black_level_dn=black, low=0, high=high)
    mean = torch.linspace(0.5, 3700.0, 60, dtype=torch.float64)
    codes = (black + mean + 60.0 * uniform((60,), 1) - 30.0).round().clamp(max=high)
    expected = -law.log_prob(codes, mean)

    term = ExactPoissonGaussian(2.0, 4.0, step=1.0, low=-black, high=high - black)

    assert bool((codes == high).any())
    torch.testing.assert_close(
        term.penalty(mean[None, None, None], (codes - black)[None, None, None])[0, 0, 0], expected
    )


@pytest.mark.parametrize("code", [-0.05, 0.0, 0.3, 1.0, 2.0])
def test_slope_and_hessian_are_the_values_differences(code: float) -> None:
    term = ExactPoissonGaussian(0.05, 0.04, step=0.01, high=1.0)
    u = line(-0.3, 0.01, 0.2, 0.7, 1.4)
    y, h = torch.full_like(u, code), 1e-5

    slope = (term.penalty(u + h, y) - term.penalty(u - h, y)) / (2 * h)
    hessian = (term.slope(u + h, y) - term.slope(u - h, y)) / (2 * h)

    torch.testing.assert_close(term.slope(u, y), slope, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(term.hessian(u, y), hessian, rtol=1e-4, atol=1e-3)
    wrong = ExactPoissonGaussian(0.05, 0.05, step=0.01, high=1.0)
    assert float((wrong.slope(u, y) - slope).abs().max()) > 0.1, "another noise has another slope"


def test_autograd_knows_both_derivatives() -> None:
    term = ExactPoissonGaussian(0.05, 0.04, step=0.01, high=1.0)
    y = line(0.0, 0.3, 1.0)
    u = line(0.1, 0.2, 0.9).requires_grad_()

    assert torch.autograd.gradcheck(lambda u: term.penalty(u, y), u, atol=1e-4)
    assert torch.autograd.gradcheck(lambda u: term.slope(u, y), u, atol=1e-3)
    hessian = term.hessian(u, y)
    with pytest.raises(NotImplementedError, match="up to the second; a third"):
        hessian.sum().backward()


def test_convex_everywhere() -> None:
    term = ExactPoissonGaussian(0.05, 0.04, step=0.01, low=-0.1, high=1.0)
    u = torch.linspace(-0.2, 1.5, 400, dtype=torch.float64)[None, None, None]
    for code in (-0.1, -0.03, 0.0, 0.4, 1.0):
        slope = term.slope(u, torch.full_like(u, code))

        assert float(slope.diff().min()) > -1e-9


def test_many_electrons_are_weighted_least_squares() -> None:
    """At 400000 electrons the score within three sigma is the residual over the variance, to the skewness of 1/632."""
    gain, sigma = 1.0 / 400_000, 1e-5
    std = math.sqrt(gain + sigma**2)
    y = 1.0 + std * line(-3.0, -1.0, 0.5, 3.0)
    u = torch.ones_like(y)
    exact = ExactPoissonGaussian(gain, sigma, step=1e-5)

    gap = (exact.slope(u, y) - WeightedL2(1.0 / std**2).slope(u, y)).abs() * std

    assert float(gap.max()) < 8 / math.sqrt(400_000)
    assert float((exact.slope(u, y) - WeightedL2(1.2 / std**2).slope(u, y)).abs().max()) * std > 0.5


def scores(electrons: float, read: float, step: float) -> dict[str, Tensor]:
    """Of codes within three sigma of a mean, in sigmas, by the exact law and by the named approximations."""
    dark = math.sqrt(read**2 + step**2 / 12)
    std = math.sqrt(electrons + dark**2)
    y = step * line(*range(round((electrons - 3 * std) / step), round((electrons + 3 * std) / step) + 1))
    u = torch.full_like(y, electrons)
    return {
        "exact": ExactPoissonGaussian(1.0, read, step=step).slope(u, y) * std,
        "shifted": ShiftedPoisson(1.0, dark).slope(u, y) * std,
        "at the mean": WeightedL2(1.0 / std**2).slope(u, y) * std,
        "at the code": WeightedL2(1.0 / (y.clamp(min=0.0) + dark**2)).slope(u, y) * std,
    }


def test_few_electrons_need_the_exact_law() -> None:
    """Two electrons, a fifth of one of noise: codes show single photons, and no smooth law has that score."""
    few, many = scores(2.0, 0.2, step=0.1), scores(900.0, 3.0, step=1.0)

    for name in ("shifted", "at the mean", "at the code"):
        assert float((few[name] - few["exact"]).abs().max()) > 0.25, name
    assert float((many["shifted"] - many["exact"]).abs().max()) < 0.03
    assert float((many["at the code"] - many["exact"]).abs().max()) > 0.1


def test_the_score_averages_zero_only_for_the_law_that_drew_the_codes() -> None:
    gain, sigma, step, n = 0.1, 0.08, 0.02, 14_400
    u = torch.full((1, 1, 120, 120), 0.3, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    drawn = gain * torch.poisson(u / gain, generator=generator)
    drawn = drawn + sigma * torch.randn(u.shape, generator=generator, dtype=u.dtype)
    y = ((drawn / step).round() * step).clamp(min=-0.1, max=0.5)

    def standard_errors(term: ExactPoissonGaussian, y: Tensor = y) -> float:
        slope = term.slope(u, y)
        return float(slope.mean().abs() / (slope.std() / n**0.5))

    assert standard_errors(ExactPoissonGaussian(gain, sigma, step=step, low=-0.1, high=0.5)) < 5
    assert standard_errors(ExactPoissonGaussian(gain, sigma, step=step)) > 5, "clipping ignored"
    assert standard_errors(ExactPoissonGaussian(gain, sigma, step=step, low=-0.1, high=0.5), y + step) > 5, "black"


@pytest.mark.parametrize("gamma", [1e-3, 0.1, 10.0])
def test_the_prox_of_a_pixel_is_the_minimum_of_a_fine_search(gamma: float) -> None:
    term = ExactPoissonGaussian(0.05, 0.04, step=0.01, low=-0.1, high=1.0)
    y = line(-0.1, -0.04, 0.0, 0.06, 0.5, 1.0, 1.0)
    z = line(0.3, 0.2, -0.1, 0.9, 0.0, 0.4, 1.6)

    x = term.prox(z, y, ONE, gamma=gamma)

    assert float((term.slope(x, y) + (x - z) / gamma).abs().max()) < 1e-6 / gamma
    fine = torch.linspace(-0.3, 2.0, 801, dtype=torch.float64)[:, None]
    at = term.penalty(fine[:, None, None].expand(-1, 1, 1, 7), y.expand(801, -1, -1, -1))[:, 0, 0]
    best = fine[(at + (fine - z[0, 0]).square() / (2 * gamma)).argmin(dim=0), 0]
    torch.testing.assert_close(x[0, 0, 0], best, rtol=0, atol=3e-3)


def test_every_pixel_descends_on_its_own() -> None:
    """A pixel from which Newton's method leaps does not hold up the others, and is itself solved."""
    term = ExactPoissonGaussian(1e-4, 1e-3, step=1e-4)
    y = line(0.9, 1e-4, 0.5, 0.0)
    z = line(-0.2, 0.9, 0.5, 1.0)

    x = term.prox(z, y, ONE, gamma=0.05)

    residual = term.slope(x, y) + (x - z) / 0.05
    assert float((residual.abs() / (1 + term.hessian(x, y))).max()) < 1e-8


def test_of_noise_takes_rounding_out_of_sigma() -> None:
    step = 0.01
    noise = CalibratedNoise(gain=0.02, sigma=0.03, row=0.01)

    term = ExactPoissonGaussian.of_noise(noise, step=step, high=1.0)

    assert float(term.sigma) == pytest.approx(math.sqrt(0.03**2 + 0.01**2 - step**2 / 12))
    assert (float(term.gain), float(term.high)) == pytest.approx((0.02, 1.0))
    with pytest.raises(ValueError, match=r"Rounding to steps of 0\.2 makes more noise"):
        ExactPoissonGaussian.of_noise(noise, step=0.2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gain": 0.0}, "gain must be positive"),
        ({"sigma": -1.0}, "sigma must be positive"),
        ({"step": 0.0}, "step must be positive"),
        ({"low": 1.0, "high": 0.5}, "lowest code must lie below the highest"),
    ],
)
def test_impossible_parameters(changed: dict[str, float], message: str) -> None:
    term = ExactPoissonGaussian(**{"gain": 0.1, "sigma": 0.1, "step": 0.01, **changed})  # type: ignore[arg-type]

    with pytest.raises(ValueError, match=message):
        term(line(0.5), line(0.5), ONE)


def test_single_precision_and_darkness() -> None:
    """float32 in, float32 out; and at the darkest mean both sides meet."""
    term = ExactPoissonGaussian(0.05, 0.04, step=0.01)
    u, y = line(0.2, 0.5), line(0.21, 0.5)

    assert term.slope(u.float(), y.float()).dtype == torch.float32
    torch.testing.assert_close(term.slope(u.float(), y.float()).double(), term.slope(u, y), rtol=1e-4, atol=1e-3)
    edge = DARKEST * 0.05
    around = line(edge - 1e-10, edge + 1e-10)
    left, right = term.slope(around, torch.zeros_like(around))[0, 0, 0].tolist()
    assert left == pytest.approx(right, abs=1e-6)
