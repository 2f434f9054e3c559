"""Read noise before and behind the gain is told apart over ISO, with errors that hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from noise_models.cfa import BAYER_PLANES
from noise_models.published import published_profiles
from noise_models.read_split import fit_split, split_read_noise
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise

GAINS = np.array([0.1, 0.2, 0.4, 0.8, 1.6, 3.2])
BEFORE_E, BEHIND_DN = 2.5, 1.2


def entry(iso: float, gain: float, read: float, *, segment: int = 0) -> SensorNoise:
    plane = PlaneNoise(
        gain=Estimate(value=gain), read_noise_dn=Estimate(value=read), black_level_dn=Estimate(value=512.0)
    )
    return SensorNoise(
        iso=iso, planes=dict.fromkeys(BAYER_PLANES, plane), row_noise_dn=Estimate(value=0.1), segment=segment
    )


def entries(stds: np.ndarray, segment: int = 0) -> list[SensorNoise]:  # type: ignore[type-arg]
    return [entry(1000 * k, float(k), float(s), segment=segment) for k, s in zip(GAINS, stds, strict=True)]


def test_an_exact_law_is_split_exactly() -> None:
    fit = fit_split(GAINS, np.hypot(BEHIND_DN, GAINS * BEFORE_E))

    assert fit.behind == pytest.approx(BEHIND_DN**2)
    assert fit.before == pytest.approx(BEFORE_E**2)
    assert fit.misfit < 1e-9


def test_intervals_hold_the_truth() -> None:
    rng, runs, inside = np.random.default_rng(0), 400, np.zeros(2)
    for _ in range(runs):
        stds = np.hypot(BEHIND_DN, GAINS * BEFORE_E) * (1 + 0.02 * rng.standard_normal(len(GAINS)))
        (split,) = split_read_noise(entries(stds))
        for k, (estimate, truth) in enumerate(((split.before, BEFORE_E), (split.behind_dn, BEHIND_DN))):
            assert estimate.standard_error is not None
            # Errors come from the scatter of six values about two parameters: Student's t with four degrees.
            inside[k] += abs(estimate.value - truth) < 2.776 * estimate.standard_error

    # 95 % of 400 within four binomial standard errors
    assert (np.abs(inside / runs - 0.95) < 4 * np.sqrt(0.95 * 0.05 / runs)).all(), inside / runs


def test_one_part_alone_leaves_zero_with_an_error() -> None:
    stds = GAINS * BEFORE_E * np.array([1.01, 0.99, 1.01, 0.99, 1.01, 0.99])
    (split,) = split_read_noise(entries(stds))

    assert split.before.value == pytest.approx(BEFORE_E, rel=0.02)
    assert split.behind_dn.standard_error is not None
    assert split.behind_dn.value < 3 * split.behind_dn.standard_error


def test_the_published_dual_gain_camera_has_two_splits() -> None:
    """Notes on the published table: 4.38 e- and 0.99 DN below the step, 1.15 e- above it."""
    (a7s2,) = [profile for profile in published_profiles() if profile.model == "ILCE-7SM2"]

    low, high = split_read_noise(a7s2.entries)

    assert low.before.value == pytest.approx(4.38, rel=0.03)
    assert low.behind_dn.value == pytest.approx(0.99, rel=0.03)
    assert high.before.value == pytest.approx(1.15, rel=0.03)


def test_two_isos_tell_nothing() -> None:
    assert split_read_noise(entries(GAINS)[:2]) == []
