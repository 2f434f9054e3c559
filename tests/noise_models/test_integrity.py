"""Damage is found where it is, and not where it is not."""

import hashlib
import struct

import numpy as np
import pytest

from noise_models.reading.containers import recognise
from noise_models.reading.integrity import (
    MIN_CONSTANT_ROWS,
    MIN_ZERO_RUN,
    container_damage,
    container_evidence,
    digest_matches,
    longest_zero_run,
    new_raw_image_digest,
    pixel_damage,
)
from tests.raw_samples import BLACK, make_dng, noisy_mosaic

MOSAIC = noisy_mosaic()
BLACK_LEVEL = np.full((2, 2), float(BLACK))


def damage_of(data):
    return container_damage(data, recognise(data))


@pytest.mark.parametrize("layout", [{}, {"rows_per_strip": 10}, {"tile": (32, 64)}, {"order": ">"}])
def test_sound_files_show_no_damage(layout):
    data = make_dng(MOSAIC, **layout)
    assert damage_of(data) == []
    assert "inside the file" in container_evidence(recognise(data))


@pytest.mark.parametrize("layout", [{}, {"rows_per_strip": 10}, {"tile": (32, 64)}])
@pytest.mark.parametrize("lost", [1, 2, 100, 5000])
def test_every_lost_byte_of_pixels_is_found(layout, lost):
    assert "outside the file" in damage_of(make_dng(MOSAIC, **layout)[:-lost])[0]


@pytest.mark.parametrize(
    ("tags", "layout", "message"),
    [
        ({324: ("L", [900] * 6)}, {"tile": (32, 64)}, "5 tiles share bytes"),
        ({273: ("L", [0])}, {}, "outside the file"),
        ({279: ("L", [100])}, {}, "need 24576 bytes; the strips have 100"),
        ({258: ("S", [12])}, {}, "need 18432 bytes; the strips have 24576"),
        ({279: ("L", [1, 2])}, {}, "1 strip offsets and 2 lengths"),
        ({257: ("L", [2000])}, {"tile": (32, 64)}, "needs 126 tiles, the file lists 6"),
        ({256: ("L", [0])}, {}, "do not give the picture a size"),
    ],
)
def test_contradicting_tags_are_found(tags, layout, message):
    assert message in damage_of(make_dng(MOSAIC, tags=tags, **layout))[0]


def test_empty_tiles_are_found():
    data = make_dng(MOSAIC, tile=(32, 64))
    ifd = recognise(data).tiff.ifds[0]
    lengths = list(ifd.integers(325))
    sparse = make_dng(MOSAIC, tile=(32, 64), tags={325: ("L", [0, *lengths[1:]])})
    assert "1 tiles are empty" in damage_of(sparse)[0]


@pytest.mark.parametrize("black", [0.0, 15.0])
def test_zeros_are_natural_without_a_pedestal(black):
    mosaic = MOSAIC.copy()
    mosaic[:, :90] = 0
    assert pixel_damage(mosaic, np.full((2, 2), black)) == []
    assert pixel_damage(mosaic, BLACK_LEVEL) != []


@pytest.mark.parametrize("length", [MIN_ZERO_RUN - 1, MIN_ZERO_RUN, 200])
def test_zero_runs_of_the_stated_length_are_found(length):
    mosaic = noisy_mosaic(20, 300)
    mosaic[7, 50 : 50 + length] = 0
    assert longest_zero_run(mosaic) == length
    assert (pixel_damage(mosaic, BLACK_LEVEL) != []) == (length >= MIN_ZERO_RUN)


def test_runs_do_not_wrap_to_the_next_row():
    mosaic = noisy_mosaic(20, 300)
    mosaic[3, -20:] = mosaic[4, :20] = 0
    assert longest_zero_run(mosaic) == 20


def test_constant_frames_and_bands_are_found_but_not_a_clipped_sky():
    assert "nothing was decoded" in pixel_damage(np.zeros((9, 9), np.uint16), np.zeros((1, 1)))[0]
    band = MOSAIC.copy()
    band[:MIN_CONSTANT_ROWS] = 1000
    assert f"{MIN_CONSTANT_ROWS} of 96 rows" in pixel_damage(band, BLACK_LEVEL)[0]
    sky = MOSAIC.copy()
    sky[:50] = 16000
    assert pixel_damage(sky, BLACK_LEVEL) == []


def test_a_dark_frame_of_low_noise_is_no_damage():
    rng = np.random.default_rng(3)
    dark = np.rint(rng.normal(BLACK, 0.6, (400, 600))).astype(np.uint16)
    assert pixel_damage(dark, BLACK_LEVEL) == []


def test_digest_of_one_cell_is_the_hash_of_its_hash():
    small = np.arange(12, dtype=np.uint16).reshape(3, 4)
    expected = hashlib.md5(hashlib.md5(struct.pack("<12H", *range(12))).digest()).digest()
    assert new_raw_image_digest(small) == expected


def test_digest_walks_cells_of_256_row_by_row():
    frame = noisy_mosaic(300, 280)
    cells = [frame[:256, :256], frame[:256, 256:], frame[256:, :256], frame[256:, 256:]]
    parts = b"".join(hashlib.md5(cell.astype("<u2").tobytes()).digest() for cell in cells)
    assert new_raw_image_digest(frame) == hashlib.md5(parts).digest()


def test_digest_is_compared_only_where_it_can_be():
    digest = new_raw_image_digest(MOSAIC)
    container = recognise(make_dng(MOSAIC, tags={51111: ("B", digest)}))
    assert digest_matches(MOSAIC, container) is True
    flipped = MOSAIC.copy()
    flipped[40, 40] ^= 1
    assert digest_matches(flipped, container) is False
    for tags in ({}, {51111: ("B", bytes(16))}, {51111: ("B", digest), 50712: ("S", [0, 1])}):
        assert digest_matches(MOSAIC, recognise(make_dng(MOSAIC, tags=tags))) is None
    assert digest_matches(MOSAIC[:90], container) is None


@pytest.mark.parametrize(("zeros", "found"), [(5000, True), (200, True), (40, False)])
def test_zero_filled_ends_of_lossless_jpegs_are_found(zeros, found):
    """40 zeros could be padding after a JPEG that lost its end marker: that is left to the decoder."""
    data = make_dng(MOSAIC, tile=(96, 128))
    damaged = data[:-zeros] + bytes(zeros)
    assert damage_of(data) == []
    assert [("zero-filled" in text) for text in damage_of(damaged)] == [True] * found


def test_padding_after_a_whole_jpeg_is_no_damage():
    data = make_dng(MOSAIC, tile=(96, 128))
    length = recognise(data).tiff.ifds[0].integer(325, 0)
    padded = make_dng(MOSAIC, tile=(96, 128), tags={325: ("L", [length + 300])}) + bytes(300)
    assert damage_of(padded) == []


def test_a_tile_that_is_no_jpeg_is_found():
    data = bytearray(make_dng(MOSAIC, tile=(32, 64)))
    at = recognise(bytes(data)).tiff.ifds[0].integers(324)[3]
    data[at : at + 2] = b"xx"
    assert "1 of 6 tiles do not begin" in damage_of(bytes(data))[0]
