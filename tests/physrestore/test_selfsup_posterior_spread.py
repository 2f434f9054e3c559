"""The correction of predicted variances: finds a planted error, leaves a right prediction, resists missed edges."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from physrestore.selfsup.posterior_spread import LARGEST_FACTOR, SpreadCorrection

SHAPE = (1, 1, 200, 300)


def drawn(factor: Tensor | float, *, seed: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Errors of a prediction that declares v but has ``factor v``; declared v, noise, all sites."""
    generator = torch.Generator().manual_seed(seed)
    noise = 1e-3 * (1.0 + 8.0 * torch.linspace(0, 1, SHAPE[-1]).expand(SHAPE))
    variance = noise * torch.exp(1.5 * torch.randn(SHAPE, generator=generator))
    error = (factor * variance + noise).sqrt() * torch.randn(SHAPE, generator=generator)
    return error, variance, noise, torch.ones(SHAPE, dtype=torch.bool)


def mean_log_ratio(corrected: Tensor, truth: Tensor) -> float:
    return float((corrected / truth).log().mean())


@pytest.mark.parametrize("factor", [0.4, 1.0, 2.5])
def test_a_planted_factor_is_found(factor: float) -> None:
    error, variance, noise, sites = drawn(factor)
    corrected = SpreadCorrection.fit(error, variance, noise, sites).apply(variance, noise)
    # Four numbers from 60000 squares, each with a relative error of sqrt(2) (1 + n / v).
    assert mean_log_ratio(corrected, factor * variance) == pytest.approx(0.0, abs=5 * 4 * math.sqrt(2 / 60000) * 2)
    assert corrected.dtype == variance.dtype


def test_an_error_that_depends_on_roughness_is_found() -> None:
    _, variance, noise, _ = drawn(1.0)
    factor = (variance / noise) ** -0.3
    error, variance, noise, sites = drawn(factor)
    corrected = SpreadCorrection.fit(error, variance, noise, sites).apply(variance, noise)
    rough = variance > 3 * noise
    smooth = variance < noise / 3
    for part in (rough, smooth):
        assert mean_log_ratio(corrected[part], (factor * variance)[part]) == pytest.approx(0.0, abs=0.15)
        assert abs(mean_log_ratio(variance[part], (factor * variance)[part])) > 0.4


def test_missed_edges_do_not_widen_all() -> None:
    error, variance, noise, sites = drawn(1.0)
    error[..., ::100] += 1.0
    corrected = SpreadCorrection.fit(error, variance, noise, sites).apply(variance, noise)
    assert mean_log_ratio(corrected, variance) < 0.5


def test_nothing_is_changed_beyond_the_limit_or_without_evidence() -> None:
    error, variance, noise, sites = drawn(1.0)
    wide = SpreadCorrection.fit(100 * error, variance, noise, sites).apply(variance, noise)
    assert float((wide / variance).max()) <= LARGEST_FACTOR * 1.001
    few = torch.zeros_like(sites)
    few[..., 0, :2] = True
    still = SpreadCorrection.fit(error, variance, noise, few).apply(variance, noise)
    assert abs(mean_log_ratio(still, variance)) < 0.3
    with pytest.raises(ValueError, match="No site is left to correct"):
        SpreadCorrection.fit(error, variance, noise, torch.zeros_like(sites))
