"""Quality numbers on cases whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from physrestore.quality import noise_reduction, psnr, residual_chi2, residual_correlation, smooth_areas


def white(channels: int = 2, side: int = 256, *, seed: int = 0) -> Tensor:
    return torch.randn(channels, side, side, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_known_error() -> None:
    truth = torch.zeros(1, 8, 8)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0, abs=1e-4)
    assert psnr(truth, truth) == math.inf
    assert psnr(truth + 10, truth, peak=1000.0) == pytest.approx(40.0)
    with pytest.raises(ValueError, match="equal shapes"):
        psnr(truth, truth[..., :4])


def test_white_noise_is_white_and_blurred_noise_is_not() -> None:
    noise = white()
    flat = residual_correlation(noise)
    assert all(abs(v) < 5 * flat.standard_error for v in (*flat.horizontal, *flat.vertical, *flat.diagonal))
    rows = F.avg_pool2d(noise[None], (1, 2), stride=1)[0]  # neighbours in a row share half of their values
    assert residual_correlation(rows).horizontal == pytest.approx((0.5, 0.5), abs=0.03)
    assert residual_correlation(rows).vertical == pytest.approx((0.0, 0.0), abs=0.03)


def test_diagonal_correlation_sees_both_diagonals() -> None:
    noise = white(1)
    for other in (noise[:, 1:, 1:] + noise[:, :-1, :-1], noise[:, 1:, :-1] + noise[:, :-1, 1:]):
        assert residual_correlation(other).diagonal == pytest.approx((0.25,), abs=0.03)


def test_only_the_mask_counts() -> None:
    residual = white()
    residual[:, :, 128:] = 7.0
    mask = torch.zeros(256, 256, dtype=torch.bool)
    mask[:, :128] = True
    assert residual_chi2(residual, torch.tensor(1.0), mask) == pytest.approx((1.0, 1.0), abs=5 * math.sqrt(2 / 32768))
    assert abs(residual_correlation(residual, mask).horizontal[0]) < 0.03
    assert residual_chi2(residual, torch.tensor(1.0))[0] > 20
    with pytest.raises(ValueError, match="mask is empty"):
        residual_correlation(residual, torch.zeros_like(mask))


def test_smooth_areas_are_sky_not_edges() -> None:
    estimate = torch.zeros(1, 128, 128)
    estimate[:, :, 72:] = 50.0
    mask = smooth_areas(estimate, torch.tensor(2.0))
    assert bool(mask[:, :64].all())
    assert bool(mask[:, 80:].all())
    assert not bool(mask[:, 64:80].any())


def test_noise_reduction_ignores_gradients() -> None:
    ramp = torch.linspace(0, 30, 256).expand(2, 256, 256)
    mask = torch.ones(256, 256, dtype=torch.bool)
    factors = noise_reduction(ramp + white(), ramp + 0.2 * white(seed=1), mask)
    assert factors == pytest.approx((5.0, 5.0), rel=0.03)
    with pytest.raises(ValueError, match="no whole square"):
        noise_reduction(ramp, ramp, ~mask)
