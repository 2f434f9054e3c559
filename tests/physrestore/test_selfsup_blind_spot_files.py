"""A blind spot of one's own folder: judged beside a network without the truth, and taught to one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from noise_models.cfa import Cfa
from noise_models.frame import RawFrame
from physrestore import weights
from physrestore.contract import Options
from physrestore.errors import RestoreError
from physrestore.fast import default_network, restore_fast
from physrestore.networks.mosaic_net import MosaicNet, MosaicNetConfig
from physrestore.pipeline import Method, restore
from physrestore.selfsup.blind_spot import BlindSpotConfig, BlindSpotModel
from physrestore.selfsup.blind_spot_files import light_squares
from physrestore.selfsup.blind_spot_restore import light_posterior, restore_blind_spot
from physrestore.selfsup.distil import DistilSettings
from physrestore.selfsup.distil_files import distil_squares
from physrestore.selfsup.folder import fresh_model, hide_held_out
from physrestore.selfsup.gathering import Square
from physrestore.selfsup.light_gate import LightSquare, compare_in_light
from tests.physrestore.folder_shots import folder_shot

BAYER = Cfa.parse("RGGB")


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(**changes: object) -> BlindSpotModel:
    return fresh_model(replace(BlindSpotConfig(width=4, depth=1), **changes), generator=drawn())  # type: ignore[arg-type]


def square(side: int = 192, *, seed: int = 0) -> tuple[LightSquare, RawFrame, torch.Tensor]:
    """All sites of it held out: the verdict is then as sharp as it can be."""
    frame, noise, light = folder_shot(BAYER, side, electrons=100.0, black=512.0, seed=seed)
    whole = LightSquare.of_frame(frame, noise)
    hidden = whole.observed.with_planes(scored=torch.zeros_like(whole.observed.light))
    return replace(whole, observed=hidden), frame, torch.from_numpy(light).float()


def test_the_verdict_in_light_is_the_true_error() -> None:
    one, frame, truth = square()
    teacher, rival = model(), weights.load("mosaic-small").network
    assert isinstance(rival, MosaicNet)

    verdict = compare_in_light(teacher, rival, [one], generator=drawn())

    noise = folder_shot(BAYER, 192, electrons=100.0, black=512.0)[1]
    good = one.observed.measured[0, 0]
    scale = float(one.observed.noise_variance(truth)[0, 0][good].mean())
    rgb = restore_fast(frame, noise, network=rival).rgb
    plain = rgb.gather(0, torch.tensor([[0, 1], [1, 2]]).repeat(96, 96)[None])[0]
    mine = light_posterior(teacher, one.observed).mean[0, 0]
    errors = [float((image - truth)[good].square().mean()) / scale for image in (mine, plain)]
    # The risk of a site has a std of about twice the noise's variance times its std of residual over noise: below 2.
    within = 5 * 2.0 / verdict.sites**0.5
    assert verdict.teacher == pytest.approx(errors[0], abs=within)
    assert verdict.rival == pytest.approx(errors[1], abs=within)
    assert verdict.difference == pytest.approx(errors[0] - errors[1], abs=5 * verdict.standard_error)
    assert verdict.difference > 2 * verdict.standard_error  # an untrained teacher is worse, and the sentence says so
    assert verdict.sentence.endswith("worse.")


def test_a_verdict_needs_sites_that_were_held_out() -> None:
    one, *_ = square(96)
    seen = replace(one, observed=one.observed.with_planes(scored=torch.ones_like(one.observed.light)))
    with pytest.raises(ValueError, match="No site is held out"):
        compare_in_light(model(), default_network(), [seen], generator=drawn())


def test_the_posterior_for_teaching_is_that_of_restoring() -> None:
    frame, noise, _ = folder_shot(BAYER, 96, electrons=100.0, black=512.0)
    whole, teacher = LightSquare.of_frame(frame, noise), model()
    made = restore_blind_spot(frame, noise, teacher, few_electrons=False)
    torch.testing.assert_close(light_posterior(teacher, whole.observed).mean[0, 0], made.mosaic)


def test_a_student_learns_what_was_measured_and_keeps_what_was_not() -> None:
    squares = []
    for seed in range(2):
        one, *_ = square(192, seed=seed)
        squares.append(replace(one, observed=hide_held_out(one.observed, seed=seed)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = MosaicNet(MosaicNetConfig(channels=(12,), blocks=1)).eval()
    before = {name: value.clone() for name, value in start.state_dict().items()}

    student = distil_squares(
        model(),
        squares,
        start=start,
        generator=drawn(),
        settings=DistilSettings(steps=100, crop=48, batch=4, learning_rate=1e-3),
    )

    assert student.accepted  # an untrained network keeps all noise of measured sites
    gain = student.verdict.before - student.verdict.after
    assert gain > 0.5 * student.verdict.before
    # Of the colours between little was changed: the other two thirds of the verdict.
    assert 3 * student.verdict.difference + gain < 0.4 * gain
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())


def test_a_student_without_lessons_is_refused() -> None:
    one, *_ = square(288)
    student = distil_squares(
        model(),
        [one],
        start=weights.load("mosaic-small").network,  # type: ignore[arg-type]
        generator=drawn(),
        settings=DistilSettings(budget_s=1e-6),
    )
    assert student.steps == 0
    assert not student.accepted
    assert student.verdict.difference == 0.0


def test_the_method_gives_mosaic_and_uncertainty() -> None:
    frame, noise, light = folder_shot(BAYER, 96, electrons=60.0, black=512.0)
    clipped = frame.mosaic.copy()
    clipped[40:44, 40:44] = 16000
    frame = replace(frame, mosaic=clipped)
    options = Options(network=model(), uncertainty=True)

    made = restore(frame, noise, method=Method.SELFSUP, options=options)

    x = (made.mosaic.astype(float) - 512.0) / (16000.0 - 512.0)
    inside = np.ones_like(light, dtype=bool)
    inside[36:48, 36:48] = False
    noisy = (frame.mosaic.astype(float) - 512.0) / (16000.0 - 512.0)
    assert np.std((x - light)[inside]) < 0.8 * np.std((noisy - light)[inside])
    assert made.uncertainty is not None
    assert made.uncertainty.shape == (1, 96, 96)
    assert bool(torch.isnan(made.uncertainty[0, 40:44, 40:44]).all())
    assert made.rgb is None
    kept = restore(frame, noise, method=Method.SELFSUP, strength=0.0, options=options)
    assert np.array_equal(kept.mosaic, frame.mosaic)
    # With the noise kept, what is expected is the noise: as much as the true errors show.
    assert kept.uncertainty is not None
    expected = float(kept.uncertainty[0][torch.from_numpy(inside)].square().mean().sqrt())
    assert expected == pytest.approx(float(np.std((noisy - light)[inside])), rel=0.15)


def test_monochrome_sensors_have_it_too() -> None:
    mono = Cfa.parse("M")
    frame, noise, light = folder_shot(mono, 96, electrons=60.0, black=512.0)
    made = restore(frame, noise, method=Method.SELFSUP, options=Options(network=model(colours=1), uncertainty=True))
    noisy, x = ((one.astype(float) - 512.0) / (16000.0 - 512.0) for one in (frame.mosaic, made.mosaic))
    assert np.std(x - light) < 0.8 * np.std(noisy - light)
    assert made.uncertainty is not None
    taught = light_squares(frame, noise, [Square(slice(0, 96), slice(0, 96))])
    assert taught[0].space is None
    with pytest.raises(ValueError, match="needs no student"):
        distil_squares(
            model(colours=1), taught, start=default_network(), generator=drawn(), settings=DistilSettings(steps=1)
        )


@pytest.mark.parametrize("method", [Method.FAST, Method.PNP, Method.CLASSIC])
def test_other_methods_refuse_a_blind_spot(method: Method) -> None:
    frame, noise, _ = folder_shot(BAYER, 96, electrons=60.0, black=512.0)
    with pytest.raises(RestoreError, match=r"Use --method selfsup\.$"):
        restore(frame, noise, method=method, options=Options(network=model()))
    with pytest.raises(RestoreError, match="not adapted to single photos"):
        restore(frame, noise, method=Method.SELFSUP, options=Options(network=model(), budget_seconds=5.0))
