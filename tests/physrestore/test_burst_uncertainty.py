"""Expected errors of a burst: they hold the truth, are those of one frame where it is alone, and tell what clipped."""

from __future__ import annotations

from statistics import NormalDist

import pytest
import torch

from noise_models.cfa import XTRANS_ROWS, Cfa
from noise_models.frame import RawFrame
from physrestore.burst import BurstResult, restore_burst
from physrestore.errors import RestoreError
from physrestore.fast import default_network, restore_fast
from physrestore.priors.transform import TransformPrior
from tests.physrestore.burst_scenes import STILL, Blobs, expose, noise_of, turn, view

XTRANS = "".join(XTRANS_ROWS)
SIZE, MARGIN = 96, 12
INNER = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
WITHIN_90 = NormalDist().inv_cdf(0.95)
MOTIONS = [STILL, *(turn(0.3 - 0.2 * k, 2.3 - k, 1.4 * k - 2.0, middle=SIZE / 2) for k in range(3))]


def restored(frames: list[RawFrame], **options: object) -> BurstResult:
    noises = [noise_of(frames[0].cfa)] * len(frames)
    return restore_burst(frames, noises, uncertainty=True, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["RGGB", XTRANS])
@pytest.mark.parametrize("motions", [MOTIONS, [STILL] * 4], ids=["moved", "still"])
def test_intervals_hold_the_truth(name: str, motions: list[torch.Tensor]) -> None:
    scene, cfa = Blobs(SIZE, seed=2), Cfa.parse(name)
    views = [view(scene, SIZE, motion) for motion in motions]

    result = restored([expose(one, cfa, seed=20 + k) for k, one in enumerate(views)])

    assert result.uncertainty is not None
    ratio = ((result.rgb - views[0]).abs() / result.uncertainty)[INNER]
    ratio = ratio[~ratio.isnan()]  # a bright site may clip in all frames
    # Soft spots are no photographs, on which the law was fitted.
    assert 0.85 < float((ratio < WITHIN_90).float().mean()) < 0.995
    assert float((ratio < WITHIN_90 / 3).float().mean()) < 0.8  # a third of the std would not do


def test_more_frames_are_surer() -> None:
    scene, cfa = Blobs(SIZE, seed=2), Cfa.parse("RGGB")
    frames = [expose(view(scene, SIZE, motion), cfa, seed=20 + k) for k, motion in enumerate(MOTIONS)]
    of_two, of_four = (restored(frames[:count]).uncertainty for count in (2, 4))
    assert of_two is not None
    assert of_four is not None
    assert float(of_four[INNER].nanmedian()) < 0.9 * float(of_two[INNER].nanmedian())


def test_one_frame_is_as_sure_as_the_method_fast() -> None:
    frame = expose(view(Blobs(SIZE), SIZE, STILL), Cfa.parse("RGGB"), seed=1)
    alone = restore_fast(frame, noise_of(frame.cfa), network=default_network(), uncertainty=True).uncertainty
    torch.testing.assert_close(restored([frame]).uncertainty, alone, equal_nan=True)


def test_what_clips_in_all_frames_is_not_known_what_one_shows_is() -> None:
    cfa, truth = Cfa.parse("RGGB"), 2.2 * view(Blobs(SIZE, seed=2), SIZE, STILL)
    long, short = expose(truth, cfa, seed=1), expose(truth, cfa, seed=2, exposure=0.25)
    clipped = long.clipped()[0, 0]
    assert float(clipped.float().mean()) > 0.05

    alike, unlike = restored([long, long]), restored([long, short], exposures=(1.0, 0.25))

    assert alike.uncertainty is not None
    assert unlike.uncertainty is not None
    green = clipped[0::2, 1::2]
    assert bool(alike.uncertainty[1, 0::2, 1::2][green].isnan().all())
    assert bool(unlike.uncertainty[INNER].isfinite().all())
    ratio = ((unlike.rgb - truth).abs() / unlike.uncertainty)[1, 0::2, 1::2][green]
    assert float((ratio < WITHIN_90).float().mean()) > 0.7


def test_grain_that_is_given_back_counts() -> None:
    scene, cfa = Blobs(SIZE, seed=2), Cfa.parse("RGGB")
    frames = [expose(view(scene, SIZE, motion), cfa, seed=20 + k) for k, motion in enumerate(MOTIONS)]
    half, whole = (restored(frames, strength=strength).uncertainty for strength in (50.0, 100.0))
    assert half is not None
    assert whole is not None
    assert float(half[INNER].nanmedian()) > 1.03 * float(whole[INNER].nanmedian())


def test_a_prior_has_no_calibrated_error() -> None:
    frame = expose(view(Blobs(48), 48, STILL), Cfa.parse("RGGB"), seed=1)
    with pytest.raises(RestoreError, match="known for networks only"):
        restored([frame, frame], prior=TransformPrior())
