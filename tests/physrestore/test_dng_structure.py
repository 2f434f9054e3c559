"""The bytes of our DNGs keep the rules of `dng_structure`, and that checker finds what breaks them."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from physrestore.output.dng import write_cfa_dng, write_linear_dng
from physrestore.output.lossless_jpeg import encode_tiles, tiling
from tests.physrestore.dng_structure import violations
from tests.physrestore.sample_frames import XTRANS, full_shot, noise_frame


def good_file(folder: Path, compression: str = "lossless-jpeg") -> bytearray:
    frame = replace(noise_frame(600, 700), shot=full_shot())
    write_cfa_dng(folder / "good.dng", frame, history="odd", compression=compression, overwrite=True)  # type: ignore[arg-type]
    return bytearray((folder / "good.dng").read_bytes())


@pytest.mark.parametrize("compression", ["lossless-jpeg", "none"])
@pytest.mark.parametrize("cfa", ["RGGB", XTRANS, "M"])
@pytest.mark.parametrize("size", [(16, 16), (17, 31), (600, 701), (40, 1025)])
def test_mosaics_keep_the_rules(tmp_path: Path, size: tuple[int, int], cfa: str, compression: str) -> None:
    frame = replace(noise_frame(*size, cfa), shot=full_shot())
    write_cfa_dng(tmp_path / "a.dng", frame, history="odd", compression=compression)  # type: ignore[arg-type]
    assert violations((tmp_path / "a.dng").read_bytes()) == []


@pytest.mark.parametrize("compression", ["lossless-jpeg", "none"])
def test_linear_raws_keep_the_rules(tmp_path: Path, compression: str) -> None:
    frame, rgb = noise_frame(99, 1300), np.random.default_rng(0).random((3, 99, 1300))
    write_linear_dng(tmp_path / "a.dng", frame, rgb, compression=compression)  # type: ignore[arg-type]
    assert violations((tmp_path / "a.dng").read_bytes()) == []


def test_planted_errors_are_found(tmp_path: Path) -> None:
    good = good_file(tmp_path)
    assert violations(bytes(good)) == []
    (count,) = struct.unpack_from("<H", good, 8)
    first, second = slice(10, 22), slice(22, 34)

    swapped = good.copy()
    swapped[first], swapped[second] = good[second], good[first]
    assert any("not sorted" in line for line in violations(bytes(swapped)))

    chained = good.copy()
    struct.pack_into("<I", chained, 10 + 12 * count, 8)
    assert any("next directory" in line for line in violations(bytes(chained)))

    assert any("outside the file" in line for line in violations(bytes(good[:-100])))

    strip_offset = bytes(good).index(struct.pack("<HHI", 273, 4, 1))
    overlapping = good.copy()
    struct.pack_into("<I", overlapping, strip_offset + 8, 8)
    assert any("overlap" in line for line in violations(bytes(overlapping)))

    both = good.copy()
    struct.pack_into("<H", both, strip_offset, 272)
    assert any("exactly one of strips and tiles" in line for line in violations(bytes(both)))


@pytest.mark.parametrize(("samples", "interleave"), [(1, True), (1, False), (3, False)])
def test_no_tiling_is_one_that_readers_get_wrong(samples: int, interleave: bool) -> None:
    for width in [*range(16, 700), *range(1000, 1060), *range(1500, 1560), 2048, 6016, 14204]:
        cut = tiling(600, width, samples=samples, interleave=interleave)
        across = -(-width // cut.tile_width)
        assert cut.tile_width <= width
        assert across != cut.components or cut.components == 1
        assert cut.count == across * -(-600 // cut.tile_height)


def test_neighbours_of_one_colour_predict_each_other() -> None:
    """Two interleaved components make a coloured picture smaller than one component does; noise decides nothing."""
    mosaic = np.random.default_rng(0).normal(2000, 20, (512, 1024))
    mosaic[:, 1::2] += 3000
    pixels = mosaic.round().astype(np.uint16)
    sizes = {
        interleave: sum(map(len, encode_tiles(pixels, tiling(512, 1024, samples=1, interleave=interleave))))
        for interleave in (True, False)
    }
    assert sizes[True] < 0.6 * sizes[False]
