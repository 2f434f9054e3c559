"""Calibration recovers what a simulated camera has, and its intervals cover it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from noise_models.calibration import calibrate
from noise_models.calibration.banding import LineNoise
from noise_models.calibration.dark_frames import measure_darks
from noise_models.calibration.fits import std_from_variance
from noise_models.calibration.frames import CalibrationFrame
from noise_models.calibration.inputs.group import frames_from
from noise_models.calibration.reader import FrameReader
from noise_models.calibration.spatial import measure_pattern
from noise_models.cfa import XTRANS_ROWS, Cfa
from noise_models.sensor import Estimate, HotPixels, PlaneNoise, SensorNoise
from noise_models.simulate import VirtualCamera
from tests.noise_models.calibration_camera import Camera

# Planned errors are five standard errors wide: one false alarm in two million.
SIGMAS = 5.0
RUNS = 200


def within(estimate: Estimate | None, truth: float, *, relative: float) -> None:
    """The estimate agrees with the truth in its own errors, and those errors are small enough to mean something."""
    assert estimate is not None
    assert estimate.standard_error is not None
    assert abs(estimate.value - truth) < SIGMAS * estimate.standard_error
    assert estimate.standard_error < relative * truth


@pytest.mark.parametrize("gain", [0.05, 0.5, 5.0, 30.0])
@pytest.mark.parametrize("read", [0.3, 0.6, 3.0, 30.0])
def test_recovers_gain_read_noise_and_levels(gain: float, read: float) -> None:
    camera = Camera(gain=gain, read=read, row=0.3 * read, prnu=0.01, dsnu=0.3 * read, shape=(256, 256), seed=5)
    result = calibrate(camera.darks(6) + camera.flats(200.0, 1000.0, 4000.0))
    plane = result.profile.entries[0].planes["M"]
    # Where read noise drowns the shot noise of the brightest usable level, K is known as far as that allows.
    drowned = (read**2 / (gain * 4000.0)) ** 2
    within(plane.gain, gain, relative=0.015 + 0.02 * drowned)
    # A read noise of 0.3 DN is measured from single codes; row noise, there, adds to it inside the rounding.
    floor = math.hypot(read, 0.3 * read) if read < 0.5 else read
    within(plane.read_noise_dn, floor, relative=0.02)
    within(plane.black_level_dn, camera.black + float(camera.fixed.mean()), relative=0.01)
    within(plane.prnu, 0.01, relative=0.05 if gain < 10 and read < 10 else 0.4)
    assert plane.chi2_dof is not None
    assert plane.chi2_dof < 5.0


def test_intervals_cover_and_plain_least_squares_does_not() -> None:
    """95 % intervals over small calibrations; the planted error is the textbook fit through a clipped level."""
    camera_of = {"gain": 1.0, "read": 4.0, "row": 0.5, "black": 512.3, "white": 4095.0, "shape": (64, 64)}
    hits = {"gain": 0, "read": 0, "row": 0, "black": 0}
    naive_hits = 0
    for seed in range(RUNS):
        camera = Camera(seed=seed, **camera_of)  # type: ignore[arg-type]
        result = calibrate(camera.darks(6) + camera.flats(100.0, 300.0, 1000.0, 3570.0))
        noise = result.profile.entries[0]
        plane = noise.planes["M"]
        assert plane.gain is not None
        for name, estimate in (
            ("gain", plane.gain),
            ("read", plane.read_noise_dn),
            ("row", noise.row_noise_dn),
            ("black", plane.black_level_dn),
        ):
            low, high = estimate.interval()
            hits[name] += low <= getattr(camera, name) <= high
        naive_hits += _ols_covers(camera)
    band = 4.0 * math.sqrt(0.95 * 0.05 / RUNS)
    for name, count in hits.items():
        assert abs(count / RUNS - 0.95) < band, f"{name}: {count} of {RUNS}"
    assert naive_hits / RUNS < 0.95 - band


def test_hot_pixels_bias_neither_black_level_nor_read_noise() -> None:
    """Pooled over bodies the bias of both is below a fifth of one interval; plain moments of the same darks fail."""
    runs = 80
    z = {"black": [], "read": [], "naive black": [], "naive read": []}
    for seed in range(runs):
        camera = Camera(read=4.0, hot=5e-4, hot_excess=800.0, shape=(96, 96), seed=seed)
        frames = camera.darks(4)
        plane = calibrate(frames).profile.entries[0].planes["M"]
        for name, estimate, truth in (
            ("black", plane.black_level_dn, camera.black),
            ("read", plane.read_noise_dn, camera.read),
        ):
            assert estimate.standard_error is not None
            z[name].append((estimate.value - truth) / estimate.standard_error)
        codes = np.stack([frame.load().mosaic for frame in frames]).astype(float)
        z["naive black"].append((codes.mean() - camera.black) / plane.black_level_dn.standard_error)
        naive = math.sqrt(np.mean([np.var(codes[i] - codes[i + 1]) / 2 for i in (0, 2)]) - 1 / 12)
        z["naive read"].append((naive - camera.read) / plane.read_noise_dn.standard_error)
    for name in ("black", "read"):
        assert abs(np.mean(z[name])) < SIGMAS / math.sqrt(runs), name
        assert np.mean(np.abs(z[name]) < 1.96) > 0.95 - 4.0 * math.sqrt(0.95 * 0.05 / runs), name
        assert np.mean(z[f"naive {name}"]) > 1.0 + SIGMAS / math.sqrt(runs), name


def test_an_outlier_spoils_neither_its_neighbours_nor_its_tile() -> None:
    """Planted error: the mean of a tile with a hot site is not the level of the others."""
    rng = np.random.default_rng(11)
    image = rng.standard_normal((256, 256)).astype(np.float32)
    places = rng.choice(256 * 256, 60, replace=False)
    image.ravel()[places] += 2000.0
    pattern = measure_pattern(image, detrend=False)
    assert len(pattern.defects) == 60
    assert abs(pattern.variance - 1.0) < SIGMAS * pattern.error
    assert np.abs(pattern.tile_means).max() < SIGMAS / math.sqrt(pattern.pixels_per_tile)
    tiles = image.reshape(8, 32, 8, 32)
    naive = tiles - tiles.mean(axis=(1, 3), keepdims=True)
    assert np.mean(naive[np.abs(naive) < 10.0] ** 2) > 1.0 + SIGMAS * pattern.error


def _ols_covers(camera: Camera) -> bool:
    """Unweighted line through pair variances, the clipped level included, with its textbook standard error."""
    levels = (0.0, 100.0, 300.0, 1000.0, 3570.0)
    pairs = [[camera.frame(level).mosaic.astype(float) for _ in range(2)] for level in levels]
    mean = np.array([(a + b).mean() / 2 - camera.black for a, b in pairs])
    variance = np.array([np.var(a - b) / 2 for a, b in pairs])
    coefficients, covariance = np.polyfit(mean, variance, 1, cov=True)
    return bool(abs(coefficients[0] - camera.gain) < 1.96 * math.sqrt(covariance[0, 0]))


def test_row_noise_is_unbiased_at_two_per_cent_of_the_pixel_noise() -> None:
    """The std is cut at zero, so the law is about the variance; the copied estimator (no correction) must fail."""
    read, row, runs, shape = 10.0, 0.2, 60, (240, 100)
    variances, errors, naive = [], [], []
    for seed in range(runs):
        camera = Camera(read=read, row=row, shape=shape, seed=seed)
        variance, error = measure_darks(camera.darks(2), FrameReader(2, None)).rows.variance()
        variances.append(variance)
        errors.append(error)
        first, second = (camera.frame().mosaic.astype(float) for _ in range(2))
        naive.append(np.var((first - second).mean(axis=1), ddof=1) / 2)
    scatter = float(np.mean(errors)) / math.sqrt(runs)
    assert abs(np.mean(variances) - row**2) < SIGMAS * scatter
    assert abs(np.mean(naive) - row**2) > SIGMAS * scatter
    assert np.std(variances) == pytest.approx(np.mean(errors), rel=SIGMAS / math.sqrt(2 * runs))


def test_line_noise_estimator_is_unbiased() -> None:
    rng = np.random.default_rng(3)
    lines = LineNoise("row")
    for _ in range(400):
        lines.add(math.sqrt(2 * (0.04 + 100.0 / 800)) * rng.standard_normal(300), 800, 100.0)
    variance, error = lines.variance()
    assert abs(variance - 0.04) < SIGMAS * error
    assert abs(variance + 100.0 / 800 - 0.04) > SIGMAS * error


def test_row_and_column_noise_of_a_mosaic() -> None:
    camera = Camera(cfa="GBRG", row=1.0, column=0.6, shape=(300, 300), seed=2)
    noise = calibrate(camera.darks(6)).profile.entries[0]
    within(noise.row_noise_dn, 1.0, relative=0.06)
    within(noise.column_noise_dn, 0.6, relative=0.06)
    for plane in noise.planes.values():
        assert plane.gain is None
        within(plane.read_noise_dn, 4.0, relative=0.01)


def test_uneven_light_makes_one_pair_a_curve() -> None:
    camera = Camera(prnu=0.02, row=2.0, shape=(256, 256), white=4095.0, seed=4)
    ramp = np.linspace(30.0, 4000.0, 256)[None, :] * np.linspace(0.6, 1.0, 256)[:, None]
    result = calibrate(camera.darks(4) + camera.flats(ramp))
    plane = result.profile.entries[0].planes["M"]
    within(plane.gain, 1.0, relative=0.02)
    within(plane.read_noise_dn, 4.0, relative=0.02)
    curve = result.evidence[100.0].transfer["M"]
    assert curve.used.sum() >= 2 + 4
    assert plane.chi2_dof is not None
    assert plane.chi2_dof < 3.0
    assert plane.saturation_dn is not None, "the bright corner is clipped"


def test_flicker_between_the_frames_is_scaled_out_and_reported() -> None:
    def measured(ratio: float, shading: float) -> tuple[Estimate | None, tuple[str, ...]]:
        camera = Camera(shape=(192, 192), prnu=0.05, seed=6)
        falloff = 1.0 - shading * np.linspace(-1, 1, 192)[:, None] ** 2
        frames = camera.darks(4)
        for number, level in enumerate((400.0, 2000.0)):
            pair = camera.flats(level * falloff, count=1) + camera.flats(ratio * level * falloff, count=1)
            frames += [CalibrationFrame(f.load, f.name, "flat", f.iso, None, number) for f in pair]
        noise = calibrate(frames).profile.entries[0]
        return noise.planes["M"].gain, noise.notes

    gain, notes = measured(1.06, 0.4)
    within(gain, 1.0, relative=0.02)
    assert any("changed by" in note for note in notes)
    assert not any("changed by" in note for note in measured(1.0, 0.4)[1])


def test_very_different_frames_are_not_a_pair() -> None:
    camera = Camera()
    odd = [CalibrationFrame(f.load, f.name, "flat", f.iso, None, "same") for f in camera.flats(300.0, 900.0, count=1)]
    noise = calibrate(camera.darks(4) + camera.flats(500.0) + odd).profile.entries[0]
    assert any("left out" in note and "Group the flats" in note for note in noise.notes)
    within(noise.planes["M"].gain, 1.0, relative=0.05)


def test_bent_response_is_flagged_and_errors_grow() -> None:
    straight = Camera(shape=(256, 256), seed=1)
    bent = Camera(shape=(256, 256), seed=1)
    original = bent.frame

    def frame(light: float | np.ndarray = 0.0, *, exposure_s: float | None = None):  # type: ignore[no-untyped-def]
        raw = original(light, exposure_s=exposure_s)
        x = raw.mosaic.astype(float) - bent.black
        raw.mosaic.flags.writeable = True
        raw.mosaic[...] = np.rint(bent.black + x * (1 - 0.1 * np.clip(x, 0, None) / 4000.0))
        raw.mosaic.flags.writeable = False
        return raw

    bent.frame = frame  # type: ignore[method-assign]
    levels = (500.0, 1500.0, 3000.0, 4500.0)
    fine, bad = (calibrate(c.darks(4) + c.flats(*levels)).profile.entries[0] for c in (straight, bent))
    assert bad.planes["M"].chi2_dof > 5.0 > fine.planes["M"].chi2_dof
    assert any("does not fit" in note for note in bad.notes)
    assert not any("does not fit" in note for note in fine.notes)
    assert bad.planes["M"].gain.standard_error > 1.5 * fine.planes["M"].gain.standard_error


def test_flats_above_the_fit_range_are_used_only_with_a_note() -> None:
    camera = Camera(white=4095.0, black=100.0)
    noise = calibrate(camera.darks(4) + camera.flats(2000.0)).profile.entries[0]
    assert any("no flat below 30 %" in note for note in noise.notes)
    noise = calibrate(camera.darks(4) + camera.flats(500.0)).profile.entries[0]
    assert not any("no flat below 30 %" in note for note in noise.notes)


def test_saturation_below_the_white_level_is_found() -> None:
    camera = Camera(shape=(64, 64), white=3000.0)
    lower = camera.flats(500.0, 1200.0, 9000.0)

    def with_white(frame: CalibrationFrame) -> CalibrationFrame:
        raw = replace(frame.load(), white_level=np.full((1, 1), 3500.0))
        return replace(frame, load=lambda: raw)

    noise = calibrate(camera.darks(4) + [with_white(f) for f in lower]).profile.entries[0]
    saturation = noise.planes["M"].saturation_dn
    assert saturation is not None
    assert saturation.value == 3000.0


def test_hot_pixels_are_counted_and_stay_out_of_the_dsnu() -> None:
    camera = Camera(dsnu=1.0, shape=(256, 256), seed=9)
    places = camera.rng.choice(256 * 256, 60, replace=False)
    camera.fixed.ravel()[places] += 80.0
    noise = calibrate(camera.darks(8)).profile.entries[0]
    assert noise.hot_pixels is not None
    within(noise.hot_pixels.fraction, 60 / 256**2, relative=0.2)
    assert noise.hot_pixels.excess_dn.value == pytest.approx(80.0, rel=0.03)
    within(noise.planes["M"].dsnu_dn, 1.0, relative=0.02)


def test_dark_shading_is_told_apart_from_pixel_pattern() -> None:
    camera = Camera(dsnu=1.0, shape=(256, 256), seed=9)
    camera.fixed += 3.0 * np.sin(np.linspace(0, np.pi, 256))[:, None]
    noise = calibrate(camera.darks(8)).profile.entries[0]
    assert noise.dark_shading_dn is not None
    assert noise.dark_shading_dn.value == pytest.approx(float(np.std(3 * np.sin(np.linspace(0, np.pi, 256)))), rel=0.05)
    assert noise.planes["M"].dsnu_dn is not None
    assert noise.planes["M"].dsnu_dn.value == pytest.approx(1.0, rel=0.05)


def test_black_jitter_widens_the_black_level() -> None:
    noise = calibrate(Camera(jitter=0.5, shape=(128, 128), seed=2).darks(12)).profile.entries[0]
    assert noise.black_jitter_dn is not None
    assert noise.black_jitter_dn.value == pytest.approx(0.5, rel=0.6)
    error = noise.planes["M"].black_level_dn.standard_error
    assert error is not None
    assert error > 0.05
    calm = calibrate(Camera(shape=(128, 128), seed=2).darks(12)).profile.entries[0]
    assert calm.planes["M"].black_level_dn.standard_error < error / 3


def test_dark_current_from_exposures() -> None:
    camera = Camera(gain=2.0, shape=(128, 128))
    frames = []
    for seconds in (0.1, 1.0, 10.0):
        for index in range(4):
            raw = camera.frame(2.0 * 5.0 * seconds, exposure_s=seconds)
            frames.append(CalibrationFrame(lambda raw=raw: raw, f"{seconds} {index}", "dark", 100.0, seconds, seconds))
    frames += [CalibrationFrame(f.load, f.name, "flat", 100.0, 0.1, f.level_key) for f in camera.flats(400.0, 2000.0)]
    within(calibrate(frames).profile.entries[0].planes["M"].dark_current, 5.0, relative=0.05)


@pytest.mark.parametrize("name", ["RGGB", "".join(XTRANS_ROWS)])
def test_virtual_camera_round_trip(name: str) -> None:
    cfa = Cfa.parse(name)
    truth = {
        plane: PlaneNoise(
            gain=Estimate(value=0.8 + 0.1 * index),
            read_noise_dn=Estimate(value=3.0 + index),
            black_level_dn=Estimate(value=512.0 + index),
            prnu=Estimate(value=0.01),
            dsnu_dn=Estimate(value=0.5),
        )
        for index, plane in enumerate(cfa.plane_names)
    }
    noise = SensorNoise(
        iso=800.0,
        planes=truth,
        row_noise_dn=Estimate(value=0.7),
        hot_pixels=HotPixels(fraction=Estimate(value=5e-4), excess_dn=Estimate(value=300.0)),
    )
    camera, generator = VirtualCamera(noise, cfa=cfa, shape=(300, 300), seed=1), torch.Generator().manual_seed(2)
    darks = [camera.dark(generator=generator) for _ in range(6)]
    flats = [camera.flat(level, generator=generator) for level in (0.02, 0.08, 0.25) for _ in range(2)]
    result = calibrate(frames_from(darks, flats)).profile.at(800.0)
    for plane, declared in truth.items():
        assert declared.gain is not None
        within(result.planes[plane].gain, declared.gain.value, relative=0.05)
        within(result.planes[plane].prnu, 0.01, relative=0.3)
    within(result.row_noise_dn, 0.7, relative=0.1)


def test_std_from_variance_covers_zero() -> None:
    """The interval of a std reaches zero exactly where that of the variance does."""
    assert std_from_variance(1.0, 0.52).interval()[0] == pytest.approx(0.0, abs=1e-6)
    assert std_from_variance(1.0, 0.50).interval()[0] > 0.0
