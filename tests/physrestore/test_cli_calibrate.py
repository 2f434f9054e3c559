"""``physrestore calibrate`` from every kind of source: sorted, unsorted, stacks, bursts, photos, and mixtures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from noise_models.frame import RawFrame
from noise_models.store import read_profile
from physrestore.cli.app import app
from physrestore.cli.calibrate import spread_path_lists
from physrestore.output.dng import write_cfa_dng
from tests.noise_models.calibration_camera import Camera
from tests.noise_models.still_scenes import body, burst

SHAPE = (256, 384)


def cli(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    result = CliRunner().invoke(app, spread_path_lists(["calibrate", *map(str, arguments)]))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def save(frames: list[RawFrame], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        write_cfa_dng(folder / f"{index}.dng", frame)
    return folder


def save_png(array: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def gain(path: Path, iso: float, plane: str) -> tuple[float, float]:
    estimate = read_profile(path).at(iso).planes[plane].gain
    assert estimate is not None
    return estimate.value, estimate.standard_error or 0.0


def test_stacks_by_folder(tmp_path: Path) -> None:
    camera = Camera(gain=0.5, read=2.0, black=100.2, white=4095.0, shape=(128, 128))
    for index in range(4):
        save_png(camera.frame().mosaic, tmp_path / "dark" / f"{index}.png")
    for level in (150.0, 600.0):
        for index in range(2):
            save_png(camera.frame(level).mosaic, tmp_path / "flat" / f"level{level:.0f}" / f"{index}.png")
    out = tmp_path / "c.pnoise.json"

    code, stdout, stderr = cli(
        "--darks", tmp_path / "dark", "--flats", tmp_path / "flat", "--black", 100, "--iso", 50, "-o", out
    )  # fmt: skip

    assert code == 0, stderr
    value, error = gain(out, 50.0, "M")
    assert abs(value - 0.5) < 5 * error
    assert "darks and flats  measured" in stdout
    code, _, _ = cli(tmp_path, "--black", 100, "--iso", 50, "-o", tmp_path / "mixed.pnoise.json")
    assert code == 0
    assert gain(tmp_path / "mixed.pnoise.json", 50.0, "M") == pytest.approx((value, error))


def test_a_burst_fills_in_what_photos_cannot_tell(tmp_path: Path) -> None:
    still = save(burst(body(shape=SHAPE, iso=800.0), seed=1), tmp_path / "burst")
    small = save(burst(body(shape=SHAPE, iso=1600.0), seed=2)[:1], tmp_path / "photos")
    out = tmp_path / "c.pnoise.json"

    code, stdout, stderr = cli(
        "--bursts", still, "--photos", small, "-o", out, "--report", tmp_path / "r.html", "--json"
    )

    told = json.loads(stdout)
    assert code == told["exit_code"] == 1, stderr
    assert [(row["iso"], row["source"]) for row in told["sources"]] == [(800.0, "bursts")]
    assert "ISO 1600" in told["failures"][0]
    assert "blocks keep clear" in told["failures"][0]
    value, error = gain(out, 800.0, "G1")
    assert abs(value - 1.0) < 4 * error
    assert (tmp_path / "r.html").exists()


def test_nothing_identifiable_exits_with_3_and_advice(tmp_path: Path) -> None:
    photos = save(burst(body(shape=SHAPE), seed=2)[:1], tmp_path / "photos")
    code, _, stderr = cli("--photos", photos, "-o", tmp_path / "c.pnoise.json")
    assert code == 3
    assert "Not identifiable. ISO 800" in stderr
    assert "Use darks and flats" in stderr
    assert not (tmp_path / "c.pnoise.json").exists()


def test_one_bad_file_exits_with_1(tmp_path: Path) -> None:
    folder = save(burst(body(shape=SHAPE), seed=3), tmp_path / "burst")
    (folder / "zzz.dng").write_bytes(b"II*\0 cut")
    code, stdout, _ = cli("--bursts", folder, "-o", tmp_path / "c.pnoise.json")
    assert code == 1
    assert "Left out: 'zzz.dng'" in stdout
    assert "bursts  good" in stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "needs FRAMES"),
        (["--darks", "a"], "needs FRAMES"),
        (["--flats", "a"], "needs FRAMES"),
        (["x.png", "--cfa", "RGB"], "Not a colour filter array"),
        (["x.png", "--black", "5000"], "is not below --white"),
        (["x.CR2", "--white", "4095"], "are for TIFF and PNG"),
    ],
)
def test_usage_errors(arguments: list[str], text: str, tmp_path: Path) -> None:
    code, _, stderr = cli(*arguments, "-o", tmp_path / "c.pnoise.json")
    assert code == 2
    assert text in stderr


def test_previews_beside_raws_are_no_frames(tmp_path: Path) -> None:
    folder = save(burst(body(shape=SHAPE), seed=4), tmp_path / "burst")
    save_png(np.zeros((9, 9), np.uint16), folder / "0_preview.png")
    assert cli("--bursts", folder, "-o", tmp_path / "c.pnoise.json")[0] == 0
    code, _, stderr = cli("--bursts", tmp_path / "nothing_here.png", "-o", tmp_path / "d.pnoise.json")
    assert code == 3
    assert "no such file" in stderr
