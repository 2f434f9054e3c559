"""Real camera files: what must be read is read as its camera wrote it, what must be refused is refused."""

import numpy as np
import pytest

from noise_models.errors import DamagedRaw, NotARawFile, RawFileError, UnsupportedRaw
from noise_models.frame import Integrity
from noise_models.rawfile import Decoder, read_raw
from tests.shared_data import data_folder, shared

pytestmark = pytest.mark.data

# Shape, CFA, black, white, camera, ISO, exposure [s]; from the cameras' own tags (exiftool) and the data's README.
GOOD = {
    "RAW_KODAK_DC50_é.KDC": ((512, 768), "GRBG", 0, 16383, "Kodak Digital Science DC50 Zoom Camera", 84, 1 / 230),
    "canon_30d_iso100.CR2": ((2348, 3522), "RGGB", 128, 4095, "Canon EOS 30D", 100, 1 / 500),
    "canon_30d_iso640.CR2": ((2348, 3522), "RGGB", 128, 4095, "Canon EOS 30D", 640, 1 / 400),
    "canon_d30_iso100_5s.CRW": ((1448, 2176), "RGGB", 128, 4095, "Canon EOS D30", 100, 5),
    "canon_kissx4_colorchart.dng": ((1156, 1734), "RGGB", 2056, 15000, "Canon EOS Kiss X4", None, None),
    "gopro_fusion_noiseprofile.dng": ((3000, 3104), "RGGB", 0, 16383, "FUSION", 100, 1 / 1859),
}


@pytest.fixture(scope="module")
def decoder():
    with Decoder(timeout_s=60) as one:
        yield one


@pytest.mark.parametrize("name", sorted(GOOD))
def test_samples_are_read(name, decoder):
    shape, cfa, black, white, camera, iso, exposure = GOOD[name]
    frame = read_raw(shared(f"raw/{name}"), decoder=decoder)
    assert frame.shape == shape
    assert frame.cfa.name == cfa
    # LibRaw truncates the means of the optical black to whole DN.
    assert np.abs(frame.black_level - black).max() <= 1
    assert (frame.white_level == white).all()
    assert frame.shot.model == camera
    assert frame.shot.iso == iso
    assert frame.shot.exposure_s == (None if exposure is None else pytest.approx(exposure, rel=0.01))
    assert frame.source.integrity is Integrity.UNVERIFIABLE


@pytest.mark.parametrize(("iso", "noise"), [(100, 1.75), (640, 2.26)])
def test_canon_30d_optical_black(iso, noise, decoder):
    """Level and noise as published with the samples; the columns' light leak and the first rows are cut."""
    frame = read_raw(shared(f"raw/canon_30d_iso{iso}.CR2"), decoder=decoder)
    left, top = frame.masked
    assert (left.side, left.pixels.shape, left.cfa.name) == ("left", (2348, 72), "RGGB")
    assert (top.side, top.cfa.name) == ("top", "RGGB")
    assert left.pixels.mean() == pytest.approx(128.0, abs=0.1)
    assert left.pixels.std() == pytest.approx(noise, rel=0.01)
    assert top.pixels.std() == pytest.approx(noise, rel=0.03)
    assert frame.shot.taken is not None


def test_kiss_x4_keeps_only_its_dark_borders(decoder):
    """Its right border (2 columns, one lit) is too thin, and ten of its top rows carry other noise."""
    masked = read_raw(shared("raw/canon_kissx4_colorchart.dng"), decoder=decoder).masked
    assert [area.side for area in masked] == ["left", "top"]
    assert all(abs(area.pixels.mean() - 2048) < 2 for area in masked)


def test_gopro_profile_colour_and_warning(decoder):
    frame = read_raw(shared("raw/gopro_fusion_noiseprofile.dng"), decoder=decoder)
    assert frame.noise_profile == (pytest.approx((7.81e-5, 2.44e-8), rel=1e-5),)
    assert frame.orientation == 2
    assert frame.colour.as_shot_neutral == pytest.approx((0.493494, 1, 0.606815), rel=1e-5)
    assert {50721, 50722, 50778, 50779, 50936, 51022} <= set(frame.colour.dng_tags)
    assert "lossy" in frame.source.integrity_evidence


def test_white_balance_unknown_is_none(decoder):
    crw = read_raw(shared("raw/canon_d30_iso100_5s.CRW"), decoder=decoder)
    assert crw.colour.as_shot_neutral is None
    assert crw.colour.color_matrix1 is not None


REFUSED = {
    "Canon-R6-pruned.CR3": (DamagedRaw, "cannot be decoded"),
    "IMG_1361.dng": (UnsupportedRaw, "linear DNG"),
    "Nikon_uncompressed.nef": (UnsupportedRaw, "already developed"),
    "RAW_KODAK_C330_FORMAT_NONE_YRGB.raw": (UnsupportedRaw, "already developed"),
    "dng_with_preview.dng": (UnsupportedRaw, "linear DNG"),
    "sample_1mp.dng": (UnsupportedRaw, "linear DNG"),
    "sample_1mp_rotated.dng": (UnsupportedRaw, "linear DNG"),
    "fixture-Leica-M10.dng": (DamagedRaw, "outside the file"),
    "fixture.cr3": (DamagedRaw, "after the end of the file"),
    "fixture.raf": (DamagedRaw, "after the end of the file"),
    "fixture.nef": (NotARawFile, "raw format"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refusals_say_why(name, decoder):
    error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        read_raw(shared(f"raw/refuse/{name}"), decoder=decoder)


def test_everything_in_refuse_is_refused_with_a_typed_error(decoder):
    shared("raw/refuse")
    files = sorted((data_folder() / "raw" / "refuse").iterdir())
    assert len(files) >= len(REFUSED)
    before = None
    for path in files:
        for allow in (False, True):
            with pytest.raises(RawFileError):
                read_raw(path, decoder=decoder, allow_damaged=allow)
        before = before or decoder.pid
    assert decoder.pid == before  # none of them cost a process


@pytest.mark.parametrize("name", ["canon_30d_iso640.CR2", "canon_d30_iso100_5s.CRW", "RAW_KODAK_DC50_é.KDC"])
@pytest.mark.parametrize("share", [0.999, 0.7, 0.3, 0.01])
def test_cut_camera_files_are_refused(name, share, decoder, tmp_path):
    data = shared(f"raw/{name}").read_bytes()
    path = tmp_path / "cut.raw"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(RawFileError):
        read_raw(path, decoder=decoder)


def test_a_zero_filled_end_is_found_before_decoding(decoder, tmp_path):
    data = shared("raw/canon_30d_iso640.CR2").read_bytes()
    path = tmp_path / "filled.cr2"
    path.write_bytes(data[:-100_000] + bytes(100_000))
    with pytest.raises(DamagedRaw, match="zero-filled"):
        read_raw(path, decoder=decoder)
