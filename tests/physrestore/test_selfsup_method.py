"""The method selfsup: it adapts only where that is a gain, falls back to fast, and tells a wrong profile."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from noise_models.cfa import Cfa
from noise_models.frame import RawFrame
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from physrestore import weights
from physrestore.contract import Options
from physrestore.errors import RestoreError
from physrestore.fast import default_network, restore_fast
from physrestore.pipeline import Method, restore
from physrestore.pnp.prepare import prepare
from physrestore.selfsup.adapt import AdaptSettings
from physrestore.selfsup.frames import noisy_frame
from physrestore.selfsup.method import restore_selfsup
from physrestore.selfsup.noise_check import check_noise
from tests.physrestore.test_fast import shot

BAYER = Cfa.parse("RGGB")


def with_gain(noise: SensorNoise, factor: float) -> SensorNoise:
    planes = {
        name: plane.model_copy(update={"gain": Estimate(value=plane.gain.value * factor)})
        for name, plane in noise.planes.items()
        if plane.gain is not None
    }
    return noise.model_copy(update={"planes": planes})


def stripes(side: int = 288) -> tuple[RawFrame, SensorNoise, np.ndarray]:
    """Fine regular texture in strong noise: what adaptation is for."""
    frame, noise, _ = shot(BAYER, side, electrons=60.0)
    y, x = np.mgrid[:side, :side]
    light = 0.3 + 0.2 * np.sign(np.sin(x * 0.9 + 0.3 * y))
    span, gain = 16383.0 - 512.0, (16383.0 - 512.0) / 60.0
    rng = np.random.default_rng(1)
    signal = gain * rng.poisson(light * 60.0) + rng.normal(0.0, 2.0 * gain, light.shape)
    mosaic = np.clip(np.round(signal + 512.0), 0, 16383).astype(np.uint16)
    assert span > 0
    return (
        RawFrame(mosaic, frame.cfa, frame.black_level, frame.white_level, colour=frame.colour),
        noise,
        light,
    )


def error(rgb: torch.Tensor, light: np.ndarray) -> float:
    return float((rgb - torch.from_numpy(light).float()).square().mean().sqrt())


def test_adapts_to_a_texture_and_leaves_the_given_network_alone() -> None:
    frame, noise, light = stripes()
    network = weights.load("mosaic-small").network
    before = copy.deepcopy(network.state_dict())
    settings = AdaptSettings(steps=40, learning_rate=3e-4)
    result = restore_selfsup(frame, noise, network=network, budget_seconds=600.0, settings=settings)
    assert result.adapted.accepted
    assert result.numbers["held_out_error_after"] < result.numbers["held_out_error_before"]
    assert "Adapted to this photo" in result.notes[0]
    plain = restore_fast(frame, noise, network=network)
    assert error(result.restored.rgb, light) < 0.97 * error(plain.rgb, light)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_without_a_gain_the_result_is_that_of_fast() -> None:
    """No steps, no gain; the pictures are equal to the bit."""
    frame, noise, _ = shot(BAYER, 288)
    settings = AdaptSettings(steps=1, learning_rate=1e-9)
    result = restore_selfsup(frame, noise, network=default_network(), settings=settings)
    assert not result.adapted.accepted
    assert "restored as by the method fast" in result.notes[0]
    assert torch.equal(result.restored.rgb, restore_fast(frame, noise, network=default_network()).rgb)


def test_runs_from_the_pipeline_with_an_expected_error() -> None:
    frame, noise, light = shot(BAYER, 288)
    made = restore(frame, noise, method=Method.SELFSUP, options=Options(budget_seconds=0.5, uncertainty=True, seed=3))
    assert made.uncertainty is not None
    assert made.rgb is not None
    known = torch.isfinite(made.uncertainty)
    inside = (made.rgb - torch.from_numpy(light).float()).abs() < 1.645 * made.uncertainty
    # A smooth scene with one edge, far from the pictures of the fit: it must not be over-confident.
    assert float(inside[known].double().mean()) > 0.85
    assert made.confidence is not None


def test_tells_a_wrong_gain_and_is_silent_about_the_right_one() -> None:
    frame, noise, _ = shot(BAYER, 480)

    def notes(assumed: SensorNoise) -> str:
        generator, ready = torch.Generator().manual_seed(0), prepare(frame, assumed, share=1.0)
        return " ".join(check_noise(frame, assumed, ready, default_network(), generator=generator).notes)

    assert notes(noise) == ""
    assert "times the assumed one" in notes(with_gain(noise, 2.0))
    assert "times the assumed one" in notes(with_gain(noise, 0.5))


def test_refuses_networks_that_take_pictures() -> None:
    frame, noise, _ = shot(BAYER, 288)
    with pytest.raises(RestoreError, match="MosaicNet"):
        check_noise(frame, noise, prepare(frame, noise, share=1.0), nn.Identity(), generator=torch.Generator())


def test_an_array_the_network_never_saw_is_refused_before_the_work() -> None:
    cfa = Cfa(("RRGG", "RRGG", "GGBB", "GGBB"))
    levels = np.full(cfa.period, 512.0)
    frame = RawFrame(np.full((48, 48), 2000, dtype=np.uint16), cfa, levels, levels + 15000.0)
    known = {"gain": 2.0, "read_noise_dn": 3.0, "black_level_dn": 512.0}
    plane = PlaneNoise(**{name: Estimate(value=value) for name, value in known.items()})
    planes = dict.fromkeys(cfa.plane_names, plane)
    noise = SensorNoise(iso=None, planes=planes, row_noise_dn=Estimate(value=0.0))
    for work in (lambda: restore_selfsup(frame, noise, network=default_network()), lambda: noisy_frame(frame, noise)):
        with pytest.raises(RestoreError, match="this frame is quad-Bayer"):
            work()
