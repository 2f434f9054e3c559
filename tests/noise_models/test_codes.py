"""Maximum likelihood on code counts: unbiased, honest intervals, and a refusal where nothing can be known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from noise_models.calibration.shape.codes import CodeCounts, fit_gaussian_codes, pooled_chi2
from noise_models.errors import CalibrationError
from noise_models.sensor import QUANTISATION_VARIANCE_DN2

LEVEL = 512
PIXELS = 1_000_000


def drawn(
    mean: float, std: float, rng: np.random.Generator, *, low: int | None = None, pixels: int = PIXELS
) -> CodeCounts:
    """Counts of a rounded, clamped Gaussian, drawn from its code probabilities."""
    codes = np.arange(math.floor(mean - 12 * std) - 2, math.ceil(mean + 12 * std) + 3)
    p = np.diff(stats.norm.cdf(np.append(codes - 0.5, codes[-1] + 0.5), mean, std))
    counts = CodeCounts(int(codes[0]), rng.multinomial(pixels, p / p.sum()).astype(np.int64))
    if low is None:
        return counts
    below = int(counts.counts[codes < low].sum())
    kept = counts.between(low, int(codes[-1]))
    kept.counts[0] += below
    return kept


def clamp_code(mean: float, std: float, sigmas: float | None) -> int | None:
    return None if sigmas is None else round(mean + sigmas * std)


def cells() -> list[tuple[float, float, float | None]]:
    """Std, phase and clamp [sigma], without clamps that fall on the code of another one."""
    chosen = []
    for std in (0.4, 0.6, 1.0, 3.0, 20.0):
        for phase in (0.0, 0.25, 0.5):
            places = {clamp_code(LEVEL + phase, std, clamp): clamp for clamp in (None, -1.0, -0.5, 0.0)}
            chosen += [(std, phase, clamp) for clamp in places.values()]
    return chosen


CELLS = cells()


@pytest.mark.parametrize(("std", "phase", "clamp"), CELLS[1::5])
def test_estimates_are_unbiased_and_intervals_cover(std: float, phase: float, clamp: float | None) -> None:
    mean, runs = LEVEL + phase, 60
    rng = np.random.default_rng(1)
    low = clamp_code(mean, std, clamp)

    fits = [fit_gaussian_codes(drawn(mean, std, rng, low=low), low=low) for _ in range(runs)]

    for name, truth in (("mean", mean), ("std", std)):
        z = [(getattr(fit, name).value - truth) / getattr(fit, name).standard_error for fit in fits]
        assert abs(np.mean(z)) < 5.0 / math.sqrt(runs)
        assert abs(np.std(z) - 1.0) < 5.0 / math.sqrt(2 * runs)
        assert np.mean(np.abs(z) < 1.96) > 0.95 - 5.0 * math.sqrt(0.95 * 0.05 / runs)


@pytest.mark.slow
def test_coverage_over_all_cells() -> None:
    from tests.benchmarks.coverage_codes import cell

    runs = 100
    results = [cell(*place, runs=runs) for place in CELLS]

    for coverage in ("std_coverage", "mean_coverage"):
        shares = [getattr(result, coverage) for result in results]
        assert abs(np.mean(shares) - 0.95) < 5.0 * math.sqrt(0.95 * 0.05 / (runs * len(CELLS)))
        assert min(shares) > 0.95 - 5.0 * math.sqrt(0.95 * 0.05 / runs)
    assert all(abs(result.std_bias) < 5.0 / math.sqrt(runs) for result in results)
    assert sum(result.refused for result in results) == 0
    # The planted error: sqrt(v - 1/12) misses wherever a clamp bites.
    assert all(r.naive_coverage < 0.01 for r, (_, _, clamp) in zip(results, CELLS, strict=True) if clamp is not None)


def test_the_naive_estimator_fails_the_same_law_at_a_clamp() -> None:
    rng = np.random.default_rng(2)
    mean, std = float(LEVEL), 3.0
    low = clamp_code(mean, std, -0.5)

    counts = drawn(mean, std, rng, low=low)
    naive_mean = float(np.average(counts.codes, weights=counts.counts))
    naive = math.sqrt(np.average((counts.codes - naive_mean) ** 2, weights=counts.counts) - QUANTISATION_VARIANCE_DN2)
    fit = fit_gaussian_codes(counts, low=low)

    assert abs(naive - std) > 100 * fit.std.standard_error
    assert abs(naive_mean - mean) > 100 * fit.mean.standard_error


@pytest.mark.parametrize(
    ("sigmas", "known", "penalty"), [(0.0, False, 1.58), (0.0, True, 1.41), (-1.0, False, 1.13), (-2.0, False, 1.02)]
)
def test_penalty_of_a_clamp_on_the_error_of_std(sigmas: float, known: bool, penalty: float) -> None:
    std = 20.0
    low = LEVEL
    mean = low + 0.5 - sigmas * std  # values up to low + 1/2 pile up at low
    counts = drawn(mean, std, np.random.default_rng(3), low=low)

    fit = fit_gaussian_codes(counts, low=low, mean=mean if known else None)

    assert fit.std.standard_error / (std / math.sqrt(2 * PIXELS)) == pytest.approx(penalty, abs=0.01)
    assert (fit.covariance[0, 0] == 0.0) == known


def test_both_ends_may_be_clipped() -> None:
    rng = np.random.default_rng(4)
    values = np.clip(np.rint(rng.normal(100.0, 5.0, 200_000)), 97, 104).astype(np.int64)

    fit = fit_gaussian_codes(CodeCounts.of(values), low=97, high=104)

    assert abs(fit.std.value - 5.0) < 5 * fit.std.standard_error
    assert fit.clamped == np.mean(values == 97)
    assert fit.clipped == np.mean(values == 104)


def test_a_window_shuts_out_hot_pixels() -> None:
    rng = np.random.default_rng(5)
    values = np.rint(rng.normal(100.3, 2.0, 300_000)).astype(np.int64)
    values[:1000] += rng.integers(20, 400, 1000)
    counts = CodeCounts.of(values)

    windowed = fit_gaussian_codes(counts, window=(93, 107))
    open_fit = fit_gaussian_codes(counts)

    assert abs(windowed.std.value - 2.0) < 5 * windowed.std.standard_error
    assert windowed.std.standard_error < 0.005
    assert open_fit.std.value > 5.0
    # the planted misfit is seen, and the error is inflated by it
    assert open_fit.chi2 > 100 * open_fit.dof
    assert open_fit.std.standard_error > 10 * open_fit.std.value / math.sqrt(2 * 300_000)


@given(
    mean=st.floats(-40.0, 40.0), std=st.floats(0.6, 30.0), clamp=st.sampled_from([None, 0.0, -1.5]), seed=st.integers(0)
)
def test_the_fit_is_a_maximum_of_the_likelihood(mean: float, std: float, clamp: float | None, seed: int) -> None:
    low = clamp_code(mean, std, clamp)
    counts = drawn(mean, std, np.random.default_rng(seed), low=low, pixels=100_000)

    fit = fit_gaussian_codes(counts, low=low)

    def log_likelihood(m: float, s: float) -> float:
        edges = np.append(counts.codes - 0.5, counts.codes[-1] + 0.5)
        if low is not None:
            edges[0] = -np.inf
        with np.errstate(divide="ignore"):
            log_p = np.log(np.diff(stats.norm.cdf(edges, m, s)))
        used = counts.counts > 0
        return float(counts.counts[used] @ log_p[used])

    best = log_likelihood(fit.mean.value, fit.std.value)
    assert fit.log_likelihood == pytest.approx(best, rel=1e-6)
    for dm, ds in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        moved = log_likelihood(
            fit.mean.value + 0.3 * dm * fit.mean.standard_error, fit.std.value + 0.3 * ds * fit.std.standard_error
        )
        assert moved < best


def test_one_code_fixes_nothing() -> None:
    with pytest.raises(CalibrationError, match=r"1 different codes .* ends at 512\.5: only an upper bound"):
        fit_gaussian_codes(CodeCounts(512, np.array([1000])))


def test_two_codes_fix_one_number() -> None:
    with pytest.raises(CalibrationError, match=r"one number only, \(512\.5 - mean\) / std = 0\.000"):
        fit_gaussian_codes(CodeCounts(512, np.array([1000, 1000])))


def test_two_codes_suffice_where_the_mean_is_known() -> None:
    share = float(stats.norm.cdf(0.5 / 0.7))
    low = 100
    counts = CodeCounts(low, np.array([round(1e6 * share), round(1e6 * (1 - share))]))

    fit = fit_gaussian_codes(counts, low=low, high=low + 1, mean=100.0)

    assert fit.std.value == pytest.approx(0.7, rel=1e-4)
    assert fit.dof == 0


@pytest.mark.parametrize("phase", [0.0, 0.5])
def test_below_the_limit_is_refused_with_the_phase(phase: float) -> None:
    counts = drawn(LEVEL + phase, 0.3, np.random.default_rng(6))

    with pytest.raises(CalibrationError, match=r"std of 0\.\d+ .* at phase [+-]0\.\d\d .* outside the two most"):
        fit_gaussian_codes(counts)


def test_too_few_pixels_are_refused() -> None:
    with pytest.raises(CalibrationError, match="error below 20%"):
        fit_gaussian_codes(CodeCounts(10, np.array([1, 3, 2])))


def test_codes_below_the_clamp_are_refused() -> None:
    with pytest.raises(CalibrationError, match="not the limits of this camera"):
        fit_gaussian_codes(CodeCounts(10, np.array([10, 30, 10])), low=11)


def test_counts_add_and_hold_negative_codes() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.integers(-5, 3, (20, 30)), rng.integers(0, 9, (20, 30))

    together = CodeCounts.of(a) + CodeCounts.of(b)

    assert together.total == 1200
    expected = CodeCounts.of(np.concatenate([a, b]))
    assert together.first == expected.first
    np.testing.assert_array_equal(together.counts, expected.counts)


def test_counting_nothing_is_an_error() -> None:
    with pytest.raises(CalibrationError, match="No pixels to count"):
        CodeCounts.of(np.empty(0, dtype=np.uint16))


def test_chi2_pools_thin_cells() -> None:
    expected = np.array([1.0, 2.0, 3.0, 50.0, 40.0, 2.0, 2.0])

    chi2, cells = pooled_chi2(np.array([0.0, 2.0, 4.0, 50.0, 41.0, 3.0, 0.0]), expected)

    assert cells == 3
    assert chi2 == pytest.approx(0.0)
