"""The estimators of calibration one by one, and what `calibrate` refuses."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noise_models.calibration import calibrate
from noise_models.calibration.fits import fit_affine_variance
from noise_models.calibration.frames import CalibrationFrame
from noise_models.calibration.inputs.group import frames_from
from noise_models.calibration.pairs import measure_site, remove_lines
from noise_models.calibration.segments import segment_ids
from noise_models.calibration.shape.quantised import count_codes, fit_codes
from noise_models.calibration.spatial import measure_pattern
from noise_models.errors import CalibrationError, DamagedRaw
from noise_models.frame import RawFrame, Shot
from noise_models.sensor import Estimate
from tests.noise_models.calibration_camera import Camera


def codes(rng: np.random.Generator, *, mean: float, sigma: float, pattern: float, count: int = 100_000) -> np.ndarray:
    fixed = mean + pattern * rng.standard_normal(count)
    return np.rint(fixed + sigma * rng.standard_normal((2, count))).astype(np.uint16)


# --- quantisation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("sigma", [0.25, 0.4])
def test_code_likelihood_below_half_a_step(sigma: float, phase: float) -> None:
    pairs = codes(np.random.default_rng(1), mean=64 + phase, sigma=sigma, pattern=0.15)
    fit = fit_codes(count_codes(*pairs))
    assert abs(fit.read_noise_dn - sigma) < 5 * fit.error_dn
    assert fit.error_dn < 0.05 * sigma
    assert fit.black_dn == pytest.approx(64 + phase, abs=0.02)


def test_sheppard_fails_where_the_code_likelihood_is_needed() -> None:
    """Planted error: subtracting 1/12 from the variance of coarse codes."""
    a, b = codes(np.random.default_rng(1), mean=64.0, sigma=0.25, pattern=0.0).astype(float)
    naive = math.sqrt(max(0.0, np.var(a - b) / 2 - 1 / 12))
    assert abs(naive - 0.25) > 0.05


def test_one_code_only_is_refused() -> None:
    with pytest.raises(CalibrationError, match="one code only"):
        fit_codes(count_codes(*np.full((2, 1000), 64, dtype=np.uint16)))


# --- pairs, lines, patterns -----------------------------------------------------------------------------------------


def test_line_removal_is_undone_exactly_where_the_variance_changes() -> None:
    """Mean over many draws of the corrected tile variances equals the true ones; without correction it does not."""
    rng = np.random.default_rng(0)
    sigma = np.ones((64, 64))
    sigma[:, 32:] = 6.0
    corrected, raw = [], []
    for _ in range(150):
        a, b = (np.rint(1000 + sigma * rng.standard_normal((64, 64))).astype(np.uint16) for _ in range(2))
        pair = measure_site(a, b, black=0.0, clip=65535.0)
        corrected.append(pair.variance - 1 / 12)
        residual, _, _ = remove_lines(a.astype(np.float32) - b)
        raw.append(np.mean(residual[:, :32] ** 2) / 2 - 1 / 12)
    mean = np.mean(corrected, axis=0)
    error = math.sqrt(2 / 1024 / 150)
    assert np.abs(mean[:, 0] - 1.0).max() < 5 * 2 * error
    assert np.abs(mean[:, 1] / 36.0 - 1.0).max() < 5 * error
    assert np.mean(raw) > 1.0 + 5 * 2 * error


def test_pattern_parts_pixels_slope_and_defects() -> None:
    rng = np.random.default_rng(0)
    image = rng.standard_normal((128, 128)).astype(np.float32) + np.arange(128, dtype=np.float32)[:, None]
    image[5, 5] += 500
    pattern = measure_pattern(image, detrend=True)
    assert abs(pattern.variance - 1.0) < 5 * pattern.error
    assert len(pattern.defects) == 1
    assert measure_pattern(image, detrend=False).variance > 10.0


def test_affine_fit_is_unbiased_and_its_errors_are_true() -> None:
    rng = np.random.default_rng(4)
    mean, count = np.array([0.0, 50.0, 400.0, 2000.0]), 500.0
    truth = 0.5 * mean + 9.0
    slopes = []
    for _ in range(1500):
        variance = truth * rng.chisquare(count, 4) / count
        fit = fit_affine_variance(mean, variance, relative_error=np.full(4, math.sqrt(2 / count)))
        slopes.append((fit.slope, fit.chi2))
    slope, chi2 = np.array(slopes).T
    information = sum(count * m**2 / (2 * v**2) for m, v in zip(mean, truth, strict=True))
    assert abs(slope.mean() - 0.5) < 5 * slope.std() / math.sqrt(1500)
    assert slope.std() > 1 / math.sqrt(information) * 0.9
    assert abs(chi2.mean() - 2.0) < 5 * 2.0 / math.sqrt(1500)


def test_fit_needs_two_levels() -> None:
    with pytest.raises(CalibrationError, match="at least two light levels"):
        fit_affine_variance(np.zeros(3), np.ones(3), relative_error=np.ones(3))


# --- segments ---------------------------------------------------------------------------------------------------------


def test_segments_start_where_read_noise_falls() -> None:
    def noise(*values: float, error: float = 0.01) -> list[Estimate]:
        return [Estimate(value=value, standard_error=error) for value in values]

    assert segment_ids(noise(1.0, 2.0, 4.0)) == [0, 0, 0]
    assert segment_ids(noise(6.3, 2.6, 3.0, 2.0)) == [0, 1, 1, 2]
    assert segment_ids(noise(6.3, 2.6, error=2.0)) == [0, 0], "not significant"
    assert segment_ids([]) == []


# --- calibrate: refusals and notes ----------------------------------------------------------------------------------


def test_too_few_frames_come_with_capture_advice() -> None:
    camera = Camera()
    with pytest.raises(CalibrationError, match=r"at least 2 darks and 2 flats at one level.*Take 8 darks"):
        calibrate(camera.darks(1) + camera.flats(500.0))
    with pytest.raises(CalibrationError, match="no frames"):
        calibrate([])
    with pytest.raises(CalibrationError, match="no pair of unclipped flats"):
        calibrate(camera.darks(2) + camera.flats(500.0, count=1))
    apart = [replace(frame, level_key=index) for index, frame in enumerate(camera.darks(2))]
    with pytest.raises(CalibrationError, match="no pair"):
        calibrate(apart)


def test_a_single_frame_is_reported_not_fatal() -> None:
    camera = Camera()
    noise = calibrate(camera.darks(3) + camera.flats(500.0, count=3)).profile.entries[0]
    assert sum("no partner" in note for note in noise.notes) == 2


def test_an_iso_that_cannot_be_measured_is_left_out_with_a_note() -> None:
    good, bad = Camera(), Camera(iso=200.0)
    profile = calibrate(good.darks(2) + good.flats(500.0) + bad.flats(500.0)).profile
    assert profile.isos == (100.0,)
    assert any("ISO 200 was left out" in note for note in profile.notes)


def test_darks_below_the_clamp_are_refused() -> None:
    camera = Camera(black=-30.0, read=4.0)
    with pytest.raises(CalibrationError, match="below the black clamp"):
        calibrate(camera.darks(4))


def test_noise_that_falls_with_light_is_no_gain() -> None:
    loud, quiet = Camera(read=60.0), Camera(gain=0.01, read=2.0)
    with pytest.raises(CalibrationError, match="does not grow with light"):
        calibrate(loud.darks(4) + quiet.flats(500.0))


def test_frames_of_two_cameras_are_refused() -> None:
    one, other = Camera(), Camera(shape=(64, 64), iso=200.0)
    with pytest.raises(CalibrationError, match="one camera in one mode"):
        calibrate(one.darks(2) + one.flats(500.0) + other.darks(2))


def test_a_damaged_file_costs_one_frame() -> None:
    camera = Camera()

    def broken() -> RawFrame:
        raise DamagedRaw("IMG_1.CR2", "It is truncated.")

    bad = CalibrationFrame(broken, "IMG_1.CR2", "dark", 100.0, None, "dark")
    profile = calibrate([bad, *camera.darks(4), *camera.flats(500.0)]).profile
    assert any("IMG_1.CR2" in note and "truncated" in note for note in profile.notes)
    assert "IMG_1.CR2" not in [frame.name for frame in profile.provenance.frames]


def test_progress_counts_every_frame_and_each_is_loaded_once() -> None:
    camera, seen, loads = Camera(), [], []
    frames = camera.darks(2) + camera.flats(500.0, 900.0)

    def counted(frame: CalibrationFrame) -> CalibrationFrame:
        def load() -> RawFrame:
            loads.append(frame.name)
            return frame.load()

        return replace(frame, load=load)

    calibrate([counted(frame) for frame in frames], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 6) for n in range(1, 7)]
    assert sorted(loads) == sorted(frame.name for frame in frames)


def test_isos_form_segments_and_odd_gains_are_noted() -> None:
    frames = []
    for iso, gain, read in ((100, 0.5, 2.0), (200, 1.0, 3.6), (400, 2.0, 2.0), (800, 2.0, 2.1)):
        camera = Camera(iso=iso, gain=gain, read=read)
        frames += camera.darks(4) + camera.flats(300.0, 1500.0)
    profile = calibrate(frames).profile
    assert [entry.segment for entry in profile.entries] == [0, 0, 1, 1]
    assert any("ISO 800" in note for note in profile.notes)


# --- grouping -------------------------------------------------------------------------------------------------------


def shot(frame: RawFrame, **fields: object) -> RawFrame:
    return replace(frame, shot=replace(frame.shot, **fields))  # type: ignore[arg-type]


def test_flats_group_by_setting_and_by_measured_level() -> None:
    camera = Camera()
    short = [shot(camera.frame(500.0), exposure_s=0.01) for _ in range(2)]
    long = [shot(camera.frame(500.0), exposure_s=0.1) for _ in range(2)]
    bright = [shot(camera.frame(900.0), exposure_s=0.1) for _ in range(2)]
    keys = [frame.level_key for frame in frames_from([], [long[0], bright[0], short[0], short[1], bright[1], long[1]])]
    assert keys[0] == keys[5]
    assert keys[1] == keys[4]
    assert keys[2] == keys[3]
    assert len(set(keys)) == 3


def test_paths_are_read_lazily_and_grouped_by_folder_without_exposure() -> None:
    camera, reads = Camera(), []

    def read(path: Path) -> RawFrame:
        reads.append(path)
        return camera.frame(500.0 if path.parent.name == "a" else 520.0)

    frames = frames_from([], [Path("a/1"), Path("b/1"), Path("a/2"), Path("b/2")], read=read)
    assert [f.level_key == frames[0].level_key for f in frames] == [True, False, True, False]
    assert len(reads) == 4
    frames[0].load()
    assert len(reads) == 4, "small frames are kept"
    assert frames[0].name == "1"


def test_a_frame_without_iso_needs_one() -> None:
    raw = replace(Camera().frame(), shot=Shot())
    with pytest.raises(CalibrationError, match="states no ISO"):
        frames_from([raw], [])
    assert frames_from([raw], [], iso=100.0)[0].iso == 100.0
