"""Tails of the read noise: the right kind, the right shape, honest errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import integrate, stats

from noise_models.calibration.shape.pixel_spread import (
    correlation_of_width,
    pixel_sigma_map,
    split_half_correlation,
    spread_correlation,
    without_lines,
)
from noise_models.calibration.shape.tail_fit import fit_tail
from noise_models.calibration.shape.tail_shapes import Shape, log_density, tukey_variance
from noise_models.errors import CalibrationError
from noise_models.sensor import Estimate
from tests.noise_models.dark_simulation import darks
from tests.shared_data import shared


def z_of(estimate: Estimate | None, truth: float) -> float:
    assert estimate is not None
    assert estimate.standard_error
    return (estimate.value - truth) / estimate.standard_error


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("gaussian", 0.0), ("lognormal", 0.3), ("lognormal", 0.8), ("tukey", 0.14), ("tukey", 0.0), ("tukey", -0.1)],
)
def test_densities_are_normalised_with_the_declared_variance(kind: Shape, shape: float) -> None:
    x = np.arange(-400.0, 400.0, 0.02)

    density = np.exp(log_density(kind, x, std=2.0, shape=shape))

    assert integrate.trapezoid(density, x) == pytest.approx(1.0, abs=2e-6)
    # Two frames, and the triangle of two roundings: 2 (std^2 + 1/12).
    assert integrate.trapezoid(x**2 * density, x) == pytest.approx(2 * (4.0 + 1 / 12), rel=2e-3)


def test_the_gaussian_density_is_that_of_rounded_gaussians() -> None:
    codes = np.arange(-200, 201)
    p = np.zeros((1, 401))
    for phase in np.linspace(0, 1, 20, endpoint=False):
        one = np.diff(stats.norm.cdf(np.append(codes - 0.5, 200.5), phase, 2.0))
        p += np.convolve(one, one[::-1], mode="same") / 20

    density = np.exp(log_density("gaussian", codes.astype(float), std=2.0))

    near = np.abs(codes) <= 12  # four sigma
    np.testing.assert_allclose(density[near], p[0, near], rtol=5e-4)


@pytest.mark.parametrize("shape", [0.14, 0.0, -0.1, -0.2])
def test_the_tukey_density_is_that_of_differences(shape: float) -> None:
    rng = np.random.default_rng(0)
    n = 2_000_000
    draws = stats.tukeylambda.ppf(rng.random((2, n)), shape) / math.sqrt(tukey_variance(shape))
    phase = rng.random(n)
    difference = np.rint(3.0 * draws[0] + phase) - np.rint(3.0 * draws[1] + phase)
    codes = np.arange(-25, 26)
    observed = np.array([(difference == code).sum() for code in codes])

    expected = n * np.exp(log_density("tukey", codes.astype(float), std=3.0, shape=shape))

    chi2 = float(np.sum((observed - expected) ** 2 / expected))
    assert abs(chi2 - len(codes)) < 5 * math.sqrt(2 * len(codes))


def test_tukey_variance_near_zero_is_continuous() -> None:
    for shape in (1e-3, -1e-3):
        assert tukey_variance(shape) == pytest.approx(stats.tukeylambda.var(shape), rel=1e-6)
    assert tukey_variance(2e-4) == pytest.approx(math.pi**2 / 3, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "shape", "std"),
    [
        ("gaussian", 0.0, 2.5),
        ("lognormal", 0.2, 2.5),
        ("lognormal", 0.3, 10.0),
        ("lognormal", 0.5, 4.0),
        ("tukey", 0.0, 2.5),
        ("tukey", -0.1, 10.0),
    ],
)
def test_kind_shape_and_std_are_recovered(kind: Shape, shape: float, std: float) -> None:
    fit = fit_tail(darks(kind, shape, np.random.default_rng(1), std=std))

    assert fit.kind == kind
    assert abs(z_of(fit.std, std)) < 5
    if kind != "gaussian":
        assert abs(z_of(fit.shape, shape)) < 5
        assert fit.shape is not None
        assert fit.shape.standard_error is not None
        assert fit.shape.standard_error < 0.005
    assert fit.tail().kind == kind


def test_the_near_gaussian_tukey_is_told_as_gaussian_and_its_lambda_is_kept() -> None:
    fit = fit_tail(darks("tukey", 0.14, np.random.default_rng(2), std=5.0))

    tukey = next(f for f in fit.fits if f.kind == "tukey")
    assert fit.kind == "gaussian"
    assert abs(z_of(tukey.shape, 0.14)) < 5


def test_light_tails_are_no_spread() -> None:
    fit = fit_tail(darks("tukey", 0.22, np.random.default_rng(12), std=5.0))

    assert fit.kind == "tukey"
    assert abs(z_of(fit.shape, 0.22)) < 5
    assert "lighter than a Gaussian" in fit.reason


def test_too_few_pixels_to_tell_kinds_apart_say_so() -> None:
    fit = fit_tail(darks("lognormal", 0.3, np.random.default_rng(13), std=5.0, side=64))

    assert fit.kind in ("lognormal", "tukey")
    assert "does not decide" in fit.reason


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "shape"), [("lognormal", 0.3), ("tukey", -0.1), ("gaussian", 0.0)])
def test_kinds_are_right_and_intervals_cover(kind: Shape, shape: float) -> None:
    rng = np.random.default_rng(14)
    runs = 16

    fits = [fit_tail(darks(kind, shape, rng, std=4.0)) for _ in range(runs)]

    assert all(fit.kind == kind for fit in fits)
    z = np.array([z_of(fit.std, 4.0) for fit in fits])
    if kind != "gaussian":
        z = np.concatenate([z, [z_of(fit.shape, shape) for fit in fits]])
    assert np.mean(np.abs(z) < 1.96) > 0.95 - 5 * math.sqrt(0.95 * 0.05 / runs)
    assert abs(z.mean()) < 5 / math.sqrt(runs)


def test_equal_histograms_are_told_apart_by_the_second_frame() -> None:
    """A lognormal width of 0.3 gives a probability-plot lambda of -0.01: tails alone would call it logistic."""
    rng = np.random.default_rng(3)
    spread = fit_tail(darks("lognormal", 0.3, rng, std=5.0))
    draws = fit_tail(darks("tukey", -0.06, rng, std=5.0))

    assert (spread.kind, draws.kind) == ("lognormal", "tukey")
    # The same pixels, shuffled in the second frame: the histogram is the same, the fixed spread is gone.
    frames = darks("lognormal", 0.3, rng, std=5.0, pattern=0.0, row=0.0)
    frames[1] = rng.permutation(frames[1].ravel()).reshape(frames[1].shape)
    assert fit_tail(frames).kind == "tukey"


def test_pairs_that_share_pixels_do_not_count_twice() -> None:
    """Four frames of one lognormal sensor: errors of w must cover, though both pairs see the same sigmas."""
    z, errors = [], []
    for seed in range(6):
        fit = fit_tail(darks("lognormal", 0.4, np.random.default_rng(seed), std=4.0, frames=4, side=160))
        z.append(z_of(fit.shape, 0.4))
        assert fit.shape is not None
        errors.append(fit.shape.standard_error)

    assert abs(np.mean(z)) < 5 / math.sqrt(6)
    assert np.sqrt(np.mean(np.square(z))) < 1 + 5 / math.sqrt(12)
    assert np.ptp(errors) < 0.5 * np.mean(errors)


def test_hot_and_blinking_pixels_do_not_make_tails() -> None:
    rng = np.random.default_rng(4)
    frames = darks("gaussian", 0.0, rng, std=4.0, side=256)
    hot = rng.random((256, 256)) < 2e-3
    noisy = frames + np.where(hot, 400 + 30 * rng.standard_normal(frames.shape), 0.0)
    hit = rng.random((256, 256)) < 5e-4
    noisy[0] += np.where(hit, 900.0, 0.0)
    noisy = np.rint(noisy).astype(np.uint16)

    fit = fit_tail(noisy)

    assert fit.kind == "gaussian"
    assert abs(z_of(fit.std, 4.0)) < 5
    assert fit.excluded == pytest.approx((hot | hit).mean(), abs=2e-4)
    named = fit_tail(noisy, exclude=hot | hit)
    assert abs(named.excluded - (hot | hit).mean()) < 1e-4


def test_below_two_dn_the_shape_is_not_identifiable() -> None:
    fit = fit_tail(darks("lognormal", 0.3, np.random.default_rng(5), std=1.2, side=256))

    assert fit.kind == "gaussian"
    assert "not identifiable below 2 DN" in fit.reason
    assert abs(z_of(fit.std, 1.2)) < 5
    assert fit.expected_correlation is None


def test_below_half_a_dn_moments_are_refused() -> None:
    with pytest.raises(CalibrationError, match=r"noise of these darks is 0\.\d+ DN.*fit_gaussian_codes"):
        fit_tail(darks("gaussian", 0.0, np.random.default_rng(6), std=0.35, side=128))


def test_equal_frames_are_refused() -> None:
    frame = np.full((1, 32, 32), 512, dtype=np.uint16)
    with pytest.raises(CalibrationError, match="all pixels have the same value"):
        fit_tail(np.concatenate([frame, frame]))


def test_one_frame_is_refused() -> None:
    with pytest.raises(CalibrationError, match=r"n >= 2 are needed; given: \(1, 8, 8\)"):
        fit_tail(np.zeros((1, 8, 8), dtype=np.uint16))


def fixed_pattern(side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A strong pattern that is anything but Gaussian."""
    return 3.0 * rng.exponential(1.0, (side, side))


def test_the_correlation_ignores_fixed_pattern_of_any_distribution() -> None:
    rng = np.random.default_rng(7)
    side = 256
    z = []
    for _ in range(30):
        frames = fixed_pattern(side, rng) + 4.0 * rng.standard_normal((2, side, side))
        z.append(z_of(spread_correlation(frames), 0.0))
        # The planted error: squares of such frames do correlate.
        raw = np.corrcoef(*(without_lines(f).ravel().astype(np.float64) ** 2 for f in frames))[0, 1]
        assert raw > 20 / side

    assert abs(np.mean(z)) < 5 / math.sqrt(30)
    assert abs(np.std(z) - 1) < 5 / math.sqrt(60)


@pytest.mark.parametrize("width", [0.2, 0.3])
def test_the_correlation_is_that_of_the_spread(width: float) -> None:
    frames = darks("lognormal", width, np.random.default_rng(8), std=5.0, frames=6)

    result = spread_correlation(frames)

    assert abs(z_of(result, correlation_of_width(width))) < 5
    assert z_of(result, 0.0) > 15


def test_split_halves_correlate_only_where_pixels_differ() -> None:
    rng = np.random.default_rng(9)

    same = split_half_correlation(darks("gaussian", 0.0, rng, frames=8, side=128))
    spread = split_half_correlation(darks("lognormal", 0.4, rng, frames=8, side=128))

    assert abs(z_of(same, 0.0)) < 5
    assert z_of(spread, 0.0) > 15


def test_split_halves_need_four_frames() -> None:
    with pytest.raises(CalibrationError, match="n >= 4 are needed"):
        split_half_correlation(np.zeros((3, 8, 8)))


def test_the_sigma_map_recovers_the_spread_with_few_frames() -> None:
    rng = np.random.default_rng(10)

    result = pixel_sigma_map(darks("lognormal", 0.3, rng, std=5.0, frames=6, side=256))
    none = pixel_sigma_map(darks("gaussian", 0.0, rng, std=5.0, frames=6, side=256))

    assert result.relative_error == pytest.approx(1 / math.sqrt(10))
    assert abs(z_of(result.width, 0.3)) < 5
    assert abs(z_of(none.variance_spread, 0.0)) < 5
    assert np.sqrt(np.mean(result.std_dn**2)) == pytest.approx(5.0, rel=0.02)
    # The planted error: without the correction, scatter of six-frame variances passes for a spread.
    raw = float(np.var(none.std_dn.astype(np.float64) ** 2))
    assert none.variance_spread.standard_error is not None
    assert raw > 20 * none.variance_spread.standard_error


def test_single_hits_leave_the_sigma_map() -> None:
    rng = np.random.default_rng(11)
    frames = darks("gaussian", 0.0, rng, std=5.0, frames=12, side=64)
    hit = rng.random((64, 64)) < 0.01
    frames[5][hit] += 3000

    result = pixel_sigma_map(frames)

    assert result.hits == hit.sum()
    assert result.std_dn.max() < 15


@pytest.mark.data
def test_the_emva_reference_darks_are_gaussian_with_three_dn() -> None:
    folder = shared("calibration/emva1288_003_simulated") / "images"
    frames = np.stack([np.asarray(Image.open(folder / f"d_000_snap_00{k}.png")) for k in (1, 2)])

    fit = fit_tail(frames)

    # Its makers state 30 e- of dark noise at K = 0.1.
    assert fit.kind == "gaussian"
    assert abs(z_of(fit.std, 3.0)) < 5
    assert fit.std.value == pytest.approx(3.0, rel=5e-3)
