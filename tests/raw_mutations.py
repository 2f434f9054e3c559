"""Damaged raw files by the thousand: the same ones for a test and for a benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from noise_models.cfa import XTRANS_ROWS
from noise_models.reading.integrity import new_raw_image_digest
from tests.raw_samples import make_dng, noisy_mosaic
from tests.shared_data import data_folder

KINDS = ("truncate", "flip", "header", "zero", "splice")
MOSAIC = noisy_mosaic()
FIRST_KB = 1024


@dataclass(frozen=True)
class Seed:
    data: bytes
    pixels_at: int  # where the sensor data begin; they reach to the end of the file
    uncompressed: bool = False
    digest: bool = False


def _seeds() -> dict[str, Seed]:
    digest = {51111: ("B", new_raw_image_digest(MOSAIC))}
    plain = make_dng(MOSAIC)
    size = MOSAIC.nbytes
    made = {
        "strip": Seed(plain, len(plain) - size, uncompressed=True),
        "digest": Seed(d := make_dng(MOSAIC, tags=digest), len(d) - size, uncompressed=True, digest=True),
        "strips": Seed(d := make_dng(MOSAIC, rows_per_strip=7), len(d) - size, uncompressed=True),
        "big-endian": Seed(d := make_dng(MOSAIC, order=">"), len(d) - size, uncompressed=True),
        "x-trans": Seed(d := make_dng(MOSAIC, cfa="".join(XTRANS_ROWS)), len(d) - size, uncompressed=True),
    }
    for name, tile, components in (("tiles", (32, 128), 1), ("tiles of two", (32, 64), 2), ("one tile", (96, 128), 2)):
        data = make_dng(MOSAIC, tile=tile, components=components)
        made[name] = Seed(data, data.index(b"\xff\xd8\xff\xc3"))
    kodak = data_folder() / "raw" / "RAW_KODAK_DC50_é.KDC"
    if kodak.exists():
        made["KDC"] = Seed(kodak.read_bytes(), 19712)
    return made


SEEDS = _seeds()


def mutate(seed: Seed, kind: str, rng: np.random.Generator) -> bytes:
    """One damaged copy."""
    data = bytearray(seed.data)
    n = len(data)
    match kind:
        case "truncate":
            return bytes(data[: rng.integers(1, n)])
        case "flip":
            data[rng.integers(n)] ^= 1 << int(rng.integers(8))
        case "header":
            for position in rng.integers(0, min(FIRST_KB, n), rng.integers(1, 9)):
                data[position] = rng.integers(256)
        case "zero":
            length = int(rng.integers(80, 3000))
            start = int(rng.integers(seed.pixels_at, n - length))
            data[start : start + length] = bytes(length)
        case "splice":
            length = int(rng.integers(16, 2000))
            start, source = rng.integers(0, n - length, 2)
            data[start : start + length] = data[source : source + length]
    return bytes(data)


def mutations(count: int, *, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """``count`` damaged files: name of the whole file, kind of damage, bytes; all kinds of all files in turn."""
    rng, names = np.random.default_rng(seed), sorted(SEEDS)
    for case in range(count):
        name, kind = names[case % len(names)], KINDS[case // len(names) % len(KINDS)]
        yield name, kind, mutate(SEEDS[name], kind, rng)
