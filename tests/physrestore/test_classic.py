"""The classic chain: what it must remove, and what it must leave alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from noise_models.cfa import BAYER_PHASES, XTRANS_ROWS, Cfa, pack
from noise_models.errors import ProfileError
from noise_models.frame import MaskedArea, RawFrame
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from physrestore.classic import ClassicResult, denoise_classic
from physrestore.classic.dct import remove_white_noise, work
from physrestore.classic.lines import row_offsets
from physrestore.classic.restore import remaining_variance
from physrestore.classic.rounding import round_dithered
from physrestore.errors import RestoreError
from physrestore.quality import noise_reduction, psnr, residual_chi2, residual_correlation

BLACK, WHITE = 256.25, 16383.0
GAIN, READ_NOISE = 2.0, 6.0  # [DN/e-], [DN]: a 14-bit camera at ISO 1600 or so


def noise_of(
    cfa: Cfa, *, gain: float | None = GAIN, read_noise: float = READ_NOISE, row_noise: float = 0.0
) -> SensorNoise:
    plane = PlaneNoise(
        gain=None if gain is None else Estimate(value=gain),
        read_noise_dn=Estimate(value=read_noise),
        black_level_dn=Estimate(value=BLACK),
    )
    return SensorNoise(iso=1600.0, planes=dict.fromkeys(cfa.plane_names, plane), row_noise_dn=Estimate(value=row_noise))


def expose(
    signal_dn: NDArray[np.float64],
    *,
    cfa: str = "RGGB",
    gain: float = GAIN,
    read_noise: float = READ_NOISE,
    rows: NDArray[np.float64] | None = None,
    masked: tuple[MaskedArea, ...] = (),
    seed: int = 0,
) -> RawFrame:
    """A frame of a mean above black [DN], with shot noise, read noise and row offsets."""
    rng = np.random.default_rng(seed)
    dn = gain * rng.poisson(signal_dn / gain) + rng.normal(0.0, read_noise, signal_dn.shape) + BLACK
    if rows is not None:
        dn += rows[:, None]
    array = Cfa.parse(cfa)
    return RawFrame(
        mosaic=np.clip(np.round(dn), 0, WHITE).astype(np.uint16),
        cfa=array,
        black_level=np.full(array.period, BLACK),
        white_level=np.full(array.period, WHITE),
        masked=masked,
    )


def flat(level: float, shape: tuple[int, int] = (256, 256)) -> NDArray[np.float64]:
    return np.full(shape, level)


def scene(shape: tuple[int, int] = (256, 256)) -> NDArray[np.float64]:
    """Edges, a fine grating, a disc and a gradient, blurred as by a lens."""
    y, x = np.mgrid[: shape[0], : shape[1]] / 256.0
    picture = 300 + 1200 * x + 2500 * (y > 0.5 + 0.2 * x) + 250 * np.sin(2 * np.pi * 24 * (x + y)) * (y < 0.4)
    picture[(x - 0.6) ** 2 + (y - 0.7) ** 2 < 0.02] = 200
    for axis in (0, 1):
        picture = (np.roll(picture, 1, axis) + 2 * picture + np.roll(picture, -1, axis)) / 4
    return picture


def planes(frame: RawFrame, mosaic: NDArray[np.uint16]) -> torch.Tensor:
    return pack(torch.from_numpy(mosaic.astype(np.float64))[None] - BLACK, frame.cfa)


def error(result: ClassicResult, truth: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((result.mosaic - BLACK - truth) ** 2)))


@pytest.mark.parametrize("phase", BAYER_PHASES)
def test_smooth_areas_lose_exactly_the_calibrated_noise(phase: str) -> None:
    frame = expose(flat(800.0), cfa=phase)
    noise = noise_of(frame.cfa)
    result = denoise_classic(frame, noise)
    before, after = planes(frame, frame.mosaic), planes(frame, result.mosaic)
    mask = torch.ones(before.shape[-2:], dtype=torch.bool)
    variance = torch.tensor(float(noise.planes["R"].variance(800.0)))
    assert min(noise_reduction(before, after, mask)) > 8
    # 64 coefficients a patch, and the mean of each is kept: a little less than all is removed.
    assert residual_chi2(before - after, variance) == pytest.approx((0.95, 0.95, 0.95, 0.95), abs=0.05)
    correlation = residual_correlation(before - after)
    assert max(map(abs, (*correlation.horizontal, *correlation.vertical, *correlation.diagonal))) < 0.05
    means = after.mean((1, 2)) / before.mean((1, 2))
    assert float((means - 1).abs().max()) < 1e-3


def test_a_profile_of_half_the_gain_leaves_noise() -> None:
    """The planted error of the law above: it is the calibration that makes it hold."""
    frame = expose(flat(800.0))
    result = denoise_classic(frame, noise_of(frame.cfa, gain=GAIN / 2))
    before, after = planes(frame, frame.mosaic), planes(frame, result.mosaic)
    assert max(noise_reduction(before, after, torch.ones(before.shape[-2:], dtype=torch.bool))) < 4


@pytest.mark.parametrize("level", [0.0, 1.3, 12.0, 4000.0])
def test_the_mean_is_kept_at_every_level(level: float) -> None:
    frame = expose(flat(level))
    result = denoise_classic(frame, noise_of(frame.cfa))
    change = result.mosaic.astype(np.float64).mean() - frame.mosaic.astype(np.float64).mean()
    # The estimate's own scatter about the true mean, and 1 % of a read noise for the table and the dither.
    assert abs(change) < 0.01 * READ_NOISE + 2e-4 * level


def test_dark_signal_is_darker_than_black_about_half_of_the_time() -> None:
    frame = expose(flat(0.0))
    result = denoise_classic(frame, noise_of(frame.cfa))
    assert 0.3 < float((result.mosaic < BLACK).mean()) < 0.9  # black lies between two whole DN


def test_pictures_get_better_and_monotonically_with_strength() -> None:
    truth = scene()
    frame = expose(truth)
    results = [denoise_classic(frame, noise_of(frame.cfa), strength=s) for s in (0, 25, 50, 75, 100)]
    errors = [error(r, truth) for r in results]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 2
    distance = [np.abs(r.mosaic.astype(int) - frame.mosaic).mean() for r in results]
    assert distance == sorted(distance)
    shares = [r.remaining_variance for r in results]
    assert shares == sorted(shares, reverse=True)


def test_strength_zero_is_bit_identical() -> None:
    frame = expose(scene())
    result = denoise_classic(frame, noise_of(frame.cfa, row_noise=3.0), strength=0.0)
    assert np.array_equal(result.mosaic, frame.mosaic)
    assert result.remaining_variance == 1.0
    assert not np.array_equal(denoise_classic(frame, noise_of(frame.cfa), strength=1.0).mosaic, frame.mosaic)


def test_clipped_sites_and_their_neighbours_stay() -> None:
    truth = flat(3000.0)
    truth[100:140, 100:140] = 40000.0
    frame = expose(truth)
    result = denoise_classic(frame, noise_of(frame.cfa))
    assert (frame.mosaic[100:140, 100:140] == WHITE).all()
    around = (slice(99, 141), slice(99, 141))
    assert np.array_equal(result.mosaic[around], frame.mosaic[around])
    assert (result.mosaic < WHITE).sum() == (frame.mosaic < WHITE).sum()
    outside = (slice(141, None), slice(141, None))
    assert not np.array_equal(result.mosaic[outside], frame.mosaic[outside])


def test_hot_and_dead_pixels_go_and_stars_stay() -> None:
    truth = flat(200.0)
    y, x = np.mgrid[:256, :256]
    for cy, cx in ((60.0, 60.0), (60.5, 120.25), (180.75, 90.5)):
        truth += 9000 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 0.6**2))
    frame = expose(truth)
    mosaic = frame.mosaic.copy()
    hot = [(30, 31), (30, 200), (101, 50), (131, 222), (200, 200), (0, 0), (255, 17)]
    for k, (i, j) in enumerate(hot):
        mosaic[i, j] += 400 + 2000 * k
    mosaic[220, 40] = int(WHITE)
    frame = RawFrame(mosaic, frame.cfa, frame.black_level, frame.white_level)
    result = denoise_classic(frame, noise_of(frame.cfa))
    assert result.hot_pixels == len(hot) + 1
    for i, j in (*hot, (220, 40)):
        assert abs(result.mosaic[i, j] - BLACK - 200) < 40
    star = result.mosaic[60, 60] - BLACK - 200
    assert star > 0.9 * 9000


@pytest.mark.parametrize("level", [0.0, 5.0, 100.0, 3000.0])
def test_noise_is_not_taken_for_defects(level: float) -> None:
    """1e-6 per site: in 512x512 sites 0.26 are expected, so five or more have a probability below 1e-5."""
    frame = expose(flat(level, (512, 512)), seed=5)
    assert denoise_classic(frame, noise_of(frame.cfa)).hot_pixels < 5


def test_row_noise_is_removed_with_and_without_covered_pixels() -> None:
    rng = np.random.default_rng(1)
    truth = scene() / 20  # dark, where row noise shows
    rows = rng.normal(0.0, 4.0, 256)
    cfa = Cfa.parse("RGGB")
    covered = np.round(rng.normal(BLACK, READ_NOISE, (256, 64)) + rows[:, None]).astype(np.uint16)
    noise = noise_of(cfa, row_noise=4.0)
    areas: list[tuple[MaskedArea, ...]] = [(), (MaskedArea("left", covered, cfa),)]
    left = []
    for masked in areas:
        offsets = row_offsets(expose(truth, rows=rows, masked=masked), noise)
        assert offsets is not None
        left.append(float(np.std(rows - offsets)))
    assert left[0] < 0.5 * 4.0
    # 64 covered pixels know a row to 6 / 8 = 0.75 DN.
    assert left[1] < 0.8
    result = denoise_classic(expose(truth, rows=rows, masked=areas[1]), noise)
    assert result.row_noise_removed_dn == pytest.approx(4.0, rel=0.2)
    assert error(result, truth) < 0.9 * error(denoise_classic(expose(truth, rows=rows), noise_of(cfa)), truth)


def test_horizontal_structure_is_not_eaten() -> None:
    truth = flat(800.0)
    truth[120:] = 2500.0  # a horizon
    truth[60:62] += 150.0  # a wire
    frame = expose(truth)
    offsets = row_offsets(frame, noise_of(frame.cfa, row_noise=2.0))
    assert offsets is not None
    assert np.abs(offsets[[60, 61, 119, 120, 121]]).max() < 2.0
    assert offsets.std() < 1.0


def test_negligible_row_noise_is_left_alone() -> None:
    frame = expose(flat(100.0))
    assert row_offsets(frame, noise_of(frame.cfa, row_noise=READ_NOISE / math.sqrt(256) * 0.9)) is None
    assert row_offsets(frame, noise_of(frame.cfa, row_noise=READ_NOISE / math.sqrt(256) * 1.5)) is not None


def test_without_noise_nothing_is_lost() -> None:
    truth = scene()
    frame = expose(truth, gain=0.001, read_noise=0.01)
    noise = noise_of(frame.cfa, gain=0.001, read_noise=0.01)
    before = psnr(torch.from_numpy(frame.mosaic - BLACK), torch.from_numpy(truth), peak=WHITE)
    after = psnr(torch.from_numpy(denoise_classic(frame, noise).mosaic - BLACK), torch.from_numpy(truth), peak=WHITE)
    assert after > before - 0.1


def test_monochrome_and_odd_sizes() -> None:
    truth = scene((131, 157))
    for cfa in ("M", "GBRG"):
        frame = expose(truth, cfa=cfa)
        result = denoise_classic(frame, noise_of(frame.cfa))
        assert result.mosaic.shape == (131, 157)
        assert result.mosaic.dtype == np.uint16
        assert len(result.noise_profile) == (1 if cfa == "M" else 3)
        assert error(result, truth) < 0.6 * float(np.std(frame.mosaic - BLACK - truth))


def test_tiles_do_not_change_the_result_and_leave_no_seam() -> None:
    noise = torch.randn(4, 200, 200, generator=torch.Generator().manual_seed(2))
    small, large = remove_white_noise(noise, tile=32), remove_white_noise(noise, tile=512)
    torch.testing.assert_close(small, large, atol=1e-5, rtol=0)
    steps = small.diff(dim=2).abs().mean((0, 1))  # between columns; a seam would stand out at multiples of the tile
    seams = steps[15::16]  # tiles start 16 inside the mirrored border
    assert float(seams.mean()) < float(steps.mean()) + 5 * float(steps.std()) / math.sqrt(len(seams))


def test_a_constant_stays_and_channels_of_one_plane_work() -> None:
    for count in (1, 4):
        constant = torch.full((count, 40, 50), 17.5)
        torch.testing.assert_close(remove_white_noise(constant), constant, atol=1e-4, rtol=0)


def test_the_remaining_noise_is_what_is_found() -> None:
    frame = expose(flat(3000.0))
    for strength in (60.0, 100.0):
        result = denoise_classic(frame, noise_of(frame.cfa), strength=strength)
        s, o = result.noise_profile[1]
        predicted = (s * 3000.0 / (WHITE - BLACK) + o) * (WHITE - BLACK) ** 2
        found = float(np.var(result.mosaic.astype(np.float64)))
        assert found == pytest.approx(predicted, rel=0.3)
        assert remaining_variance(4, strength=strength) == result.remaining_variance


def test_progress_rises_to_one() -> None:
    shares: list[float] = []
    frame = expose(flat(100.0, (300, 300)))
    denoise_classic(frame, noise_of(frame.cfa), progress=shares.append, tile=64)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) > 5
    counted: list[int] = []
    remove_white_noise(torch.zeros(1, 150, 150), on_pixels=counted.append)
    assert sum(counted) == work((1, 150, 150))


def test_extreme_frames_stay_finite() -> None:
    rng = np.random.default_rng(0)
    for mosaic in (np.zeros((64, 64)), np.full((64, 64), 65535), rng.integers(0, 65536, (64, 64))):
        cfa = Cfa.parse("RGGB")
        frame = RawFrame(mosaic.astype(np.uint16), cfa, np.full((2, 2), BLACK), np.full((2, 2), WHITE))
        result = denoise_classic(frame, noise_of(cfa, row_noise=5.0))
        clipped = frame.mosaic >= WHITE
        assert clipped.all() == (result.mosaic >= WHITE).all()


def test_what_cannot_be_done_is_refused() -> None:
    frame = expose(flat(100.0, (32, 32)))
    with pytest.raises(ValueError, match=r"strength is 0\.\.100"):
        denoise_classic(frame, noise_of(frame.cfa), strength=101)
    with pytest.raises(ProfileError, match="planes M"):
        denoise_classic(frame, noise_of(Cfa.parse("M")))
    with pytest.raises(ProfileError, match="needs the gain"):
        denoise_classic(frame, noise_of(frame.cfa, gain=None))
    xtrans = expose(flat(100.0, (36, 36)), cfa="".join(XTRANS_ROWS))
    with pytest.raises(RestoreError, match="X-Trans"):
        denoise_classic(xtrans, noise_of(xtrans.cfa))
    small = expose(flat(100.0, (8, 64)))
    with pytest.raises(RestoreError, match="too small"):
        denoise_classic(small, noise_of(small.cfa))


def test_rounding_keeps_local_means() -> None:
    values = torch.full((64, 64), 128.0) + torch.linspace(0, 1, 64)
    dithered = round_dithered(values, torch.tensor(1.0))
    assert torch.equal(dithered, dithered.round())
    blocks = (dithered - values).reshape(8, 8, 8, 8).mean((1, 3))
    assert float(blocks.abs().max()) < 0.06
    assert float((values.round() - values).reshape(8, 8, 8, 8).mean((1, 3)).abs().max()) > 0.3
    assert torch.equal(round_dithered(values, torch.tensor(0.0)), torch.floor(values + 0.5))
