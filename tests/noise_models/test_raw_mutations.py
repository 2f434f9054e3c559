"""A thousand damaged files: no crash, no hang, every one a frame with a verdict or a typed error."""

import time

import numpy as np
import pytest

from noise_models.errors import DamagedRaw, DecoderCrashed, RawFileError
from noise_models.frame import Integrity
from noise_models.rawfile import UNFORESEEN, Decoder, read_raw
from tests.raw_mutations import MOSAIC, SEEDS, mutations

CASES = 1000


@pytest.mark.slow
def test_a_thousand_damaged_files(tmp_path):
    outcomes: dict[str, int] = {}
    path = tmp_path / "case.dng"
    with Decoder(timeout_s=30) as decoder:
        for case, (name, kind, data) in enumerate(mutations(CASES, seed=20261120)):
            seed = SEEDS[name]
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
