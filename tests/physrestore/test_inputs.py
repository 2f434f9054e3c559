"""Picking files and naming results."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from physrestore.inputs import Input, collect, plan


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return paths


def test_folders_give_raws_only(tmp_path: Path) -> None:
    touch(tmp_path, "a.CR2", "b.jpg", ".hidden.dng", "sub/c.nef", ".cache/d.nef", "a_restored.dng")

    names = [one.path.name for one in collect([tmp_path], skip_suffix="_restored")]

    assert names == ["a.CR2", "c.nef"]
    assert [one.path.name for one in collect([tmp_path], recursive=False, skip_suffix="_restored")] == ["a.CR2"]


def test_a_file_named_twice_appears_once_and_a_missing_one_stays(tmp_path: Path) -> None:
    (raw,) = touch(tmp_path, "a.dng")

    found = collect([tmp_path, raw, tmp_path / "gone.dng"])

    assert [one.path.name for one in found] == ["a.dng", "gone.dng"]


def test_folder_structure_is_kept_below_out(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.dng", "day2/a.dng")

    jobs = plan(collect([tmp_path / "in"]), out=tmp_path / "out", suffix="_restored", extension=".dng")

    assert [str(job.target.relative_to(tmp_path)) for job in jobs] == ["out/a_restored.dng", "out/day2/a_restored.dng"]


def test_raw_and_dng_of_one_name_get_longer_names_and_others_do_not() -> None:
    inputs = [Input(Path(name), Path()) for name in ("IMG.CR2", "IMG.DNG", "other.CR2")]

    names = [job.target.name for job in plan(inputs, out=None, suffix="_r", extension=".dng")]

    assert names == ["IMG_CR2_r.dng", "IMG_DNG_r.dng", "other_r.dng"]


def test_same_names_in_two_folders_below_one_out() -> None:
    inputs = [Input(Path("a/IMG.nef"), Path()), Input(Path("b/IMG.nef"), Path())]

    names = [job.target.name for job in plan(inputs, out=Path("o"), suffix="", extension=".dng")]

    assert names == ["a_IMG_nef.dng", "b_IMG_nef.dng"]


def test_hopeless_clash_is_refused() -> None:
    inputs = [Input(Path("x/a/IMG.nef"), Path()), Input(Path("y/a/IMG.nef"), Path())]

    with pytest.raises(ValueError, match=r"2 inputs would be written to the same file.*separate runs"):
        plan(inputs, out=Path("o"), suffix="", extension=".dng")


names = st.text(alphabet="aAbéE.\u0301_1", min_size=1, max_size=4)
files = st.tuples(st.sampled_from(["", "p", "q"]), names, st.sampled_from([".dng", ".DNG", ".nef"]))


@given(st.lists(files, max_size=8, unique=True), st.booleans(), st.randoms(use_true_random=False))
def test_names_are_injective_and_do_not_depend_on_order(parts, below_out, random) -> None:  # type: ignore[no-untyped-def]
    inputs = [Input(Path(folder) / f"{stem}{ext}", Path()) for folder, stem, ext in parts]
    shuffled = random.sample(inputs, len(inputs))
    out = Path("out") if below_out else None
    try:
        jobs = plan(inputs, out=out, suffix="_r", extension=".dng")
    except ValueError:
        return

    keys = [unicodedata.normalize("NFC", str(job.target)).casefold() for job in jobs]
    again = {job.source: job.target for job in plan(shuffled, out=out, suffix="_r", extension=".dng")}

    assert len(set(keys)) == len(keys)
    assert again == {job.source: job.target for job in jobs}
