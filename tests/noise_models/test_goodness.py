"""Goodness of fit: equal laws pass every number, each planted misfit fails the number that is made for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from noise_models.calibration.shape.codes import CodeCounts
from noise_models.calibration.shape.goodness import (
    chi_square,
    compare_darks,
    divergence,
    held_out_log_likelihood,
    line_spectrum_ratio,
    stabilised_variance,
    tail_slope,
)
from noise_models.errors import CalibrationError
from tests.noise_models.dark_simulation import darks


def gaussian_codes(std: float, count: int, seed: int, mean: float = 100.0) -> CodeCounts:
    rng = np.random.default_rng(seed)
    return CodeCounts.of(np.rint(rng.normal(mean, std, count)).astype(np.int64))


def log_probability(codes: NDArray[np.int64], std: float, mean: float = 100.0) -> NDArray[np.float64]:
    p = np.diff(stats.norm.cdf(np.append(codes - 0.5, codes[-1] + 0.5), mean, std))
    return np.log(p)


def test_the_true_law_has_the_largest_held_out_likelihood() -> None:
    counts = gaussian_codes(3.0, 400_000, seed=0)

    true, wide, narrow = (
        held_out_log_likelihood(counts, log_probability(counts.codes, std)) for std in (3.0, 3.1, 2.9)
    )

    # For a Gaussian of std s the expected value is minus its entropy.
    entropy = 0.5 * math.log(2 * math.pi * math.e * (9 + 1 / 12))
    assert true.standard_error is not None
    assert abs(true.value + entropy) < 5 * true.standard_error + 1e-4
    assert true.value > max(wide.value, narrow.value)


def test_a_forbidden_code_is_an_error() -> None:
    with pytest.raises(CalibrationError, match="gives code 11 no probability"):
        held_out_log_likelihood(CodeCounts(10, np.array([5, 1])), np.array([0.0, -np.inf]))


def test_chi_square_accepts_the_truth_and_refuses_one_per_cent() -> None:
    counts = gaussian_codes(3.0, 400_000, seed=1)

    right = chi_square(counts, log_probability(counts.codes, 3.0))
    wrong = chi_square(counts, log_probability(counts.codes, 3.03))

    assert abs(right.chi2 - right.dof) < 5 * math.sqrt(2 * right.dof)
    assert right.probability > 1e-6
    assert wrong.probability < 1e-6


def test_chi_square_counts_the_missing_tail() -> None:
    counts = CodeCounts(0, np.array([50, 50]))

    result = chi_square(counts, np.log([0.4, 0.4]))

    assert result.dof == 2
    assert result.chi2 == pytest.approx(2 * 10**2 / 40 + 20)


def test_chi_square_needs_cells() -> None:
    with pytest.raises(CalibrationError, match="fill 1 cells"):
        chi_square(CodeCounts(0, np.array([2, 1])), np.log([0.5, 0.5]))


def test_divergence_of_equal_laws_is_its_bias() -> None:
    excess = [
        divergence(gaussian_codes(3.0, 50_000, seed=s), gaussian_codes(3.0, 50_000, seed=100 + s)) for s in range(40)
    ]

    values = np.array([d.excess for d in excess])
    assert abs(values.mean()) < 5 * values.std() / math.sqrt(len(values))
    # Without the bias the mean is far from zero: the plug-in estimate is always positive.
    assert np.mean([d.nats for d in excess]) > 20 * values.std() / math.sqrt(len(values))


def test_divergence_of_two_gaussians_is_the_formula() -> None:
    d = divergence(gaussian_codes(3.0, 2_000_000, seed=2), gaussian_codes(3.6, 2_000_000, seed=3))

    ratio = (9 + 1 / 12) / (3.6**2 + 1 / 12)
    assert d.excess == pytest.approx(0.5 * (ratio - 1 - math.log(ratio)), rel=0.02)


def test_histograms_without_overlap_have_no_divergence() -> None:
    with pytest.raises(CalibrationError, match="black levels differ"):
        divergence(gaussian_codes(1.0, 1000, seed=4), gaussian_codes(1.0, 1000, seed=5, mean=300.0))


def test_tail_slope_is_one_for_equal_laws_and_sees_heavy_tails() -> None:
    same = tail_slope(gaussian_codes(5.0, 500_000, seed=6), gaussian_codes(5.0, 500_000, seed=7), probability=1e-3)
    rng = np.random.default_rng(8)
    heavy = rng.standard_t(5, 500_000) * 5.0 * math.sqrt(3 / 5)
    tails = tail_slope(
        CodeCounts.of(np.rint(heavy + 100).astype(np.int64)), gaussian_codes(5.0, 500_000, seed=9), probability=1e-3
    )

    assert same is not None
    assert same.standard_error is not None
    assert tails is not None
    assert tails.standard_error is not None
    assert abs(same.value - 1) < 5 * same.standard_error
    expected = stats.t.isf(1e-3, 5) * math.sqrt(3 / 5) / stats.norm.isf(1e-3)
    assert abs(tails.value - expected) < 5 * tails.standard_error + 0.01
    assert tails.value > 1 + 10 * tails.standard_error


def test_tail_slope_error_is_honest() -> None:
    slopes = [
        tail_slope(gaussian_codes(5.0, 50_000, seed=s), gaussian_codes(5.0, 50_000, seed=500 + s), probability=1e-3)
        for s in range(60)
    ]

    z = [(s.value - 1) / s.standard_error for s in slopes if s is not None and s.standard_error]
    assert len(z) == 60
    assert 1 - 5 / math.sqrt(120) < np.std(z) < 1 + 5 / math.sqrt(120)


def test_tail_slope_needs_pixels_beyond() -> None:
    few = gaussian_codes(5.0, 50_000, seed=10)

    assert tail_slope(few, few, probability=1e-5) is None


def test_line_spectra_agree_for_equal_frames_and_show_row_noise() -> None:
    rng = np.random.default_rng(11)
    real = darks("gaussian", 0.0, rng, std=4.0, frames=4, side=256, row=0.2)
    same = darks("gaussian", 0.0, rng, std=4.0, frames=4, side=256, row=0.2)
    without = darks("gaussian", 0.0, rng, std=4.0, frames=4, side=256, row=0.0)

    right = line_spectrum_ratio(real, same, lines="rows")
    wrong = line_spectrum_ratio(real, without, lines="rows")
    columns = line_spectrum_ratio(real, without, lines="columns")

    assert (np.abs(right.decibel) < 5 * right.standard_error).all()
    assert (np.abs(columns.decibel) < 5 * columns.standard_error).all()
    # Power of row means: (sigma^2 + 1/12) / W against that plus the row variance 0.8^2.
    noise = (16 + 1 / 12) / 256
    expected = 10 * math.log10((noise + 0.8**2) / noise)
    assert (np.abs(wrong.decibel - expected) < 5 * wrong.standard_error).all()
    assert wrong.worst > 8
    assert (np.diff(right.frequency) > 0).all()
    assert 0 < right.frequency[0] < right.frequency[-1] < 0.5


def test_spectra_refuse_equal_frames_and_few_lines() -> None:
    frame = np.zeros((2, 64, 64), dtype=np.uint16)

    with pytest.raises(CalibrationError, match="no spectrum"):
        line_spectrum_ratio(frame, frame, lines="rows")
    with pytest.raises(CalibrationError, match="at least 16 lines"):
        line_spectrum_ratio(frame[:, :8], frame[:, :8], lines="rows")


def test_stabilised_variance_is_one_only_for_the_true_gain() -> None:
    rng = np.random.default_rng(12)
    light = rng.uniform(20.0, 400.0, 200_000)
    gain, noise = 2.0, 5.0
    first, second = (gain * rng.poisson(light) + rng.normal(0.0, noise, light.size) for _ in range(2))

    right = stabilised_variance(first, second, gain=gain, noise_dn=noise)
    wrong = stabilised_variance(first, second, gain=1.05 * gain, noise_dn=noise)

    assert right.standard_error is not None
    assert abs(right.value - 1.0) < 5 * right.standard_error
    assert abs(wrong.value - 1.0) > 5 * right.standard_error


def test_stabilised_variance_needs_a_pair() -> None:
    with pytest.raises(CalibrationError, match="Two frames of one scene"):
        stabilised_variance(np.zeros(3), np.zeros(4), gain=1.0, noise_dn=1.0)


def test_a_simulation_of_the_true_law_passes_and_a_wrong_one_fails() -> None:
    # One sensor: both sets of real frames share their fixed pattern, the simulation has its own.
    real = darks("gaussian", 0.0, np.random.default_rng(13), std=4.0, side=512)
    true = darks("gaussian", 0.0, np.random.default_rng(14), std=4.0, side=512)
    wrong = darks("lognormal", 0.3, np.random.default_rng(15), std=4.0, side=512)

    good, bad = compare_darks(real, true), compare_darks(real, wrong)

    # The divergence of equal laws is chi^2 with bins - 1 degrees of freedom over N.
    scatter = math.sqrt(2 * (good.divergence.bins - 1)) / 512**2
    assert abs(good.divergence.excess) < 5 * scatter
    assert good.in_floors < 3.0
    assert bad.in_floors > 10.0
    assert set(good.tail_slopes) == {1e-3}
    assert good.tail_slopes[1e-3].value == pytest.approx(1.0, abs=0.03)
    assert bad.tail_slopes[1e-3].value < 0.9
    assert (np.abs(good.rows.decibel) < 5 * good.rows.standard_error).all()


def test_frames_to_compare_must_match() -> None:
    real = np.zeros((2, 8, 8), dtype=np.uint16)

    with pytest.raises(CalibrationError, match="equal numbers of pixels"):
        compare_darks(real, real[:, :4])
    with pytest.raises(CalibrationError, match="integer codes as stored"):
        compare_darks(real.astype(np.float32), real)
