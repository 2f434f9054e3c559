"""``adapt --from blind-spot`` and ``--distil`` from the command line, on a mixed folder, and `restore` after."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from physrestore.networks.store import load_network
from physrestore.results import read_record
from physrestore.selfsup.blind_spot_file import is_blind_spot, load_blind_spot
from tests.physrestore.folder_shots import write_folder
from tests.physrestore.test_cli_adapt import cli


@pytest.mark.slow
def test_a_blind_spot_is_trained_restores_and_teaches(tmp_path: Path) -> None:
    raws, teacher, student = tmp_path / "raws", tmp_path / "mine.safetensors", tmp_path / "student.safetensors"
    write_folder(raws, side=200)

    code, stdout, _ = cli("adapt", raws, "-o", teacher, "--from", "blind-spot", "--budget", "1s", "--json")
    told = json.loads(stdout)

    assert code == 0
    assert [Path(path).name for path in told["used"]] == ["a.dng", "b.dng"]
    assert told["steps"] >= 1
    assert told["compared"]["sites"] > 1000
    assert told["compared"]["error_of_shipped"] < 1.0
    assert is_blind_spot(teacher)
    assert load_blind_spot(teacher).config.own_row is False
    assert "2 noisy raw files (a.dng, b.dng); no clean picture" in teacher.with_suffix(".card.md").read_text()

    code, stdout, _ = cli("restore", raws / "a.dng", "--method", "selfsup", "--prior", teacher, "-o", tmp_path / "made")
    assert code == 0
    assert "expected error" in stdout
    record = read_record(tmp_path / "made" / "a_restored.dng")
    assert record is not None
    assert record["network"].startswith("mine ")
    with np.load(tmp_path / "made" / "a_restored_uncertainty.npz") as numbers:
        assert numbers["std"].shape == (1, 200, 200)
    code, _, stderr = cli("restore", raws / "a.dng", "--prior", teacher, "-o", tmp_path / "made")
    assert code == 2
    assert "Use --method selfsup" in stderr

    code, _, stderr = cli("adapt", raws, "-o", student, "--from", teacher, "--distil", "--budget", "1s")
    assert code == 3  # a second does not teach more than the shipped network knows
    assert "no clear gain, nothing written" in stderr
    assert not student.exists()
    code, stdout, _ = cli("adapt", raws, "-o", student, "--from", teacher, "--distil", "--budget", "1s", "--keep")
    assert code == 0
    assert "written because of --keep" in stdout
    assert load_network(student).architecture == "MosaicNet"
    assert not student.with_name("student.teacher.safetensors").exists()


def test_refusals_before_the_work(tmp_path: Path) -> None:
    raws, out = tmp_path / "raws", tmp_path / "mine.safetensors"
    write_folder(raws, side=100)
    code, _, stderr = cli("adapt", raws, "-o", out, "--distil")
    assert code == 2
    assert "--distil needs a teacher: --from blind-spot" in stderr
    code, _, stderr = cli("adapt", raws, "-o", out, "--from", "blind-spot", "--budget", "0s")
    assert code == 2
    assert "leaves no time" in stderr
    code, _, stderr = cli("adapt", raws, "-o", tmp_path / "mine.pt", "--from", "blind-spot")
    assert code == 3
    assert "end in .safetensors" in stderr
    (tmp_path / "mine.teacher.safetensors").write_bytes(b"mine")
    code, _, stderr = cli("adapt", raws, "-o", out, "--from", "blind-spot", "--distil")
    assert code == 3
    assert "'mine.teacher.safetensors': exists" in stderr
