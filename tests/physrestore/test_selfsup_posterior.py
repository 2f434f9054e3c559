"""Closed forms against dense linear algebra, quadrature against exact sums, limits, and planted errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from physrestore.selfsup.posterior import Evidence, Posterior, colour_nll, colour_posterior, nll, posterior
from physrestore.selfsup.row_posterior import RowEvidence, row_nll, row_posterior

SHAPE = (2, 1, 3, 17)


def drawn(*shape: int, seed: int, low: float = 0.1, high: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def evidence(light: Tensor, noise: Tensor, known: Tensor | None = None, censored: Tensor | None = None) -> Evidence:
    known = torch.ones_like(light, dtype=torch.bool) if known is None else known
    return Evidence(light, noise, known, torch.zeros_like(light) if censored is None else censored)


def scalar_case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean, variance, noise = (drawn(*SHAPE, seed=k) for k in range(3))
    return mean, variance, noise, drawn(*SHAPE, seed=3, low=-1.0, high=2.0)


def test_one_pixel_against_numerical_integration() -> None:
    mean, variance, noise, light = scalar_case()
    result = posterior(mean, variance, evidence(light, noise))
    loss = nll(mean, variance, evidence(light, noise))
    x = np.linspace(-15.0, 15.0, 60001)
    at = (1, 0, 2, 5)
    joint = stats.norm.pdf(x, float(mean[at]), math.sqrt(float(variance[at]))) * stats.norm.pdf(
        float(light[at]), x, math.sqrt(float(noise[at]))
    )
    total = integrate.trapezoid(joint, x)
    first = integrate.trapezoid(joint * x, x) / total
    assert float(loss[at]) == pytest.approx(-math.log(total), abs=1e-10)
    assert float(result.mean[at]) == pytest.approx(first, abs=1e-10)
    assert float(result.variance[at]) == pytest.approx(
        integrate.trapezoid(joint * (x - first) ** 2, x) / total, abs=1e-10
    )


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("distance", [-3.0, 0.0, 2.0, 7.5, 8.5])
def test_censored_pixel_against_numerical_integration(side: float, distance: float) -> None:
    """The level lies ``distance`` sigmas of the marginal beyond the prediction."""
    mean, variance, noise = (torch.full((1, 1, 1, 1), v, dtype=torch.float64) for v in (0.9, 0.02, 0.01))
    deviation = math.sqrt(0.03)
    light = mean + side * distance * deviation
    seen = evidence(light, noise, censored=torch.full_like(light, side))
    x = np.linspace(0.9 - 16 * deviation, 0.9 + 16 * deviation, 200001)
    reached = stats.norm.logcdf(side * (x - float(light)) / 0.1)
    log_joint = stats.norm.logpdf(x, 0.9, math.sqrt(0.02)) + reached
    top = log_joint.max()
    weight = np.exp(log_joint - top)
    total = integrate.trapezoid(weight, x)
    first = integrate.trapezoid(weight * x, x) / total
    second = integrate.trapezoid(weight * (x - first) ** 2, x) / total
    result = posterior(mean, variance, seen)
    assert float(nll(mean, variance, seen)) == pytest.approx(-(math.log(total) + top), rel=1e-8)
    # Beyond 8 sigma the moments are series; the next terms are 10 / t^5 sigma and 50 / t^6 sigma^2.
    exact = distance <= 8.0
    assert float(result.mean) == pytest.approx(first, abs=1e-8 if exact else 10 / 8**5 * deviation)
    assert float(result.variance) == pytest.approx(second, rel=1e-5 if exact else 0.02)


def test_limits_of_the_noise() -> None:
    mean, variance, _, light = scalar_case()
    sharp = posterior(mean, variance, evidence(light, torch.full_like(light, 1e-14)))
    blunt = posterior(mean, variance, evidence(light, torch.full_like(light, 1e14)))
    blind = posterior(mean, variance, evidence(light, variance, known=torch.zeros_like(light, dtype=torch.bool)))
    torch.testing.assert_close(sharp.mean, light, atol=1e-12, rtol=0)
    torch.testing.assert_close(blunt.mean, mean, atol=1e-12, rtol=0)
    assert torch.equal(blind.mean, mean)
    assert torch.equal(blind.variance, variance)


def test_unknown_sites_do_not_enter_the_loss() -> None:
    mean, variance, noise, light = scalar_case()
    known = drawn(*SHAPE, seed=9) > 0.4
    wild = torch.where(known, light, torch.full_like(light, 1e6))
    loss = nll(mean, variance, evidence(wild, noise, known=known))
    assert torch.equal(loss[~known], torch.zeros_like(loss[~known]))
    torch.testing.assert_close(loss[known], nll(mean, variance, evidence(light, noise))[known])


def colour_case() -> tuple[Tensor, Tensor, Evidence]:
    factor = drawn(2, 4, 4, 3, 5, seed=20, low=-1.0)
    covariance = torch.einsum("bikhw,bjkhw->bijhw", factor, factor)
    mean, noise, light = (drawn(2, 4, 3, 5, seed=k) for k in (21, 22, 23))
    known = drawn(2, 4, 3, 5, seed=24) > 0.3
    known[0, :, 0, 0] = False  # a place where nothing was measured
    light = torch.where(known, light, torch.full_like(light, torch.nan))
    return mean, covariance, evidence(light, noise, known=known)


def test_colours_against_dense_algebra() -> None:
    mean, covariance, seen = colour_case()
    result, loss = colour_posterior(mean, covariance, seen), colour_nll(mean, covariance, seen)
    for b, i, j in np.ndindex(2, 3, 5):
        s, mu = covariance[b, :, :, i, j].numpy(), mean[b, :, i, j].numpy()
        k = seen.known[b, :, i, j].numpy()
        d = s[np.ix_(k, k)] + np.diag(seen.noise[b, :, i, j].numpy()[k])
        e = seen.light[b, :, i, j].numpy()[k] - mu[k]
        gain = s[:, k] @ np.linalg.inv(d) if k.any() else np.zeros((4, 0))
        np.testing.assert_allclose(result.mean[b, :, i, j], mu + gain @ e, atol=1e-10)
        np.testing.assert_allclose(result.variance[b, :, i, j], np.diag(s - gain @ s[k]), atol=1e-10)
        dense = 0.5 * (e @ np.linalg.solve(d, e) + np.linalg.slogdet(2 * np.pi * d)[1]) if k.any() else 0.0
        assert float(loss[b, 0, i, j]) == pytest.approx(dense, abs=1e-10)


def test_one_colour_is_the_scalar_form() -> None:
    mean, variance, noise, light = scalar_case()
    seen = evidence(light, noise)
    torch.testing.assert_close(colour_nll(mean, variance[:, None], seen), nll(mean, variance, seen))
    torch.testing.assert_close(
        colour_posterior(mean, variance[:, None], seen).mean, posterior(mean, variance, seen).mean
    )


@pytest.mark.parametrize("common", [0.0, 0.7])
def test_rows_against_dense_algebra(common: float) -> None:
    mean, variance, noise, light = scalar_case()
    row, measured = drawn(*SHAPE, seed=5), drawn(*SHAPE, seed=6) > 0.25
    loss = row_nll(light - mean, variance + noise, row, measured, common=common)
    result = row_posterior(mean, variance, noise, light, row, measured, common=common)
    for b, i in np.ndindex(2, 3):
        mu, v, n, y, s, k = (x[b, 0, i].numpy() for x in (mean, variance, noise, light, row, measured))
        prior = np.diag(v) + common * np.outer(s, s)
        d = (prior + np.diag(n) + np.outer(s, s))[np.ix_(k, k)]
        gain = prior[:, k] @ np.linalg.inv(d)
        e = (y - mu)[k]
        np.testing.assert_allclose(result.mean[b, 0, i], mu + gain @ e, atol=1e-10)
        np.testing.assert_allclose(result.variance[b, 0, i], np.diag(prior - gain @ prior[k]), atol=1e-10)
        dense = 0.5 * (e @ np.linalg.solve(d, e) + np.linalg.slogdet(2 * np.pi * d)[1])
        assert float(loss[b, 0, i, 0]) == pytest.approx(dense, abs=1e-10)


def test_without_row_noise_rows_are_pixels() -> None:
    mean, variance, noise, light = scalar_case()
    none, all_sites = torch.zeros_like(light), torch.ones_like(light, dtype=torch.bool)
    result = row_posterior(mean, variance, noise, light, none, all_sites)
    plain: Posterior = posterior(mean, variance, evidence(light, noise))
    torch.testing.assert_close(result.mean, plain.mean)
    torch.testing.assert_close(result.variance, plain.variance)
    rows = row_nll(light - mean, variance + noise, none, all_sites)
    torch.testing.assert_close(rows, nll(mean, variance, evidence(light, noise)).sum(-1, keepdim=True))


def rows_with_common_error(common: float) -> tuple[RowEvidence, Tensor]:
    generator = torch.Generator().manual_seed(11)
    shape, row = (1, 1, 4000, 40), 0.5

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    offset, shared = normal(1, 1, 4000, 1), math.sqrt(common) * normal(1, 1, 4000, 1)
    error = normal(*shape) + row * (offset + shared)
    loading = torch.full(shape, row, dtype=torch.float64)
    return RowEvidence.of(error, torch.ones_like(error), loading, torch.ones(shape, dtype=torch.bool)), offset


@pytest.mark.parametrize("common", [0.0, 2.0])
def test_common_error_is_measured_and_makes_offsets_better(common: float) -> None:
    sums, offset = rows_with_common_error(common)
    found = sums.common_error()
    spread = 1.0 + common + 1.0 / float(sums.information[0, 0, 0])
    # The median of 4000 squares, with the density of chi^2_1 at its median.
    density = stats.chi2.pdf(stats.chi2.ppf(0.5, 1), 1)
    error = spread * 0.5 / math.sqrt(4000) / density / 0.455
    assert found == pytest.approx(common, abs=5 * error)
    told = (sums.offsets(found) - offset).square().mean()
    expected = 1.0 - 1.0 / (1.0 + common + 1.0 / float(sums.information[0, 0, 0]))
    assert float(told) == pytest.approx(expected, rel=5 * math.sqrt(2 / 4000))
    if common > 0:  # the formula that believes in independent errors does worse than saying nothing
        assert float((sums.offsets(0.0) - offset).square().mean()) > 1.2


def test_one_missed_edge_does_not_move_a_row() -> None:
    error = torch.zeros(1, 1, 1, 100, dtype=torch.float64)
    error[..., 40:44] = 50.0
    ones, measured = torch.ones_like(error), torch.ones_like(error, dtype=torch.bool)
    exact = float(RowEvidence.of(error, ones, ones, measured).offsets())
    robust = float(RowEvidence.of(error, ones, ones, measured, robust_sigmas=3.0).offsets())
    assert exact > 1.9
    assert robust < 0.15


def test_what_all_rows_share_is_no_row_noise() -> None:
    sums, _ = rows_with_common_error(0.5)
    shifted = RowEvidence(sums.information, sums.moment + 3.0 * sums.information)
    torch.testing.assert_close(shifted.centred().offsets(), sums.centred().offsets())
    assert shifted.common_error() > 5.0  # uncentred, the shift would pass for row noise
    assert shifted.centred().common_error() < 1.0


def test_parts_of_rows_add_up() -> None:
    error, total = drawn(1, 1, 4, 20, seed=1), drawn(1, 1, 4, 20, seed=2)
    row, measured = torch.full_like(error, 0.3), torch.ones_like(error, dtype=torch.bool)
    whole = RowEvidence.of(error, total, row, measured)
    left, right = (
        RowEvidence.of(error[..., cut], total[..., cut], row[..., cut], measured[..., cut])
        for cut in (slice(0, 7), slice(7, 20))
    )
    torch.testing.assert_close(left.plus(right).offsets(), whole.offsets())


def test_no_row_told_means_no_common_error() -> None:
    zero = torch.zeros(1, 1, 5, 1)
    assert RowEvidence(zero, zero).common_error() == 0.0
