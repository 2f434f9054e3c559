"""A mixed folder: every file with its own levels and noise, one phase for all, other kinds of array refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from noise_models.cfa import XTRANS_ROWS, Cfa
from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore.errors import RestoreError, TrainingError
from physrestore.selfsup import gathering
from physrestore.selfsup.adapt_files import noisy_squares
from physrestore.selfsup.gathering import ALIGN, Square, gather, squares
from physrestore.working_space import WorkingSpace
from tests.physrestore.folder_shots import folder_shot, write_folder

BAYER, XTRANS = Cfa.parse("RGGB"), Cfa(XTRANS_ROWS)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def levels(frame: RawFrame, noise: SensorNoise, places: Sequence[Square]) -> list[tuple[str, float, float, int]]:
    """What a piece would be made of: array from its corner, black, gain, side."""
    gain = noise.planes["R"].gain
    assert gain is not None
    return [
        (
            frame.cfa.shifted(p.rows.start, p.columns.start).name,
            float(frame.black_level.mean()),
            gain.value,
            p.rows.stop - p.rows.start,
        )
        for p in places
    ]


def test_every_file_brings_its_own_levels_and_the_odd_array_is_refused_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "raws", side=100, xtrans=XTRANS)
    (tmp_path / "raws" / "broken.dng").write_bytes(b"II*\0nothing")
    files = sorted((tmp_path / "raws").iterdir())
    seen: list[str] = []

    found = gather(files, levels, generator=drawn(), on_file=lambda path: seen.append(path.name))

    assert seen == ["0.dng", "a.dng", "b.dng", "broken.dng"]
    assert [path.name for path in found.used] == ["a.dng", "b.dng"]
    assert found.cfa == BAYER
    assert {name for name, *_ in found.pieces} == {"RGGB"}  # b.dng is GRBG: its pieces start a column later
    assert {black for _, black, *_ in found.pieces} == {512.0, 1024.0}
    gains = sorted({round(gain, 1) for *_, gain, _ in found.pieces})
    assert gains == pytest.approx([(16000 - 1024) / 400, (16000 - 512) / 60], rel=0.01)
    refused = {path.name: reason for path, reason in found.refused.items()}
    assert set(refused) == {"0.dng", "broken.dng"}
    assert "its array is X-Trans; 2 of the files are Bayer" in refused["0.dng"]


def test_pictures_of_a_mixed_folder_have_their_own_black_and_noise(tmp_path: Path) -> None:
    write_folder(tmp_path / "raws", side=100)
    found = gather(sorted((tmp_path / "raws").iterdir()), noisy_squares, generator=drawn())
    spaces = [
        WorkingSpace.of_frame(*folder_shot(cfa, 100, electrons=electrons, black=black)[:2])
        for cfa, electrons, black in ((BAYER, 60.0, 512.0), (Cfa.parse("GRBG"), 400.0, 1024.0))
    ]
    first, last = found.pieces[0], found.pieces[-1]
    for image, space in zip((first, last), spaces, strict=True):
        assert image.black is not None
        torch.testing.assert_close(image.black, space.black, rtol=0.01, atol=1e-4)
        torch.testing.assert_close(image.noise.sigma.mean(), space.scale.mean(), rtol=0.01, atol=0)
    assert first.cfa == last.cfa == BAYER


def test_squares_start_in_the_phase_that_is_asked_for() -> None:
    for name in ("RGGB", "GBRG", "".join(XTRANS_ROWS)):
        cfa = Cfa.parse(name)
        frame, *_ = folder_shot(cfa.shifted(1, 1), 151, electrons=100.0, black=512.0)
        for place in squares(frame, cfa, count=5, generator=drawn()):
            assert frame.cfa.shifted(place.rows.start, place.columns.start) == cfa
            assert place.rows.stop - place.rows.start == 144 // ALIGN * ALIGN
            assert max(place.rows.stop, place.columns.stop) <= 151
    small, *_ = folder_shot(BAYER, 48, electrons=100.0, black=512.0)
    with pytest.raises(RestoreError, match="too small: needed are 48x48 sites in phase"):
        squares(small, Cfa.parse("GRBG"), count=1, generator=drawn())


def test_more_files_than_memory_holds_are_spread_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "MOST_SQUARES", 2)
    write_folder(tmp_path / "raws", side=100)
    for number in range(3):
        frame, *_ = folder_shot(BAYER, 100, electrons=60.0, black=512.0)
        from physrestore.output.dng import write_cfa_dng

        write_cfa_dng(tmp_path / "raws" / f"c{number}.dng", frame)
    found = gather(sorted((tmp_path / "raws").iterdir()), levels, generator=drawn())
    assert [path.name for path in found.used] == ["a.dng", "c0.dng"]
    assert [path.name for path in found.passed_over] == ["b.dng", "c1.dng", "c2.dng"]
    assert len(found.pieces) == 2


def test_nothing_to_learn_from_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.dng").write_bytes(np.arange(100, dtype=np.uint8).tobytes())
    with pytest.raises(TrainingError, match=r"None of 1 files can be learned from \(broken.dng: "):
        gather([tmp_path / "broken.dng"], levels, generator=drawn())
