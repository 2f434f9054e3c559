"""Programs that photographers use read our DNGs pixel by pixel as written; each is skipped where it is missing."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rawpy
from numpy.typing import NDArray

from noise_models.frame import RawFrame, Shot
from physrestore.output.dng import write_cfa_dng, write_linear_dng
from physrestore.output.metadata import copy_metadata, exiftool_version, find_exiftool
from physrestore.output.record import read_history
from tests.physrestore.dng_structure import directories, violations
from tests.physrestore.sample_frames import NEUTRAL, XTRANS, full_shot, grey_frame, noise_frame
from tests.shared_data import shared

pytestmark = pytest.mark.external

SIZES = [(64, 64), (99, 513), (64, 1000), (600, 700), (40, 1025)]


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def portable_graymap(data: bytes) -> NDArray[np.uint16]:
    magic, size, _, pixels = data.split(b"\n", 3)
    assert magic == b"P5"
    width, height = map(int, size.split())
    return np.frombuffer(pixels, ">u2").reshape(height, width)


def frame_of(size: tuple[int, int], cfa: str) -> RawFrame:
    return replace(noise_frame(*size, cfa), shot=full_shot())


@pytest.mark.parametrize("compression", ["lossless-jpeg", "none"])
@pytest.mark.parametrize("cfa", ["RGGB", "GBRG", XTRANS, "M"])
@pytest.mark.parametrize("size", SIZES)
def test_dcraw(tmp_path: Path, size: tuple[int, int], cfa: str, compression: str) -> None:
    program, frame = tool("dcraw"), frame_of(size, cfa)
    write_cfa_dng(tmp_path / "a.dng", frame, compression=compression)  # type: ignore[arg-type]
    for mode in ("-D", "-E"):
        answer = subprocess.run([program, mode, "-4", "-c", "-t", "0", tmp_path / "a.dng"], capture_output=True)
        assert np.array_equal(portable_graymap(answer.stdout), frame.mosaic)


@pytest.mark.parametrize("compression", ["lossless-jpeg", "none"])
@pytest.mark.parametrize("cfa", ["BGGR", XTRANS, "M"])
@pytest.mark.parametrize("size", SIZES)
def test_libraw_of_the_system(tmp_path: Path, size: tuple[int, int], cfa: str, compression: str) -> None:
    program, frame = tool("unprocessed_raw"), frame_of(size, cfa)
    write_cfa_dng(tmp_path / "a.dng", frame, compression=compression)  # type: ignore[arg-type]
    subprocess.run([program, "-q", tmp_path / "a.dng"], check=True, capture_output=True)
    assert np.array_equal(portable_graymap((tmp_path / "a.dng.pgm").read_bytes()), frame.mosaic)


def test_libraw_of_the_system_develops_grey_as_grey(tmp_path: Path) -> None:
    program = tool("dcraw_emu")
    frame = grey_frame(200, 300)
    rgb = np.broadcast_to(0.2 * np.array(NEUTRAL)[:, None, None], (3, *frame.shape))
    write_cfa_dng(tmp_path / "mosaic.dng", frame)
    write_linear_dng(tmp_path / "linear.dng", frame, rgb)
    for name in ("mosaic", "linear"):
        subprocess.run([program, "-w", "-4", "-W", tmp_path / f"{name}.dng"], check=True, capture_output=True)
        data = (tmp_path / f"{name}.dng.ppm").read_bytes().split(b"\n", 3)
        picture = np.frombuffer(data[3], ">u2").reshape(200, 300, 3)[20:-20, 20:-20].reshape(-1, 3).mean(axis=0)
        assert np.allclose(picture, picture[1], rtol=0.01)
        assert picture[1] / 65535 == pytest.approx(0.2, rel=0.005)


def complaints(path: Path) -> str:
    answer = subprocess.run([tool("exiftool"), "-validate", "-warning", "-a", path], capture_output=True, text=True)
    return answer.stdout.strip()


@pytest.mark.parametrize("cfa", ["RGGB", XTRANS, "M", "linear"])
def test_exiftool_finds_nothing_to_complain_about(tmp_path: Path, cfa: str) -> None:
    frame = frame_of((300, 400), "RGGB" if cfa == "linear" else cfa)
    if cfa == "linear":
        write_linear_dng(tmp_path / "a.dng", frame, np.zeros((3, 300, 400)), noise_profile=[(1e-4, 1e-6)])
    else:
        write_cfa_dng(tmp_path / "a.dng", frame, noise_profile=[(1e-4, 1e-6)], noise_reduction=0.5, history="<&>")
    assert complaints(tmp_path / "a.dng").split() == ["Validate", ":", "OK"]
    # The complaint that must come: an Exif tag where it does not belong.
    broken = bytearray((tmp_path / "a.dng").read_bytes())
    at = broken.index(b"\x12\x01\x03\x00\x01\x00\x00\x00")  # Orientation, SHORT, 1
    broken[at + 2] = 2
    (tmp_path / "b.dng").write_bytes(broken)
    assert "Warning" in complaints(tmp_path / "b.dng")


def test_exiftool_copies_metadata_and_leaves_pixels(tmp_path: Path) -> None:
    if find_exiftool() is None:
        pytest.skip("exiftool is not installed")
    source = tmp_path / "-source.dng"  # a name that looks like an option
    write_cfa_dng(source, frame_of((300, 400), "RGGB"), history="of the source")
    command = [tool("exiftool"), "-q", "-overwrite_original", "-Artist=A. Nyone", "-GPSLatitude=12.5"]
    subprocess.run([*command, "-GPSLatitudeRef=N", "-XMP-dc:Title=Été", "./-source.dng"], cwd=tmp_path, check=True)
    unshot = noise_frame(300, 400, seed=7)
    done = write_cfa_dng(tmp_path / "a.dng", unshot, metadata_from=source, history="of the result <&>")
    assert done is not None
    assert done.copied
    with rawpy.imread(str(tmp_path / "a.dng")) as raw:
        assert np.array_equal(raw.raw_image_visible, unshot.mosaic)
        assert raw.other.iso_speed == 3200
    answer = subprocess.run(
        ["exiftool", "-s3", "-n", "-Artist", "-GPSLatitude", "-XMP-dc:Title", "-LensModel", tmp_path / "a.dng"],
        capture_output=True,
        text=True,
    )
    assert answer.stdout.split("\n")[:4] == ["A. Nyone", "12.5", "Été", full_shot().lens]
    assert read_history(tmp_path / "a.dng") == "of the result <&>"
    assert violations((tmp_path / "a.dng").read_bytes()) == []


def test_exiftool_tells_its_version() -> None:
    if find_exiftool() is None:
        pytest.skip("exiftool is not installed")
    version = exiftool_version()
    assert version is not None
    assert float(version) > 1


def test_a_failed_copy_is_reported_and_the_picture_written(tmp_path: Path) -> None:
    if find_exiftool() is None:
        pytest.skip("exiftool is not installed")
    missing = tmp_path / "missing.CR2"
    done = write_cfa_dng(tmp_path / "a.dng", noise_frame(64, 64), metadata_from=missing)
    assert done is not None
    assert not done.copied
    assert "could not copy" in done.detail
    assert violations((tmp_path / "a.dng").read_bytes()) == []


@pytest.mark.data
def test_a_real_photo_keeps_its_maker_notes(tmp_path: Path) -> None:
    if find_exiftool() is None:
        pytest.skip("exiftool is not installed")
    source = shared("raw/canon_30d_iso640.CR2")
    frame = replace(noise_frame(300, 400), shot=Shot(make="Canon", model="Canon EOS 30D"))
    write_cfa_dng(tmp_path / "a.dng", frame)  # exiftool writes maker notes only under the name of their maker
    before = directories((tmp_path / "a.dng").read_bytes())
    assert copy_metadata(source, tmp_path / "a.dng").copied
    after = directories((tmp_path / "a.dng").read_bytes())
    assert after["exif"].tags[34855][2] == (640).to_bytes(2, "little")
    assert 37500 in after["exif"].tags  # MakerNote
    for tag in (50714, 50717, 33422):
        assert after["raw"].tags[tag] == before["raw"].tags[tag]
    assert complaints(tmp_path / "a.dng").split() == ["Validate", ":", "OK"]
