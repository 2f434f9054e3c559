"""Frames worked on in bands of rows, or tiles in threads: bit for bit what the whole gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from noise_models.cfa import XTRANS_ROWS, Cfa
from noise_models.frame import RawFrame
from noise_models.sensor import Estimate, SensorNoise
from physrestore import pipeline
from physrestore.output.lossless_jpeg import encode_tiles, tiling
from physrestore.pipeline import sampled
from physrestore.pnp import prepare as preparing
from physrestore.pnp.prepare import prepare
from tests.physrestore.test_fast import shot

BAND = 12  # a multiple of the periods 2, 4 and 6
WHOLE = 10_000
ARRAYS = [Cfa.parse("GBRG"), Cfa.parse("RRGGRRGGGGBBGGBB"), Cfa(XTRANS_ROWS)]


def with_defects(cfa: Cfa) -> tuple[RawFrame, SensorNoise]:
    """A frame with row noise and unequal levels, and with a hot and a dead site in every row around two seams."""
    frame, noise, _ = shot(cfa, side=233)
    mosaic = frame.mosaic.copy()
    for seam in (BAND, 3 * BAND):
        for number, row in enumerate(range(seam - 6, seam + 6)):
            mosaic[row, 6 + 18 * number], mosaic[row, 15 + 18 * number] = 9000, 0
    mosaic[5, 3] = mosaic[BAND, 3] = 16383
    black = frame.black_level + np.arange(frame.black_level.size).reshape(frame.black_level.shape) / 4
    noise = noise.model_copy(update={"row_noise_dn": Estimate(value=4.0)})
    return replace(frame, mosaic=mosaic, black_level=black), noise


@pytest.mark.parametrize("cfa", ARRAYS, ids=lambda cfa: cfa.name[:8])
@pytest.mark.parametrize("share", [0.0, 0.7])
def test_prepared_in_bands(cfa: Cfa, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, noise = with_defects(cfa)
    monkeypatch.setattr(preparing, "BAND", WHOLE)
    whole = prepare(frame, noise, share=share)
    monkeypatch.setattr(preparing, "BAND", BAND)
    banded = prepare(frame, noise, share=share)

    assert torch.equal(banded.planes, whole.planes)
    assert banded.row_noise_removed_dn == whole.row_noise_removed_dn
    assert (whole.defects >= 40) == (share > 0)
    assert (whole.row_noise_removed_dn > 0) == (share > 0)
    # Without what a band reads of its neighbours the seams would show.
    monkeypatch.setattr(preparing, "DEFECT_REACH", 0)
    assert torch.equal(prepare(frame, noise, share=share).planes, whole.planes) == (share == 0)


@pytest.mark.parametrize("cfa", ARRAYS, ids=lambda cfa: cfa.name[:8])
def test_sampled_in_bands(cfa: Cfa, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, _ = with_defects(cfa)
    rgb = torch.rand(3, *frame.shape, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    banded = {}
    for band in (WHOLE, BAND, BAND - 1):
        monkeypatch.setattr(pipeline, "BAND", band)
        banded[band] = sampled(rgb, frame)

    assert np.array_equal(banded[BAND], banded[WHOLE])
    assert not np.array_equal(banded[BAND - 1], banded[WHOLE])  # bands that break the array's phase
    assert banded[BAND][5, 3] == 16383


def test_real_bands_keep_the_phase_of_every_array() -> None:
    for band in (preparing.BAND, pipeline.BAND):
        assert all(band % period == 0 for period in (1, 2, 4, 6))


def test_tiles_keep_their_order_on_any_number_of_threads() -> None:
    pixels = np.random.default_rng(0).integers(1000, 1100, (528, 2064)).astype(np.uint16)
    pixels[:, :512] = 1000  # done sooner than those that follow it
    cut = tiling(*pixels.shape, samples=1, interleave=True)
    threads, made = torch.get_num_threads(), []
    try:
        for number in (1, 4):
            torch.set_num_threads(number)
            made.append(list(encode_tiles(pixels, cut)))
    finally:
        torch.set_num_threads(threads)

    assert len(made[0]) == cut.count == 10
    assert made[0] == made[1]
    assert len(set(made[0])) == cut.count - 1  # of the two flat tiles below each other one is like the other
