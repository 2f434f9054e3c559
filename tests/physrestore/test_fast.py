"""The fast method: what it keeps, what it refuses, and that its tiles cannot be seen."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from noise_models.cfa import XTRANS_ROWS, Cfa
from noise_models.frame import Colour, RawFrame
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from physrestore.errors import RestoreError
from physrestore.fast import default_network, restore_fast
from physrestore.fast.engine import Engine, choose_engine
from physrestore.networks.mosaic_net import MosaicNet, MosaicNetConfig
from physrestore.pipeline import Method, restore

BLACK, WHITE, FULL = 512.0, 16383.0, 2000.0
FLOAT32 = Engine(torch.device("cpu"), torch.float32, "exact")


def shot(
    cfa: Cfa, side: int = 96, *, electrons: float = FULL, seed: int = 0, peak: float = 0.8
) -> tuple[RawFrame, SensorNoise, np.ndarray]:
    """A smooth scene with an edge, its noise, and its noise-free mosaic in linear light."""
    y, x = np.mgrid[:side, :side] / side
    light = 0.1 + (peak - 0.1) * (0.5 + 0.5 * np.sin(5 * x) * np.cos(4 * y)) * np.where(x + y > 1, 1.0, 0.5)
    span = WHITE - BLACK
    gain = span / electrons
    rng = np.random.default_rng(seed)
    signal = gain * rng.poisson(light * electrons) + rng.normal(0.0, 2.0 * gain, light.shape)
    mosaic = np.clip(np.round(signal + BLACK), 0, WHITE).astype(np.uint16)
    plane = PlaneNoise(
        gain=Estimate(value=gain), read_noise_dn=Estimate(value=2.0 * gain), black_level_dn=Estimate(value=BLACK)
    )
    noise = SensorNoise(iso=None, planes=dict.fromkeys(cfa.plane_names, plane), row_noise_dn=Estimate(value=0.0))
    frame = RawFrame(
        mosaic,
        cfa,
        np.full(cfa.period, BLACK),
        np.full(cfa.period, WHITE),
        colour=Colour(as_shot_neutral=(1.0, 1.0, 1.0)),
    )
    return frame, noise, light


def rms(mosaic: np.ndarray, light: np.ndarray) -> float:
    return float(np.sqrt(np.mean(((mosaic - BLACK) / (WHITE - BLACK) - light) ** 2)))


@pytest.mark.parametrize(
    "cfa", [Cfa.parse("RGGB"), Cfa.parse("GBRG"), Cfa(XTRANS_ROWS)], ids=["RGGB", "GBRG", "X-Trans"]
)
def test_takes_most_of_the_noise_and_keeps_the_mean(cfa: Cfa) -> None:
    frame, noise, light = shot(cfa)
    result = restore(frame, noise, method=Method.FAST)
    assert rms(result.mosaic, light) < 0.6 * rms(frame.mosaic, light)
    mean = np.mean((result.mosaic - BLACK) / (WHITE - BLACK))
    assert mean == pytest.approx(light.mean(), rel=0.01)
    assert result.rgb is not None
    assert result.rgb.shape == (3, *frame.shape)


def test_strength_goes_from_the_source_to_the_estimate() -> None:
    frame, noise, _ = shot(Cfa.parse("RGGB"))
    changes = [
        float(np.abs(restore(frame, noise, method=Method.FAST, strength=s).mosaic.astype(float) - frame.mosaic).mean())
        for s in (0.0, 30.0, 60.0, 100.0)
    ]
    assert changes[0] == 0.0
    assert all(b > a for a, b in itertools.pairwise(changes))


def test_without_noise_nothing_is_harmed() -> None:
    """At a noise far below the network's own error the measured values stay; a network that is believed harms them."""
    frame, noise, light = shot(Cfa.parse("RGGB"), electrons=1e9)
    result = restore(frame, noise, method=Method.FAST)
    assert rms(result.mosaic, light) < 1.5 * rms(frame.mosaic, light)
    assert rms(result.mosaic, light) < 2e-4


def test_clipped_sites_stay_clipped() -> None:
    frame, noise, _ = shot(Cfa.parse("RGGB"), peak=1.6)
    clipped = frame.clipped()[0, 0].numpy()
    assert clipped.mean() > 0.05
    result = restore(frame, noise, method=Method.FAST)
    assert (result.mosaic[clipped] == frame.mosaic[clipped]).all()
    assert result.rgb is not None
    own = result.rgb[1, 0::2, 1::2][torch.from_numpy(clipped[0::2, 1::2])]
    assert float(own.min()) > 0.99


def test_tiles_cannot_be_seen() -> None:
    frame, noise, _ = shot(Cfa.parse("RGGB"), side=240)
    network = default_network()
    whole = restore_fast(frame, noise, network=network, engine=FLOAT32, tile=480).rgb
    tiled = restore_fast(frame, noise, network=network, engine=FLOAT32, tile=96).rgb
    std = float(np.sqrt(0.5 * FULL + 4.0) / FULL)
    assert float((whole - tiled).abs().max()) < 0.05 * std


def test_the_fastest_engine_is_exact_enough() -> None:
    """Its rounding is below a tenth of the noise, a hundredth of its variance; weights rounded to two bits are not.

    What that costs on photographs: `python -m tests.benchmarks mosaics` against ``--exact``.
    """
    frame, noise, _ = shot(Cfa.parse("RGGB"))
    std = float(np.sqrt(0.5 * FULL + 4.0) / FULL)
    coarse = copy.deepcopy(default_network())
    for weight in coarse.parameters():
        step = 0.5 * weight.detach().abs().max()
        weight.data = (weight.detach() / step).round() * step

    exact = restore_fast(frame, noise, network=default_network(), engine=FLOAT32).rgb

    def rounding(network: nn.Module, engine: Engine) -> float:
        rgb = restore_fast(frame, noise, network=network, engine=engine).rgb
        return float((rgb - exact).square().mean().sqrt()) / std

    assert rounding(default_network(), choose_engine()) < 0.1
    assert rounding(coarse, FLOAT32) > 0.1


def test_says_what_noise_is_left() -> None:
    frame, noise, _ = shot(Cfa.parse("RGGB"))
    full = restore_fast(frame, noise, network=default_network())
    half = restore_fast(frame, noise, network=default_network(), strength=50.0)
    assert 0.0 < full.numbers["remaining_variance"] < half.numbers["remaining_variance"] < 1.0
    assert half.numbers["remaining_variance"] > 0.25  # half of the std at least


def test_warns_where_training_did_not_reach() -> None:
    frame, noise, _ = shot(Cfa.parse("RGGB"), electrons=3.0)
    assert "trained" in restore_fast(frame, noise, network=default_network()).notes[0]


def test_refuses_what_it_cannot_do() -> None:
    frame, noise, _ = shot(Cfa.parse("RGGB"))
    with pytest.raises(RestoreError, match="needs a MosaicNet"):
        restore_fast(frame, noise, network=nn.Identity())
    with pytest.raises(ValueError, match=r"0\.\.100"):
        restore_fast(frame, noise, network=default_network(), strength=101.0)
    with pytest.raises(ValueError, match="multiple of align"):
        restore_fast(frame, noise, network=default_network(), tile=100)
    quad, its_noise, _ = shot(Cfa(("RRGG", "RRGG", "GGBB", "GGBB")))
    with pytest.raises(RestoreError, match="this frame is quad-Bayer"):
        restore_fast(quad, its_noise, network=default_network())
    broken = copy.deepcopy(default_network())
    nn.init.constant_(broken.trunk.tail.weight, float("nan"))
    with pytest.raises(RestoreError, match="not finite"):
        restore_fast(frame, noise, network=broken)
    mono = replace(frame, cfa=Cfa.parse("M"), black_level=np.full((1, 1), BLACK), white_level=np.full((1, 1), WHITE))
    with pytest.raises(RestoreError, match="no colours"):
        restore_fast(mono, noise, network=default_network())


def test_never_changes_the_given_network() -> None:
    network = MosaicNet(MosaicNetConfig(channels=(4, 4)))
    before = copy.deepcopy(network.state_dict())
    frame, noise, _ = shot(Cfa.parse("RGGB"), side=32)
    restore_fast(frame, noise, network=network)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
