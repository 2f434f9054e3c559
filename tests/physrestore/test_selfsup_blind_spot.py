"""The predictor: blind as a whole, equivariant, seamless; restoring, reporting, saving."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from noise_models.cfa import BAYER_PHASES, QUAD_BAYER_ROWS, XTRANS_ROWS, Cfa
from noise_models.errors import ProfileError
from noise_models.frame import RawFrame
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from noise_models.simulate import VirtualCamera
from physrestore.errors import RestoreError
from physrestore.selfsup.blind_spot import BlindSpotConfig, BlindSpotModel, blind_average
from physrestore.selfsup.blind_spot_data import Observed
from physrestore.selfsup.blind_spot_file import load_blind_spot, save_blind_spot
from physrestore.selfsup.blind_spot_restore import _judged, predict_frame, restore_blind_spot
from physrestore.selfsup.folder import HELD_OUT, fresh_model, hide_held_out

BLACK, WHITE = 512.0, 16383.0


def noise_for(cfa: Cfa, *, gain: float = 20.0, read: float = 60.0, row: float = 0.0) -> SensorNoise:
    plane = PlaneNoise(
        gain=Estimate(value=gain), read_noise_dn=Estimate(value=read), black_level_dn=Estimate(value=BLACK)
    )
    return SensorNoise(iso=800.0, planes=dict.fromkeys(cfa.plane_names, plane), row_noise_dn=Estimate(value=row))


def frame_of(cfa: Cfa, shape: tuple[int, int], *, level: float = 0.3, seed: int = 1, **noise: float) -> RawFrame:
    camera = VirtualCamera(noise_for(cfa, **noise), cfa=cfa, shape=shape)
    ramp = level * (0.6 + 0.8 * torch.linspace(0, 1, shape[1]).expand(shape))
    return camera.flat(ramp, generator=torch.Generator().manual_seed(seed))


def model_of(**config: Any) -> BlindSpotModel:
    return fresh_model(BlindSpotConfig(width=4, **config), generator=torch.Generator().manual_seed(0))


CASES = [
    ("RGGB", {"own_row": True}),
    ("GBRG", {"own_row": False}),
    ("GRBG", {"own_row": True, "hole": 3}),
    ("BGGR", {"architecture": "dilated", "depth": 3}),
    ("RGGB", {"architecture": "masked", "own_row": True}),
    ("RGGB", {"layout": "packed", "own_row": True}),
    ("GBRG", {"layout": "packed", "own_row": False}),
    ("".join(XTRANS_ROWS), {"own_row": False}),
    ("".join(QUAD_BAYER_ROWS), {"own_row": True}),
    ("M", {"own_row": True, "colours": 1}),
]


@pytest.mark.parametrize(("name", "config"), CASES)
def test_prediction_and_spread_are_blind(name: str, config: dict[str, Any]) -> None:
    cfa = Cfa.parse(name)
    shape = (19, 21) if config.get("layout") != "packed" else (20, 22)
    observed = Observed.of_frame(frame_of(cfa, shape), noise_for(cfa), subtract_rows=False).to(torch.float64)
    model = model_of(**config).double()
    light = observed.light.clone().requires_grad_()
    prediction = model(observed.with_planes(light=light))
    site = model.site
    rows, columns = prediction.mean.shape[-2:]
    half = model.config.hole // 2
    for i, j in ((0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1)):
        value = prediction.mean[0, :, i, j].sum() + 10 * prediction.covariance[0, :, :, i, j].sum()
        (seen,) = torch.autograd.grad(value, light, retain_graph=True)
        own_rows = slice(site * max(i - half, 0), site * (i + half + 1))
        own_columns = slice(site * max(j - half, 0), site * (j + half + 1)) if model.config.own_row else slice(None)
        assert float(seen[0, 0, own_rows, own_columns].abs().max()) == 0.0
        assert float(seen.abs().sum()) > 0.0


def test_an_average_that_sees_its_centre_is_found() -> None:
    """Planted: the average of neighbours without its hole."""
    values = torch.rand(1, 1, 9, 9, dtype=torch.float64, requires_grad=True)
    blind = blind_average(values, torch.ones_like(values), 1, True)
    (seen,) = torch.autograd.grad(blind[0, 0, 4, 4], values)
    assert float(seen[0, 0, 4, 4]) == 0.0
    assert float(seen.sum()) == pytest.approx(1.0)
    kernel = torch.ones(1, 1, 3, 3, dtype=torch.float64) / 9
    (seen,) = torch.autograd.grad(torch.nn.functional.conv2d(values, kernel, padding=1)[0, 0, 4, 4], values)
    assert float(seen[0, 0, 4, 4]) > 0.0


def test_average_keeps_a_constant_of_each_colour() -> None:
    colours = torch.zeros(1, 3, 12, 12, dtype=torch.float64)
    index = Cfa(XTRANS_ROWS).plane_index(12, 12)
    for k in range(3):
        colours[0, k] = (index == k).double()
    level = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)[None, :, None, None]
    for own_row in (True, False):
        average = blind_average(level * colours, colours, 1, own_row)
        torch.testing.assert_close(average, level.expand_as(average))


@pytest.mark.parametrize("config", [{"own_row": True}, {"own_row": False}, {"layout": "packed", "own_row": True}])
def test_a_whole_period_of_shift_shifts_the_prediction(config: dict[str, Any]) -> None:
    cfa = Cfa.parse("RGGB")
    observed = Observed.of_frame(frame_of(cfa, (96, 96)), noise_for(cfa), subtract_rows=False)
    model = model_of(**config, depth=1)
    step, margin = 4, 40
    with torch.no_grad():
        whole = model.unpack(model(observed).mean, observed)
        part = observed.crop(slice(step, 96), slice(step, 96))
        moved = model.unpack(model(part).mean, part)
    inside = slice(margin, 96 - margin)
    later = slice(margin - step, 96 - margin - step)
    torch.testing.assert_close(moved[..., later, later], whole[..., inside, inside], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("config", [{"own_row": True}, {"architecture": "dilated"}, {"layout": "packed"}])
def test_no_seams(config: dict[str, Any]) -> None:
    cfa = Cfa.parse("GRBG")
    observed = Observed.of_frame(frame_of(cfa, (150, 134)), noise_for(cfa), subtract_rows=False)
    model = model_of(**{"depth": 2, **config})
    small, large = (predict_frame(model, observed, tile=tile) for tile in (48, 1000))
    torch.testing.assert_close(small.mean, large.mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(small.variance, large.variance, atol=1e-6, rtol=1e-3)


def test_reach_is_not_overstated_and_never_understated() -> None:
    observed = Observed.of_frame(
        frame_of(Cfa.parse("M"), (120, 120)), noise_for(Cfa.parse("M")), subtract_rows=False
    ).to(torch.float64)
    model = model_of(own_row=True, colours=1).double()
    light = observed.light.clone().requires_grad_()
    out = model(observed.with_planes(light=light)).mean
    (seen,) = torch.autograd.grad(out[0, 0, 60, 60], light)
    rows, columns = seen[0, 0].nonzero(as_tuple=True)
    farthest = max(int((rows - 60).abs().max()), int((columns - 60).abs().max()))
    assert farthest <= model.reach()
    assert farthest > 0.4 * model.reach()


def test_defects_become_the_prediction_and_clipped_sites_rise() -> None:
    cfa = Cfa.parse("RGGB")
    frame = frame_of(cfa, (64, 64), level=0.3)
    mosaic = frame.mosaic.copy()
    mosaic[30, 31] = 9000
    mosaic[20, 20] = int(WHITE)
    hot = RawFrame(mosaic, cfa, frame.black_level, frame.white_level)
    result = restore_blind_spot(hot, noise_for(cfa), model_of(own_row=True))
    observed = Observed.of_frame(hot, noise_for(cfa), subtract_rows=False)
    missing = observed.known[0, 0] == 0
    assert bool(missing[30, 31])
    torch.testing.assert_close(result.mosaic[missing], result.predicted[missing])
    clipped = (observed.censored[0, 0] > 0) & ~missing
    assert bool((result.mosaic[clipped] >= result.predicted[clipped]).all())
    assert result.numbers["defects"] == float(missing.sum())


def test_mean_level_is_kept_by_an_untrained_model() -> None:
    """The closed form has no bias of its own: prediction and measurement agree on a flat field's mean."""
    cfa = Cfa.parse("RGGB")
    camera = VirtualCamera(noise_for(cfa), cfa=cfa, shape=(128, 128))
    frame = camera.flat(0.25, generator=torch.Generator().manual_seed(3))
    result = restore_blind_spot(frame, noise_for(cfa), model_of(own_row=True))
    assert float(result.predicted.mean()) == pytest.approx(0.25, rel=0.1)
    assert abs(float(result.mosaic.mean()) - 0.25) < 0.5 * abs(float(result.predicted.mean()) - 0.25) + 0.001


def test_rows_are_taken_out() -> None:
    """Even an untrained prediction, which carries a share of its neighbours' offsets, tells some of the row's own."""
    cfa = Cfa.parse("RGGB")
    camera = VirtualCamera(noise_for(cfa, row=120.0), cfa=cfa, shape=(96, 160))
    frame = camera.flat(0.2, generator=torch.Generator().manual_seed(3))
    told, untold = (
        restore_blind_spot(frame, noise, model_of(own_row=False), correct_spread=False)
        for noise in (noise_for(cfa, row=120.0), noise_for(cfa))
    )

    def striping(x: Tensor) -> float:
        return float((x[1:] - x[:-1]).mean(1).square().mean().sqrt())

    assert striping(told.mosaic) < 0.9 * striping(untold.mosaic)
    assert any("Rows carry an offset" in sentence for sentence in untold.z.wrong)


def test_a_trained_frame_is_judged_by_what_training_left_out() -> None:
    cfa = Cfa.parse("RGGB")
    frame, model = frame_of(cfa, (80, 80)), model_of(own_row=True)
    few = restore_blind_spot(frame, noise_for(cfa), model, trained_as=2)
    everything = restore_blind_spot(frame, noise_for(cfa), model)
    assert few.z == everything.z  # 2 % of a small frame say nothing
    large = frame_of(cfa, (1024, 1024))
    observed = _judged(Observed.of_frame(large, noise_for(cfa), subtract_rows=True, find_defects=False), 2)
    share = float(observed.known.mean())
    assert share == pytest.approx(HELD_OUT, rel=5 / math.sqrt(HELD_OUT * 2**20))
    hidden = hide_held_out(observed, seed=2).scored == 0
    assert bool(hidden[observed.known > 0].all())


@pytest.mark.parametrize("phase", BAYER_PHASES)
def test_observed_tells_the_same_noise_as_the_profile(phase: str) -> None:
    cfa = Cfa.parse(phase)
    noise = noise_for(cfa).model_copy(update={"column_noise_dn": Estimate(value=5.0)})
    observed = Observed.of_frame(frame_of(cfa, (32, 32)), noise, subtract_rows=False)
    mean = torch.full((1, 1, 32, 32), 0.2)
    expected = (float(noise.planes["R"].variance(0.2 * (WHITE - BLACK))) + 25.0) / (WHITE - BLACK) ** 2
    torch.testing.assert_close(observed.noise_variance(mean), torch.full_like(mean, expected), rtol=1e-5, atol=0)
    scaled = (observed.root_noise / observed.root).square() * 4 * (observed.light + observed.offset) / observed.gain
    torch.testing.assert_close(scaled, torch.ones_like(scaled), rtol=1e-3, atol=0)


def test_crops_keep_their_colours() -> None:
    cfa = Cfa(XTRANS_ROWS)
    observed = Observed.of_frame(frame_of(cfa, (24, 24)), noise_for(cfa), subtract_rows=False)
    part = observed.crop(slice(5, 20), slice(3, 24))
    assert torch.equal(part.colours, observed.colours[..., 5:20, 3:24])


def test_saved_models_return(tmp_path: Path) -> None:
    model = model_of(own_row=False)
    save_blind_spot(tmp_path / "m.safetensors", model)
    again = load_blind_spot(tmp_path / "m.safetensors")
    assert again.config == model.config
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(RestoreError, match="cannot be read as a blind-spot model"):
        load_blind_spot(tmp_path / "broken.safetensors")


def test_refusals() -> None:
    bayer, mono = Cfa.parse("RGGB"), Cfa.parse("M")
    frame = frame_of(bayer, (32, 32))
    with pytest.raises(RestoreError, match="network is for 1 colours"):
        restore_blind_spot(frame, noise_for(bayer), model_of(colours=1))
    with pytest.raises(ProfileError, match="describes planes M"):
        restore_blind_spot(frame, noise_for(mono), model_of())
    with pytest.raises(ValueError, match="no packed planes"):
        BlindSpotConfig(colours=1, layout="packed")
    with pytest.raises(ValueError, match="colours is 3"):
        BlindSpotConfig(colours=2)
    with pytest.raises(ValueError, match="too small"):
        Observed.of_frame(
            RawFrame(np.full((8, 8), 600, np.uint16), bayer, frame.black_level, frame.white_level),
            noise_for(bayer),
            subtract_rows=False,
        )
    with pytest.raises(ValueError, match="at least one part"):
        Observed.batch([])
