"""``physrestore adapt``: weights that `restore --prior` takes, a verdict, and clear refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from noise_models.cfa import Cfa
from noise_models.frame import RawFrame
from noise_models.profile import CameraProfile
from noise_models.store import profile_to_json
from physrestore.cli.app import app
from physrestore.networks.store import load_network
from physrestore.output.dng import write_cfa_dng
from tests.physrestore.test_fast import shot

CAMERA = ("Virtual", "Adapt")


def cli(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two noisy photos of one camera, its profile beside them."""
    from noise_models.frame import Shot

    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(2):
        frame, noise, _ = shot(Cfa.parse("RGGB"), 288, seed=index)
        named = RawFrame(
            frame.mosaic,
            frame.cfa,
            frame.black_level,
            frame.white_level,
            shot=Shot(make=CAMERA[0], model=CAMERA[1], iso=800.0),
            colour=frame.colour,
        )
        write_cfa_dng(folder / f"{index}.dng", named)
    entry = noise.model_copy(update={"iso": 800.0})
    profile = CameraProfile(make=CAMERA[0], model=CAMERA[1], cfa="RGGB", entries=(entry,))
    (tmp_path / "camera.pnoise.json").write_text(profile_to_json(profile))
    return folder


def test_writes_weights_that_restore_takes(photos: Path, tmp_path: Path) -> None:
    out, profile = tmp_path / "my.safetensors", tmp_path / "camera.pnoise.json"
    (photos / "broken.dng").write_bytes(b"II*\0nothing")
    code, stdout, _ = cli(
        "adapt", photos, "-o", out, "--profile", profile, "--from", "mosaic-small", "--budget", "1s", "--keep", "--json"
    )
    told = json.loads(stdout)
    assert code == 1  # one file could not be used
    assert len(told["used"]) == 2
    assert [Path(path).name for path in told["refused"]] == ["broken.dng"]
    assert load_network(out).architecture == "MosaicNet"
    assert "no clean picture" in out.with_suffix(".card.md").read_text()
    code, _, _ = cli(
        "restore", photos / "0.dng", "--method", "fast", "--prior", out, "--profile", profile, "-o", tmp_path / "made"
    )
    assert code == 0
    assert (tmp_path / "made" / "0_restored.dng").exists()


def test_writes_nothing_without_a_gain(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "my.safetensors"
    profile = tmp_path / "camera.pnoise.json"
    code, _, stderr = cli(
        "adapt", photos / "0.dng", "-o", out, "--profile", profile, "--from", "mosaic-small", "--budget", "0.01s"
    )
    assert code == 3
    assert "no clear gain" in stderr
    assert not out.exists()


def test_refuses_before_the_work(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "my.safetensors"
    out.write_bytes(b"mine")
    assert cli("adapt", photos, "-o", out)[0] != 0
    assert out.read_bytes() == b"mine"
    code, _, stderr = cli("adapt", photos, "-o", tmp_path / "other.safetensors", "--budget", "soon")
    assert code == 2
    assert "no duration" in stderr
    assert "no device 'cuda:99'" in cli("adapt", photos, "-o", tmp_path / "b.safetensors", "--device", "cuda:99")[2]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no raw files" in cli("adapt", empty, "-o", tmp_path / "a.safetensors")[2]
