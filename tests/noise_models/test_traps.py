"""Every trap detector finds its trap on simulated frames and stays quiet without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from noise_models.calibration import traps
from noise_models.calibration.traps import Finding
from noise_models.calibration.traps.code_comb import read_comb
from noise_models.calibration.traps.cooked import LAGS, correlations
from noise_models.calibration.traps.examine import examine_darks, examine_flats, examine_photo
from noise_models.calibration.traps.finding import FALSE_ALARM
from noise_models.calibration.traps.star_eater import count_peaks
from noise_models.calibration.traps.tiles import SIDE, TILES_PER_FRAME, cut_tiles, site_tiles
from noise_models.errors import CalibrationError
from noise_models.frame import MaskedArea, RawFrame
from noise_models.sensor import Estimate
from tests import trap_frames as sim
from tests.benchmarks import traps as benchmark
from tests.shared_data import shared

CASES = {f"{trap}: {strength}": (trap, detect) for trap, strength, detect in benchmark.cases()}


@pytest.mark.parametrize("name", CASES)
def test_a_planted_trap_is_found(name: str) -> None:
    trap, detect = CASES[name]

    finding = detect(7, 1.0, 3.0)

    # Gains of planes are one form of channel scaling.
    assert finding.trap == trap.replace("gain_ratio", "channel_scaling")
    assert finding.found, finding.evidence
    assert finding.advice
    assert finding.evidence.endswith(".")


@pytest.mark.parametrize("seed", range(4))
def test_clean_frames_raise_no_alarm(seed: int) -> None:
    body = sim.body(seed)
    darks, flats = (body.dark(), body.dark()), (body.flat(0.15), body.flat(0.15))

    findings = [*examine_darks(*darks), *examine_flats(*flats), *examine_photo([darks[0], flats[0]])]

    assert [finding for finding in findings if finding.found] == []
    assert sum(finding.judged for finding in findings) >= len(findings) - 2
    assert all(finding.advice == "" for finding in findings if finding.judged)


@pytest.mark.parametrize("cfa", ["M", "GBRG", "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG"])
def test_every_array_is_examined(cfa: str) -> None:
    body = sim.body(3, cfa=cfa, gain=1.0, read_noise_dn=3.0, size=(768, 768))

    clean = [*examine_darks(body.dark(), body.dark()), *examine_flats(body.flat(0.1), body.flat(0.1))]
    cooked = traps.find_cooked(*(sim.blurred(body.dark(), 0.3) for _ in range(2)))

    assert [finding for finding in clean if finding.found] == []
    assert cooked.found


def test_the_same_frame_gives_the_same_finding() -> None:
    frame = sim.body(1).dark()

    assert traps.find_star_eater(frame) == traps.find_star_eater(frame)


# What the data cannot tell is not called clean.


@pytest.mark.parametrize(
    ("judge", "reason"),
    [
        (lambda: traps.find_cooked(*_saturated_pair()), "unclipped tiles"),
        (lambda: traps.find_digital_gain([_constant(512)]), "too narrow"),
        (lambda: traps.find_channel_scaling([_constant(512)]), "two planes"),
        (lambda: traps.find_star_eater(_constant(512)), "50 are needed"),
        (lambda: traps.find_block_artefacts(_constant(512), _constant(512)), "no noise"),
        (lambda: traps.find_masked_rows(_constant(512)), "Too dark"),
        (lambda: traps.find_flicker(_constant(512), _constant(512)), "Too dark"),
        (lambda: traps.find_flat_texture(_constant(512)), "Too dark"),
        (lambda: traps.find_lossy([_constant(512)]), "Too few levels"),
        (lambda: traps.find_dark_subtraction(_constant(512)), "no short dark"),
        (lambda: traps.find_defect_correction(_constant(512)), "unknown exposure"),
        (lambda: traps.find_dual_gain([]), "0 ISO"),
        (lambda: traps.find_extended_iso([]), "0 ISO"),
        (lambda: traps.find_gain_ratio({"M": Estimate(value=1.0)}), "0 plane"),
        (lambda: traps.find_mismatched_frames([_constant(512)]), "nothing to compare"),
    ],
)
def test_too_little_data_is_said(judge: Callable[[], Finding], reason: str) -> None:
    finding = judge()

    assert not finding.found
    assert not finding.judged
    assert reason in finding.evidence
    assert finding.advice


def test_a_tiny_frame_is_refused() -> None:
    frame = sim.body(0, size=(48, 48)).dark()

    with pytest.raises(CalibrationError, match="24 x 24 sites of one colour; 32 x 32 are needed"):
        traps.find_star_eater(frame)


def test_frames_of_two_cameras_are_refused() -> None:
    with pytest.raises(CalibrationError, match="Two frames of one camera"):
        traps.find_cooked(sim.body(0).dark(), sim.body(0, cfa="GBRG").dark())
    dark = sim.body(0).dark()
    with pytest.raises(CalibrationError, match="same ISO"):
        traps.find_dark_subtraction(dark, reference=replace(dark, shot=replace(dark.shot, iso=100.0)))


# Laws of the statistics.


def test_independent_noise_has_no_correlation_left() -> None:
    tiles = np.random.default_rng(0).standard_normal((512, SIDE, SIDE)).astype(np.float32) * 5.0

    measured = correlations(tiles)

    assert all(abs(value) < 5 * error for value, error in measured)
    # Without the correction for removed lines the same numbers would be 23 standard errors off.
    assert 20 * measured[0][1] < 1.0 / (SIDE - 1)


def test_a_filter_shows_its_own_autocorrelation() -> None:
    noise = np.random.default_rng(1).standard_normal((512, SIDE, SIDE + 1)).astype(np.float32) * 5.0
    tiles = noise[:, :, 1:] + 0.25 * noise[:, :, :-1]

    measured = dict(zip(LAGS, correlations(tiles), strict=True))

    expected = 0.25 / (1 + 0.25**2)
    assert measured[0, 1][0] == pytest.approx(expected, abs=6 * measured[0, 1][1])
    assert abs(measured[1, 0][0]) < 5 * measured[1, 0][1]


@pytest.mark.parametrize("std", [0.6, 1.0, 3.0, 30.0])
def test_peaks_of_independent_noise_are_predicted(std: float) -> None:
    tiles = np.rint(np.random.default_rng(2).normal(512.3, std, (400, SIDE, SIDE))).astype(np.uint16)

    seen, expected = count_peaks(tiles)

    assert abs(seen - expected) < 5 * np.sqrt(expected)


@pytest.mark.parametrize("factor", [1.07, 1.26, 2.0, 2.5])
def test_the_comb_tells_the_factor(factor: float) -> None:
    codes = np.rint(np.random.default_rng(3).normal(3000.0, 60.0, 400_000)).astype(np.int64)

    comb = read_comb(np.bincount(np.floor(codes * factor).astype(np.int64), minlength=1 << 16))

    assert comb.factor == pytest.approx(factor, abs=comb.factor_error + 0.01)
    assert not comb.grows


@pytest.mark.parametrize("factor", [0.6, 0.771, 0.9])
def test_the_comb_of_doubled_codes_tells_the_factor(factor: float) -> None:
    codes = np.rint(np.random.default_rng(3).normal(3000.0, 100.0, 400_000)).astype(np.int64)

    comb = read_comb(np.bincount(np.floor(codes * factor).astype(np.int64), minlength=1 << 16))

    assert comb.gaps == 0
    assert comb.factor == pytest.approx(factor, abs=0.01)


@pytest.mark.parametrize("std", [0.4, 0.7, 1.0, 2.0, 50.0])
@pytest.mark.parametrize("hot_share", [0.0, 0.005])
def test_a_smooth_histogram_has_no_comb(std: float, hot_share: float) -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(512.2, std, 500_000) + rng.exponential(60.0, 500_000) * (rng.random(500_000) < hot_share)

    comb = read_comb(np.bincount(np.rint(values).astype(np.int64), minlength=1 << 16))

    assert comb.regular


def test_a_curve_is_lossy_coding_and_not_gain() -> None:
    body = sim.body(5, gain=1.0, read_noise_dn=3.0)
    frames = [sim.companded(frame, 0.25) for frame in (body.dark(), body.flat(0.1), body.flat(0.5))]

    assert traps.find_lossy(frames).found
    assert not traps.find_digital_gain(frames).found
    assert not traps.find_lossy([sim.scaled(frame, 1.3) for frame in (body.dark(), body.flat(0.1))]).found


def test_a_table_of_linear_codes_is_no_companding() -> None:
    linear = np.arange(4096, dtype=np.uint16) * 4
    curved = np.round(np.linspace(0.0, 1.0, 4096) ** 2 * 16383).astype(np.uint16)

    assert not traps.find_companding(linear).found
    assert traps.find_companding(curved).found
    with pytest.raises(ValueError, match="rising entries"):
        traps.find_companding(linear[::-1])


def test_all_planes_scaled_alike_are_no_channel_scaling() -> None:
    flat = sim.body(6, gain=1.0, read_noise_dn=3.0).flat(0.1)

    assert not traps.find_channel_scaling([sim.scaled(flat, 1.3)]).found
    assert not traps.find_channel_scaling([sim.scaled(flat, 0.8)]).found


def test_dark_current_and_heavy_tails_are_no_dark_subtraction() -> None:
    body = sim.body(7, gain=1.0, read_noise_dn=3.0, hot=0.004, tail=True, exposure_s=1.0, dark_current=4.0)
    long, short = body.dark(exposure_s=10.0), body.dark(exposure_s=1.0)

    finding = traps.find_dark_subtraction(long, reference=short)

    assert finding.judged
    assert not finding.found
    # The variance alone would have raised the alarm.
    assert long.mosaic.astype(float).var() > 2 * short.mosaic.astype(float).var()


def test_optical_black_is_a_reference() -> None:
    body = sim.body(8, gain=1.0, read_noise_dn=3.0, hot=0.004, exposure_s=1.0, masked_columns=64)
    first, second = body.dark(exposure_s=30.0), body.dark(exposure_s=30.0)
    area = first.masked[0]
    untouched = MaskedArea("left", np.full_like(area.pixels, 512), area.cfa)
    rng = np.random.default_rng(0)
    noise = np.rint(512 + 3.0 * rng.standard_normal(area.pixels.shape)).astype(np.uint16)

    subtracted = replace(sim.subtracted(first, second), masked=(replace(untouched, pixels=noise),))

    assert traps.find_dark_subtraction(subtracted).found
    assert not traps.find_dark_subtraction(first).found


def test_optical_black_says_where_a_dark_lies() -> None:
    body = sim.body(9, read_noise_dn=3.0, masked_columns=32)
    frame = body.dark()
    wrong = replace(frame, black_level=frame.black_level - 20.0)

    assert not traps.find_lit_dark(wrong).found
    assert traps.find_lit_dark(replace(wrong, masked=())).found


def test_steps_of_several_gains_are_named() -> None:
    points = benchmark.iso_table(0, drop=3.0)
    finding = traps.find_dual_gain(points[::-1])

    assert "ISO 400 and 800" in finding.evidence
    assert not traps.find_dual_gain(points[:3]).found


def test_the_a7s2_step_is_found_at_third_stops() -> None:
    # Two segments with the constants fitted to PMN's published table (s0 4.38 and 1.15 e-, s1 0.99 DN), K = ISO / 1064.
    isos = [400.0, 500.0, 640.0, 800.0, 1000.0, 1250.0, 1600.0, 2000.0, 2500.0, 3200.0, 6400.0]
    points = []
    for iso in isos:
        gain, s0 = iso / 1064.0, 4.38 if iso <= 1600.0 else 1.15
        points.append(traps.IsoPoint(iso, gain, 0.005 * gain, (s0**2 + (0.99 / gain) ** 2) ** 0.5, 0.01))

    finding = traps.find_dual_gain(points)

    assert finding.found
    assert "ISO 1600 and 2000" in finding.evidence
    assert finding.evidence.count("ISO") == 1


def test_mismatches_are_named() -> None:
    dark = sim.body(0, size=(128, 128)).dark()
    other = replace(dark, shot=replace(dark.shot, model="Other", exposure_s=2.0))

    finding = traps.find_mismatched_frames([dark, dark, other], names=["a", "b", "c"])

    assert finding.statistic == 1.0
    assert "c: camera" in finding.evidence
    assert "exposure 2.0 instead of None" in finding.evidence
    drift = replace(dark, black_level=dark.black_level + 0.5)
    assert not traps.find_mismatched_frames([dark, drift]).found
    with pytest.raises(ValueError, match="2 names were given for 3 frames"):
        traps.find_mismatched_frames([dark, dark, other], names=["a", "b"])


def test_pairs_of_other_sizes_are_reported_not_compared() -> None:
    findings = examine_darks(sim.body(0, size=(256, 256)).dark(), sim.body(0, size=(256, 320)).dark())

    assert findings[0].found
    assert "cooked" not in {finding.trap for finding in findings}


# Sampling.


def test_tiles_are_spread_and_bounded() -> None:
    image = np.arange(640, dtype=np.uint16)[:, None] * np.ones(960, dtype=np.uint16)

    tiles = cut_tiles(image, limit=50)

    assert tiles.shape == (50, SIDE, SIDE)
    assert set((tiles[:, 0, 0] // SIDE).tolist()) == set(range(20))
    frame = sim.body(0, size=(4096, 2048), hot=0.0, tail=False, gain=1.0, read_noise_dn=3.0).dark()
    assert sum(len(one.codes) for one in site_tiles(frame)) == TILES_PER_FRAME


def test_false_alarms_of_a_set_stay_below_one_per_cent() -> None:
    body = sim.body(0)
    dark, flat = body.dark(), body.flat(0.1)

    calls = max(len(examine_darks(dark, dark)), len(examine_flats(flat, flat)))

    assert calls * FALSE_ALARM <= 0.0101


# Real files.


def load(name: str) -> RawFrame:
    from noise_models.rawfile import read_raw

    return read_raw(shared(f"raw/{name}"))


@pytest.mark.data
def test_a_third_stop_of_the_canon_30d_is_digital() -> None:
    native, third = load("canon_30d_iso100.CR2"), load("canon_30d_iso640.CR2")

    assert [finding for finding in examine_photo([native]) if finding.found] == []
    finding = traps.find_digital_gain([third])
    assert finding.found
    assert "0.771" in finding.evidence  # the published factor of Canon's third stops
    assert not traps.find_channel_scaling([third]).found


@pytest.mark.data
def test_the_gopro_file_is_lossy() -> None:
    frame = load("gopro_fusion_noiseprofile.dng")

    assert traps.find_lossy([frame]).found
    assert not traps.find_digital_gain([frame]).found


def _constant(code: int) -> RawFrame:
    frame = sim.body(0, gain=1.0, read_noise_dn=1.0, hot=0.0).dark()
    return replace(frame, mosaic=np.full(frame.shape, code, dtype=np.uint16))


def _saturated_pair() -> tuple[RawFrame, RawFrame]:
    return _constant(int(sim.WHITE)), _constant(int(sim.WHITE))
