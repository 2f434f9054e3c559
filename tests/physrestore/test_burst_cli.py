"""``physrestore restore --burst``: several files, one picture beside the first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from noise_models.cfa import Cfa
from physrestore.output.dng import write_cfa_dng
from physrestore.results import read_record
from tests.physrestore.burst_scenes import ELECTRONS, READ_ELECTRONS, STILL, Blobs, expose, turn, view
from tests.physrestore.test_cli import cli

SIZE = 48


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Three frames that state their noise."""
    scene, law = Blobs(SIZE), (1 / ELECTRONS, (READ_ELECTRONS / ELECTRONS) ** 2)
    paths = []
    for k, motion in enumerate((STILL, turn(0.0, 1.4, -2.3, middle=24), turn(0.3, -1.0, 0.6, middle=24))):
        paths.append(tmp_path / f"IMG_{k}.dng")
        write_cfa_dng(
            paths[-1], expose(view(scene, SIZE, motion), Cfa.parse("RGGB"), seed=k), noise_profile=(law, law, law)
        )
    return paths


def test_files_become_one_picture_beside_the_first(photos: list[Path]) -> None:
    before = [path.read_bytes() for path in photos]

    code, stdout, _ = cli("restore", "--burst", *photos, "--json")
    again, stdout_again, _ = cli("restore", "--burst", *photos)
    fewer, _, stderr = cli("restore", "--burst", *photos[:2])

    assert (code, again, fewer) == (0, 0, 3)
    (told,) = json.loads(stdout)["files"]
    assert told["numbers"]["frames_used"] == 3.0
    assert 2.0 < told["numbers"]["effective_frames"] <= 3.3
    assert sorted(path.name for path in photos[0].parent.iterdir()) == [
        "IMG_0.dng", "IMG_0_restored.dng", "IMG_1.dng", "IMG_2.dng"
    ]  # fmt: skip
    record = read_record(photos[0].with_name("IMG_0_restored.dng"))
    assert record is not None
    assert record["burst"] == "IMG_1.dng IMG_2.dng"
    assert "finished before" in stdout_again
    assert "made from other data or settings" in stderr  # two frames are not the same burst
    assert [path.read_bytes() for path in photos] == before


def test_an_uncertainty_is_written_beside_the_picture(photos: list[Path]) -> None:
    assert cli("restore", "--burst", *photos, "--uncertainty")[0] == 0
    map_ = np.load(photos[0].with_name("IMG_0_restored_uncertainty.npz"))
    (std,) = (map_[name] for name in map_.files if map_[name].ndim == 3)
    assert std.shape == (3, SIZE, SIZE)
    assert (std[:, 8:-8, 8:-8] > 0).all()


def test_what_does_not_go_with_a_burst_is_said_before_reading(photos: list[Path]) -> None:
    for extra, told in (
        (("--method", "classic"), "'classic' does not know --burst. Use --method fast or pnp"),
        (("--method", "pnp", "--scale", "2"), "--burst cannot be combined with --scale"),
    ):
        code, _, stderr = cli("restore", "--burst", *photos, *extra)
        assert code == 2
        assert told in stderr.replace("\n", " ")
    code, _, stderr = cli("restore", "--method", "pnp", "--burst", photos[0])
    assert code == 2
    assert "at least two files" in stderr
