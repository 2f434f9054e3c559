"""The command line as a user meets it: what it prints, writes, leaves alone, and how it exits."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from typer.testing import CliRunner

from noise_models.calibration.maps import read_maps
from noise_models.cfa import Cfa
from noise_models.frame import Shot
from noise_models.rawfile import read_raw
from noise_models.simulate import VirtualCamera
from noise_models.store import profile_to_json, read_profile
from physrestore import demo
from physrestore.cli.app import app
from physrestore.cli.calibrate import spread_path_lists
from physrestore.cli.restore import MethodName, OutputName
from physrestore.output.dng import write_cfa_dng
from physrestore.pipeline import Method
from physrestore.results import OutputKind, read_record
from tests.physrestore.killed_batch import digests, make_photos, profile

SHAPE = (128, 192)


def cli(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    make_photos(tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def profile_file(tmp_path: Path) -> Path:
    path = tmp_path / "test_one.pnoise.json"
    path.write_text(profile_to_json(profile()))
    return path


def test_option_words_are_the_enums() -> None:
    assert set(get_args(MethodName)) == {method.value for method in Method}
    assert set(get_args(OutputName)) == {kind.value for kind in OutputKind}


def test_restore_a_folder_and_run_again(photos: Path, profile_file: Path, tmp_path: Path) -> None:
    before, out = digests(photos), tmp_path / "out"

    code, stdout, _ = cli("restore", photos, "-o", out, "--profile", profile_file, "--preview")
    first = digests(out)
    again, stdout_again, _ = cli("restore", photos, "-o", out, "--profile", profile_file, "--preview")

    assert (code, again) == (0, 0)
    assert stdout.count(": restored -> ") == 4
    assert stdout_again.count(": finished before -> ") == 4
    assert digests(out) == first
    assert digests(photos) == before
    assert sorted(path.suffix for path in first) == [".dng"] * 4 + [".png"] * 4


def test_a_bad_file_costs_one_file(photos: Path, profile_file: Path, tmp_path: Path) -> None:
    (photos / "p1.dng").write_bytes((photos / "p1.dng").read_bytes()[:2000])
    (photos / "q\x1b[31m.nef").write_bytes(b"not a raw file")

    code, stdout, _ = cli("restore", photos, "-o", tmp_path / "out", "--profile", profile_file, "--json")

    report = json.loads(stdout)
    status = {Path(one["source"]).name: one["status"] for one in report["files"]}
    assert code == report["exit_code"] == 1
    assert [name for name, word in status.items() if word == "failed"] == ["p1.dng", "q\x1b[31m.nef"]
    assert sum(word == "restored" for word in status.values()) == 3


def test_control_characters_of_a_name_never_reach_the_terminal(profile_file: Path, tmp_path: Path) -> None:
    evil = tmp_path / "\x1b[31mred.nef"
    evil.write_bytes(b"not a raw file")

    code, stdout, stderr = cli("restore", evil, "--profile", profile_file)

    assert code == 3
    assert "\x1b" not in stdout + stderr
    assert r"\x1b[31mred.nef" in stderr


def test_other_settings_do_not_replace_a_result_unless_told(photos: Path, profile_file: Path, tmp_path: Path) -> None:
    one, out = photos / "p0.dng", tmp_path / "out"
    cli("restore", one, "-o", out, "--profile", profile_file)
    first = digests(out)

    refused, _, stderr = cli("restore", one, "-o", out, "--profile", profile_file, "--strength", 50)
    kept = digests(out) == first
    replaced, _, _ = cli("restore", one, "-o", out, "--profile", profile_file, "--strength", 50, "--overwrite")

    assert (refused, replaced) == (3, 0)
    assert kept
    assert "overwrite" in stderr
    record = read_record(out / "p0_restored.dng")
    assert record is not None
    assert record["strength"] == 50.0


def test_a_preview_can_be_added_later(photos: Path, profile_file: Path, tmp_path: Path) -> None:
    arguments = ("restore", photos / "p0.dng", "-o", tmp_path / "out", "--profile", profile_file)
    cli(*arguments)
    picture = digests(tmp_path / "out")

    code, stdout, _ = cli(*arguments, "--preview")

    after = digests(tmp_path / "out")
    assert code == 0
    assert "added the preview" in stdout
    assert picture.items() <= after.items()  # the picture itself is left alone
    assert [path.name for path in after] == ["p0_restored.dng", "p0_restored_preview.png"]


def test_dry_run_writes_nothing(photos: Path, profile_file: Path, tmp_path: Path) -> None:
    before = digests(tmp_path)

    code, stdout, _ = cli("restore", photos, "-o", tmp_path / "out", "--profile", profile_file, "--dry-run")

    assert code == 0
    assert stdout.count("would be restored") == 4
    assert digests(tmp_path) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("link", ["symbolic", "hard", "folder"])
def test_an_output_that_is_the_original_is_refused(photos: Path, profile_file: Path, tmp_path: Path, link: str) -> None:
    source, before = photos / "p0.dng", digests(photos)
    out = tmp_path / "out"
    if link == "folder":
        out.symlink_to(photos)
        arguments = ["--suffix", ""]
    else:
        out.mkdir()
        target = out / "p0_restored.dng"
        target.symlink_to(source) if link == "symbolic" else target.hardlink_to(source)
        arguments = []

    code, _, stderr = cli("restore", source, "-o", out, "--profile", profile_file, "--overwrite", *arguments)

    assert code == 3
    assert "original" in stderr
    assert digests(photos) == before


@pytest.mark.parametrize("kind", list(OutputKind))
def test_every_output_carries_its_record(photos: Path, profile_file: Path, tmp_path: Path, kind: OutputKind) -> None:
    code, _, _ = cli("restore", photos / "p2.dng", "-o", tmp_path, "--profile", profile_file, "--output", kind)

    record = read_record(tmp_path / f"p2_restored{kind.extension}")
    assert code == 0
    assert record is not None
    assert record["source"] == "p2.dng"
    assert "test_one" not in record["noise"]  # the noise is described, private paths are not written


def test_pnp_writes_a_linear_dng_of_the_same_size(photos: Path, profile_file: Path, tmp_path: Path) -> None:
    code, _, stderr = cli("restore", photos / "p2.dng", "-o", tmp_path, "--profile", profile_file, "--method", "pnp")

    assert code == 0, stderr
    with tifffile.TiffFile(tmp_path / "p2_restored.dng") as tiff:
        raw = tiff.pages.first.pages[0]
        assert raw.photometric == tifffile.PHOTOMETRIC.LINEAR_RAW
        assert raw.shape == (*read_raw(photos / "p2.dng").shape, 3)


def test_pnp_as_cfa_dng_keeps_levels_and_means(photos: Path, profile_file: Path, tmp_path: Path) -> None:
    arguments = ["restore", photos / "p2.dng", "-o", tmp_path, "--profile", profile_file, "--method", "pnp"]

    code, _, stderr = cli(*arguments, "--output", "cfa-dng")

    before, after = read_raw(photos / "p2.dng"), read_raw(tmp_path / "p2_restored.dng")
    assert code == 0, stderr
    assert after.cfa == before.cfa
    assert np.array_equal(after.black_level, before.black_level)
    means = [frame.mosaic.astype(float).mean() - 256.0 for frame in (before, after)]
    # A flat of 64x96 sites, std about 34 DN on 1150 DN: its mean is known to 0.44 DN.
    assert abs(means[1] - means[0]) < 5 * 0.44
    assert after.mosaic.std() < 0.5 * before.mosaic.std()


def test_strength_zero_is_bit_identical(photos: Path, profile_file: Path, tmp_path: Path) -> None:
    cli("restore", photos / "p3.dng", "-o", tmp_path, "--profile", profile_file, "--strength", 0)

    assert np.array_equal(read_raw(tmp_path / "p3_restored.dng").mosaic, read_raw(photos / "p3.dng").mosaic)


@pytest.mark.parametrize(
    "arguments",
    [
        ["restore"],
        ["restore", "x", "--strength", "101"],
        ["restore", "x", "--method", "magic"],
        ["calibrate", "-o", "x"],
    ],
)
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    assert cli(*arguments)[0] == 2


def test_nothing_usable_exits_with_3(tmp_path: Path) -> None:
    code, _, stderr = cli("restore", tmp_path)

    assert code == 3
    assert "no raw files in" in stderr


def test_profile_of_another_camera_is_refused(photos: Path, tmp_path: Path) -> None:
    other = profile().model_copy(update={"model": "Test Two"})
    path = tmp_path / "two.pnoise.json"
    path.write_text(profile_to_json(other))

    code, _, stderr = cli("restore", photos / "p0.dng", "-o", tmp_path, "--profile", path)

    assert code == 3
    assert "never borrowed from another camera" in stderr


def test_inspect_says_what_a_file_is(photos: Path) -> None:
    (photos / "broken.dng").write_bytes(b"II*\0nothing")

    code, stdout, _ = cli("inspect", photos, "--json")

    files = {Path(one["file"]).name: one for one in json.loads(stdout)["files"]}
    assert code == 1
    assert files["p0.dng"]["cfa"] == "RGGB"
    assert files["p0.dng"]["iso"] == 800
    assert files["broken.dng"]["usable"] is False


def test_profile_commands(profile_file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pnoise.json"
    bad.write_text('{"schema": "physrestore.noise/1"}')

    shown = cli("profile", "show", profile_file)
    checked = cli("profile", "validate", profile_file, bad, "--json")
    merged = cli("profile", "merge", profile_file, profile_file, "-o", tmp_path / "merged.pnoise.json")
    exported = cli("profile", "export", profile_file, "--to", "csv")
    pairs = cli("profile", "export", profile_file, "--to", "dng", "--white", 4095)

    assert shown[0] == 0
    assert "K [DN/e-]" in shown[1]
    assert (checked[0], [one["valid"] for one in json.loads(checked[1])["files"]]) == (1, [True, False])
    assert merged[0] == 0
    assert read_profile(tmp_path / "merged.pnoise.json").isos == (800.0,)
    assert next(csv.reader(io.StringIO(exported[1])))[:3] == ["iso", "plane", "quantity"]
    slope = json.loads(pairs[1])["entries"][0]["noise_profile"][0][0]
    assert slope == pytest.approx(1.0 / (4095 - 256))


def test_simulate_then_restore(profile_file: Path, tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(20, 230, SHAPE[1]).astype(np.uint8)[None, :, None], (SHAPE[0], 1, 3))
    Image.fromarray(ramp).save(tmp_path / "clean.png")

    simulated = cli("simulate", tmp_path / "clean.png", "-o", tmp_path / "noisy.dng", "--profile", profile_file,
                    "--iso", 800, "--white-level", 4095)  # fmt: skip
    again = cli(
        "simulate", tmp_path / "clean.png", "-o", tmp_path / "noisy.dng", "--profile", profile_file, "--iso", 800
    )
    restored = cli("restore", tmp_path / "noisy.dng", "--profile", profile_file)

    frame = read_raw(tmp_path / "noisy.dng")
    assert (simulated[0], again[0], restored[0]) == (0, 3, 0)  # an existing file is not replaced
    assert (frame.shot.iso, frame.cfa.name, frame.shape) == (800.0, "RGGB", SHAPE)
    assert frame.noise_profile is not None
    assert (tmp_path / "noisy_restored.dng").exists()


def test_calibrate_from_files(tmp_path: Path) -> None:
    truth = profile().entries[0]
    body = VirtualCamera(
        truth,
        cfa=Cfa.parse("GBRG"),
        shape=SHAPE,
        white_level=4095.0,
        seed=2,
        shot=Shot(make="T", model="T 1", iso=800.0),
    )
    generator = torch.Generator().manual_seed(5)
    for role, frames in {
        "darks": [body.dark(generator=generator) for _ in range(4)],
        "flats": [body.flat(level, generator=generator) for level in (0.05, 0.12, 0.25) for _ in range(2)],
    }.items():
        (tmp_path / role).mkdir()
        for number, frame in enumerate(frames):
            write_cfa_dng(tmp_path / role / f"{number}.dng", frame)

    code, stdout, stderr = cli(
        "calibrate", "--darks", tmp_path / "darks", "--flats", tmp_path / "flats", "-o", tmp_path / "t.pnoise.json",
        "--report", tmp_path / "t.html", "--figures", tmp_path / "figures", "--maps", tmp_path / "t.npz",
    )  # fmt: skip

    assert code == 0, stderr
    plane = read_profile(tmp_path / "t.pnoise.json").at(800).planes["R"]
    assert plane.gain is not None
    assert plane.gain.standard_error is not None
    assert abs(plane.gain.value - 1.0) < 5 * plane.gain.standard_error
    assert "K [DN/e-]" in stdout
    page = (tmp_path / "t.html").read_text()
    assert page.count("data:image/png;base64,") >= 4
    assert "http" not in page  # self-contained
    assert (tmp_path / "figures" / "profile.csv").exists()
    maps = read_maps(tmp_path / "t.npz", profile=read_profile(tmp_path / "t.pnoise.json"))  # the hash is checked
    assert maps[800.0].defects.shape == SHAPE


def test_path_lists_are_spread_only_for_their_options() -> None:
    given = ["calibrate", "--darks", "a", "b", "--flats", "c", "-o", "p", "--json"]
    assert spread_path_lists(given) == [
        "calibrate", "--darks", "a", "--darks", "b", "--flats", "c", "-o", "p", "--json",
    ]  # fmt: skip


def test_version() -> None:
    code, stdout, _ = cli("--version")

    assert (code, stdout.split()[0]) == (0, "physrestore")


def test_doctor_says_what_is_there() -> None:
    code, stdout, _ = cli("doctor", "--json")

    report = json.loads(stdout)
    assert code == 0
    assert report["decoder"].startswith("LibRaw 0.")
    assert report["versions"]["torch"]


def test_demo_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "CALIBRATION_SHAPE", (128, 192))
    monkeypatch.setattr(demo, "PHOTO_SHAPE", (192, 288))

    code, stdout, stderr = cli("demo", "-o", tmp_path / "demo", "--json")

    report = json.loads(stdout)
    assert code == 0, stderr
    assert report["psnr_after_db"] > report["psnr_before_db"] + 2.0
    assert all(Path(path).stat().st_size > 0 for path in report["files"].values())
    inside = [row["low"] <= row["truth"] <= row["high"] for row in report["calibration"]]
    assert sum(inside) >= 0.8 * len(inside)  # 95 % intervals; 12 of 15 or fewer happens once in 200 honest runs


@pytest.mark.slow
def test_interrupt_exits_with_130_and_leaves_whole_files(photos: Path, profile_file: Path, tmp_path: Path) -> None:
    for index in range(160):  # enough work to be interrupted in, on any machine
        shutil.copy(photos / "p0.dng", photos / f"more{index}.dng")
    out = tmp_path / "out"
    arguments = ["restore", str(photos), "-o", str(out), "--profile", str(profile_file)]
    # A shell starts background jobs deaf to Ctrl-C, and so their children: hear it again.
    hear = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{hear}; sys.argv = ['physrestore', *{arguments!r}]; from physrestore.cli import main; main()"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("*.dng")) and time.monotonic() < deadline:
        time.sleep(0.01)

    stderr = ""
    for _ in range(3):  # a signal that falls into a finaliser is lost: a user presses again
        child.send_signal(signal.SIGINT)
        try:
            _, stderr = child.communicate(timeout=10)
            break
        except subprocess.TimeoutExpired:
            continue

    assert child.returncode == 130
    assert "interrupted" in stderr
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    for path in out.glob("*.dng"):
        read_raw(path)
