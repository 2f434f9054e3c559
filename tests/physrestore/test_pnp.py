"""Joint demosaicking and denoising: what every filter array, tile and noise level must leave true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import physrestore.pnp.restore as restore_module
from noise_models.cfa import BAYER_PHASES, QUAD_BAYER_ROWS, XTRANS_ROWS, Cfa
from noise_models.errors import ProfileError
from noise_models.frame import Colour, RawFrame, tile_to
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from physrestore.demosaic import demosaic
from physrestore.errors import RestoreError
from physrestore.pnp import restore_pnp
from physrestore.pnp.defects import repair_defects
from physrestore.pnp.joint import Pace
from physrestore.pnp.prepare import prepare
from physrestore.pnp.sharpen import Optics
from physrestore.pnp.tile import TileSolver
from physrestore.priors.base import PriorSpec
from physrestore.priors.transform import TransformPrior
from physrestore.quality import psnr
from physrestore.working_space import WorkingSpace

XTRANS = "".join(XTRANS_ROWS)
QUAD = "".join(QUAD_BAYER_ROWS)
ARRAYS = ("RGGB", "GBRG", XTRANS, QUAD)
NEUTRAL = (0.5, 1.0, 0.6)
BLACK, WHITE = 512.0, 16383.0
GAIN_DN, READ_DN = 8.0, 10.0  # about 2000 electrons at white


def sensor_noise(cfa: Cfa, *, gain: float = GAIN_DN, read: float = READ_DN, row: float = 0.0) -> SensorNoise:
    plane = PlaneNoise(
        gain=Estimate(value=gain), read_noise_dn=Estimate(value=read), black_level_dn=Estimate(value=BLACK)
    )
    return SensorNoise(iso=1600.0, planes=dict.fromkeys(cfa.plane_names, plane), row_noise_dn=Estimate(value=row))


def scene(height: int, width: int) -> Tensor:
    """Camera RGB (3, H, W) with a slanted grey edge, a coloured disc and a gradient."""
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    grey = 0.15 + 0.35 * torch.sigmoid((x + 0.3 * y - 0.6 * width) / 0.8) + 0.1 * y / height
    disc = torch.sigmoid((0.2 * height - ((x - 0.25 * width) ** 2 + (y - 0.5 * height) ** 2).sqrt()) / 0.8)
    colour = torch.tensor((0.9, -0.4, -0.5)).reshape(3, 1, 1)
    return grey * (1 + 0.8 * disc * colour) * torch.tensor(NEUTRAL).reshape(3, 1, 1)


def measured(rgb: Tensor, cfa: Cfa) -> Tensor:
    index = torch.tensor([["RGB".index(letter) for letter in row] for row in cfa.rows])
    return rgb.gather(0, tile_to(index, *rgb.shape[-2:])[None])[0]


def frame_of(rgb: Tensor, name: str, *, noisy: bool = True, seed: int = 0, rows: NDArray[np.float64] | None = None):
    cfa = Cfa.parse(name)
    signal = measured(rgb, cfa).double().numpy() * (WHITE - BLACK)
    rng = np.random.default_rng(seed)
    if noisy:
        signal = GAIN_DN * rng.poisson(signal / GAIN_DN) + rng.normal(0.0, READ_DN, signal.shape)
    if rows is not None:
        signal = signal + rows[:, None]
    mosaic = np.clip(np.round(signal + BLACK), 0, WHITE).astype(np.uint16)
    levels = (np.full(cfa.period, BLACK), np.full(cfa.period, WHITE))
    return RawFrame(mosaic, cfa, *levels, colour=Colour(as_shot_neutral=NEUTRAL))


@pytest.mark.parametrize("name", ARRAYS)
def test_more_is_right_than_after_demosaicking_alone(name: str) -> None:
    truth = scene(72, 96)
    frame = frame_of(truth, name)

    result = restore_pnp(frame, sensor_noise(frame.cfa))

    plain = demosaic(frame.linear(), frame.cfa)[0]
    assert result.rgb.shape == truth.shape
    assert result.rgb.dtype == torch.float32
    assert psnr(result.rgb, truth) > psnr(plain, truth) + 5.0


def grey_edge(name: str) -> RawFrame:
    """Without noise."""
    y, x = torch.meshgrid(torch.arange(72).float(), torch.arange(72).float(), indexing="ij")
    grey = 0.1 + 0.4 * ((x + 0.2 * y) > 40).float()
    return frame_of(grey * torch.tensor(NEUTRAL).reshape(3, 1, 1), name, noisy=False)


def fringes(rgb: Tensor) -> float:
    balanced = rgb / torch.tensor(NEUTRAL).reshape(3, 1, 1)
    return float((balanced[0] - balanced[2]).square().mean().sqrt())


@pytest.mark.parametrize("name", [XTRANS, "RGGB"])
def test_a_grey_edge_has_no_colour(name: str) -> None:
    frame = grey_edge(name)
    clean = fringes(restore_pnp(frame, sensor_noise(frame.cfa, gain=0.01, read=0.1)).rgb)

    plain = fringes(demosaic(frame.linear(), frame.cfa)[0])
    assert clean < 0.35 * plain


def test_a_prior_for_white_noise_goes_on_where_the_own_one_ends() -> None:
    """From a linear demosaic, whose fringes are no white noise, it would not get there."""
    frame, prior = grey_edge(XTRANS), TransformPrior()
    quiet = sensor_noise(frame.cfa, gain=0.01, read=0.1)
    space = WorkingSpace.of_frame(frame, quiet)
    solver = TileSolver(space, frame.cfa, Optics(), prior=prior, share=1.0, uncertain=False, device=torch.device("cpu"))

    of_both = fringes(restore_pnp(frame, quiet, prior=prior).rgb)

    alone = solver.trial(prepare(frame, quiet, share=1.0).planes, Pace.onward(frame.cfa).steps)[0]
    assert of_both < 0.7 * fringes(space.linear(alone))
    assert of_both < 1.1 * fringes(restore_pnp(frame, quiet).rgb)


def redness_kept(name: str) -> float:
    """Share of the colour of a bar 6 sites wide, on grey, that is left at 2000 electrons full scale."""
    truth = torch.full((3, 72, 72), 0.12)
    truth[0, 20:52, 30:36] = 0.18
    rgb = restore_pnp(frame_of(truth * torch.tensor(NEUTRAL).reshape(3, 1, 1), name), sensor_noise(Cfa.parse(name))).rgb
    balanced = rgb / torch.tensor(NEUTRAL).reshape(3, 1, 1)
    return float((balanced[0] - balanced[2])[24:48, 31:35].mean()) / 0.06


@pytest.mark.parametrize("name", ["RGGB", XTRANS])
def test_small_things_keep_their_colour(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = redness_kept(name)
    pace = Pace.of(Cfa.parse(name))
    monkeypatch.setattr(Pace, "of", lambda _: replace(pace, spread=0.0))

    assert kept > 0.45
    assert kept > redness_kept(name) + 0.1


@pytest.mark.parametrize("name", ARRAYS)
def test_strength_zero_keeps_every_measured_value(name: str) -> None:
    frame = frame_of(scene(48, 51), name)

    result = restore_pnp(frame, sensor_noise(frame.cfa), strength=0)

    kept = measured(result.rgb, frame.cfa)
    assert float((kept - frame.linear()[0, 0]).abs().max()) < 1e-6
    # and a noisy frame at full strength does not: the check can fail
    denoised = measured(restore_pnp(frame, sensor_noise(frame.cfa)).rgb, frame.cfa)
    assert float((denoised - frame.linear()[0, 0]).abs().max()) > 10 / (WHITE - BLACK)


@pytest.mark.parametrize("name", ARRAYS)
def test_noise_that_vanishes_leaves_the_measured_values(name: str) -> None:
    frame = frame_of(scene(48, 48), name, noisy=False)
    gain, read = 1e-4, 0.01

    result = restore_pnp(frame, sensor_noise(frame.cfa, gain=gain, read=read))

    kept = measured(result.rgb, frame.cfa)
    rms = float((kept - frame.linear()[0, 0]).square().mean().sqrt()) * (WHITE - BLACK)
    assert rms < 1.0  # [DN]; the noise of rounding, 0.29 DN, is part of what the solver was told


@pytest.mark.parametrize("strength", [0.0, 50.0, 100.0])
@pytest.mark.parametrize("name", ["RGGB", XTRANS])
def test_the_mean_is_kept(name: str, strength: float) -> None:
    """On a dark, flat card: 40 electrons, where a biased inverse would show (1/4 electron is 0.6 %)."""
    level = 40 * GAIN_DN / (WHITE - BLACK)
    truth = torch.full((3, 192, 192), level)
    frame = frame_of(truth, name, seed=3)

    result = restore_pnp(frame, sensor_noise(frame.cfa), strength=strength)

    # Against the mean of the data themselves, so that their own scatter does not count.
    data = frame.linear()[0, 0]
    for k, colour in enumerate("RGB"):
        sites = measured(torch.stack([torch.full(data.shape, float(c == colour)) for c in "RGB"]), frame.cfa) > 0
        assert float(result.rgb[k].mean()) == pytest.approx(float(data[sites].mean()), rel=1e-3)


def test_a_biased_inverse_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted error of the law above: the algebraic inverse, a quarter of an electron too low."""
    frame = frame_of(torch.full((3, 96, 96), 40 * GAIN_DN / (WHITE - BLACK)), "RGGB", seed=3)
    honest = WorkingSpace.linear
    monkeypatch.setattr(WorkingSpace, "linear", lambda self, v: honest(self, v) - 0.25 * self.gain.reshape(3, 1, 1))

    result = restore_pnp(frame, sensor_noise(frame.cfa))

    assert float(result.rgb.mean()) / float(frame.linear().mean()) - 1 < -4e-3


@pytest.mark.parametrize("name", ["RGGB", XTRANS])
def test_tiles_are_invisible(name: str) -> None:
    frame = frame_of(scene(144, 168), name)
    noise = sensor_noise(frame.cfa)

    whole, tiled = (restore_pnp(frame, noise, tile=tile).rgb for tile in (768, 72))

    sigma = (
        noise.affine(frame.cfa, frame.black_level, frame.white_level).b.mean() + GAIN_DN * 0.3 / (WHITE - BLACK)
    ) ** 0.5
    assert float((whole - tiled).abs().max()) < 0.1 * sigma


def test_a_tile_out_of_phase_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted error of the law above: tiles that start between the periods of the array."""
    monkeypatch.setattr(restore_module, "ALIGN", 1)
    monkeypatch.setattr(restore_module, "HALO", 47)
    frame = frame_of(scene(144, 168), "RGGB")
    noise = sensor_noise(frame.cfa)

    whole, tiled = (restore_pnp(frame, noise, tile=tile).rgb for tile in (768, 72))

    assert float((whole - tiled).abs().max()) > 0.05


@pytest.mark.parametrize("name", [*BAYER_PHASES, XTRANS])
def test_every_phase_is_as_good(name: str) -> None:
    truth = scene(72, 72)
    shifted = Cfa.parse(name).shifted(1, 1).name

    scores = [
        psnr(restore_pnp(f, sensor_noise(f.cfa)).rgb, truth) for f in (frame_of(truth, n) for n in (name, shifted))
    ]

    assert abs(scores[0] - scores[1]) < 2.0  # a wrong phase costs more than 10


@pytest.mark.parametrize("name", ["RGGB", XTRANS, QUAD])
def test_isolated_defects_go_and_small_lights_stay(name: str) -> None:
    cfa = Cfa.parse(name)
    truth = torch.full((3, 72, 72), 0.1)
    y, x = torch.meshgrid(torch.arange(72).float(), torch.arange(72).float(), indexing="ij")
    truth += 0.5 * torch.exp(-((x - 50) ** 2 + (y - 50) ** 2) / (2 * 0.7**2))  # a star through a sharp lens
    frame = frame_of(truth, name)
    mosaic = frame.mosaic.copy()
    hot = [(20, 20), (21, 33), (30, 22), (35, 10)]
    for place in hot:
        mosaic[place] = 9000
    frame = replace(frame, mosaic=mosaic)
    noise = sensor_noise(cfa)

    result = restore_pnp(frame, noise)

    assert result.numbers["hot_pixels"] == len(hot)
    assert max(float((result.rgb[:, i, j] - 0.1).abs().max()) for i, j in hot) < 0.02
    assert float(result.rgb[:, 50, 50].min()) > 0.35


def test_flat_noise_has_no_defects() -> None:
    values = 30 + torch.randn(600, 600, generator=torch.Generator().manual_seed(0))

    assert int(repair_defects(values, Cfa.parse(XTRANS)).defective.sum()) <= 2  # 1e-6 a site for eight neighbours


@pytest.mark.parametrize("name", ["RGGB", XTRANS])
def test_row_offsets_go(name: str) -> None:
    truth = scene(96, 240)
    rows = np.random.default_rng(5).normal(0.0, 100.0, 96)
    frame = frame_of(truth, name, rows=rows)

    known, unknown = (restore_pnp(frame, sensor_noise(frame.cfa, row=row)) for row in (100.0, 0.0))

    assert psnr(known.rgb, truth) > psnr(unknown.rgb, truth) + 0.5
    assert known.numbers["row_noise_removed_dn"] == pytest.approx(100.0, rel=0.4)  # a posterior mean shrinks
    assert unknown.numbers["row_noise_removed_dn"] == 0


@pytest.mark.parametrize("name", ["RGGB", XTRANS])
def test_a_clipped_site_is_a_lower_bound(name: str) -> None:
    truth = scene(72, 72) * 1.9  # green clips in the bright half, red and blue do not
    frame = frame_of(truth, name, noisy=False)

    rgb = restore_pnp(frame, sensor_noise(frame.cfa)).rgb

    clipped = frame.clipped()[0, 0]
    assert clipped.float().mean() > 0.05
    assert bool(torch.isfinite(rgb).all())
    bounded = measured(rgb, frame.cfa)[clipped]
    assert float(bounded.min()) > 0.97
    assert float(bounded.max()) > 1.0


def test_black_is_kept_negative() -> None:
    frame = frame_of(torch.zeros(3, 96, 96), "RGGB", seed=1)

    rgb = restore_pnp(frame, sensor_noise(frame.cfa)).rgb

    assert float(rgb.min()) < 0
    assert abs(float(rgb.mean())) < 5 * READ_DN / (WHITE - BLACK) / 96


def test_strength_is_a_dial() -> None:
    frame = frame_of(torch.full((3, 96, 96), 0.2), "RGGB")
    noise = sensor_noise(frame.cfa)

    left = [float(restore_pnp(frame, noise, strength=s).rgb[1].std()) for s in (0.0, 50.0, 100.0)]

    assert left[1] == pytest.approx(0.5 * left[0], rel=0.1)
    assert left[2] < 0.2 * left[0]


class _Counting:
    """A prior that does nothing but count."""

    spec = PriorSpec(channels=3, noise="map", sigma_range=(0.0, 1.0))

    def __init__(self) -> None:
        self.levels: list[float] = []

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        self.levels.append(float(torch.as_tensor(sigma).max()))
        return x


def test_a_prior_of_ones_own_is_asked_at_falling_levels() -> None:
    frame = frame_of(scene(48, 48), "RGGB")
    prior = _Counting()

    restore_pnp(frame, sensor_noise(frame.cfa), prior=prior)

    assert len(prior.levels) == Pace.onward(frame.cfa).steps
    assert prior.levels == sorted(prior.levels, reverse=True)


def test_progress_ends_at_one() -> None:
    frame = frame_of(scene(120, 120), "RGGB")
    shares: list[float] = []

    restore_pnp(frame, sensor_noise(frame.cfa), tile=48, progress=shares.append)

    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert shares[-2] == pytest.approx(1.0)
    assert len(shares) > Pace.of(frame.cfa).steps


def test_the_balance_comes_from_the_scene_where_the_file_has_none() -> None:
    frame = replace(frame_of(scene(48, 48), "RGGB"), colour=Colour())

    numbers = restore_pnp(frame, sensor_noise(frame.cfa)).numbers

    assert numbers["balance_from_scene"] == 1.0
    assert numbers["balance_blue"] == pytest.approx(1 / 0.6, rel=0.3)


def test_what_cannot_be_done_is_refused() -> None:
    mono = RawFrame(np.full((32, 32), 600, np.uint16), Cfa.parse("M"), np.full((1, 1), 512.0), np.full((1, 1), 16383.0))
    frame = frame_of(scene(32, 32), "RGGB")
    with pytest.raises(RestoreError, match="monochrome frame has no colours"):
        restore_pnp(mono, sensor_noise(mono.cfa))
    with pytest.raises(RestoreError, match="too small: needed are 16x16"):
        restore_pnp(frame_of(scene(12, 32), "RGGB"), sensor_noise(frame.cfa))
    with pytest.raises(ProfileError, match="planes R, G, B; the frame has R, G1, G2, B"):
        restore_pnp(frame, sensor_noise(Cfa.parse(XTRANS)))
    with pytest.raises(ValueError, match=r"strength is 0\.\.100, not 101"):
        restore_pnp(frame, sensor_noise(frame.cfa), strength=101)
    with pytest.raises(ValueError, match="tile must be a multiple of align=24, not 100"):
        restore_pnp(frame, sensor_noise(frame.cfa), tile=100)
