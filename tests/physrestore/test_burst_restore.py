"""A burst restored: more than one frame gives, no ghosts, nothing lost where nothing moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import physrestore.burst.align as align_module
from noise_models.cfa import XTRANS_ROWS, Cfa
from noise_models.errors import ProfileError
from noise_models.frame import RawFrame, Shot
from physrestore.burst import BurstResult, restore_burst
from physrestore.burst.frames import relative_exposures
from physrestore.errors import RestoreError
from physrestore.fast import default_network, restore_fast
from physrestore.pnp import restore_pnp
from physrestore.priors.transform import TransformPrior
from physrestore.quality import psnr
from tests.physrestore.burst_scenes import (
    BLACK,
    ELECTRONS,
    SPAN,
    STILL,
    Blobs,
    expose,
    measured,
    noise_of,
    turn,
    view,
)

XTRANS = "".join(XTRANS_ROWS)
QUAD = "RRGGRRGGGGBBGGBB"
SIZE = 72
INNER = (slice(None), slice(8, -8), slice(8, -8))
MOTIONS = [
    STILL,
    turn(0.5, 2.3, -1.6, middle=36),
    turn(-0.6, -1.7, 3.4, middle=36),
    turn(0.2, 0.5, 0.5, middle=36),
]


def burst(name: str, motions: list[Tensor], *, size: int = SIZE) -> tuple[Tensor, list[RawFrame]]:
    """Truth of the first frame, and the frames."""
    scene, cfa = Blobs(size, seed=2), Cfa.parse(name)
    views = [view(scene, size, motion) for motion in motions]
    return views[0], [expose(one, cfa, seed=20 + k) for k, one in enumerate(views)]


def restored(frames: list[RawFrame], **options: object) -> BurstResult:
    return restore_burst(frames, [noise_of(frames[0].cfa)] * len(frames), **options)  # type: ignore[arg-type]


def trust_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call everything unmoved."""
    monkeypatch.setattr(align_module, "shown", lambda own, *_, **__: torch.ones_like(own.ratio))


def single(frame: RawFrame) -> Tensor:
    if frame.cfa.is_quad_bayer:  # as restore_burst does by default
        return restore_pnp(frame, noise_of(frame.cfa)).rgb
    return restore_fast(frame, noise_of(frame.cfa), network=default_network()).rgb


@pytest.mark.parametrize("name", ["GBRG", XTRANS, QUAD])
def test_four_frames_are_better_than_one(name: str) -> None:
    truth, frames = burst(name, MOTIONS)

    result = restored(frames)

    assert result.rgb.shape == truth.shape
    assert result.rgb.dtype == torch.float32
    assert psnr(result.rgb[INNER], truth[INNER]) > psnr(single(frames[0])[INNER], truth[INNER]) + 2.0
    assert float(result.effective_frames[8:-8, 8:-8].mean()) == pytest.approx(4.0, rel=0.1)
    assert result.used == (True,) * 4


def test_frames_taken_for_still_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted error of the law above: no frame is moved to its place, and all are trusted."""
    truth, frames = burst("RGGB", MOTIONS)
    honest = restored(frames).rgb
    monkeypatch.setattr(align_module, "motion_between", lambda *_: None)
    monkeypatch.setattr(align_module, "local_offsets", lambda *_: torch.zeros(2, 1, 1, dtype=torch.float64))
    trust_all(monkeypatch)

    assert psnr(restored(frames).rgb[INNER], truth[INNER]) < psnr(honest[INNER], truth[INNER]) - 5.0


@pytest.mark.parametrize("name", ["RGGB", XTRANS])
def test_a_prior_gains_by_frames_and_loses_nothing_by_one(name: str) -> None:
    """Against the method pnp with the same prior."""
    truth, frames = burst(name, MOTIONS)
    alone = psnr(restore_pnp(frames[0], noise_of(frames[0].cfa), prior=TransformPrior()).rgb[INNER], truth[INNER])

    one, four = (psnr(restored(some, prior=TransformPrior()).rgb[INNER], truth[INNER]) for some in (frames[:1], frames))

    assert one > alone - 0.3
    assert four > alone + 2.0


@pytest.mark.parametrize("name", ["RGGB", XTRANS])
def test_one_frame_is_what_the_method_fast_makes_of_it(name: str) -> None:
    _, frames = burst(name, [STILL])

    torch.testing.assert_close(restored(frames).rgb, single(frames[0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["RGGB", XTRANS])
def test_still_frames_lose_nothing(name: str) -> None:
    """Four frames on a tripod, against one frame of four times the light and half the read noise per light."""
    truth, frames = burst(name, [STILL] * 4)
    mean = np.mean([frame.mosaic.astype(float) for frame in frames], axis=0)
    # The mean frame in sixteen times finer codes, so that rounding does not count.
    fine = 3.0
    averaged = replace(
        frames[0],
        mosaic=np.round(mean * fine).astype(np.uint16),
        black_level=frames[0].black_level * fine,
        white_level=frames[0].white_level * fine,
    )
    noise = noise_of(averaged.cfa)
    planes = {
        key: plane.model_copy(
            update={
                "gain": plane.gain.model_copy(update={"value": fine * plane.gain.value / 4}),
                "read_noise_dn": plane.read_noise_dn.model_copy(update={"value": fine * plane.read_noise_dn.value / 2}),
            }
        )
        for key, plane in noise.planes.items()
        if plane.gain is not None
    }
    ideal = restore_fast(averaged, noise.model_copy(update={"planes": planes}), network=default_network()).rgb

    assert psnr(restored(frames).rgb, truth) > psnr(ideal, truth) - 0.4


@pytest.mark.parametrize("name", ["RGGB", XTRANS])
def test_what_moves_leaves_no_ghost(name: str) -> None:
    """A disc moves on from frame to frame; all along its way the burst is as good as the single frame."""
    scene, cfa = Blobs(SIZE, seed=2), Cfa.parse(name)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    views = [view(scene, SIZE, motion) for motion in MOTIONS]
    for k, one in enumerate(views):
        disc = (rows - 30) ** 2 + (columns - 18 - 12 * k) ** 2 < 7**2
        one[:, disc] = one[:, disc] * 0.2 + 0.02
    frames = [expose(one, cfa, seed=20 + k) for k, one in enumerate(views)]
    place = (slice(None), slice(22, 39), slice(10, 63))  # all the way of the disc

    result = restored(frames)

    alone = single(frames[0])
    assert psnr(result.rgb[place], views[0][place]) > psnr(alone[place], views[0][place])
    disc = (rows - 30) ** 2 + (columns - 18) ** 2 < 7**2  # in the first frame
    assert psnr(result.rgb[:, disc], views[0][:, disc]) > psnr(alone[:, disc], views[0][:, disc]) - 0.1
    assert float(result.effective_frames[28:33, 16:21].mean()) < 2.0
    assert float(result.effective_frames[52:64, 10:62].mean()) > 3.5


def test_a_ghost_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted error of the law above: every frame is trusted everywhere."""
    truth, frames = burst("RGGB", [STILL] * 4)
    ghost = truth.clone()
    ghost[:, 28:44, 28:44] *= 0.3
    others = [expose(ghost, frames[0].cfa, seed=40 + k) for k in range(3)]
    place = (slice(None), slice(28, 44), slice(28, 44))
    honest = psnr(restored([frames[0], *others]).rgb[place], truth[place])
    trust_all(monkeypatch)

    assert psnr(restored([frames[0], *others]).rgb[place], truth[place]) < honest - 5.0


def test_exposures_may_differ() -> None:
    scene, cfa = Blobs(SIZE, seed=2), Cfa.parse("RGGB")
    views = [view(scene, SIZE, motion) for motion in MOTIONS]
    ratios = (1.0, 0.5, 0.25, 0.5)
    frames = [
        replace(expose(one, cfa, seed=k, exposure=r), shot=Shot(exposure_s=r / 50, iso=12800.0))
        for k, (one, r) in enumerate(zip(views, ratios, strict=True))
    ]

    result = restored(frames)

    assert result.used == (True,) * 4
    # Shot noise alone would make them worth the sum of the exposures; read noise takes a little of the shorter ones.
    assert 1.7 < float(result.effective_frames[8:-8, 8:-8].mean()) < 2.25
    assert psnr(result.rgb[INNER], views[0][INNER]) > psnr(single(frames[0])[INNER], views[0][INNER]) + 0.7
    mean = result.rgb[INNER].mean((1, 2)) / views[0][INNER].mean((1, 2))
    assert float((mean - 1).abs().max()) < 0.01


def test_a_shorter_frame_shows_what_the_first_clips() -> None:
    cfa = Cfa.parse("RGGB")
    truth = Blobs(SIZE, seed=2).at(*torch.meshgrid(*(torch.arange(SIZE, dtype=torch.float64),) * 2, indexing="ij"))
    truth = truth * 2.2  # green clips in the brighter half
    frames = [expose(truth, cfa, seed=1), expose(truth, cfa, seed=2, exposure=0.25)]

    result = restored(frames, exposures=(1.0, 0.25))

    clipped = frames[0].clipped()[0, 0]
    assert float(clipped.float().mean()) > 0.05
    error = (measured(result.rgb, cfa) - measured(truth, cfa))[clipped] / measured(truth, cfa)[clipped]
    assert abs(float(error.mean())) < 0.03
    assert float(error.abs().mean()) < 0.12  # a quarter of the light: 5 to 10 % noise a site, some of it removed


@pytest.mark.parametrize("strength", [50.0, 100.0])
def test_the_mean_is_kept(strength: float) -> None:
    """On a dark, flat card: 24 electrons, where a biased root would show (a quarter of an electron is 1 %)."""
    level = 24 / ELECTRONS
    frames = [expose(torch.full((3, SIZE, SIZE), level), Cfa.parse("RGGB"), seed=k) for k in range(3)]

    result = restored(frames, strength=strength)

    data = np.mean([frame.mosaic.astype(float) for frame in frames], axis=0) - BLACK
    assert float(measured(result.rgb, frames[0].cfa).mean()) == pytest.approx(data.mean() / SPAN, rel=3e-3)


def test_strength_zero_is_the_mean_of_still_frames() -> None:
    _, frames = burst("RGGB", [STILL] * 3, size=48)

    result = restored(frames, strength=0.0)

    mean = torch.stack([frame.linear()[0, 0] for frame in frames]).mean(0)
    kept = measured(result.rgb, frames[0].cfa)
    whole = result.effective_frames[12:-12, 12:-12]
    assert float(whole.min()) > 2.5
    assert float((kept - mean)[12:-12, 12:-12].square().mean().sqrt()) < 0.1 * float(frames[0].linear().std())


@pytest.mark.slow
def test_tiles_are_invisible() -> None:
    truth, frames = burst("RGGB", MOTIONS[:2], size=168)

    whole, tiled = (restored(frames, tile=tile).rgb for tile in (480, 72))

    noise = float((single(frames[0]) - truth).std())
    assert float((whole - tiled).square().mean().sqrt()) < 0.1 * noise


def test_hot_pixels_are_filled_by_the_other_frames() -> None:
    scene, cfa = Blobs(SIZE, seed=2, count=25), Cfa.parse("RGGB")
    frames = [expose(view(scene, SIZE, motion), cfa, seed=20 + k) for k, motion in enumerate(MOTIONS)]
    hot = [(30, 40), (51, 52), (20, 33)]
    damaged = []
    for frame in frames:
        mosaic = frame.mosaic.copy()
        for place in hot:
            mosaic[place] = 16000
        damaged.append(replace(frame, mosaic=mosaic))

    whole, result = restored(frames), restored(damaged)

    assert result.numbers["hot_pixels"] == whole.numbers["hot_pixels"] + len(hot)
    assert max(float((result.rgb - whole.rgb)[:, i, j].abs().max()) for i, j in hot) < 0.08


def test_progress_ends_at_one() -> None:
    _, frames = burst("RGGB", MOTIONS[:2], size=48)
    shares: list[float] = []

    restored(frames, progress=shares.append)

    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_exposures_come_from_the_metadata() -> None:
    _, frames = burst("RGGB", [STILL], size=24)
    shots = [Shot(exposure_s=1 / 50, iso=400.0, aperture=4.0), Shot(exposure_s=1 / 100, iso=1600.0, aperture=8.0)]

    found = relative_exposures([replace(frames[0], shot=shot) for shot in shots])

    assert found == pytest.approx((1.0, 0.5))


def test_what_cannot_be_done_is_refused() -> None:
    _, frames = burst("RGGB", [STILL, STILL], size=24)
    noise = noise_of(frames[0].cfa)
    other = replace(frames[0], cfa=Cfa.parse("BGGR"))
    silent = replace(frames[0], shot=Shot(exposure_s=None, iso=100.0))
    told = replace(frames[0], shot=Shot(exposure_s=0.01, iso=100.0))
    with pytest.raises(RestoreError, match="at least one frame; none was given"):
        restore_burst([], [])
    with pytest.raises(RestoreError, match="2 frames needs as many noises, not 1"):
        restore_burst(frames, [noise])
    with pytest.raises(RestoreError, match=r"Frame 2 of the burst is .*BGGR"):
        restore_burst([frames[0], other], [noise, noise])
    with pytest.raises(RestoreError, match="Only some frames of the burst state their exposure_s"):
        restore_burst([told, silent], [noise, noise])
    with pytest.raises(RestoreError, match="2 frames needs as many relative exposures, not 1"):
        restored(frames, exposures=(1.0,))
    with pytest.raises(ValueError, match="the first frame's is 1"):
        restored(frames, exposures=(0.5, 1.0))
    with pytest.raises(ValueError, match=r"strength is 0\.\.100, not 101"):
        restored(frames, strength=101.0)
    with pytest.raises(ValueError, match="with a prior or with a network, not with both"):
        restored(frames, prior=TransformPrior(), network=default_network())
    with pytest.raises(RestoreError, match="Identity is none"):
        restored(frames, network=torch.nn.Identity())
    with pytest.raises(ProfileError, match="profile of frame 1 describes planes R, G, B; the frame has R, G1, G2, B"):
        restore_burst(frames[:1], [noise_of(Cfa.parse(XTRANS))])
