"""Networks as ONNX graphs: ONNX Runtime must give what torch gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noise_models.cfa import XTRANS_ROWS, Cfa
from physrestore.errors import WeightsError
from physrestore.networks.colour_net import ColourNet, ColourNetConfig
from physrestore.networks.mosaic_net import MosaicNet, MosaicNetConfig
from physrestore.networks.onnx import onnx_bytes
from physrestore.priors.base import PriorSpec
from physrestore.priors.onnx_file import OnnxPrior
from physrestore.working_space import one_hot
from tests.physrestore.network_laws import uniform

runtime = pytest.importorskip("onnxruntime")


def trained_like(network: nn.Module) -> nn.Module:
    """Float32 weights of the size that training gives, none zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for values in network.parameters():
            values.add_(torch.randn(values.shape, generator=generator) / values[0].numel() ** 0.5)
    return network.eval()


def session(content: bytes) -> object:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(content: bytes, **inputs: Tensor) -> Tensor:
    return torch.from_numpy(session(content).run(None, {name: x.numpy() for name, x in inputs.items()})[0])


@torch.no_grad()
def relative_gap(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max() / first.abs().max())


MOSAICS = [
    MosaicNetConfig(channels=(4, 6, 8), blocks=2),
    MosaicNetConfig(channels=(5,)),
    MosaicNetConfig(channels=(4, 6), unshuffle=2),
]


@pytest.mark.parametrize("config", MOSAICS, ids=["three levels", "one level", "packed"])
@torch.no_grad()
def test_mosaics_of_any_size_and_pattern(config: MosaicNetConfig) -> None:
    network = trained_like(MosaicNet(config))
    content = onnx_bytes(network, {})
    for name, (height, width), batch in (("RGGB", (16, 24), 2), ("GBRG", (13, 9), 1), (XTRANS_ROWS, (12, 30), 1)):
        cfa = Cfa.parse(name) if isinstance(name, str) else Cfa(name)
        mosaic, colours = uniform(batch, 1, height, width).float(), one_hot(cfa, height, width)
        for noise in (torch.full((1, 1, 1, 1), 0.05), 0.1 * uniform(batch, 1, height, width, seed=2).float()):
            there = run(content, mosaic=mosaic, noise=noise, colours=colours)
            here = network(mosaic, noise, colours)
            assert there.shape == here.shape
            assert relative_gap(here, there) < 1e-4
    assert relative_gap(here, run(content, mosaic=mosaic, noise=2 * noise, colours=colours)) > 1e-3  # planted


@torch.no_grad()
def test_colour_pictures_of_any_size() -> None:
    network = trained_like(ColourNet(ColourNetConfig(channels=(4, 6), blocks=2)))
    content = onnx_bytes(network, {})
    for (height, width), batch in (((16, 8), 1), ((7, 13), 2)):
        x = uniform(batch, 3, height, width).float()
        for sigma in (torch.full((1, 1, 1, 1), 0.1), 0.1 * uniform(batch, 3, 1, 1, seed=1).float()):
            assert relative_gap(network(x, sigma), run(content, x=x, sigma=sigma)) < 1e-4
    assert relative_gap(network(x, sigma), run(content, x=x.flip(1), sigma=sigma)) > 1e-3  # planted


@torch.no_grad()
def test_an_exported_network_is_a_prior(tmp_path: Path) -> None:
    """What we export we can read: the same pictures from the ONNX file as from the weights."""
    network = trained_like(ColourNet(ColourNetConfig(channels=(4, 6))))
    (tmp_path / "colour.onnx").write_bytes(onnx_bytes(network, {}))
    spec = PriorSpec(channels=3, noise="map", sigma_range=(0.01, 0.5), modulo=network.multiple, differentiable=False)
    prior = OnnxPrior(tmp_path / "colour.onnx", spec, condition="argument")
    x, sigma = uniform(1, 3, 12, 8).float(), torch.tensor(0.1)  # whole blocks: outside, both pad in their way
    assert relative_gap(network(x, sigma), prior.denoise(x, sigma)) < 1e-4


def test_metadata_and_dynamic_sides_are_in_the_model() -> None:
    content = onnx_bytes(MosaicNet(MOSAICS[0]), {"noise": "std in the working space", "licence": "CC0-1.0 é"})
    opened = session(content)
    about = opened.get_modelmeta()
    assert about.custom_metadata_map == {"noise": "std in the working space", "licence": "CC0-1.0 é"}
    assert about.producer_name == "physrestore"
    assert [one.name for one in opened.get_inputs()] == ["mosaic", "noise", "colours"]
    assert opened.get_outputs()[0].shape == ["batch", 3, "height", "width"]


def test_weights_are_stored_once_and_in_full() -> None:
    network = MosaicNet(MOSAICS[0])
    content = onnx_bytes(network, {})
    bytes_of_weights = sum(4 * values.numel() for values in network.parameters())
    assert bytes_of_weights < len(content) < bytes_of_weights + 20_000
    assert network.trunk.head.weight.detach().numpy().astype(np.float32).tobytes() in content


def test_other_networks_are_refused() -> None:
    with pytest.raises(WeightsError, match="Linear cannot be exported; MosaicNet and ColourNet can"):
        onnx_bytes(nn.Linear(1, 1), {})
