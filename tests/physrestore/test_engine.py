"""Which way a network is run, and that every way gives the same picture."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from typer.testing import CliRunner

from noise_models.cfa import Cfa
from physrestore.cli.app import app
from physrestore.fast import engine as engines
from physrestore.fast.engine import Engine, choose_engine
from physrestore.networks.mosaic_net import MosaicNet, MosaicNetConfig
from physrestore.working_space import one_hot
from tests.physrestore.network_laws import uniform

CPU = torch.device("cpu")
EXACT = Engine(CPU, torch.float32, "test")
SIDE = 48


def network() -> MosaicNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = MosaicNet(MosaicNetConfig(channels=(4, 6)))
        with torch.no_grad():
            for values in made.parameters():
                values.add_(0.5 * torch.randn(values.shape) / values[0].numel() ** 0.5)
    return made.eval()


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mosaic = uniform(1, 1, SIDE, SIDE).float()
    return mosaic, torch.full((1, 1, SIDE, SIDE), 0.05), one_hot(Cfa.parse("RGGB"), SIDE, SIDE)


def test_torch_in_float32_is_the_network_itself() -> None:
    made = network()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    with torch.no_grad():
        expected = made(*inputs())
    torch.testing.assert_close(EXACT.prepare(made)(*inputs()), expected, rtol=0, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert made.trunk.head.weight.is_contiguous()  # the caller's network keeps its layout


def test_onnxruntime_gives_the_same() -> None:
    pytest.importorskip("onnxruntime")
    run = Engine(CPU, torch.float32, "test", program="onnxruntime").prepare(network())
    there, here = run(*inputs()), EXACT.prepare(network())(*inputs())
    torch.testing.assert_close(there, here, rtol=0, atol=1e-4)
    mosaic, noise, colours = inputs()
    assert float((run(mosaic.flip(-1), noise, colours) - here).abs().max()) > 1e-2  # planted: another picture


def test_bfloat16_rounds_by_parts_in_hundreds() -> None:
    """Eight bits: 0.4 % a rounding; what matters, against the noise, is in the table of engines."""
    low = Engine(CPU, torch.bfloat16, "test").prepare(network())(*inputs())
    exact = EXACT.prepare(network())(*inputs())
    assert low.dtype == torch.float32
    error = float((low - exact).square().mean().sqrt() / exact.square().mean().sqrt())
    assert 0 < error < 0.02


@pytest.mark.parametrize(
    ("bfloat16", "installed", "name", "words"),
    [
        (True, True, "torch, cpu, bfloat16", "has bfloat16 instructions"),
        (True, False, "torch, cpu, bfloat16", "has bfloat16 instructions"),
        (False, True, "onnxruntime, cpu, float32", "ONNX Runtime is installed"),
        (False, False, "torch, cpu, float32", "pip install 'physrestore[onnx]'"),
    ],
)
def test_the_choice_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, bfloat16: bool, installed: bool, name: str, words: str
) -> None:
    found = importlib.util.find_spec("json") if installed else None
    monkeypatch.setattr(engines, "_cpu_multiplies_bfloat16", lambda: bfloat16)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: found)
    chosen = choose_engine()
    assert chosen.name == name
    assert words in chosen.reason


def test_other_devices() -> None:
    assert choose_engine("cuda:1").name == "torch, cuda:1, float16"
    assert choose_engine("mps").name == "torch, mps, float32"


@pytest.mark.parametrize(("device", "dtype"), [("cuda", torch.float32), ("cpu", torch.bfloat16)])
def test_onnxruntime_is_for_the_cpu_in_float32(device: str, dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="ONNX Runtime is used on the CPU in float32"):
        Engine(torch.device(device), dtype, "test", program="onnxruntime")


def test_doctor_says_which_and_why() -> None:
    chosen = choose_engine()
    done = CliRunner().invoke(app, ["doctor"])
    assert f"engine: {chosen.name}: {chosen.reason}" in done.stdout
