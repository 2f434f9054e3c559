"""EMVA 1288 descriptor files: the parser, and the working group's reference sets."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noise_models.calibration import calibrate
from noise_models.calibration.inputs.emva import read_emva
from noise_models.errors import CalibrationError
from tests.noise_models.calibration_camera import Camera
from tests.shared_data import shared


def write_set(folder: Path, *, bits: int = 12) -> Path:
    camera = Camera(gain=0.1, read=3.0, black=29.4, white=4095.0, shape=(64, 96))
    (folder / "images").mkdir()
    lines = ["# simulated \xe4", "v 3.0", f"n {bits} 96 64"]
    for kind, light in (("d 1000000.0", 0.0), ("b 1000000.0 500.0", 250.0), ("b 1000000.0 1500.0", 750.0)):
        lines.append(kind)
        for index in range(2):
            name = f"{kind[0]}_{light:.0f}_{index}.png"
            Image.fromarray(camera.frame(light).mosaic.copy()).save(folder / "images" / name)
            lines.append(f"i images\\{name}")
    path = folder / "EMVA1288_Data.txt"
    path.write_bytes("\n".join(lines).encode("latin-1"))
    return path


def test_a_descriptor_becomes_frames(tmp_path: Path) -> None:
    frames = read_emva(write_set(tmp_path), iso=200.0)
    assert [frame.role for frame in frames] == ["dark"] * 2 + ["flat"] * 4
    assert len({frame.level_key for frame in frames}) == 3
    assert frames[0].exposure_s == pytest.approx(1e-3)
    assert len(frames[0].sha256) == 64
    profile = calibrate(frames).profile
    gain = profile.at(200.0).planes["M"].gain
    assert gain is not None
    assert abs(gain.value - 0.1) < 5 * gain.standard_error


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("i images\\x.png", "before the lines it needs"),
        ("n 12 96", "line 1"),
        ("n 33 96 64", "bits"),
        ("b nan 3", "unknown|needed"),
        ("hello", "not an EMVA"),
        ("n 8 9 9\nd 1\ni ..\\secret.png", "below the descriptor"),
        ("n 8 9 9\nd 1\ni C:\\secret.png", "below the descriptor"),
        ("# nothing", "lists no frames"),
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, line: str, match: str) -> None:
    path = tmp_path / "EMVA1288_Data.txt"
    path.write_text(line)
    with pytest.raises(CalibrationError, match=match):
        read_emva(path)


def test_bad_images_are_left_out_with_a_note(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    extra = "d 1000000.0\ni images\\gone.png\ni images\\text.png\ni images\\small.png\n"
    path.write_bytes(path.read_bytes() + b"\n" + extra.encode())
    (tmp_path / "images" / "text.png").write_text("no image")
    Image.fromarray(np.zeros((5, 5), dtype=np.uint16)).save(tmp_path / "images" / "small.png")
    notes = " ".join(calibrate(read_emva(path)).profile.notes)
    for name in ("gone.png", "text.png", "small.png"):
        assert name in notes


@pytest.mark.data
def test_reference_set_003_is_recovered_better_than_by_the_standard() -> None:
    """The standard's own fit gives K = 0.0979 and sigma_d = 30.65 e- on this set."""
    result = calibrate(read_emva(shared("calibration/emva1288_003_simulated") / "EMVA1288_Data.txt"))
    plane = result.profile.entries[0].planes["M"]
    assert plane.gain is not None
    assert plane.read_noise is not None
    assert plane.prnu is not None
    assert plane.dsnu_dn is not None
    assert plane.gain.value == pytest.approx(0.1, rel=0.005)
    assert plane.read_noise.value == pytest.approx(30.0, rel=0.01)
    assert plane.dsnu_dn.value == pytest.approx(2.12, rel=0.02)
    assert plane.prnu.value == pytest.approx(0.005, rel=0.1)
    assert plane.black_level_dn.value == pytest.approx(29.4, abs=0.01)
    assert plane.chi2_dof is not None
    assert 0.5 < plane.chi2_dof < 1.5


@pytest.mark.data
def test_reference_set_001_is_flagged() -> None:
    noise = calibrate(read_emva(shared("calibration/emva1288_001_ccd") / "EMVA1288_Data.txt")).profile.entries[0]
    chi2, gain = noise.planes["M"].chi2_dof, noise.planes["M"].gain
    assert chi2 is not None
    assert gain is not None
    assert chi2 > 5.0
    assert any("does not fit" in note for note in noise.notes)
    assert gain.value == pytest.approx(0.285, rel=0.03)
