"""`read_raw` gives exactly what the file holds, or a typed error that says why not."""

import hashlib
import os
import socket
import time

import numpy as np
import pytest

from noise_models.cfa import BAYER_PHASES, XTRANS_ROWS, Cfa
from noise_models.errors import DamagedRaw, NotARawFile, RawFileError, RawTooLarge, UnsupportedRaw
from noise_models.frame import Integrity
from noise_models.rawfile import Decoder, read_raw
from noise_models.reading.integrity import new_raw_image_digest
from tests.raw_samples import BLACK, WHITE, make_dng, noisy_mosaic

MOSAIC = noisy_mosaic()
XTRANS = Cfa(XTRANS_ROWS)


@pytest.fixture(scope="module")
def decoder():
    with Decoder(timeout_s=60) as one:
        yield one


@pytest.fixture
def read(tmp_path, decoder):
    """Read bytes as a file."""

    def from_bytes(data, **options):
        path = tmp_path / "frame.dng"
        path.write_bytes(data)
        return read_raw(path, decoder=decoder, **options)

    return from_bytes


@pytest.mark.parametrize("layout", [{}, {"rows_per_strip": 10}, {"order": ">"}, {"tile": (32, 128)}])
def test_pixels_levels_and_metadata_are_the_files_own(read, layout):
    data = make_dng(MOSAIC, **layout)
    frame = read(data)
    np.testing.assert_array_equal(frame.mosaic, MOSAIC)
    assert not frame.mosaic.flags.writeable
    assert frame.cfa.name == "RGGB"
    np.testing.assert_array_equal(frame.black_level, np.full((2, 2), BLACK))
    np.testing.assert_array_equal(frame.white_level, np.full((2, 2), WHITE))
    shot = frame.shot
    assert (shot.make, shot.model, shot.iso, shot.aperture) == ("Maker", "Model One", 800.0, 5.6)
    assert (shot.exposure_s, shot.taken, shot.lens) == (1 / 250, "2026:11:20 12:00:00", None)
    assert frame.colour.as_shot_neutral == pytest.approx((0.5, 1.0, 2 / 3))
    assert frame.colour.color_matrix1[0] == pytest.approx((0.6, -0.1, -0.05))
    assert frame.source.container == "DNG"
    assert frame.source.sha256 == hashlib.sha256(data).hexdigest()
    assert frame.source.integrity is Integrity.UNVERIFIABLE
    assert frame.source.decoder.startswith("LibRaw 0.")


@pytest.mark.parametrize("phase", BAYER_PHASES)
def test_four_phases(read, phase):
    assert read(make_dng(MOSAIC, cfa=phase)).cfa.name == phase


@pytest.mark.parametrize(("top", "left"), [(i, j) for i in (0, 1, 5) for j in range(6)])
def test_xtrans_in_its_shifts(read, top, left):
    cfa = XTRANS.shifted(top, left)
    assert read(make_dng(MOSAIC, cfa=cfa.name)).cfa == cfa


@pytest.mark.parametrize(("top", "left"), [(2, 4), (1, 0), (0, 1), (3, 3), (5, 2)])
def test_phase_and_black_follow_any_active_area(read, top, left):
    """The pattern tags count from the active area; LibRaw makes odd margins even."""
    blacks = [500, 510, 520, 530]
    tags = {50829: ("L", [top, left, 96, 128]), 50713: ("S", [2, 2]), 50714: ("S", blacks)}
    frame = read(make_dng(MOSAIC, tags=tags))
    down, right = 96 - frame.shape[0] - top, 128 - frame.shape[1] - left
    np.testing.assert_array_equal(frame.mosaic, MOSAIC[top + down :, left + right :])
    assert frame.cfa == Cfa.parse("RGGB").shifted(down, right)
    expected = np.roll(np.reshape(blacks, (2, 2)), (-down, -right), (0, 1))
    np.testing.assert_array_equal(frame.black_level, expected)


def test_fractional_black_per_site_survives(read):
    tags = {50713: ("S", [2, 2]), 50714: ("R", [50025, 100, 51050, 100, 51175, 100, 53000, 100])}
    np.testing.assert_array_equal(read(make_dng(MOSAIC, tags=tags)).black_level, [[500.25, 510.5], [511.75, 530.0]])


def test_black_differences_by_line_are_averaged_per_site_and_told(read):
    rows = [v for k in range(96) for v in ((10 if k % 2 else 30) + (5 if k == 0 else 0), 10)]
    frame = read(make_dng(MOSAIC, tags={50716: ("SR", rows)}))
    np.testing.assert_allclose(frame.black_level, [[BLACK + 3 + 0.5 / 48] * 2, [BLACK + 1] * 2])
    assert "black differs by row (up to 0.49 DN" in frame.source.integrity_evidence


def test_monochrome_only_where_the_file_says_so(read):
    mono = read(make_dng(MOSAIC, tags={262: ("S", [34892])}, drop=(33421, 33422)))
    assert mono.cfa.is_mono
    np.testing.assert_array_equal(mono.mosaic, MOSAIC)
    with pytest.raises(DamagedRaw, match="colour filter array cannot be read"):
        read(make_dng(MOSAIC, drop=(33421, 33422)))


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        ([0, 0, 0, 0], RawFileError),
        ([255, 255, 255, 255], RawFileError),
        ([0, 1, 2, 1], UnsupportedRaw),
        ([3, 4, 5, 1], RawFileError),
    ],
)
def test_damaged_cfa_is_refused_never_mono(read, pattern, error):
    with pytest.raises(error):
        read(make_dng(MOSAIC, tags={33422: ("B", pattern)}))


def test_tags_and_decoder_must_agree_on_the_cfa(read):
    # LibRaw reads a pattern of 6 x 2 as something else; whatever it is, it is not what the tags say.
    with pytest.raises(RawFileError, match="filter array"):
        read(make_dng(MOSAIC, tags={33421: ("S", [6, 2]), 33422: ("B", [0, 1, 1, 2] * 3)}))


@pytest.mark.parametrize(
    ("tags", "error", "message"),
    [
        ({50717: ("L", [0])}, DamagedRaw, "white level tag is damaged"),
        ({50717: ("L", [BLACK + 16])}, DamagedRaw, "leave no range"),
        ({50714: ("L", [20000])}, DamagedRaw, "leave no range"),
        ({50714: ("R", [1, 0])}, DamagedRaw, "black level tags are damaged"),
        ({50714: ("S", [1, 2, 3])}, DamagedRaw, "black level tags are damaged"),
        ({50713: ("S", [3, 1]), 50714: ("S", [1, 2, 3])}, UnsupportedRaw, "repeat every"),
    ],
)
def test_levels_no_camera_has_are_refused(read, tags, error, message):
    with pytest.raises(error, match=message):
        read(make_dng(MOSAIC, tags=tags))


def test_missing_white_is_the_bit_depth_or_refused_where_the_pixels_contradict(read):
    with pytest.raises(UnsupportedRaw, match="no white level tag"):
        read(make_dng(MOSAIC, drop=(50717,)))
    bright = MOSAIC.copy()
    bright[0, 0] = 60000
    frame = read(make_dng(bright, drop=(50717,)))
    assert (frame.white_level == 65535).all()
    assert "no white level in the file" in frame.source.integrity_evidence


def test_unknown_stays_unknown(read):
    exif = {33434: ("R", [0, 1]), 33437: ("R", [0, 0]), 34855: ("S", [0]), 36867: ("A", "    ")}
    frame = read(make_dng(MOSAIC, exif=exif, tags={50728: ("R", [0, 0, 1, 1, 1, 1])}))
    shot = frame.shot
    assert (shot.iso, shot.exposure_s, shot.aperture, shot.taken) == (None,) * 4
    assert frame.noise_profile is None
    overflow = {34855: ("S", [65535]), 34867: ("L", [204800])}
    assert read(make_dng(MOSAIC, exif=overflow)).shot.iso == 204800
    assert read(make_dng(MOSAIC, exif={34855: ("S", [65535])})).shot.iso is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_carried_and_pixels_stay(read, orientation):
    frame = read(make_dng(MOSAIC, tags={274: ("S", [orientation])}))
    assert frame.orientation == orientation
    np.testing.assert_array_equal(frame.mosaic, MOSAIC)


def test_colour_tags_are_copied_in_little_endian_and_damaged_ones_left_out(read):
    tags = {50936: ("A", "Profile"), 50730: ("SR", [0, 0]), 51022: ("U", b"\0\0\0\1abcdef"), 50779: ("S", [17])}
    copied = [read(make_dng(MOSAIC, order=order, tags=tags)).colour.dng_tags for order in "<>"]
    assert copied[0] == copied[1]
    assert copied[0][50936] == (2, 8, b"Profile\0")
    assert copied[0][51022] == (7, 10, b"\0\0\0\1abcdef")
    assert copied[0][50779] == (3, 1, b"\x11\0")
    assert 50730 not in copied[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1e-4, 2e-7], ((1e-4, 2e-7),)),
        ([1e-4, 2e-7, 1e-5, 0, 3e-4, 1e-7], ((1e-4, 2e-7), (1e-5, 0.0), (3e-4, 1e-7))),
        ([-1e-4, 2e-7], None),
        ([float("nan"), 2e-7], None),
        ([0.0, 0.0], None),
        ([1e-4, 2e-7, 1e-4], None),
    ],
)
def test_noise_profile_is_read_or_nothing(read, values, expected):
    assert read(make_dng(MOSAIC, tags={51041: ("D", values)})).noise_profile == expected


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({262: ("S", [34892]), 277: ("S", [3]), 258: ("S", [16, 16, 16])}, "linear DNG"),
        ({259: ("S", [34892])}, "lossy DNG"),
        ({259: ("S", [52546])}, "JPEG XL"),
        ({339: ("S", [3])}, "floating-point"),
    ],
)
def test_processed_data_are_refused_with_the_reason(read, tags, message):
    with pytest.raises(UnsupportedRaw, match=message):
        read(make_dng(MOSAIC, tags=tags))


def test_a_digest_verifies_and_a_flipped_bit_breaks_it(read):
    data = make_dng(MOSAIC, tags={51111: ("B", new_raw_image_digest(MOSAIC))})
    assert read(data).source.integrity is Integrity.VERIFIED
    flipped = bytearray(data)
    flipped[-4000] ^= 1
    with pytest.raises(DamagedRaw, match="do not match the digest"):
        read(bytes(flipped))
    frame = read(bytes(flipped), allow_damaged=True)
    assert frame.source.integrity is Integrity.DAMAGED
    assert "digest" in frame.source.integrity_evidence


@pytest.mark.parametrize(("components", "across"), [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (4, 2), (4, 4), (4, 1)])
def test_every_tile_layout_is_decoded_exactly(read, components, across):
    """Two of these (2 x 2, 4 x 4) LibRaw 0.22 assembles wrongly without an error."""
    frame = read(make_dng(MOSAIC, tile=(32, 128 // across // 16 * 16), components=components))
    np.testing.assert_array_equal(frame.mosaic, MOSAIC)


def test_libraw_alone_does_mix_up_those_tiles(decoder, tmp_path):
    """When this fails, LibRaw is repaired and the second decoder can go."""
    data = make_dng(MOSAIC, tile=(32, 64), components=2)
    _, alone = decoder.decode(tmp_path, data, max_pixels=10**6)
    assert (alone != MOSAIC).mean() > 0.5
    assert "imagecodecs" in _read_bytes(tmp_path, decoder, data).source.decoder


def test_zero_filled_pixels_are_refused(read):
    data = bytearray(make_dng(MOSAIC))
    data[-6000:-5900] = bytes(100)
    with pytest.raises(DamagedRaw, match="zero-filled"):
        read(bytes(data))
    assert read(bytes(data), allow_damaged=True).source.integrity is Integrity.DAMAGED


def test_a_stub_that_decodes_to_nothing_is_refused(read):
    with pytest.raises(DamagedRaw, match="nothing was decoded"):
        read(make_dng(np.zeros_like(MOSAIC)))


def test_the_size_gate_holds_before_unpacking(read, decoder, tmp_path):
    with pytest.raises(RawTooLarge, match=r"128 x 96 pixels.*max_megapixels"):
        read(make_dng(MOSAIC), max_megapixels=0.01)
    # A tile bomb: 1 tile of 4 kB stands for all 40,000 of 655 megapixels. Its shared bytes are found without decoding.
    tile = make_dng(np.zeros((128, 128), np.uint16), tile=(128, 128))
    tags = {256: ("L", [25600]), 257: ("L", [25600]), 324: ("L", [len(tile) - 3000] * 40000)}
    bomb = make_dng(np.zeros((128, 128), np.uint16), tile=(128, 128), tags={**tags, 325: ("L", [200] * 40000)})
    started = time.perf_counter()
    with pytest.raises(DamagedRaw, match="share bytes"):
        read(bomb)
    with pytest.raises(RawTooLarge):
        decoder.decode(tmp_path, bomb, max_pixels=200_000_000)
    assert time.perf_counter() - started < 1.0


def test_special_files_are_refused_at_once(tmp_path, decoder, monkeypatch):
    fifo, loop, empty, plug = (tmp_path / name for name in ("fifo", "loop", "empty.dng", "socket"))
    loop.symlink_to(loop)
    empty.touch()
    cases = [(tmp_path, "regular file|opened"), (loop, "opened"), (empty, "empty"), (tmp_path / "none", "no such")]
    cases.append((tmp_path / "nul\0", "opened"))
    if hasattr(os, "mkfifo"):
        os.mkfifo(fifo)
        cases += [(fifo, "regular file"), ("/dev/zero", "regular file"), ("/dev/null", "regular file")]
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # names of sockets are short
        server.bind("socket")
        cases.append((plug, "opened|regular"))
        for path, message in cases:
            started = time.perf_counter()
            with pytest.raises(NotARawFile, match=message):
                read_raw(path, decoder=decoder)
            assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize("name", [b"-rf.dng", b"two\nlines.dng", b"\xff\xfe.dng", "é\U0001f4f7.dng".encode(), b" .dng"])
def test_any_file_name(tmp_path, decoder, name):
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(make_dng(MOSAIC))
    assert read_raw(path, decoder=decoder).source.path == path
    path.write_bytes(b"no raw at all")
    with pytest.raises(NotARawFile) as caught:
        read_raw(str(path), decoder=decoder)
    str(caught.value).encode("utf-8")  # printable anywhere
    assert "\n" not in str(caught.value)


def test_the_file_is_not_touched(read, tmp_path):
    path = tmp_path / "frame.dng"
    data = make_dng(MOSAIC)
    read(data)
    before = path.stat()
    read_raw(path)  # also: without a decoder
    after = path.stat()
    assert (before.st_mtime_ns, before.st_size, before.st_ino) == (after.st_mtime_ns, after.st_size, after.st_ino)
    assert path.read_bytes() == data
    assert [p.name for p in tmp_path.iterdir()] == ["frame.dng"]


def _read_bytes(folder, decoder, data):
    path = folder / "again.dng"
    path.write_bytes(data)
    return read_raw(path, decoder=decoder)


def test_missing_tile_lengths_are_damage(read):
    with pytest.raises(DamagedRaw, match="3 tile offsets and 0 lengths"):
        read(make_dng(MOSAIC, tile=(32, 128), drop=(325,)))
    with pytest.raises(DamagedRaw):
        read(make_dng(MOSAIC, tile=(32, 64), components=2, drop=(325,), tags={324: ("L", [9] * 6)}))


def test_whatever_a_file_makes_us_raise_is_a_typed_error(read, monkeypatch):
    def fail(*_):
        raise OverflowError("planted")

    monkeypatch.setattr("noise_models.rawfile.read_levels", fail)
    with pytest.raises(DamagedRaw, match=r"contradict each other \(OverflowError: planted\)"):
        read(make_dng(MOSAIC))
