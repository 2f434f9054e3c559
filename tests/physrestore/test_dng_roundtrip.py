"""What goes into a DNG comes out of it: pixels, phase, levels, colour, capture data."""

from __future__ import annotations

import struct
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rawpy
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noise_models.cfa import BAYER_PHASES
from noise_models.frame import Colour, RawFrame, Shot, Source
from physrestore import __version__
from physrestore.errors import UnsafeOutput, UnwritableImage
from physrestore.output.dng import Compression, write_cfa_dng, write_linear_dng
from physrestore.output.record import read_history
from physrestore.output.tags import Tag
from tests.physrestore.dng_structure import directories
from tests.physrestore.sample_frames import MATRIX, NEUTRAL, XTRANS, full_shot, grey_frame, noise_frame

LIBRAW_LETTERS = {0: "R", 1: "G", 2: "B", 3: "G"}
LIBRAW_MINIMUM = 22  # LibRaw opens no smaller picture
FLIP = {1: 0, 3: 3, 6: 6, 8: 5}  # EXIF orientation -> LibRaw's flip


def written(path: Path, frame: RawFrame, **options: object) -> Path:
    write_cfa_dng(path, frame, overwrite=True, **options)  # type: ignore[arg-type]
    return path


def number(path: Path, tag: int, directory: str = "raw") -> tuple[float, ...]:
    kind, count, data = directories(path.read_bytes())[directory].tags[tag]
    if kind in (5, 10):
        flat = struct.unpack(f"<{2 * count}{'I' if kind == 5 else 'i'}", data)
        return tuple(a / b for a, b in zip(flat[::2], flat[1::2], strict=True))
    return struct.unpack(f"<{count}{ {1: 'B', 3: 'H', 4: 'I', 12: 'd'}[kind] }", data)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(LIBRAW_MINIMUM, 90),
    width=st.one_of(st.integers(LIBRAW_MINIMUM, 90), st.integers(500, 530), st.integers(1010, 1040)),
    cfa=st.sampled_from([*BAYER_PHASES, XTRANS, "M"]),
    blacks=st.lists(st.integers(0, 409_600), min_size=4, max_size=4),
    white=st.floats(8_000.0, 65_535.0),
    orientation=st.sampled_from(sorted(FLIP)),
    compression=st.sampled_from(["lossless-jpeg", "none"]),
    seed=st.integers(0, 2**16),
)
def test_rawpy_reads_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    cfa: str,
    blacks: list[int],
    white: float,
    orientation: int,
    compression: Compression,
    seed: int,
) -> None:
    frame = noise_frame(height, width, cfa, seed=seed)
    period = frame.cfa.period
    black = np.resize(np.array(blacks) / 100, period)
    frame = replace(frame, black_level=black, white_level=np.full(period, white), orientation=orientation)
    path = written(tmp_path_factory.getbasetemp() / "roundtrip.dng", frame, compression=compression)
    with rawpy.imread(str(path)) as raw:
        assert np.array_equal(raw.raw_image_visible, frame.mosaic)
        if not frame.cfa.is_mono:
            seen = "".join(LIBRAW_LETTERS[k] for k in raw.raw_colors_visible[: period[0], : period[1]].flat)
            assert seen == frame.cfa.name
            assert np.allclose(np.array(raw.camera_whitebalance[:3]) * NEUTRAL, NEUTRAL[1], rtol=1e-5)
        assert raw.white_level == round(white)
        assert raw.sizes.flip == FLIP[orientation]
        if frame.cfa.is_bayer:
            for i in range(2):
                for j in range(2):  # LibRaw keeps whole numbers, by colour
                    colour = raw.raw_colors_visible[i, j]
                    assert abs(raw.black_level_per_channel[colour] - black[i, j]) < 1
    stored = number(path, Tag.BlackLevel)
    assert np.array_equal(np.resize(stored, period), black) or np.allclose(np.resize(stored, period), black, atol=1e-7)
    assert len(stored) == (1 if np.ptp(black) == 0 else black.size)


def test_black_levels_keep_their_fractions_and_places(tmp_path: Path) -> None:
    black = np.array([[512.25, 513.01], [511.5, 512.0]])
    path = written(tmp_path / "a.dng", replace(noise_frame(32, 32), black_level=black))
    assert number(path, Tag.BlackLevel) == tuple(black.flat)
    assert number(path, Tag.BlackLevelRepeatDim) == (2, 2)
    with tifffile.TiffFile(path) as tiff:  # the same through another reader
        levels = tiff.pages.first.pages.first.tags[Tag.BlackLevel].value
    assert [a / b for a, b in zip(levels[::2], levels[1::2], strict=True)] == list(black.flat)


def test_the_smallest_white_level_is_written(tmp_path: Path) -> None:
    white = np.array([[15000.0, 15311.4], [15311.4, 16000.0]])
    assert number(written(tmp_path / "a.dng", replace(noise_frame(32, 32), white_level=white)), Tag.WhiteLevel) == (
        15000,
    )


@pytest.mark.parametrize("cfa", ["GBRG", XTRANS, "M"])
@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((40, 1030), np.uint16),
        np.full((40, 1030), 65535, np.uint16),
        np.random.default_rng(2).choice(np.array([0, 65535], np.uint16), (40, 1030)),
        np.random.default_rng(3).choice(np.array([0, 32768], np.uint16), (40, 1030)),  # differences of 32768
    ],
    ids=["zeros", "ones", "extremes", "half"],
)
def test_hard_content_survives_compression(tmp_path: Path, cfa: str, pixels: np.ndarray) -> None:
    frame = replace(noise_frame(40, 1030, cfa), mosaic=pixels)
    with rawpy.imread(str(written(tmp_path / "a.dng", frame))) as raw:
        assert np.array_equal(raw.raw_image_visible, pixels)


@pytest.mark.parametrize("width", [512, 1024, 1536, 2048])
def test_pictures_of_whole_tiles_survive(tmp_path: Path, width: int) -> None:
    frame = noise_frame(600, width)  # LibRaw 0.22 decodes 1024 columns in tiles of 512 wrongly
    with rawpy.imread(str(written(tmp_path / "a.dng", frame))) as raw:
        assert np.array_equal(raw.raw_image_visible, frame.mosaic)
    write_linear_dng(tmp_path / "b.dng", frame, np.repeat(frame.mosaic[None] / 65535, 3, axis=0))
    with rawpy.imread(str(tmp_path / "b.dng")) as raw:
        assert np.array_equal(raw.raw_image[..., 1], frame.mosaic)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no resource usage")
def test_24_megapixels_need_little_memory(tmp_path: Path) -> None:
    code = """
        import resource, sys
        from pathlib import Path
        from physrestore.output.dng import write_cfa_dng
        from tests.physrestore.sample_frames import noise_frame
        write_cfa_dng(Path(sys.argv[1]) / "small.dng", noise_frame(64, 64))
        frame = noise_frame(4000, 6000)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        write_cfa_dng(Path(sys.argv[1]) / "large.dng", frame)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    grown_kib = int(answer.stdout) // (1024 if sys.platform == "darwin" else 1)
    assert grown_kib < 200 * 1024  # less than five copies of the mosaic, 48 MB each


def test_another_mosaic_takes_the_place_of_the_frame_s(tmp_path: Path) -> None:
    frame, other = noise_frame(64, 64, seed=1), noise_frame(64, 64, seed=2).mosaic
    write_cfa_dng(tmp_path / "a.dng", frame, other)
    with rawpy.imread(str(tmp_path / "a.dng")) as raw:
        assert np.array_equal(raw.raw_image_visible, other)
        assert not np.array_equal(raw.raw_image_visible, frame.mosaic)


def test_noise_profile_is_the_frame_s_own_only_with_its_own_pixels(tmp_path: Path) -> None:
    own = ((1e-4, 2e-6), (3e-4, 4e-6), (5e-4, 6e-6))
    frame = replace(noise_frame(64, 64), noise_profile=own)
    flat = tuple(value for pair in own for value in pair)
    assert number(written(tmp_path / "a.dng", frame), Tag.NoiseProfile) == flat
    with tifffile.TiffFile(tmp_path / "a.dng") as tiff:
        assert tiff.pages.first.pages.first.tags[Tag.NoiseProfile].value == flat
    write_cfa_dng(tmp_path / "b.dng", frame, frame.mosaic.copy(), noise_reduction=0.75)
    raw = directories((tmp_path / "b.dng").read_bytes())["raw"]
    assert Tag.NoiseProfile not in raw.tags  # nobody said what noise these pixels have
    assert number(tmp_path / "b.dng", Tag.NoiseReductionApplied) == (0.75,)


def test_capture_data_reach_readers(tmp_path: Path) -> None:
    shot = full_shot()
    frame = replace(noise_frame(64, 64), shot=shot, source=Source(path=Path("/photos/IMG_é.CR2")))
    path = written(tmp_path / "a.dng", frame)
    with rawpy.imread(str(path)) as raw:
        other = raw.other
        assert (other.iso_speed, other.aperture, other.focal_length) == pytest.approx((3200, 2.8, 50.5))
        assert other.shutter_speed == pytest.approx(1 / 8000)
        assert raw.lens.model == shot.lens
    found = directories(path.read_bytes())
    text = {tag: found[name].tags[tag][2] for name, tag in (("main", 271), ("main", 272), ("main", 305), ("main", 306))}
    assert [value.rstrip(b"\0").decode() for value in text.values()] == [
        shot.make,
        shot.model,
        f"physrestore {__version__}",
        shot.taken,
    ]
    assert found["main"].tags[Tag.OriginalRawFileName][2] == "IMG_é.CR2".encode() + b"\0"


def test_unknown_capture_data_are_left_out(tmp_path: Path) -> None:
    found = directories(written(tmp_path / "a.dng", replace(noise_frame(64, 64), shot=Shot())).read_bytes())
    assert set(found["exif"].tags) == {Tag.ExifVersion}
    assert not {271, 272, 306, Tag.OriginalRawFileName} & found["main"].tags.keys()


def test_iso_beyond_16_bits_goes_where_exif_wants_it(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dng", replace(noise_frame(64, 64), shot=Shot(iso=102_400.0)))
    assert number(path, Tag.ISOSpeedRatings, "exif") == (65535,)
    assert number(path, Tag.RecommendedExposureIndex, "exif") == (102_400,)


def test_a_frame_without_colour_opens_neutral_and_says_so(tmp_path: Path) -> None:
    frame = replace(grey_frame(64, 64), colour=Colour())
    path = written(tmp_path / "a.dng", frame)
    main = directories(path.read_bytes())["main"]
    assert main.tags[Tag.ImageDescription][2].startswith(b"Camera colours unknown")
    assert main.tags[Tag.UniqueCameraModel][2] == b"Unknown camera\0"
    with rawpy.imread(str(path)) as raw:
        assert np.allclose(raw.camera_whitebalance[:3], 1.0)
        picture = raw.postprocess(use_camera_wb=True, output_bps=16, no_auto_bright=True, gamma=(1, 1))
    centre = picture[8:-8, 8:-8].reshape(-1, 3).mean(axis=0)
    assert np.allclose(centre / centre[1], np.array(NEUTRAL), rtol=0.01)  # sensor values are sRGB values


def test_colours_develop_to_grey_in_libraw(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dng", grey_frame(64, 64))
    with rawpy.imread(str(path)) as raw:
        picture = raw.postprocess(use_camera_wb=True, output_bps=16, no_auto_bright=True, gamma=(1, 1))
    centre = picture[8:-8, 8:-8].reshape(-1, 3).mean(axis=0)
    assert np.allclose(centre, centre[1], rtol=0.005)
    assert np.allclose(number(path, Tag.ColorMatrix1, "main"), np.ravel(MATRIX), atol=1e-6)


def test_the_source_s_colour_tags_win_and_stay_unchanged(tmp_path: Path) -> None:
    matrix = struct.pack("<18i", *[v for k in range(9) for v in (k * 1000 - 3000, 10_000)])
    neutral = struct.pack("<6I", 1, 2, 1, 1, 3, 4)
    tags = {
        int(Tag.ColorMatrix1): (10, 9, matrix),
        int(Tag.AsShotNeutral): (5, 3, neutral),
        int(Tag.UniqueCameraModel): (2, 4, b"Mine"),
        50936: (2, 5, b"Warm\0"),  # ProfileName
    }
    frame = noise_frame(64, 64)
    path = written(tmp_path / "a.dng", replace(frame, colour=replace(frame.colour, dng_tags=tags)))
    main = directories(path.read_bytes())["main"]
    assert {tag: main.tags[tag] for tag in tags} == tags
    assert Tag.CalibrationIlluminant1 not in main.tags  # ours belongs to our matrix


def test_a_white_point_of_the_source_replaces_our_neutral(tmp_path: Path) -> None:
    tags = {int(Tag.AsShotWhiteXY): (5, 2, struct.pack("<4I", 3127, 10_000, 3290, 10_000))}
    frame = noise_frame(64, 64)
    path = written(tmp_path / "a.dng", replace(frame, colour=replace(frame.colour, dng_tags=tags)))
    main = directories(path.read_bytes())["main"]
    assert Tag.AsShotWhiteXY in main.tags
    assert Tag.AsShotNeutral not in main.tags


def test_tags_that_build_the_file_are_not_taken_from_the_source(tmp_path: Path) -> None:
    frame = noise_frame(64, 64)
    frame = replace(frame, colour=replace(frame.colour, dng_tags={324: (4, 1, b"\0\0\0\0")}))
    with pytest.raises(UnwritableImage, match=r"\[324\].*cannot be copied"):
        write_cfa_dng(tmp_path / "a.dng", frame)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "history", ["", '{"a": "<&>\'\\""}', "x" * 70_000, "bell \x07, NUL \x00, lone \udc80 \u00e9 \U0001f4f7"]
)
def test_history_comes_back(tmp_path: Path, history: str) -> None:
    write_cfa_dng(tmp_path / "a.dng", noise_frame(64, 64), history=history)
    want = history.translate({0x07: 0xFFFD, 0x00: 0xFFFD, 0xDC80: 0xFFFD})
    assert (read_history(tmp_path / "a.dng") or "") == want


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    frame = replace(noise_frame(600, 700), shot=full_shot())
    one = written(tmp_path / "a.dng", frame, history="h").read_bytes()
    assert written(tmp_path / "b.dng", frame, history="h").read_bytes() == one


def test_linear_rgb_comes_back_in_order(tmp_path: Path) -> None:
    frame = noise_frame(70, 1540)  # three tiles across would hit a bug of LibRaw 0.22
    rgb = torch.rand(3, 70, 1540, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    write_linear_dng(tmp_path / "a.dng", frame, rgb, noise_profile=[(1e-5, 0.0)], noise_reduction=1.0)
    want = (rgb.clamp(0, 1).double() * 65535).add(0.5).floor().permute(1, 2, 0).numpy()
    with rawpy.imread(str(tmp_path / "a.dng")) as raw:
        assert np.array_equal(raw.raw_image[..., :3], want)
        assert raw.white_level == 65535
        assert set(raw.black_level_per_channel) == {0}
    assert number(tmp_path / "a.dng", Tag.NoiseProfile) == (1e-5, 0.0)


def test_linear_light_is_neither_darkened_nor_shifted(tmp_path: Path) -> None:
    frame = grey_frame(64, 64)
    rgb = np.full((3, 64, 64), 0.1234, dtype=np.float32)
    for compression in ("lossless-jpeg", "none"):
        write_linear_dng(tmp_path / "a.dng", frame, rgb, compression=compression, overwrite=True)
        with rawpy.imread(str(tmp_path / "a.dng")) as raw:
            assert raw.raw_image[..., :3].mean() / 65535 == pytest.approx(0.1234, abs=1 / 65535)


@pytest.mark.parametrize(
    ("mosaic", "message"),
    [(np.zeros((64, 62), np.uint16), r"must be \(64, 64\)"), (np.zeros((64, 64), np.int32), "not .* int32")],
)
def test_another_shape_or_type_is_refused(tmp_path: Path, mosaic: np.ndarray, message: str) -> None:
    with pytest.raises(UnwritableImage, match=message):
        write_cfa_dng(tmp_path / "a.dng", noise_frame(64, 64), mosaic)


def test_what_dng_cannot_hold_is_refused(tmp_path: Path) -> None:
    path, frame = tmp_path / "a.dng", noise_frame(64, 64)
    with pytest.raises(UnwritableImage, match="1 or 3 pairs"):
        write_cfa_dng(path, frame, noise_profile=[(1.0, 1.0)] * 2)
    with pytest.raises(UnwritableImage, match="finite S and O"):
        write_cfa_dng(path, frame, noise_profile=[(float("nan"), 1.0)])
    with pytest.raises(UnwritableImage, match="share of noise"):
        write_cfa_dng(path, frame, noise_reduction=75.0)
    with pytest.raises(UnwritableImage, match="no negative black"):
        write_cfa_dng(path, replace(frame, black_level=np.full((2, 2), -1.0)))
    with pytest.raises(UnwritableImage, match="smallest TIFF tile"):
        write_cfa_dng(path, noise_frame(14, 64))
    with pytest.raises(UnwritableImage, match="not finite"):
        write_linear_dng(path, frame, np.full((3, 64, 64), np.nan))
    with pytest.raises(UnwritableImage, match=r"must be \(3, 64, 64\)"):
        write_linear_dng(path, frame, np.zeros((3, 64, 32)))
    assert not list(tmp_path.iterdir())


def test_the_frame_s_own_source_is_never_replaced(tmp_path: Path) -> None:
    source = tmp_path / "photo.dng"
    source.write_bytes(b"original")
    frame = replace(noise_frame(64, 64), source=Source(path=source))
    with pytest.raises(UnsafeOutput, match=r"original 'photo\.dng'"):
        write_cfa_dng(source, frame, overwrite=True)
    assert source.read_bytes() == b"original"
