"""Comparing files: every format read alike, the contact sheet, and the command as a user meets it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from noise_models.errors import DamagedRaw, NotARawFile, RawFileError, RawTooLarge
from noise_models.frame import Colour
from noise_models.profile import CameraProfile
from noise_models.store import profile_to_json
from physrestore.cli.app import app
from physrestore.compare import compare, pair_up, read_picture
from physrestore.compare.linear_dng import read_linear_dng
from physrestore.compare.sheet import CROP_SITES, Difference, contact_sheet
from physrestore.errors import CompareError, OutputExists
from physrestore.output.arrays import write_npz
from physrestore.output.dng import write_cfa_dng, write_linear_dng
from physrestore.output.tiff import write_linear_tiff
from tests.physrestore.compared_pictures import BLACK, WHITE, of_colours, of_frame, photo, ramp_scene, sensor_noise
from tests.physrestore.sample_frames import MATRIX, NEUTRAL

STEP = 1 / 65535


def cli(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def scene() -> Tensor:
    return ramp_scene(130, 142)


def write_png(path: Path, scene: Tensor) -> None:
    values = (scene.permute(1, 2, 0).numpy() * 65535).round().astype(np.uint16)
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(values)))


def test_every_format_gives_the_same_picture(tmp_path: Path, scene: Tensor) -> None:
    frame = replace(photo(scene), colour=Colour(NEUTRAL, MATRIX), orientation=6)
    write_cfa_dng(tmp_path / "cfa.dng", frame)
    write_linear_dng(tmp_path / "linear.dng", frame, scene)
    write_linear_tiff(tmp_path / "linear.tif", scene)
    write_png(tmp_path / "deep.png", scene)
    levels = {"black_level": frame.black_level, "white_level": frame.white_level, "cfa": np.array(frame.cfa.name)}
    write_npz(tmp_path / "mosaic.npz", mosaic=frame.mosaic, **levels)

    read = {path.name: read_picture(path) for path in tmp_path.iterdir()}

    for name in ("linear.dng", "linear.tif", "deep.png"):
        values = read[name].values(None)
        assert values.shape == scene.shape
        assert float((values - scene).abs().max()) <= STEP
    for name in ("cfa.dng", "mosaic.npz"):
        got = read[name].frame
        assert got is not None
        assert np.array_equal(got.mosaic, frame.mosaic)
    for name in ("cfa.dng", "linear.dng"):
        assert read[name].orientation == 6
        assert read[name].colour.as_shot_neutral == pytest.approx(NEUTRAL, abs=1e-5)
        assert np.array(read[name].colour.color_matrix1) == pytest.approx(np.array(MATRIX), abs=1e-5)
    # The linear DNG is sampled where the mosaic has its sites: what differs is the noise, of all colours alike.
    found = compare(pair_up(read["cfa.dng"], read["linear.dng"]), sensor_noise())
    assert [plane.over_noise for plane in found.planes] == pytest.approx([1.0] * 4, abs=0.06)
    wrong = compare(pair_up(read["cfa.dng"], of_colours(scene.flip(0))), sensor_noise())
    assert max(plane.over_noise or 0.0 for plane in wrong.planes) > 1.2


def test_files_that_hold_no_picture_are_refused_by_name(tmp_path: Path, scene: Tensor) -> None:
    (tmp_path / "text.png").write_text("no picture")
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    (tmp_path / "text.dng").write_text("no raw")
    frame = photo(scene)
    write_linear_dng(tmp_path / "linear.dng", frame, scene)
    whole = (tmp_path / "linear.dng").read_bytes()
    (tmp_path / "cut.dng").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(CompareError, match=r"'text.png' is not a picture"):
        read_picture(tmp_path / "text.png")
    with pytest.raises(CompareError, match=r"'other.npz' is not an npz of a restored mosaic.*restore --output npz"):
        read_picture(tmp_path / "other.npz")
    with pytest.raises(NotARawFile, match=r"text.dng"):
        read_picture(tmp_path / "text.dng")
    with pytest.raises(NotARawFile, match="no such file"):
        read_picture(tmp_path / "absent.dng")
    with pytest.raises(RawTooLarge, match=r"142 x 130 pixels; the limit is 0.01"):
        read_picture(tmp_path / "linear.dng", max_megapixels=0.01)
    with pytest.raises(DamagedRaw, match="cannot be decoded"):
        read_picture(tmp_path / "cut.dng")


def test_a_changed_linear_dng_is_read_or_refused_never_more(tmp_path: Path) -> None:
    scene = ramp_scene(32, 48)
    path = tmp_path / "linear.dng"
    write_linear_dng(path, photo(scene), scene)
    whole, random = path.read_bytes(), np.random.default_rng(3)
    refused = 0
    for _ in range(120):
        changed = np.frombuffer(whole, dtype=np.uint8).copy()
        at = random.integers(0, 1500, 3)  # the directories
        changed[at] = random.integers(0, 256, 3)
        path.write_bytes(changed.tobytes())
        try:
            found = read_linear_dng(path, max_megapixels=1.0)
        except RawFileError:
            refused += 1
        else:
            assert found is None or bool(found.rgb.isfinite().all())
    assert 0 < refused < 120


def test_levels_of_a_linear_dng_that_hold_no_light_are_refused(tmp_path: Path) -> None:
    scene = ramp_scene(32, 48)
    write_linear_dng(tmp_path / "linear.dng", photo(scene), scene)
    with tifffile.TiffFile(tmp_path / "linear.dng", mode="r+b") as file:
        pages = [page for page in file.pages[0].pages if 50717 in page.tags]
        pages[0].tags[50717].overwrite((0, 0, 0))
    with pytest.raises(DamagedRaw, match=r"white level .* is not above its black level"):
        read_linear_dng(tmp_path / "linear.dng", max_megapixels=1.0)


def test_the_sheet_shows_pictures_and_differences_to_scale(tmp_path: Path) -> None:
    scene = ramp_scene(600, 700)
    frame = photo(scene)
    changed = frame.mosaic.copy()
    changed[300:340, 400:440] = BLACK  # far below: more than 3 std everywhere
    pictures = [("A", of_frame(frame)), ("B", of_frame(replace(frame, mosaic=changed), "b.dng"))]
    found = compare(pair_up(pictures[0][1], pictures[1][1]), sensor_noise())

    contact_sheet(tmp_path / "sheet.png", pictures, [Difference("B - A", found)])

    with Image.open(tmp_path / "sheet.png") as picture:
        sheet = np.array(picture)
    side = 2 * CROP_SITES
    assert sheet.shape[1] >= 3 * side  # A, B, and what differs
    assert sheet.shape[0] >= 4 * side  # whole, the largest difference, and three more places
    # The second row is the largest difference: its map is mid-grey but for a square of 80 x 80 black pixels.
    column = sheet[:, -side - 12 : -12]
    black = (column == 0).all(-1)
    grey = (abs(column.astype(int) - 128) <= 1).all(-1)
    assert black[side + 36 : 2 * side + 200].sum() >= 80 * 80
    assert grey.sum() > 3 * side**2
    with pytest.raises(OutputExists):
        contact_sheet(tmp_path / "sheet.png", pictures, [Difference("B - A", found)])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean scene, the noisy photo of it, its profile, and the photo restored without a network; never changed."""
    tmp_path = tmp_path_factory.mktemp("compared")
    write_png(tmp_path / "clean.png", ramp_scene(256, 256))
    profile = CameraProfile(make="Test", model="Test One", cfa="RGGB", entries=(sensor_noise(),))
    (tmp_path / "one.pnoise.json").write_text(profile_to_json(profile))
    code, _, stderr = cli(
        "simulate", tmp_path / "clean.png", "-o", tmp_path / "noisy.dng", "--profile", tmp_path / "one.pnoise.json",
        "--iso", 800, "--white-level", WHITE,
    )  # fmt: skip
    assert code == 0, stderr
    code, _, stderr = cli("restore", tmp_path / "noisy.dng", "--method", "classic")
    assert code == 0, stderr
    return tmp_path


def test_the_command_tells_noise_from_signal(files: Path, tmp_path: Path) -> None:
    noisy, restored, sheet = files / "noisy.dng", files / "noisy_restored.dng", tmp_path / "sheet.png"

    code, stdout, stderr = cli(
        "compare", noisy, restored, "--reference", files / "clean.png", "-o", sheet, "--json"
    )  # fmt: skip

    assert code == 0, stderr
    report = json.loads(stdout)
    pairs = {(one["first"], one["second"]): one for one in report["pairs"]}
    assert list(pairs) == [("R", "A"), ("R", "B"), ("A", "B")]
    assert report["noise"]["trust"] == "stated"
    assert report["files"]["B"]["record"]["method"] == "classic"
    assert pairs["R", "B"]["psnr_db"] > pairs["R", "A"]["psnr_db"] + 10
    for plane in pairs["A", "B"]["planes"]:
        assert plane["over_noise"] == pytest.approx(1.0, abs=0.06)
        assert abs(plane["whiteness"]["horizontal"]) < 0.06
        assert plane["large_changes"] < 0.006
    with Image.open(sheet) as picture:
        assert picture.size[0] > 5 * 2 * CROP_SITES  # three pictures, three differences

    code, stdout, _ = cli("compare", noisy, restored)
    assert code == 0
    assert "B  noisy_restored.dng  (classic, strength 100.0, from A)" in stdout
    assert "noise: the file's DNG NoiseProfile" in stdout
    assert "on smooth" in stdout


def test_the_same_file_twice_is_equal(files: Path) -> None:
    code, stdout, _ = cli("compare", files / "noisy.dng", files / "noisy.dng", "--json")
    pair = json.loads(stdout)["pairs"][0]
    assert code == 0
    assert (pair["psnr_db"], pair["equal"]) == (None, True)
    code, stdout, _ = cli("compare", files / "noisy.dng", files / "noisy.dng")
    assert "equal dB" not in stdout
    assert "equal" in stdout
    # Files of one name are told apart by their folders.
    assert f"A  {files.name}/noisy.dng" in stdout


def test_wrong_use_is_told(files: Path) -> None:
    noisy = files / "noisy.dng"
    cases = (
        ((noisy,), 2, "needed are 2 to 8 files"),
        ((noisy, files / "absent.dng"), 3, "no such file"),
        ((noisy, noisy, "-o", noisy, "--overwrite"), 3, "original"),
        ((noisy, "--reference", noisy, "--exposure", 2), 2, "--exposure goes with"),
        ((noisy, noisy, "--profile", files / "absent.json"), 3, "absent.json"),
    )
    before = noisy.read_bytes()
    for arguments, wanted, message in cases:
        code, _, stderr = cli("compare", *arguments)
        assert code == wanted, stderr
        assert message in stderr
    assert noisy.read_bytes() == before


def test_the_reference_can_be_given_the_light_of_the_files(files: Path, tmp_path: Path) -> None:
    bright = tmp_path / "bright.dng"
    cli(
        "simulate", files / "clean.png", "-o", bright, "--profile", files / "one.pnoise.json", "--iso", 800,
        "--white-level", WHITE, "--exposure", 2,
    )  # fmt: skip

    told = json.loads(cli("compare", bright, "--reference", files / "clean.png", "--exposure", 2, "--json")[1])
    untold = json.loads(cli("compare", bright, "--reference", files / "clean.png", "--json")[1])

    assert told["pairs"][0]["psnr_db"] > untold["pairs"][0]["psnr_db"] + 10
