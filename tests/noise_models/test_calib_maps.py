"""Maps of sites: what is in them, and the file they travel in."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noise_models.calibration import calibrate
from noise_models.calibration import maps as maps_module
from noise_models.calibration.maps import pack_maps, read_maps
from noise_models.errors import ProfileError
from noise_models.store import profile_from_json, profile_to_json
from tests.noise_models.calibration_camera import Camera


def made(**fields: object):  # type: ignore[no-untyped-def]
    camera = Camera(**{"read": 4.0, "dsnu": 2.0, "hot": 1e-3, "shape": (128, 136), "seed": 3, **fields})  # type: ignore[arg-type]
    return camera, calibrate(camera.darks(8) + camera.flats(500.0, 2000.0), maps=True)


def test_maps_hold_the_pattern_of_the_camera() -> None:
    camera, result = made()
    maps = result.maps[100.0]
    assert maps.mean_dark_dn.shape == camera.shape
    assert np.array_equal(maps.defects, camera.hot_dn > 0), "every hot site and no other"
    error = maps.mean_dark_dn.astype(float) - (camera.fixed - camera.fixed.mean())
    left = 4.0 / np.sqrt(8)
    assert np.std(error[~maps.defects]) == pytest.approx(left, rel=0.1)
    assert maps.blinking is not None
    assert maps.blinking[~maps.defects].mean() < 1e-3
    assert maps.response is None, "four flats show the noise of the light, not the response"


def test_the_response_is_kept_where_the_flats_show_it() -> None:
    camera = Camera(read=2.0, prnu=0.02, gain=0.1, shape=(128, 136), seed=3, cfa="RGGB")
    maps = calibrate(camera.darks(4) + camera.flats(1000.0, 3000.0, count=8), maps=True).maps[100.0]
    assert maps.response is not None
    assert maps.blinking is None, "four darks do not show blinking"
    known = np.isfinite(maps.response)
    assert known[:128, :128].all()
    true = camera.response[known]
    assert np.corrcoef(maps.response[known].astype(float), true)[0, 1] > 0.97
    assert np.std(maps.response[known].astype(float)) == pytest.approx(0.02, rel=0.05)


def test_maps_are_made_on_request_only_and_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera()
    frames = camera.darks(2) + camera.flats(500.0)
    assert calibrate(frames).maps == {}
    other = Camera(iso=200.0)
    monkeypatch.setattr(maps_module, "BUDGET_BYTES", 96 * 96 * maps_module.BYTES_PER_SITE)
    result = calibrate(frames + other.darks(2) + other.flats(500.0), maps=True)
    assert set(result.maps) == {100.0}
    assert any("ISO 200 has no maps" in note for note in result.profile.notes)


def test_a_map_file_comes_back_and_belongs_to_its_profile(tmp_path: Path) -> None:
    _, result = made()
    content, profile = pack_maps(result)
    assert pack_maps(result)[0] == content
    path = tmp_path / "maps.npz"
    path.write_bytes(content)
    stored = profile_from_json(profile_to_json(profile))
    back = read_maps(path, profile=stored)[100.0]
    for name in ("mean_dark_dn", "defects", "blinking"):
        assert np.array_equal(getattr(back, name), getattr(result.maps[100.0], name))
    assert back.response is None
    with pytest.raises(ProfileError, match="other maps than this profile"):
        read_maps(path, profile=result.profile)
    with pytest.raises(ProfileError, match="holds no maps"):
        pack_maps(replace(result, maps={}))


def test_files_that_are_no_maps_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "maps.npz"
    with pytest.raises(ProfileError, match="cannot be read"):
        read_maps(path)
    path.write_bytes(b"no zip")
    with pytest.raises(ProfileError, match="not a file of maps"):
        read_maps(path)

    def saved(**arrays: np.ndarray) -> None:
        np.savez(path, **arrays)  # type: ignore[arg-type]

    grey, flags = np.zeros((4, 4), np.float16), np.zeros((4, 4), bool)
    saved(secret=grey)
    with pytest.raises(ProfileError, match=r"'secret\.npy', which is no map"):
        read_maps(path)
    for arrays in (
        {"iso100.0_mean_dark_dn": grey},
        {"iso100.0_mean_dark_dn": grey, "iso100.0_defects": flags[:2]},
        {"iso100.0_mean_dark_dn": grey.astype(float), "iso100.0_defects": flags},
    ):
        saved(**arrays)
        with pytest.raises(ProfileError, match="not a whole set of maps"):
            read_maps(path)
    saved(**{"iso100.0_mean_dark_dn": np.array([{}], dtype=object), "iso100.0_defects": flags})
    with pytest.raises(ProfileError, match="not a file of maps"):
        read_maps(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("iso100.0_defects.npy", b"\x93NUMPY garbage")
    with pytest.raises(ProfileError, match="not a file of maps"):
        read_maps(path)
    saved(**{"iso100.0_mean_dark_dn": grey, "iso100.0_defects": flags})
    monkeypatch.setattr(maps_module, "MOST_UNPACKED_BYTES", 10)
    with pytest.raises(ProfileError, match="unpacks to more"):
        read_maps(path)
