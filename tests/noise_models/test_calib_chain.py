"""The parts of the chain beyond gain and read noise: clamp, linearity, saturation, dark current, shape, traps, fit."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from noise_models.calibration import Calibration, calibrate
from noise_models.calibration.frames import CalibrationFrame
from noise_models.calibration.linearity import LevelMean, fit_linearity
from noise_models.calibration.photon_transfer import TransferPoints, variance_peak
from noise_models.calibration.traps import Finding
from noise_models.calibration.watch import found_anywhere, strongest
from noise_models.sensor import Estimate
from tests.noise_models.calibration_camera import Camera

SIGMAS = 5.0


def agrees(estimate: Estimate | None, truth: float) -> None:
    assert estimate is not None
    assert estimate.standard_error is not None
    assert abs(estimate.value - truth) < SIGMAS * estimate.standard_error


def changed(frame: CalibrationFrame, pixels: np.ndarray) -> CalibrationFrame:
    raw = replace(frame.load(), mosaic=np.ascontiguousarray(pixels))
    return replace(frame, load=lambda: raw)


# --- black clamp ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [-1.0, 0.0, 0.5])
def test_clamped_darks_are_measured(place: float) -> None:
    """The clamp sits ``place`` sigma from the black level; moments of such darks are far off."""
    camera = Camera(read=8.0, black=64.3, row=1.0, dsnu=2.0, shape=(256, 256), seed=3)
    camera.clamp = float(round(camera.black + place * camera.read))
    frames = camera.darks(6)
    noise = calibrate(frames + camera.flats(200.0, 800.0, 2500.0)).profile.entries[0]
    plane = noise.planes["M"]
    agrees(plane.gain, 1.0)
    agrees(plane.read_noise_dn, camera.read)
    agrees(plane.black_level_dn, camera.black + float(camera.fixed.mean()))
    agrees(plane.dsnu_dn, 2.0)
    agrees(noise.row_noise_dn, 1.0)
    assert any("cuts dark noise off" in note for note in noise.notes)
    codes = np.stack([frame.load().mosaic for frame in frames]).astype(float)
    assert plane.black_level_dn.standard_error is not None
    assert codes.mean() - camera.black > SIGMAS * plane.black_level_dn.standard_error
    assert math.sqrt(np.var(codes[0] - codes[1]) / 2) < 0.95 * camera.read


def test_flats_that_reach_the_clamp_are_left_out() -> None:
    camera = Camera(read=8.0, black=64.0, clamp=64.0, shape=(256, 256), seed=4)
    result = calibrate(camera.darks(6) + camera.flats(10.0, 500.0, 2000.0))
    means = result.evidence[100.0].transfer["M"].points.mean_dn
    assert not ((means > 0) & (means < 100.0)).any()
    agrees(result.profile.entries[0].planes["M"].gain, 1.0)


# --- linearity and saturation ---------------------------------------------------------------------------------------


def lit(camera: Camera, levels: Sequence[float]) -> list[CalibrationFrame]:
    return [
        replace(frame, light=float(levels[frame.level_key]))  # type: ignore[call-overload]
        for frame in camera.flats(*levels)
    ]


LEVELS = (900.0, 1500.0, 3000.0, 6000.0, 9000.0, 12000.0)


def test_linearity_error_of_a_straight_and_of_a_bent_response() -> None:
    straight, bent = (Camera(bend=bend, shape=(192, 192), seed=2) for bend in (0.0, 0.05))
    results = [calibrate(c.darks(4) + lit(c, LEVELS)) for c in (straight, bent)]
    errors = [result.profile.entries[0].planes["M"].linearity_error for result in results]
    assert errors[0] is not None
    assert errors[1] is not None
    assert errors[0].value < 0.002
    light = np.array(LEVELS)
    mean = light * (1 - 0.05 * light / 10_000)
    line = np.polynomial.Polynomial.fit(light, mean, 1, w=1 / mean)(light)
    assert errors[1].value == pytest.approx(float(np.abs(mean / line - 1).max()), rel=0.15)
    assert errors[1].value > 0.01
    drawn = results[1].evidence[100.0].linearity["M"]
    assert drawn.light.tolist() == list(LEVELS)


def test_linearity_needs_known_light_that_was_not_changed() -> None:
    def levels(*pairs: tuple[float | None, float]) -> list[LevelMean]:
        return [LevelMean(light, mean, 0.1, 0.0) for light, mean in pairs]

    good = [(float(n), 1000.0 * n) for n in range(1, 8)]
    assert fit_linearity(levels(*good), range_dn=10_000.0) is not None
    assert fit_linearity(levels(*((None, mean) for _, mean in good)), range_dn=10_000.0) is None
    assert fit_linearity(levels(*good[:4]), range_dn=10_000.0) is None, "too few levels"
    assert fit_linearity(levels(*good[:-1], (7.0, 2000.0)), range_dn=10_000.0) is None, "the lamp was dimmed"
    clipped = [*levels(*good[:4]), LevelMean(5.0, 5000.0, 0.1, 0.3)]
    assert fit_linearity(clipped, range_dn=10_000.0) is None, "clipped levels do not count"


def test_variance_falls_where_pixels_are_full() -> None:
    mean = np.array([0.0, 100.0, 1000.0, 2000.0, 2500.0])

    def points(*variance: float) -> TransferPoints:
        return TransferPoints(mean, np.array(variance), np.full(5, 0.01), np.zeros(5))

    assert variance_peak(points(10.0, 110.0, 1010.0, 2010.0, 300.0)) == 2000.0
    assert variance_peak(points(10.0, 110.0, 1010.0, 2010.0, 2500.0)) is None
    assert variance_peak(points(10.0, 110.0, 1010.0, 2010.0, 1950.0)) is None, "scatter"


# --- dark current ---------------------------------------------------------------------------------------------------


def exposed(camera: Camera, signals: dict[float, float], *, count: int = 4) -> list[CalibrationFrame]:
    """Darks of several exposures [s] with a dark signal [DN] each, and two flats."""
    frames = [
        changed(replace(camera.darks(1)[0], exposure_s=seconds, level_key=seconds), camera.frame(dn).mosaic)
        for seconds, dn in signals.items()
        for _ in range(count)
    ]
    return frames + [replace(f, exposure_s=min(signals)) for f in camera.flats(400.0, 2000.0)]


def test_mean_and_variance_of_the_dark_signal_agree_unless_the_camera_subtracts_it() -> None:
    camera = Camera(gain=2.0, shape=(192, 192))
    signals = {0.5: 20.0, 4.0: 160.0, 10.0: 400.0}
    honest = calibrate(exposed(camera, signals)).profile.entries[0]
    agrees(honest.planes["M"].dark_current, 20.0)
    assert not any("subtracts" in note for note in honest.notes)
    frames = [
        changed(f, f.load().mosaic - np.uint16(signals[f.exposure_s])) if f.role == "dark" else f  # type: ignore[index]
        for f in exposed(camera, signals)
    ]
    assert any("subtracts a dark frame" in note for note in calibrate(frames).profile.entries[0].notes)


# --- shape, blinking pixels -----------------------------------------------------------------------------------------


def test_a_spread_of_pixel_noise_is_recognised_and_gaussian_noise_is_not_taken_for_one() -> None:
    for spread in (0.0, 0.3):
        noise = calibrate(Camera(read=6.0, spread=spread, shape=(256, 256), seed=1).darks(8)).profile.entries[0]
        assert noise.tail.kind == ("lognormal" if spread else "gaussian")
        agrees(noise.planes["M"].read_noise_dn, 6.0)
        if spread:
            agrees(noise.tail.shape, spread)


def blinking(
    camera: Camera, frames: list[CalibrationFrame], *, share: float, height_dn: float
) -> list[CalibrationFrame]:
    """Frames in which some sites are lifted in every other frame or so."""
    rng = np.random.default_rng(8)
    places = rng.random(camera.shape) < share
    result = []
    for frame in frames:
        lifted = places & (rng.random(camera.shape) < 0.5)
        result.append(changed(frame, frame.load().mosaic + (height_dn * lifted).astype(np.uint16)))
    return result


def test_blinking_pixels_are_no_read_noise() -> None:
    camera = Camera(read=4.0, shape=(256, 256), seed=6)
    frames = blinking(camera, camera.darks(12) + camera.flats(200.0, 600.0), share=0.005, height_dn=60.0)
    result = calibrate(frames)
    plane = result.profile.entries[0].planes["M"]
    agrees(plane.read_noise_dn, 4.0)
    assert any("blink" in note for note in result.profile.entries[0].notes)
    found = len(result.evidence[100.0].defect_places["blinking"])
    # A quarter is lifted in both frames of the first pair and counts as hot.
    assert found == pytest.approx(0.75 * 0.005 * 256**2, rel=0.2)
    raw = math.sqrt(4.0**2 + 0.005 * 60.0**2 / 4)
    assert plane.read_noise_dn.standard_error is not None
    assert raw - plane.read_noise_dn.value > SIGMAS * plane.read_noise_dn.standard_error


# --- traps ----------------------------------------------------------------------------------------------------------


def digital(frame: CalibrationFrame) -> CalibrationFrame:
    raw = frame.load()
    return changed(frame, np.rint(512 + 1.6 * (raw.mosaic.astype(float) - 512)).astype(np.uint16))


def test_a_trap_becomes_a_finding_and_a_note() -> None:
    camera = Camera(read=6.0, black=512.0, shape=(128, 128), seed=5)
    frames = camera.darks(4) + camera.flats(300.0, 900.0, 2500.0)
    clean, scaled = calibrate(frames), calibrate([digital(frame) for frame in frames])
    assert found_anywhere(clean.findings) == []
    assert "digital_gain" in found_anywhere(scaled.findings)
    finding = next(f for f in scaled.findings[100.0] if f.trap == "digital_gain")
    assert any(note.startswith(finding.evidence) for note in scaled.profile.entries[0].notes)
    judged = {f.trap for f in clean.findings[100.0] if f.judged}
    assert {"black_clamp", "cooked", "digital_gain", "flicker", "masked_rows", "star_eater"} <= judged
    assert {f.trap for f in clean.findings[None]} >= {"dual_gain", "extended_iso"}


def test_frames_too_small_for_the_detectors_are_calibrated_without() -> None:
    camera = Camera(shape=(24, 40))
    result = calibrate(camera.darks(4) + camera.flats(500.0))
    assert result.findings[100.0] == ()


def test_a_found_trap_outranks_a_clean_one() -> None:
    def finding(found: bool, statistic: float | None) -> Finding:
        return Finding(trap="t", found=found, statistic=statistic, threshold=1.0, evidence="")

    answers = [finding(False, None), finding(True, 2.0), finding(False, 0.5)]
    assert strongest(answers) == (answers[1],)
    assert strongest(answers[::2]) == (answers[2],)


# --- goodness of fit ------------------------------------------------------------------------------------------------


def quality(camera: Camera) -> Calibration:
    return calibrate(camera.darks(8) + camera.flats(200.0, 1000.0, 3000.0))


def test_a_right_profile_describes_its_frames() -> None:
    seen = quality(Camera(read=6.0, dsnu=1.0, row=0.5, prnu=0.01, shape=(256, 256), seed=7)).evidence[100.0].quality
    for level in seen.stabilised["M"]:
        agrees(level.variance, 1.0)
    assert len(seen.stabilised["M"]) == 3
    assert seen.codes is not None
    assert seen.codes.unseen
    assert seen.codes.chi_square.probability > 1e-4
    assert seen.codes.attainable - seen.codes.log_likelihood.value < 1e-3
    assert seen.darks is not None
    scatter = seen.darks.divergence.bias * math.sqrt(2 / (seen.darks.divergence.bins - 1))
    assert abs(seen.darks.divergence.excess) < SIGMAS * scatter
    assert seen.darks.rows.worst < SIGMAS * float(seen.darks.rows.standard_error.max())
    agrees(seen.split_half, 0.0)


def test_a_wrong_profile_does_not() -> None:
    """Planted errors: row noise with a rhythm, which no profile of white row noise describes; tails; a bent curve."""
    camera = Camera(read=6.0, shape=(256, 256), seed=7)
    wave = 4.0 * np.sin(2 * np.pi * 0.37 * np.arange(256))[:, None]
    rng = np.random.default_rng(0)
    frames = [
        changed(f, np.rint(f.load().mosaic + rng.choice([-1, 1]) * wave).astype(np.uint16)) for f in camera.darks(8)
    ]
    seen = calibrate(frames + camera.flats(300.0, 900.0)).evidence[100.0].quality
    assert seen.darks is not None
    assert seen.darks.rows.worst > 5.0
    spread = quality(Camera(read=6.0, spread=0.4, shape=(256, 256), seed=7)).evidence[100.0].quality
    assert spread.codes is not None
    assert spread.codes.log_likelihood.value - spread.codes.gaussian > SIGMAS * 1e-3
    assert spread.split_half is not None
    assert spread.split_half.value > 0.3
    bent = calibrate(
        (camera := Camera(bend=0.3, shape=(256, 256), seed=7)).darks(8) + camera.flats(200.0, 1000.0, 3000.0, 8000.0)
    ).evidence[100.0]
    last = bent.quality.stabilised["M"][-1].variance
    assert last.standard_error is not None
    assert abs(last.value - 1.0) > SIGMAS * last.standard_error


def test_frames_without_gain_or_size_are_not_judged() -> None:
    dark_only = calibrate(Camera(read=6.0, shape=(256, 256)).darks(4)).evidence[100.0].quality
    assert dark_only.stabilised == {}
    assert dark_only.darks is None
    assert dark_only.codes is not None
    small = calibrate(Camera(shape=(64, 64)).darks(4)).evidence[100.0].quality
    assert small.codes is None
