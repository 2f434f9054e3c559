"""Profile files: exact round trips, and a typed refusal for everything else."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noise_models.errors import ProfileError
from noise_models.profile import CameraProfile, FrameRecord, Provenance
from noise_models.sensor import Estimate, HotPixels, PlaneNoise, SensorNoise, Tail
from noise_models.store import MAX_BYTES, SCHEMA, json_schema, profile_from_json, profile_to_json, read_profile


def sample(iso: float = 100.0, gain: float = 0.5) -> CameraProfile:
    plane = PlaneNoise(
        gain=Estimate(value=gain, standard_error=0.001, method="photon transfer"),
        read_noise_dn=Estimate(value=3.0, standard_error=0.01),
        black_level_dn=Estimate(value=512.25),
        gain_read_covariance=-1e-7,
        chi2_dof=1.1,
        fit_range_dn=(0.0, 1200.0),
    )
    noise = SensorNoise(
        iso=iso,
        planes=dict.fromkeys(("R", "G1", "G2", "B"), plane),
        row_noise_dn=Estimate(value=0.1),
        tail=Tail(kind="lognormal", shape=Estimate(value=0.3)),
        hot_pixels=HotPixels(fraction=Estimate(value=1e-5), excess_dn=Estimate(value=40.0)),
        exposure_s=(0.01, 0.01),
        notes=("Ünïcode – note.",),
    )
    record = FrameRecord(name="IMG_1.CR2", sha256="ab" * 32, role="dark")
    return CameraProfile(
        make="Test", model="Camera", cfa="RGGB", entries=(noise,), provenance=Provenance(frames=(record,))
    )


def document() -> dict[str, Any]:
    result: dict[str, Any] = json.loads(profile_to_json(sample()))
    return result


@given(
    iso=st.floats(1.0, 1e7),
    gain=st.floats(1e-6, 1e6),
)
@settings(max_examples=50, deadline=None)
def test_round_trip_is_exact(iso: float, gain: float) -> None:
    profile = sample(iso, gain)
    assert profile_from_json(profile_to_json(profile)) == profile


def test_read_profile(tmp_path: Path) -> None:
    path = tmp_path / "camera.pnoise.json"
    path.write_text(profile_to_json(sample()), encoding="utf-8")
    assert read_profile(path) == sample()


def test_files_that_are_no_profiles(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="missing or not a regular file"):
        read_profile(tmp_path / "gone.json")
    with pytest.raises(ProfileError, match="missing or not a regular file"):
        read_profile(tmp_path)
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProfileError, match="not UTF-8"):
        read_profile(binary)
    large = tmp_path / "large.json"
    large.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(ProfileError, match=r"'large.json'.*at most 1000000 bytes"):
        read_profile(large)


@pytest.mark.parametrize(
    ("schema", "match"),
    [
        ("physrestore.noise/2", "reads 'physrestore.noise/1'.*Update physrestore"),
        ("other/1", "Not a noise profile"),
        (None, "Not a noise profile"),
        (1, "Not a noise profile"),
        (["x"], "Not a noise profile"),
    ],
)
def test_schema_version(schema: object, match: str) -> None:
    with pytest.raises(ProfileError, match=match):
        profile_from_json(json.dumps({**document(), "schema": schema}))


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('"model": "Camera"', '"model": "Camera", "model": "Other"', "'model' occurs twice"),
        ("512.25", "NaN", "finite numbers only, not NaN"),
        ("512.25", "-Infinity", "finite numbers only, not -Infinity"),
        ("512.25", "1e999", "finite"),
        ("512.25", '"512.25"', "valid number"),
        ("512.25", "true", "valid number"),
        ('"value": 0.5', '"value": -0.5', "gain must be positive"),
        ('"value": 3.0', '"value": -3.0', "standard deviation"),
        ('"iso": 100.0', '"iso": 0', "greater than 0"),
        ('"cfa": "RGGB"', '"cfa": "RGGX"', "colour filter array"),
        ('"cfa": "RGGB"', '"cfa": "M"', "planes"),
        ('"model": "Camera"', '"model": "Camera", "extra": 1', "extra"),
        ('"make": "Test",', "", "make"),
        ("512.25", "[" * 100_000, "nested too deeply|not JSON"),
        ("512.25", "9" * 5000, "not JSON|finite|number"),
    ],
)
def test_hostile_values(old: str, new: str, match: str) -> None:
    text = profile_to_json(sample())
    assert old in text
    with pytest.raises(ProfileError, match=match):
        profile_from_json(text.replace(old, new))


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


@given(value=_JSON)
@settings(max_examples=150, deadline=None)
def test_any_json_is_refused_with_a_profile_error(value: object) -> None:
    with pytest.raises(ProfileError):
        profile_from_json(json.dumps(value))


@given(text=st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_text_is_refused_with_a_profile_error(text: str) -> None:
    with pytest.raises(ProfileError):
        profile_from_json(text)


def _paths(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, child in children for p in _paths(child, (*path, key)))]


@given(data=st.data(), value=_JSON)
@settings(max_examples=200, deadline=None)
def test_one_replaced_value_gives_a_finite_profile_or_a_profile_error(data: st.DataObject, value: object) -> None:
    changed = document()
    *parents, last = data.draw(st.sampled_from(_paths(changed)[1:]))
    target: Any = changed
    for key in parents:
        target = target[key]
    target[last] = value
    try:
        profile = profile_from_json(json.dumps(changed))
    except ProfileError:
        return
    assert all(math.isfinite(e.iso) and math.isfinite(e.row_noise_dn.value) for e in profile.entries)
    assert profile_from_json(profile_to_json(profile)) == profile


def test_too_large_a_profile_is_not_written() -> None:
    notes = ("x" * 1000,) * 1001
    with pytest.raises(ProfileError, match="at most"):
        profile_to_json(sample().model_copy(update={"notes": notes}))


def test_schema_describes_the_file() -> None:
    schema = json_schema()
    assert schema["properties"]["schema"] == {"const": SCHEMA}
    assert set(schema["required"]) >= {"schema", "make", "model", "cfa", "entries"}
    assert set(document()) <= set(schema["properties"])
