"""Photos and bursts pooled per ISO: coverage, outliers, refusals that stay refusals."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from noise_models.calibration.photo.photo_evidence import UNSEEN_TEXTURE
from noise_models.calibration.photo.photos import estimate_from_bursts, estimate_from_photos
from noise_models.calibration.photo.pool import NothingIdentifiable, fill_in, pool
from noise_models.calibration.photo.single_photo import NotIdentifiable
from noise_models.calibration.reader import MixedCameras
from noise_models.cfa import Cfa
from noise_models.errors import CalibrationError, DamagedRaw
from noise_models.frame import RawFrame
from noise_models.sensor import Estimate
from tests.noise_models.photo_scenes import coloured, photograph, power_law_scene
from tests.noise_models.still_scenes import body, burst
from tests.shared_data import shared

SHAPE = (640, 960)
RGGB = Cfa.parse("RGGB")


@cache
def scene_of(beta: float, seed: int) -> NDArray[np.float64]:
    return coloured(power_law_scene(beta, SHAPE, mean=1.0, seed=seed), RGGB)


def photo(
    seed: int, *, beta: float = 4.0, mean: float = 300.0, gain: float = 0.5, iso: float | None = 400.0
) -> RawFrame:
    return photograph(mean * scene_of(beta, seed % 8), gain=gain, read_dn=3.0, seed=seed + 50, iso=iso)


def sigmas(estimate: Estimate | None, truth: float) -> float:
    assert estimate is not None
    assert estimate.standard_error
    return (estimate.value - truth) / estimate.standard_error


def estimates(values: np.ndarray, errors: np.ndarray) -> list[Estimate]:
    return [Estimate(value=float(v), standard_error=float(e)) for v, e in zip(values, errors, strict=True)]


@pytest.mark.parametrize("between", [0.0, 0.3])
@pytest.mark.parametrize("count", [3, 8])
def test_pooled_intervals_cover(between: float, count: int) -> None:
    """Answers that scatter more than they know; the planted error is the plain inverse-variance mean."""
    rng, runs = np.random.default_rng(count), 2000
    hits = naive = 0
    for _ in range(runs):
        errors = rng.uniform(0.05, 0.2, count)
        values = 10.0 + np.hypot(errors, between) * rng.standard_normal(count)
        pooled, _ = pool(estimates(values, errors))
        hits += abs(sigmas(pooled, 10.0)) < 1.96
        weight = errors**-2.0
        naive += abs(weight @ values / weight.sum() - 10.0) < 1.96 / math.sqrt(weight.sum())
    # Three answers often agree by chance: nothing shows then that they know less than they say.
    promised = 0.95 if count > 3 or between == 0.0 else 0.88
    assert hits / runs > promised - 5 * math.sqrt(promised * (1 - promised) / runs)
    assert between == 0.0 or naive / runs < 0.75


def test_an_outlier_is_left_out_and_counted() -> None:
    good = np.array([1.0, 1.05, 0.97, 1.02])
    pooled, dropped = pool(estimates(np.append(good, 3.0), np.full(5, 0.05)))
    assert dropped == 1
    assert pooled.value == pytest.approx(1.01, abs=0.01)
    assert pool(estimates(good, np.full(4, 0.05)))[1] == 0


def test_relative_errors_do_not_favour_low_answers() -> None:
    values = np.array([0.85, 1.0, 1.15])
    relative, _ = pool(estimates(values, 0.2 * values), relative=True)
    plain, _ = pool(estimates(values, 0.2 * values))
    assert relative.value == pytest.approx(1.0)
    assert plain.value < 0.98


def test_values_without_error_count_only_alone() -> None:
    stated, measured = Estimate(value=128.0), Estimate(value=127.5, standard_error=0.1)
    assert pool([stated, measured, stated])[0] == measured
    assert pool([stated])[0] == stated
    assert pool([stated, stated])[0].standard_error is None
    assert pool([stated, Estimate(value=130.0)])[0] == Estimate(value=129.0, standard_error=1.0)


def test_photos_of_several_isos() -> None:
    photos = [photo(seed, iso=iso, gain=iso / 800) for iso in (400.0, 1600.0) for seed in range(3)]
    result = estimate_from_photos([*photos, photo(9, beta=2.0, iso=400.0), photo(9, beta=2.0, iso=3200.0)])

    assert result.profile.isos == (400.0, 1600.0)
    for iso in (400.0, 1600.0):
        entry = result.profile.at(iso)
        assert entry.origin == "estimated"
        for plane in entry.planes.values():
            assert abs(sigmas(plane.gain, iso / 800)) < 2.5
            assert plane.gain is not None
            assert (plane.gain.standard_error or 0) >= 0.999 * UNSEEN_TEXTURE * plane.gain.value
    low, middle, high = result.outcomes
    assert (low.trust, low.answers, low.refused) == ("good", 3, 1)
    assert low.gain_upper is not None
    assert low.gain_upper > 0.5
    assert (middle.trust, middle.refused) == ("good", 0)
    assert (high.trust, high.answers) == (None, 0)
    assert "textured everywhere" in high.reasons[0] or "texture" in " ".join(high.reasons)
    assert any(note.startswith("ISO 3200 is not identifiable") for note in result.profile.notes)
    assert "From 3 photos; 1 more did not" in result.profile.at(400.0).notes[0]
    assert len(result.profile.provenance.frames) == 8


@pytest.mark.slow
def test_photos_cover() -> None:
    """Forty sets of two photos of different scenes: 95 % intervals hold the gain and the read noise."""
    found, reads, refused = [], [], 0
    for seed in range(40):
        beta, mean = (4.0, 3.5)[seed % 2], (100.0, 600.0)[seed // 2 % 2]
        try:
            entry = estimate_from_photos([photo(2 * seed + k, beta=beta, mean=mean) for k in (0, 1)]).profile.entries[0]
        except NotIdentifiable:
            refused += 1
            continue
        found.append(sigmas(entry.planes["G1"].gain, 0.5))
        reads.append(sigmas(entry.planes["G1"].read_noise_dn, 3.0))
    assert refused < 20
    for values in (found, reads):
        assert np.mean(np.abs(values) < 1.96) > 0.95 - 3 * math.sqrt(0.95 * 0.05 / len(values))


def test_nothing_identifiable_says_why_for_each_iso() -> None:
    with pytest.raises(NothingIdentifiable, match=r"ISO 400: .*texture.*K is below.*Use darks and flats") as refusal:
        estimate_from_photos([photo(3, beta=2.0)])
    assert refusal.value.outcomes[0].trust is None
    with pytest.raises(CalibrationError, match=r"Not one photo can be used\. There are no photos"):
        estimate_from_photos([])


def test_one_bad_file_costs_one_file() -> None:
    good = photo(1)

    def read(path: Path) -> RawFrame:
        if path.name == "bad.CR2":
            raise DamagedRaw(path, "It is truncated.")
        return good

    result = estimate_from_photos([Path("bad.CR2"), Path("good.CR2"), photo(2, iso=None)], read=read)
    assert result.outcomes[0].answers == 1
    assert len(result.left_out) == 2
    assert "bad.CR2" in result.left_out[0]
    assert "states no ISO" in result.left_out[1]
    with pytest.raises(CalibrationError, match=r"Not one photo can be used.*truncated"):
        estimate_from_photos([Path("bad.CR2")], read=read)
    assert estimate_from_photos([photo(2, iso=None)], iso=200.0).profile.isos == (200.0,)


def test_photos_of_two_cameras_are_refused() -> None:
    one = photo(1)
    other = dataclasses.replace(one, shot=dataclasses.replace(one.shot, model="Other"))
    with pytest.raises(MixedCameras, match="is from Other"):
        estimate_from_photos([one, other])


def test_bursts_are_told_apart_by_their_metadata_and_pooled() -> None:
    shape = (256, 384)
    low, high = body(shape=shape, iso=400.0), body(shape=shape, iso=800.0, gain=2.0)
    frames = [*burst(low, seed=1), *burst(high, seed=2, frames=3), *burst(low, seed=3), *burst(high, seed=4)[:1]]
    result = estimate_from_bursts(frames)

    assert result.profile.isos == (400.0, 800.0)
    assert [outcome.answers for outcome in result.outcomes] == [2, 1]
    assert abs(sigmas(result.profile.at(400.0).planes["B"].gain, 1.0)) < 4
    assert abs(sigmas(result.profile.at(800.0).planes["B"].gain, 2.0)) < 4
    assert any("two or more photos" in note for note in result.left_out)
    single = estimate_from_bursts(burst(low, seed=1)).profile.entries[0].planes["B"]
    pooled = result.profile.at(400.0).planes["B"]
    assert pooled.gain is not None
    assert single.gain is not None
    assert (pooled.gain.standard_error or 1) < (single.gain.standard_error or 0)
    assert single.chi2_dof is not None
    assert pooled.chi2_dof is None


def test_fill_in_takes_each_iso_from_the_first_that_has_it() -> None:
    shape = (256, 384)
    best = estimate_from_bursts(burst(body(shape=shape, iso=400.0), seed=1)).profile
    rest = estimate_from_bursts(
        [*burst(body(shape=shape, iso=400.0), seed=5), *burst(body(shape=shape, iso=800.0), seed=6)]
    ).profile
    joined = fill_in([best, rest])
    assert joined.isos == (400.0, 800.0)
    assert joined.at(400.0).planes == best.at(400.0).planes
    assert joined.at(800.0).planes == rest.at(800.0).planes
    other = rest.model_copy(update={"model": "Other"})
    with pytest.raises(CalibrationError, match=r"different cameras: .*Other"):
        fill_in([best, other])


def test_k_off_proportionality_is_noted_only() -> None:
    shape = (256, 384)
    frames = [
        frame
        for iso, gain in ((100.0, 1.0), (200.0, 2.0), (400.0, 4.0), (800.0, 4.0))
        for frame in burst(body(shape=shape, iso=iso, gain=gain), seed=int(iso))
    ]
    result = estimate_from_bursts(frames)
    notes = [note for note in result.profile.notes if "proportionality" in note]
    assert len(notes) == 1
    assert notes[0].startswith("ISO 800: K is -")
    assert abs(sigmas(result.profile.at(800.0).planes["R"].gain, 4.0)) < 4


@pytest.mark.data
def test_two_real_photos_give_a_usable_profile() -> None:
    """Canon 30D, analog gain at both ISOs: K must be in proportion to ISO within what the two say of themselves."""
    result = estimate_from_photos([shared(f"raw/canon_30d_iso{iso}.CR2") for iso in (100, 640)])
    assert result.profile.isos == (100.0, 640.0)
    assert [outcome.trust for outcome in result.outcomes] == ["good", "good"]
    low, high = (result.profile.at(iso).planes["G1"].gain for iso in (100.0, 640.0))
    assert low is not None
    assert high is not None
    ratio = Estimate(
        value=high.value / low.value / 6.4,
        standard_error=math.hypot((high.standard_error or 0) / high.value, (low.standard_error or 0) / low.value),
    )
    assert abs(sigmas(ratio, 1.0)) < 2
    assert result.profile.make == "Canon"
