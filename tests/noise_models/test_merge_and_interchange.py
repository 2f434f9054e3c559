"""Merging profiles and speaking other programs' formats."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from noise_models.cfa import BAYER_PLANES, Cfa
from noise_models.errors import ProfileError
from noise_models.interchange.darktable import export_darktable, import_darktable
from noise_models.interchange.dng import noise_from_tag, tag_from_noise
from noise_models.interchange.eld import eld_view
from noise_models.merge import merge_profiles
from noise_models.profile import CameraProfile
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise

RGGB = Cfa.parse("RGGB")
BLACK, WHITE = np.full((2, 2), 512.0), np.full((2, 2), 16383.0)


def entry(iso: float, gain: float, read: float, *, error: float | None = 0.01, segment: int = 0) -> SensorNoise:
    plane = PlaneNoise(
        gain=Estimate(value=gain, standard_error=error),
        read_noise_dn=Estimate(value=read, standard_error=error),
        black_level_dn=Estimate(value=512.0, standard_error=error),
    )
    return SensorNoise(
        iso=iso,
        planes=dict.fromkeys(BAYER_PLANES, plane),
        row_noise_dn=Estimate(value=0.1 * read, standard_error=error),
        segment=segment,
    )


def profile(*entries: SensorNoise, model: str = "One") -> CameraProfile:
    return CameraProfile(make="Test", model=model, cfa="RGGB", entries=entries)


def test_merge_takes_the_union_of_isos() -> None:
    merged = merge_profiles([profile(entry(400, 2, 4)), profile(entry(100, 0.5, 3), entry(200, 1, 3.2))])
    assert merged.isos == (100.0, 200.0, 400.0)


def test_merge_weighs_by_inverse_variance() -> None:
    merged = merge_profiles([profile(entry(100, 1.00, 3, error=0.02)), profile(entry(100, 1.03, 3, error=0.01))])

    gain = merged.at(100).planes["R"].gain
    assert gain is not None
    assert gain.value == pytest.approx((1.00 / 4 + 1.03) / (1 / 4 + 1))
    birge = math.sqrt(0.03**2 / (0.02**2 + 0.01**2))  # of two values: their difference over its error
    assert gain.standard_error == pytest.approx(birge * 0.01 / math.sqrt(1.25))


def test_merge_of_contradicting_profiles_says_so_and_enlarges_the_error() -> None:
    merged = merge_profiles([profile(entry(100, 1.0, 3)), profile(entry(100, 2.0, 3))])

    gain = merged.at(100).planes["R"].gain
    assert gain is not None
    assert gain.standard_error == pytest.approx(0.5)  # half the distance, not the stated 0.01
    assert any(note.startswith("R gain: the merged measurements differ by") for note in merged.at(100).notes)


def test_merge_refuses_another_camera() -> None:
    with pytest.raises(ProfileError, match=r"Cannot merge Test Two .* same camera only"):
        merge_profiles([profile(entry(100, 1, 3)), profile(entry(100, 1, 3), model="Two")])


def test_merge_refuses_what_cannot_be_weighed() -> None:
    with pytest.raises(ProfileError, match="without standard errors"):
        merge_profiles([profile(entry(100, 1, 3, error=None)), profile(entry(100, 2, 3, error=None))])


def test_dng_tag_round_trip() -> None:
    pairs = ((1e-4, 4e-7), (2e-4, 5e-7), (3e-4, 6e-7))

    noise = noise_from_tag(pairs, cfa=RGGB, black=BLACK, white=WHITE, iso=100.0)

    assert np.allclose(tag_from_noise(noise, cfa=RGGB, black=BLACK, white=WHITE), pairs, rtol=1e-9)


def test_darktable_export_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "noiseprofiles.json"
    path.write_text(export_darktable(profile(entry(100, 0.5, 3), entry(800, 4, 9)), white=16383.0))

    back = import_darktable(path, model="one", black=512.0, white=16383.0)

    plane = back.at(800.0).planes["G2"]
    assert plane.gain is not None
    assert plane.gain.value == pytest.approx(4.0)
    assert plane.read_noise_dn.value == pytest.approx(math.sqrt(81 + 1 / 12))
    assert "not a raw-domain K" in back.notes[0]
    assert {one.origin for one in back.entries} == {"nominal"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[]", "is not a darktable noiseprofiles.json"),
        (json.dumps({"version": 9, "noiseprofiles": []}), "has version 9; known: 0"),
        (json.dumps({"version": 0, "noiseprofiles": []}), "has no camera 'one'"),
        (
            json.dumps(
                {
                    "version": 0,
                    "noiseprofiles": [
                        {"maker": "T", "models": [{"model": "One", "profiles": [{"iso": 100, "a": [1]}]}]}
                    ],
                }
            ),
            "The entry of ISO 100 is not three a and three b",
        ),
    ],
)
def test_darktable_files_that_are_none(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "noiseprofiles.json"
    path.write_text(text)
    with pytest.raises(ProfileError, match=complaint):
        import_darktable(path, model="one", black=512.0, white=16383.0)


def test_eld_lines_of_a_camera_that_obeys_them() -> None:
    gains = (0.25, 0.5, 1.0, 2.0)
    one = profile(*(entry(100 * 4 * gain, gain, math.exp(0.6 * math.log(gain) + 1.5)) for gain in gains))

    (view,) = eld_view(one)

    assert view.read.slope == pytest.approx(0.6)
    assert view.read.bias == pytest.approx(1.5)
    assert view.row is not None
    assert view.row.bias == pytest.approx(1.5 + math.log(0.1))
    assert view.log_gain_range == pytest.approx((math.log(0.25), math.log(2.0)))


def test_eld_never_draws_a_line_across_a_gain_step() -> None:
    low = [entry(100, 0.25, 3), entry(200, 0.5, 4)]
    high = [entry(400, 1, 2, segment=1), entry(800, 2, 3, segment=1)]

    assert [view.segment for view in eld_view(profile(*low, *high))] == [0, 1]


def test_eld_needs_two_isos() -> None:
    with pytest.raises(ProfileError, match="need two ISOs"):
        eld_view(profile(entry(100, 1, 3)))
