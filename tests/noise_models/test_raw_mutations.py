"""A thousand damaged files: no crash, no hang, every one a frame with a verdict or a typed error."""

import time
from dataclasses import dataclass

import numpy as np
import pytest

from noise_models.cfa import XTRANS_ROWS
from noise_models.errors import DamagedRaw, DecoderCrashed, RawFileError
from noise_models.frame import Integrity
from noise_models.integrity import new_raw_image_digest
from noise_models.rawfile import UNFORESEEN, Decoder, read_raw
from tests.raw_samples import make_dng, noisy_mosaic
from tests.shared_data import data_folder

MOSAIC = noisy_mosaic()
CASES = 1000
FIRST_KB = 1024


@dataclass(frozen=True)
class Seed:
    data: bytes
    pixels_at: int  # where the sensor data begin; they reach to the end of the file
    uncompressed: bool = False
    digest: bool = False


def _seeds():
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


def _mutate(seed: Seed, kind: str, rng: np.random.Generator) -> bytes:
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


@pytest.mark.slow
def test_a_thousand_damaged_files(tmp_path):
    rng = np.random.default_rng(20261120)
    names, kinds = sorted(SEEDS), ["truncate", "flip", "header", "zero", "splice"]
    outcomes: dict[str, int] = {}
    path = tmp_path / "case.dng"
    with Decoder(timeout_s=30) as decoder:
        for case in range(CASES):
            name, kind = names[case % len(names)], kinds[case // len(names) % len(kinds)]
            seed = SEEDS[name]
            data = _mutate(seed, kind, rng)
            path.write_bytes(data)
            started = time.perf_counter()
            try:
                frame = read_raw(path, decoder=decoder, allow_damaged=case % 7 == 0)
                outcome = frame.source.integrity.value
            except RawFileError as error:
                frame, outcome = None, type(error).__name__
                outcome += UNFORESEEN * (UNFORESEEN in error.reason)
            assert time.perf_counter() - started < 10, (case, name, kind)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            _check(seed, name, kind, data, frame, outcome)
    assert DecoderCrashed.__name__ not in outcomes, outcomes
    assert not [name for name in outcomes if UNFORESEEN in name], outcomes
    assert 0 < outcomes[Integrity.DAMAGED.value] < CASES / 7  # damage is an error unless asked for
    # The mutations reach every stage: some files stay sound, most do not.
    assert outcomes["DamagedRaw"] > CASES / 4
    assert outcomes["unverifiable"] > CASES / 20


def _check(seed, name, kind, data, frame, outcome):
    if kind == "truncate":
        assert frame is None or outcome == "damaged", name
    if kind == "zero" and seed.uncompressed:
        # A block at a row's end may leave less than the stated run on either side of it; 80 bytes cannot.
        assert outcome in ("DamagedRaw", "damaged") or not _longest_zeros(data[seed.pixels_at :]), name
    if frame is not None:
        assert (frame.white_level > frame.black_level + 16).all()
        assert frame.source.integrity_evidence.endswith(".")
        if seed.digest and frame.source.integrity is Integrity.VERIFIED:
            np.testing.assert_array_equal(frame.mosaic, MOSAIC)
        if (
            outcome != "damaged"
            and seed.digest
            and kind == "flip"
            and data[: seed.pixels_at] == seed.data[: seed.pixels_at]
        ):
            pytest.fail("a flipped pixel passed the digest")


def _longest_zeros(pixels: bytes) -> bool:
    """32 zero pixels in one row, found without the code under test."""
    rows = np.frombuffer(pixels, dtype="u2").reshape(MOSAIC.shape)
    text = (" ".join("".join("0" if v == 0 else "x" for v in row) for row in rows.tolist())).split("x")
    return any("0" * 32 in piece for part in text for piece in part.split(" "))


@pytest.mark.parametrize("name", ["strip", "strips", "tiles", "tiles of two"])
def test_every_truncation_of_pixels_is_refused_as_damage(name, tmp_path):
    seed = SEEDS[name]
    path = tmp_path / "cut.dng"
    with Decoder() as decoder:
        for end in np.linspace(seed.pixels_at, len(seed.data) - 1, 40).astype(int):
            path.write_bytes(seed.data[:end])
            with pytest.raises(DamagedRaw):
                read_raw(path, decoder=decoder)
        path.write_bytes(seed.data)
        np.testing.assert_array_equal(read_raw(path, decoder=decoder).mosaic, MOSAIC)
