"""The TIFF walker follows what is there and survives what is not."""

import struct
import time

import numpy as np
import pytest

from noise_models.reading.tiffwalk import MAX_DIRECTORIES, walk
from tests.raw_samples import directory, make_dng, noisy_mosaic

SUB = {256: ("L", [77])}


@pytest.mark.parametrize("order", ["<", ">"])
def test_reads_types_in_both_byte_orders(order):
    tags = {
        271: ("A", "Make é\0junk"),
        50714: ("R", [2049, 4, 1, 0]),
        50721: ("SR", [-1, 2]),
        51041: ("D", [1e-5, 2e-9]),
        256: ("L", [70000]),
        258: ("S", [16, 16, 16]),
    }
    data = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8) + directory(tags, 8, order)
    ifd = walk(data).ifds[0]
    assert ifd.text(271) == "Make é"
    np.testing.assert_array_equal(ifd.numbers(50714), [512.25, np.nan])
    assert ifd.numbers(50721).tolist() == [-0.5]
    assert ifd.numbers(51041).tolist() == [1e-5, 2e-9]
    assert ifd.integers(258) == (16, 16, 16)
    assert ifd.integer(256, 0) == 70000
    assert ifd.integer(999, 5) == 5
    assert ifd.tags[51041].little_endian() == struct.pack("<2d", 1e-5, 2e-9)
    assert ifd.tags[50714].little_endian() == struct.pack("<4I", 2049, 4, 1, 0)


def test_finds_chain_sub_and_exif_directories():
    first = {330: ("L", [200, 300]), 34665: ("L", [400])}
    data = bytearray(600)
    data[:8] = b"II*\0" + struct.pack("<I", 8)
    for at, block in ((8, directory(first, 8, "<", following=500)), *((p, directory(SUB, p, "<")) for p in (200, 300))):
        data[at : at + len(block)] = block
    for at in (400, 500):
        block = directory(SUB, at, "<")
        data[at : at + len(block)] = block
    tiff = walk(bytes(data))
    assert [(ifd.kind, ifd.offset) for ifd in tiff.ifds] == [
        ("main", 8), ("sub", 200), ("sub", 300), ("exif", 400), ("main", 500),
    ]  # fmt: skip
    assert tiff.problems == ()


@pytest.mark.parametrize("pointer", [330, 34665])
def test_loops_end(pointer):
    data = b"II*\0" + struct.pack("<I", 8) + directory({pointer: ("L", [8]), **SUB}, 8, "<", following=8)
    tiff = walk(data)
    assert len(tiff.ifds) == 1
    assert len(tiff.problems) == 2
    assert "linked twice" in tiff.problems[0]


def test_many_directories_are_bounded():
    pointers = [8 + 18 * k for k in range(1, 3000)]
    data = b"II*\0" + struct.pack("<I", 8) + directory({330: ("L", pointers)}, 8, "<") + bytes(100_000)
    started = time.perf_counter()
    tiff = walk(data)
    assert time.perf_counter() - started < 1.0
    assert len(tiff.ifds) <= MAX_DIRECTORIES


@pytest.mark.parametrize("count", [2**32 - 1, 2**31, 10_000])
def test_absurd_counts_cost_nothing_and_are_told(count):
    entry = struct.pack("<HHII", 273, 12, count, 8)
    data = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + bytes(4)
    tiff = walk(data)
    assert 273 not in tiff.ifds[0].tags
    assert f"The {count} values of tag 273" in tiff.problems[0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"II",
        b"II*\0\0\0\0",
        b"II+\0\x08\0\0\0" + bytes(20),
        b"II*\0\xff\xff\xff\xff",
        b"XX*\0\x08\0\0\0" + bytes(9),
    ],
)
def test_no_tiff_is_none(data):
    assert walk(data) is None


def test_every_truncation_and_many_flips_return_quickly():
    data = make_dng(noisy_mosaic(8, 8))
    rng = np.random.default_rng(5)
    started = time.perf_counter()
    for end in range(len(data)):
        walk(data[:end])
    for _ in range(2000):
        broken = bytearray(data)
        for position in rng.integers(0, len(data) - 128, 4):
            broken[position] = rng.integers(256)
        tiff = walk(bytes(broken))
        for ifd in tiff.ifds if tiff else ():
            for number in ifd.tags:
                ifd.numbers(number), ifd.integers(number), ifd.text(number), ifd.tags[number].little_endian()
    assert time.perf_counter() - started < 10.0
