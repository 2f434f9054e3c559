"""Containers that are not TIFF: recognised, named, and caught when they are cut off."""

import struct

import numpy as np
import pytest

from noise_models.reading.containers import recognise
from tests.raw_samples import directory, make_dng, noisy_mosaic


def tiff_block(tags):
    return b"II*\0" + struct.pack("<I", 8) + directory(tags, 8, "<")


CAMERA = tiff_block({271: ("A", "Maker"), 272: ("A", "Model Two"), 34855: ("S", [400])})


def raf(sensor=1000):
    preview = b"\xff\xd8\xff\xe1\0\0Exif\0\0" + CAMERA
    parts = (160, len(preview), 160 + len(preview), 50, 210 + len(preview), sensor)
    head = b"FUJIFILMCCD-RAW 0201" + bytes(8) + b"X-T9".ljust(32, b"\0")
    return head.ljust(0x54, b"\0") + struct.pack(">6I", *parts).ljust(160 - 0x54, b"\0") + preview + bytes(50 + sensor)


def cr3():
    box = lambda kind, body: struct.pack(">I4s", 8 + len(body), kind) + body  # noqa: E731
    big = struct.pack(">I4sQ", 1, b"mdat", 16 + 3000) + bytes(3000)
    return box(b"ftyp", b"crx ") + box(b"moov", box(b"CMT1", CAMERA) + box(b"CMT2", CAMERA)) + big


def crw(order="<"):
    """Heap with one sub-heap that holds the names."""
    names = b"Canon\0Canon EOS T9\0"
    inner = names + bytes(20)
    table = struct.pack(order + "H", 1) + struct.pack(order + "HII", 0x080A, len(names), 0)
    inner += table + struct.pack(order + "I", len(names) + 20)
    body = bytes(500) + inner
    table = struct.pack(order + "H", 2) + struct.pack(order + "HII", 0x2005, 500, 0)
    table += struct.pack(order + "HII", 0x2807, len(inner), 500)
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "I", 26) + b"HEAPCCDR"
    return head.ljust(26, b"\0") + body + table + struct.pack(order + "I", len(body))


@pytest.mark.parametrize(
    ("data", "name", "camera"),
    [
        (raf(), "RAF", ("FUJIFILM", "X-T9")),
        (cr3(), "CR3", ("", "")),
        (crw(), "CRW", ("Canon", "Canon EOS T9")),
        (crw(">"), "CRW", ("Canon", "Canon EOS T9")),
    ],
)
def test_whole_files_are_recognised_and_every_cut_is_found(data, name, camera):
    whole = recognise(data)
    assert (whole.kind, whole.name, whole.damage) == ("other", name, ())
    assert (whole.make, whole.model) == camera
    for lost in (1, 7, 100, 400):
        assert recognise(data[:-lost]).damage, lost


@pytest.mark.parametrize("data", [raf(), cr3()])
def test_metadata_inside_are_found(data):
    block = recognise(data).metadata[0]
    assert block.first(272).text(272) == "Model Two"
    assert block.first(34855).integer(34855, 0) == 400


def test_tiff_dng_and_the_rest():
    dng = make_dng(noisy_mosaic(8, 8))
    assert recognise(dng).kind == "DNG"
    assert recognise(make_dng(noisy_mosaic(8, 8), drop=(50706,))).kind == "TIFF"
    assert recognise(b"FOVb" + bytes(50)).name == "X3F"
    for data in (b"", b"\0", bytes(500), b"JPEG"):
        assert (recognise(data).kind, recognise(data).name) == ("other", "unknown")


@pytest.mark.parametrize("make", [raf, cr3, crw])
def test_any_damage_is_survived(make):
    data = make()
    rng = np.random.default_rng(11)
    for _ in range(500):
        broken = bytearray(data)
        for position in rng.integers(0, len(data), 6):
            broken[position] = rng.choice([0, 255, rng.integers(256)])
        recognise(bytes(broken[: rng.integers(1, len(data) + 1)]))


def test_nested_heaps_end():
    loop = b"II" + struct.pack("<I", 14) + b"HEAPCCDR" + struct.pack("<H", 40)
    loop += struct.pack("<HII", 0x2800, 418, 0) * 40
    loop = loop.ljust(14 + 414, b"\0") + struct.pack("<I", 0)
    assert recognise(loop).damage
