"""Roles by content, frames that cannot be used, and files that are decoded no more often than needed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from noise_models.calibration import calibrate
from noise_models.calibration.inputs import group as grouping
from noise_models.calibration.inputs.group import FrameFile, frames_from
from noise_models.calibration.inputs.role import role_of
from noise_models.cfa import XTRANS_ROWS
from noise_models.errors import CalibrationError, DamagedRaw, RawFileError
from noise_models.frame import RawFrame
from tests.noise_models.calibration_camera import Camera
from tests.noise_models.still_scenes import body, burst


def falloff(shape: tuple[int, int], level: float) -> np.ndarray:
    y, x = (np.linspace(-1, 1, side) for side in shape)
    return level * (1 - 0.3 * (x[None] ** 2 + y[:, None] ** 2))


@pytest.mark.parametrize("cfa", ["M", "RGGB", "".join(XTRANS_ROWS)])
@pytest.mark.parametrize("read", [0.4, 4.0, 30.0])
def test_roles_by_content(cfa: str, read: float) -> None:
    camera = Camera(cfa=cfa, read=read, row=read / 2, prnu=0.01, shape=(384, 384))
    assert role_of(camera.frame()) == "dark"
    for level in (160.0, 1000.0, 8000.0, 30000.0):  # from 1 % of the range to clipped
        assert role_of(camera.frame(level)) == "flat"
    assert role_of(camera.frame(falloff(camera.shape, 4000.0))) == "flat"


def test_what_is_neither() -> None:
    scene = burst(body(), seed=1)[0]
    assert role_of(scene) is None
    dim = Camera(shape=(256, 256))
    blocks = np.kron(np.random.default_rng(0).uniform(0, 60, (16, 16)), np.ones((16, 16)))
    assert role_of(dim.frame(blocks)) is None
    below = Camera(shape=(256, 256), black=200.0).frame()
    wrong = RawFrame(below.mosaic, below.cfa, below.black_level + 300.0, below.white_level, shot=below.shot)
    assert role_of(wrong) is None


def test_a_mixed_folder_calibrates_like_a_sorted_one() -> None:
    camera = Camera(shape=(96, 96))
    darks = [camera.frame() for _ in range(3)]
    flats = [camera.frame(level) for level in (300.0, 2000.0) for _ in range(2)]
    mixed = [flats[0], darks[0], flats[2], darks[1], flats[3], flats[1], darks[2]]
    by_content = calibrate(frames_from([], [], unsorted=mixed)).profile.entries[0]
    by_name = calibrate(frames_from(darks, [flats[0], flats[2], flats[3], flats[1]])).profile.entries[0]
    assert by_content.planes == by_name.planes


def test_a_given_role_beats_the_content() -> None:
    camera = Camera()
    assert [f.role for f in frames_from([], [], unsorted=[camera.frame(30.0)])] == ["dark"]
    assert [f.role for f in frames_from([], [camera.frame(30.0)])] == ["flat"]


def test_unusable_files_are_left_out_with_their_reason() -> None:
    camera = Camera()
    scene = burst(body(), seed=1)[0]
    good = {f"{role}{i}": camera.frame(level) for role, level in (("d", 0.0), ("f", 900.0)) for i in range(2)}

    def read(path: Path) -> RawFrame:
        if path.name in good:
            return good[path.name]
        if path.name == "scene":
            return scene
        raise DamagedRaw(path, "It is truncated.")

    names = [*map(Path, good), Path("broken"), Path("scene")]
    frames = frames_from([], [], unsorted=names, read=read)
    assert sorted(f.role for f in frames[:4]) == ["dark", "dark", "flat", "flat"]
    for frame, reason in zip(frames[4:], ("truncated", "neither a dark .* nor a flat"), strict=True):
        with pytest.raises(RawFileError, match=reason):
            frame.load()
    profile = calibrate(frames).profile
    assert len(profile.provenance.frames) == 4
    notes = [note for note in profile.notes if note.startswith("Left out")]
    assert len(notes) == 2
    with pytest.raises(CalibrationError, match=r"None of the 2 frames can be used\. 'broken': It is truncated"):
        frames_from([Path("broken")], [Path("broken2")], read=read)


def test_swapped_roles_are_noticed() -> None:
    camera = Camera()
    with pytest.raises(CalibrationError, match=r"every dark .* is brighter than every flat .* swapped\?"):
        frames_from([camera.frame(500.0)], [camera.frame()])


@pytest.mark.parametrize(("room", "decoded"), [(10**9, 1), (0, 2), (2 * 96 * 96 * 2, None)])
def test_files_are_decoded_as_often_as_memory_asks(
    monkeypatch: pytest.MonkeyPatch, room: int, decoded: int | None
) -> None:
    monkeypatch.setattr(grouping, "KEPT_BYTES", room)
    camera = Camera(shape=(96, 96))
    raws = {f"{role}{i}": camera.frame(level) for role, level in (("d", 0.0), ("f", 900.0)) for i in range(2)}
    count: Counter[str] = Counter()

    def read(path: Path) -> RawFrame:
        count[path.name] += 1
        return raws[path.name]

    calibrate(frames_from([Path("d0"), Path("d1")], [Path("f0"), Path("f1")], read=read))
    if decoded is None:
        assert sorted(count.values()) == [1, 1, 2, 2]  # room for two frames
    else:
        assert set(count.values()) == {decoded}


def test_a_frame_file_reads_itself() -> None:
    raw = Camera().frame(500.0)
    (frame,) = frames_from([], [FrameFile(Path("folder/stack.tif"), lambda: raw, " page 2")])
    assert frame.name == "stack.tif page 2"
    assert frame.load() is raw


def test_exposure_is_the_light_where_nothing_else_changed_it() -> None:
    camera = Camera()
    ladder = [camera.frame(5000.0 * seconds, exposure_s=seconds) for seconds in (0.1, 0.2, 0.4) for _ in range(2)]
    assert [f.light for f in frames_from([], ladder)] == [0.1, 0.1, 0.2, 0.2, 0.4, 0.4]
    dimmed = [*ladder, camera.frame(4000.0, exposure_s=0.1)]
    assert {f.light for f in frames_from([], dimmed)} == {None}
    assert {f.light for f in frames_from([], [camera.frame(900.0), ladder[0]])} == {None}
