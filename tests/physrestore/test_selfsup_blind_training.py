"""Training on noisy frames alone: it learns, is reproducible, keeps phases, and its report finds wrong laws."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from noise_models.cfa import QUAD_BAYER_ROWS, XTRANS_ROWS, Cfa
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from noise_models.simulate import VirtualCamera
from physrestore.errors import RestoreError
from physrestore.selfsup.blind_spot import BlindSpotConfig
from physrestore.selfsup.blind_spot_crops import WINDOW, mirrored, phase_shift, windows
from physrestore.selfsup.blind_spot_data import Observed
from physrestore.selfsup.blind_spot_restore import restore_blind_spot
from physrestore.selfsup.folder import (
    HELD_OUT,
    FolderTraining,
    blind_spot_loss,
    fresh_model,
    hide_held_out,
    train_folder,
)
from physrestore.selfsup.joint_noise import JointEstimate, estimate_jointly, pooled, rescaled
from physrestore.selfsup.z_scores import Ratio, ZInput, quantiles, z_report

BLACK, WHITE = 512.0, 16383.0
SPAN = WHITE - BLACK
BAYER = Cfa.parse("RGGB")


def noise_for(cfa: Cfa = BAYER, *, gain: float = 40.0, read: float = 120.0, row: float = 0.0) -> SensorNoise:
    plane = PlaneNoise(
        gain=Estimate(value=gain), read_noise_dn=Estimate(value=read), black_level_dn=Estimate(value=BLACK)
    )
    return SensorNoise(iso=800.0, planes=dict.fromkeys(cfa.plane_names, plane), row_noise_dn=Estimate(value=row))


def scene(height: int, width: int) -> torch.Tensor:
    """Smooth areas of all brightness with a few edges."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    light = 0.05 + 0.6 * x * (0.5 + 0.5 * torch.cos(5 * y)) + 0.2 * ((x - 0.5).square() + (y - 0.5).square() < 0.05)
    return torch.stack([0.7 * light, light, 0.5 * light])


def shot(cfa: Cfa, shape: tuple[int, int], noise: SensorNoise, seed: int = 0) -> RawFrame:
    camera = VirtualCamera(noise, cfa=cfa, shape=shape)
    return camera.expose(scene(*shape), generator=torch.Generator().manual_seed(seed))


QUICK = FolderTraining(steps=60, batch=2, crop=32)
SMALL = BlindSpotConfig(width=6, depth=1)


def test_training_lowers_the_loss_and_the_error() -> None:
    noise = noise_for()
    frame = shot(BAYER, (96, 96), noise)
    steps: list[int] = []
    start = fresh_model(SMALL, generator=torch.Generator().manual_seed(4))
    model = train_folder(
        [frame],
        [noise],
        config=SMALL,
        training=QUICK,
        generator=torch.Generator().manual_seed(4),
        on_step=lambda step, _: steps.append(step),
    )
    assert steps == list(range(1, QUICK.steps + 1))
    observed = Observed.of_frame(frame, noise, subtract_rows=False)
    before, after = (float(blind_spot_loss(one(observed), observed).detach()) for one in (start, model))
    assert after < before - 0.02
    truth = torch.from_numpy(VirtualCamera(noise, cfa=BAYER, shape=(96, 96)).clean(scene(96, 96)) - BLACK) / SPAN
    errors = {
        name: float((result - truth).square().mean())
        for name, result in {
            "noisy": frame.linear()[0, 0],
            "start": restore_blind_spot(frame, noise, start).mosaic,
            "trained": restore_blind_spot(frame, noise, model).mosaic,
        }.items()
    }
    assert errors["trained"] < errors["start"] < errors["noisy"]
    assert errors["trained"] < 0.45 * errors["noisy"]


def test_same_seed_same_model_whatever_the_global_seed() -> None:
    frame, noise = shot(BAYER, (64, 64), noise_for()), noise_for()
    models = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        models.append(
            train_folder(
                [frame],
                [noise],
                config=SMALL,
                training=replace(QUICK, steps=3),
                generator=torch.Generator().manual_seed(0),
            )
        )
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "config",
    [
        BlindSpotConfig(width=4, depth=1, layout="packed"),
        BlindSpotConfig(width=4, depth=1, architecture="masked", own_row=True),
        BlindSpotConfig(width=4, depth=2, architecture="dilated"),
    ],
)
def test_other_kinds_train_too(config: BlindSpotConfig) -> None:
    noise = noise_for(row=80.0)
    losses: list[float] = []
    train_folder(
        [shot(BAYER, (64, 64), noise)],
        [noise],
        config=config,
        training=replace(QUICK, steps=80),
        generator=torch.Generator().manual_seed(0),
        on_step=lambda _, loss: losses.append(loss),
    )
    assert sum(losses[-20:]) < sum(losses[:20])


def test_budget_ends_a_training() -> None:
    steps: list[int] = []
    train_folder(
        [shot(BAYER, (64, 64), noise_for())],
        [noise_for()],
        config=SMALL,
        training=FolderTraining(steps=10**6, budget_s=0.2, batch=1, crop=16),
        generator=torch.Generator().manual_seed(0),
        on_step=lambda step, _: steps.append(step),
    )
    assert 1 <= steps[-1] < 10**5


def test_held_out_sites_do_not_move_the_loss() -> None:
    observed = hide_held_out(
        Observed.of_frame(shot(BAYER, (64, 64), noise_for()), noise_for(), subtract_rows=False), seed=3
    ).to(torch.float64)
    hidden = observed.scored == 0
    assert float(hidden.double().mean()) == pytest.approx(HELD_OUT, abs=5 * math.sqrt(HELD_OUT / hidden.numel()))
    light = observed.light.clone().requires_grad_()
    seen = observed.with_planes(light=light)
    model = fresh_model(SMALL, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        fixed = model(observed)  # what the network sees is not the question here
    prediction = replace(fixed, evidence=replace(fixed.evidence, light=light))
    (gradient,) = torch.autograd.grad(blind_spot_loss(prediction, seen), light)
    assert float(gradient[hidden].abs().max()) == 0.0
    assert float(gradient[~hidden].abs().min()) > 0.0


def test_large_frames_are_cut_into_windows() -> None:
    cfa = Cfa(XTRANS_ROWS)
    whole = Observed(torch.arange(8 * 600 * 1100.0).reshape(1, 8, 600, 1100), cfa)
    assert windows(whole, sites=600 * 1100, generator=torch.Generator())[0] is whole
    pieces = windows(whole, sites=2 * WINDOW**2 + 5, generator=torch.Generator().manual_seed(0))
    assert [piece.shape for piece in pieces] == [(WINDOW, WINDOW)] * 2
    for piece in pieces:
        first = int(piece.planes[0, 0, 0, 0])
        assert cfa.shifted(first // 1100, first % 1100) == piece.cfa == cfa
        assert piece.planes.untyped_storage().nbytes() == piece.planes.numel() * 4


@pytest.mark.parametrize("name", ["RGGB", "GRBG", "M", "".join(QUAD_BAYER_ROWS), "".join(XTRANS_ROWS)])
@pytest.mark.parametrize("axis", [-1, -2])
def test_mirror_images_find_their_phase(name: str, axis: int) -> None:
    cfa = Cfa.parse(name)
    observed = (
        Observed.of_frame(shot(cfa, (23, 26), noise_for(cfa)), noise_for(cfa), subtract_rows=False)
        if (name != "M")
        else Observed(torch.rand(1, 8, 23, 26), cfa)
    )
    turned = mirrored(observed, axis)
    assert torch.equal(turned.colours, observed.colours.flip(axis))
    top, left = phase_shift(turned.cfa, cfa)
    assert turned.crop(slice(top, 23), slice(left, 26)).cfa == cfa


def drawn_data(*, v: float = 0.0002, gain: float = 0.0025, dark: float = 5e-5, row: float = 0.0) -> ZInput:
    """Errors drawn from a known law; what is told is replaced by the tests."""
    generator = torch.Generator().manual_seed(8)
    shape = (240, 320)
    mean = torch.linspace(0.01, 0.8, shape[1]).expand(shape).contiguous()
    # Rough and smooth places, everywhere.
    variance = v * torch.exp(1.5 * torch.randn(shape, generator=generator))
    total = variance + gain * mean + dark
    error = total.sqrt() * torch.randn(shape, generator=generator)
    offset = row * torch.randn(shape[0], 1, generator=generator)
    colour = BAYER.plane_index(*shape).clamp(max=2)
    return ZInput(
        error=error,
        raw_error=error + offset,
        mean=mean,
        variance=variance,
        gain=torch.full(shape, gain),
        dark=torch.full(shape, dark),
        row=torch.zeros(shape),
        sites=torch.ones(shape, dtype=torch.bool),
        colour=colour,
        letters="RGB",
        period=2,
    )


def test_a_right_law_is_not_blamed() -> None:
    report = z_report(drawn_data())
    assert report.wrong == ()
    assert report.variance == pytest.approx(1.0, abs=5 * math.sqrt(2 / 76800))
    assert len(report.bins) == 30
    for one in report.bins:
        assert one.variance == pytest.approx(1.0, abs=6 * math.sqrt(2 / one.sites))
        assert one.inside_90 == pytest.approx(0.9, abs=6 * math.sqrt(0.09 / one.sites))


@pytest.mark.parametrize(("factor", "words"), [(2.0, "vary only 0.5"), (0.4, "vary 2")])
def test_a_wrong_gain_is_found(factor: float, words: str) -> None:
    right = drawn_data()
    report = z_report(replace(right, gain=factor * right.gain))
    assert any(words in sentence and "gain K fits worst" in sentence for sentence in report.wrong)
    assert report.gain is not None
    assert report.gain.value == pytest.approx(1 / factor, rel=0.2)
    assert report.gain.value > 0.97 / factor  # an upper bound


def test_a_wrong_read_noise_is_found() -> None:
    right = drawn_data(v=2e-6, dark=4e-4)
    report = z_report(replace(right, dark=4 * right.dark))
    assert any("read noise fits worst" in sentence for sentence in report.wrong)


def test_a_young_network_is_not_blamed_on_the_law() -> None:
    """Large errors that are declared as such raise the bound only."""
    report = z_report(drawn_data(v=0.005))
    assert report.bound.value > 1.5
    assert report.level.value == pytest.approx(1.0, abs=5 * report.level.standard_error)
    assert report.wrong == ()


def test_row_noise_is_found_and_missed_when_it_is_not_there() -> None:
    striped = drawn_data(row=0.02)
    report = z_report(replace(striped, error=striped.raw_error))
    # A median of 236 squares of differences, three of which share a row.
    assert report.row_noise == pytest.approx(0.02, rel=5 * 1.5 / math.sqrt(236))
    assert any("Rows carry an offset" in sentence for sentence in report.wrong)
    told = z_report(replace(striped, row=torch.full_like(striped.row, 0.02)))
    assert told.wrong == ()
    absent = z_report(replace(drawn_data(), row=torch.full_like(striped.row, 0.02)))
    assert any("is not in the frame" in sentence for sentence in absent.wrong)


def test_no_sites_is_refused() -> None:
    data = drawn_data()
    with pytest.raises(ValueError, match="No site is left"):
        z_report(replace(data, sites=torch.zeros_like(data.sites)))


def test_quantiles_are_numpys_to_one_rank() -> None:
    values = torch.rand(1001, generator=torch.Generator().manual_seed(0))
    expected = torch.quantile(values, torch.linspace(0, 1, 11)[1:-1])
    torch.testing.assert_close(quantiles(values, 10), expected, atol=0.01, rtol=0)


def test_rescaled_noise() -> None:
    noise = rescaled(noise_for(gain=40.0, read=100.0), gain=Ratio(0.5, 0.01), dark=Ratio(0.25, 0.02))
    plane = noise.planes["R"]
    assert plane.gain is not None
    assert plane.gain.value == pytest.approx(20.0)
    assert plane.read_noise_dn.value == pytest.approx(50.0, rel=1e-4)
    assert pooled([None]) is None


def ramp(side: int) -> torch.Tensor:
    """Nothing but smooth light."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    light = 0.03 + 0.75 * x * (0.7 + 0.3 * y)
    return torch.stack([0.7 * light, light, 0.5 * light])


def jointly(side: int) -> JointEstimate:
    camera = VirtualCamera(noise_for(), cfa=BAYER, shape=(side, side))
    return estimate_jointly(
        [camera.expose(ramp(side), generator=torch.Generator().manual_seed(0))],
        config=BlindSpotConfig(width=6, depth=1),
        training=FolderTraining(steps=60, batch=2, crop=32),
        generator=torch.Generator().manual_seed(0),
        rounds=1,
    )


def test_joint_estimate_of_a_photo_that_determines_its_noise() -> None:
    found = jointly(400)
    gain = found.noise.planes["G1"].gain
    assert gain is not None
    assert gain.value == pytest.approx(40.0, rel=0.2)
    assert found.verdict in ("confirmed", "lowered")
    assert found.noise.origin == "estimated"
    assert len(found.gain_ratios) == 1
    # Unseen pixels vary at least as much as the true noise.
    assert found.gain_ratios[0] is not None
    assert found.gain_ratios[0] * gain.value > 40.0 * 0.9


def test_joint_estimate_of_a_photo_that_does_not() -> None:
    """Too few blocks: the photo gives a bound only, and the verdict says so."""
    found = jointly(256)
    gain = found.noise.planes["G1"].gain
    assert found.verdict == "bounded"
    assert gain is not None
    assert gain.value > 36.0
    assert any("blocks" in reason for reason in found.reasons)


def test_black_frames_bound_nothing() -> None:
    noise = noise_for()
    camera = VirtualCamera(noise, cfa=BAYER, shape=(64, 64))
    dark = camera.dark(generator=torch.Generator().manual_seed(0))
    with pytest.raises(CalibrationError, match="No frame of the folder bounds its noise"):
        estimate_jointly([dark], config=SMALL, training=QUICK, generator=torch.Generator().manual_seed(0))


def test_refusals() -> None:
    noise, generator = noise_for(), torch.Generator().manual_seed(0)
    frame = shot(BAYER, (64, 64), noise)
    with pytest.raises(ValueError, match="one noise for every frame; 1 frames, 2 noises"):
        train_folder([frame], [noise] * 2, config=SMALL, training=QUICK, generator=generator)
    with pytest.raises(RestoreError, match="Use smaller crops"):
        train_folder([frame], [noise], config=SMALL, training=replace(QUICK, crop=64), generator=generator)
    xtrans = Cfa(XTRANS_ROWS)
    other = shot(xtrans, (64, 64), noise_for(xtrans))
    with pytest.raises(RestoreError, match="mix the arrays"):
        train_folder([frame, other], [noise, noise_for(xtrans)], config=SMALL, training=QUICK, generator=generator)
    with pytest.raises(RestoreError, match="Training diverged in step"):
        train_folder([frame], [noise], config=SMALL, training=replace(QUICK, learning_rate=1e18), generator=generator)
    with pytest.raises(ValueError, match="steps must be positive, not 0"):
        FolderTraining(steps=0)
    with pytest.raises(ValueError, match="at least one round"):
        estimate_jointly([frame], config=SMALL, training=QUICK, generator=generator, rounds=0)
