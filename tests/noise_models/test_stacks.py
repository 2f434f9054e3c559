"""Grey TIFF and PNG as frames: levels, pages, folders, and everything that is no such file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noise_models.calibration import calibrate
from noise_models.calibration.inputs.group import frames_from
from noise_models.calibration.inputs.stacks import StackFormat, folder_exposure, read_stack_frame, stack_files
from noise_models.errors import CfaError, DamagedRaw, NotARawFile, RawFileError, UnsupportedRaw
from tests.noise_models.calibration_camera import Camera

FORM = StackFormat(black=100.0, white=4095.0)


def save(path: Path, *arrays: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [Image.fromarray(array) for array in arrays]
    extra = {"save_all": True, "append_images": images[1:]} if len(images) > 1 else {}
    images[0].save(path, **extra)  # type: ignore[arg-type]
    return path


def grey(value: int = 900, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(value, value + 50, (40, 60)).astype(np.uint16)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_frame_comes_back_with_the_levels_given(tmp_path: Path, ending: str) -> None:
    path = save(tmp_path / f"a.{ending}", grey())
    frame = read_stack_frame(path, cfa="GBRG", black=64.5, white=4000, iso=200, exposure_s=0.01)
    assert (frame.mosaic == grey()).all()
    assert frame.cfa.name == "GBRG"
    assert frame.black_level.tolist() == [[64.5, 64.5], [64.5, 64.5]]
    assert frame.white_level.max() == 4000
    assert (frame.shot.iso, frame.shot.exposure_s) == (200, 0.01)
    assert len(frame.source.sha256) == 64


def test_every_page_is_a_frame(tmp_path: Path) -> None:
    path = save(tmp_path / "stack.tiff", *(grey(100 * k, k) for k in range(1, 5)))
    files = stack_files(path, FORM)
    assert [f.label for f in files] == [" page 1", " page 2", " page 3", " page 4"]
    for index, file in enumerate(files, start=1):
        assert (file.load().mosaic == grey(100 * index, index)).all()
    with pytest.raises(UnsupportedRaw, match="no page 5"):
        read_stack_frame(path, page=4)
    assert [f.label for f in stack_files(save(tmp_path / "one.png", grey()), FORM)] == [""]


def test_exposure_from_the_folder(tmp_path: Path) -> None:
    path = save(tmp_path / "flats_25ms" / "a.png", grey())
    assert stack_files(path, FORM)[0].load().shot.exposure_s == 0.025
    stated = StackFormat(exposure_s=2.0)
    assert stack_files(path, stated)[0].load().shot.exposure_s == 2.0


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("10ms", 0.01), ("t=200us", 2e-4), ("2s_dark", 2.0), ("exp 0.5 s", 0.5), ("lens3", None), ("1ms_or_2ms", None),
     ("2shots", None), ("v1.2.3s", None), ("10ms_10ms", 0.01)],
)  # fmt: skip
def test_folder_names(name: str, seconds: float | None) -> None:
    assert folder_exposure(name) == (None if seconds is None else pytest.approx(seconds))


def test_what_is_refused(tmp_path: Path) -> None:
    colour = save(tmp_path / "colour.png", np.zeros((9, 9, 3), np.uint8))
    floating = save(tmp_path / "float.tif", np.zeros((9, 9), np.float32))
    palette = tmp_path / "palette.png"
    Image.fromarray(np.zeros((9, 9), np.uint8)).convert("P").save(palette)
    whole = save(tmp_path / "cut.png", grey())
    whole.write_bytes(whole.read_bytes()[:-800])
    text = tmp_path / "text.tif"
    text.write_text("no image")
    cases: list[tuple[Path, type[RawFileError], str]] = [
        (colour, UnsupportedRaw, "no grey image of whole numbers"),
        (floating, UnsupportedRaw, "no grey image of whole numbers"),
        (palette, UnsupportedRaw, "no grey image of whole numbers"),
        (whole, DamagedRaw, "cannot be decoded"),
        (text, DamagedRaw, "not a readable PNG or TIFF"),
        (tmp_path / "absent.png", NotARawFile, "no such file"),
        (save(tmp_path / "bright.png", grey(5000)), UnsupportedRaw, "values up to .* above the white level 4095"),
    ]
    for path, kind, text_ in cases:
        with pytest.raises(kind, match=text_):
            read_stack_frame(path)
        (file,) = stack_files(path, FORM)
        with pytest.raises(kind, match=text_):
            file.load()
    with pytest.raises(CfaError, match="Not a colour filter array"):
        read_stack_frame(save(tmp_path / "ok.png", grey()), cfa="RGB")


def test_too_large_is_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", grey())
    monkeypatch.setattr("noise_models.calibration.inputs.stacks.DEFAULT_MAX_MEGAPIXELS", 0.002)
    with pytest.raises(RawFileError, match="60 x 40 pixels"):
        read_stack_frame(path)


def test_a_machine_vision_set_calibrates(tmp_path: Path) -> None:
    """Levels by folder, frames as pages: K and black of a 12-bit mono camera."""
    camera = Camera(gain=0.5, read=2.0, black=100.2, white=4095.0, shape=(128, 128))
    darks = stack_files(save(tmp_path / "dark" / "d.tif", *(camera.frame().mosaic for _ in range(4))), FORM)
    flats = [
        page
        for level in (150.0, 600.0)
        for page in stack_files(
            save(tmp_path / f"level{level:.0f}" / "f.tif", *(camera.frame(level).mosaic for _ in range(2))), FORM
        )
    ]
    plane = calibrate(frames_from(darks, flats)).profile.entries[0].planes["M"]
    assert plane.gain is not None
    assert abs(plane.gain.value - 0.5) < 5 * (plane.gain.standard_error or 0)
    assert plane.black_level_dn.value == pytest.approx(100.2, abs=0.1)
