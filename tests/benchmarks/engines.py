"""Engines for the fast method's networks: CPU-seconds per megapixel and rounding of torch and ONNX Runtime, one thread.

The shipped networks restore a noisy ramp in square tiles. Time is that of the process, the least of
several runs: what other programs do counts little. Rounding is the largest and the root-mean-square difference from
torch in float32, in units of the noise's std.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore import weights
from physrestore.networks.mosaic_net import MosaicNet, bounded
from physrestore.networks.onnx import onnx_bytes
from physrestore.working_space import one_hot

# Std in the working space, of a photo at a middle ISO.
NOISE = 0.05

Restore = Callable[[Tensor, Tensor, Tensor], Tensor]


def run(arguments: Sequence[str]) -> None:
    """Print one row an engine, size and tile."""
    parser = argparse.ArgumentParser(prog="engines", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiles", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--networks", nargs="+", default=["mosaic-small", "mosaic-large"])
    options = parser.parse_args(arguments)
    networks = {name: copy.deepcopy(weights.load(name).network) for name in options.networks}
    torch.set_num_threads(1)
    print(f"{'network':14}{'tile':>6}  {'engine':24}{'CPU-s/MP':>10}{'largest':>10}{'rms':>10}")
    for name, network in networks.items():
        assert isinstance(network, MosaicNet)
        for tile in options.tiles:
            _rows(name, network, tile, options.repeats)


def _rows(shipped: str, network: MosaicNet, tile: int, repeats: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0, 1, tile).expand(1, 1, tile, tile)
    mosaic = ramp + NOISE * torch.randn(ramp.shape, generator=generator)
    inputs = (mosaic, torch.full((1, 1, 1, 1), NOISE), one_hot(Cfa.parse("RGGB"), tile, tile))
    reference = None
    for name, engine in _engines(network):
        seconds, result = [], torch.zeros(0)
        for _ in range(repeats + 1):  # the first one prepares
            begin = time.process_time()
            result = engine(*inputs)
            seconds.append(time.process_time() - begin)
        reference = result if reference is None else reference
        error = (result - reference) / NOISE
        cost = min(seconds[1:]) / (tile**2 / 1e6)
        rounding = f"{float(error.abs().max()):10.5f}{float(error.square().mean().sqrt()):10.5f}"
        print(f"{shipped:14}{tile:6}  {name:24}{cost:10.3f}{rounding}", flush=True)


def _engines(network: MosaicNet) -> Iterator[tuple[str, Restore]]:
    """The first one is the reference."""

    @torch.inference_mode()
    def contiguous(mosaic: Tensor, noise: Tensor, colours: Tensor) -> Tensor:
        # `MosaicNet.forward` without its change of layout; tiles are multiples here.
        planes = torch.cat([mosaic * colours, (noise * colours).expand(-1, -1, *mosaic.shape[-2:])], dim=1)
        values, levels = planes[:, :3], planes[:, 3:]
        correction = network.trunk(planes)
        between = network.interpolation(values) + correction
        return torch.where(colours > 0, values + bounded(correction, levels), between)

    @torch.inference_mode()
    def channels_last(*inputs: Tensor) -> Tensor:
        return network(*inputs)

    @torch.inference_mode()
    def bfloat16(*inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(*inputs).float()

    yield "torch float32", contiguous
    network.to(memory_format=torch.channels_last)
    yield "torch, channels last", channels_last
    yield "torch, bfloat16", bfloat16
    network.to(memory_format=torch.contiguous_format)
    yield "onnxruntime", _onnxruntime(network)


def _onnxruntime(network: MosaicNet) -> Restore:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_bytes(network, {}), options, providers=["CPUExecutionProvider"])

    def restore(mosaic: Tensor, noise: Tensor, colours: Tensor) -> Tensor:
        feed = {"mosaic": mosaic.contiguous().numpy(), "noise": noise.numpy(), "colours": colours.numpy()}
        return torch.from_numpy(session.run(None, feed)[0])

    return restore
