"""`MosaicNet` and `ColourNet` as ONNX graphs, layer by layer as their ``forward``.

A convolution without bias on a picture of any size is all there is; sides that are no multiple of the network's grid
are padded and cropped inside the graph, as in torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import nn

import physrestore
from physrestore.errors import WeightsError
from physrestore.networks.colour_net import ColourNet
from physrestore.networks.local_mean import LEAST_WEIGHT, LocalMean
from physrestore.networks.mosaic_net import LARGEST_CORRECTION, TINY, MosaicNet
from physrestore.networks.onnx.graph import Graph
from physrestore.networks.unet import UNet

EXPORTABLE = ("MosaicNet", "ColourNet")


class Emit(Protocol):
    """Writes a network into a graph: names of its inputs to the name of its result."""

    def __call__(self, graph: Graph, *inputs: str) -> str:
        """See the class."""
        ...


def onnx_bytes(network: nn.Module, metadata: Mapping[str, str]) -> bytes:
    """A network as an ONNX model with dynamic sizes.

    Inputs and output are those of the network's ``forward``, by name: "mosaic", "noise", "colours" and "rgb" of a
    `MosaicNet`; "x", "sigma" and "clean" of a `ColourNet`. Levels and colours broadcast as in torch.

    Args:
        network: One of `EXPORTABLE`; float32.
        metadata: Texts to store in the model.

    Raises:
        WeightsError: another network.
    """
    graph = Graph(type(network).__name__)
    if isinstance(network, MosaicNet):
        mosaic = graph.input("mosaic", ("batch", 1, "height", "width"))
        noise = graph.input("noise", ("noise_batch", 1, "noise_height", "noise_width"))
        colours = graph.input("colours", ("colours_batch", 3, "height", "width"))
        graph.output("rgb", emit_mosaic_net(graph, network, mosaic, noise, colours), ("batch", 3, "height", "width"))
    elif isinstance(network, ColourNet):
        x = graph.input("x", ("batch", 3, "height", "width"))
        sigma = graph.input("sigma", ("sigma_batch", "sigma_channels", "sigma_height", "sigma_width"))
        graph.output("clean", emit_colour_net(graph, network, x, sigma), ("batch", 3, "height", "width"))
    else:
        raise WeightsError(f"{type(network).__name__} cannot be exported; {' and '.join(EXPORTABLE)} can.")
    return graph.model(metadata, producer="physrestore", version=physrestore.__version__)


def emit_mosaic_net(graph: Graph, network: MosaicNet, mosaic: str, noise: str, colours: str) -> str:
    """`MosaicNet.forward`."""
    values = graph.node("Mul", mosaic, colours)
    size = graph.node("Shape", values)
    levels = graph.node("Expand", graph.node("Mul", noise, colours), size)
    mean = _local_mean(graph, network.local_mean, values, colours)
    contrast = graph.node("Mul", graph.node("Sub", values, mean), colours)
    block, multiple = network.config.unshuffle, network.multiple
    planes = _padded(graph, graph.node("Concat", contrast, levels, mean, axis=1), size, multiple, mode="constant")
    packed = _unshuffled(graph, planes, 9, block)
    correction = _cropped(graph, _shuffled(graph, _unet(graph, network.trunk, packed), block), size)
    linear = _conv(graph, network.interpolation, _channels(graph, packed, 3 * block**2))
    between = graph.node("Add", mean, _cropped(graph, _shuffled(graph, linear, block), size))
    measured = graph.node("Add", values, _bounded(graph, correction, levels))
    known = graph.node("Greater", colours, graph.number(0.0))
    return graph.node("Where", known, measured, graph.node("Add", between, correction))


def _local_mean(graph: Graph, layer: LocalMean, values: str, known: str) -> str:
    """`LocalMean.forward`."""
    window = layer.window.detach().cpu().float()
    across, down = (graph.constant(w.contiguous().numpy()) for w in (window[:, :, None, :], window[:, :, :, None]))
    taps, reach = window.shape[-1], window.shape[-1] // 2

    def gathered(x: str) -> str:
        x = graph.node("Conv", x, across, kernel_shape=[1, taps], pads=[0, reach, 0, reach], group=3)
        return graph.node("Conv", x, down, kernel_shape=[taps, 1], pads=[reach, 0, reach, 0], group=3)

    return graph.node("Div", gathered(values), graph.node("Max", gathered(known), graph.number(LEAST_WEIGHT)))


def _bounded(graph: Graph, correction: str, noise: str) -> str:
    """`physrestore.networks.mosaic_net.bounded`."""
    bound = graph.node("Mul", noise, graph.number(LARGEST_CORRECTION))
    squares = graph.node("Add", graph.node("Mul", bound, bound), graph.node("Mul", correction, correction))
    length = graph.node("Sqrt", graph.node("Add", squares, graph.number(TINY)))
    return graph.node("Div", graph.node("Mul", bound, correction), length)


def emit_colour_net(graph: Graph, network: ColourNet, x: str, sigma: str) -> str:
    """`ColourNet.forward`."""
    size = graph.node("Shape", x)
    levels = graph.node("Expand", sigma, size)
    mean = _local_mean(graph, network.local_mean, x, graph.node("Expand", graph.number(1.0), size))
    contrast = graph.node("Sub", x, mean)
    planes = _padded(graph, graph.node("Concat", contrast, levels, mean, axis=1), size, network.multiple, mode="edge")
    packed = _unshuffled(graph, planes, 9, network.config.unshuffle)
    correction = _cropped(graph, _shuffled(graph, _unet(graph, network.trunk, packed), network.config.unshuffle), size)
    return graph.node("Add", x, _bounded(graph, correction, levels))


def _unet(graph: Graph, trunk: UNet, x: str) -> str:
    x = _conv(graph, trunk.head, x)
    skips = []
    for encoder, down in zip(trunk.encoders, trunk.down, strict=False):
        x = _stage(graph, encoder, x)
        skips.append(x)
        x = _conv(graph, down, x)
    x = _stage(graph, trunk.encoders[-1], x)
    for decoder, up, skip in reversed(list(zip(trunk.decoders, trunk.up, skips, strict=True))):
        x = _stage(graph, decoder, graph.node("Add", _conv(graph, up, x), skip))
    return _conv(graph, trunk.tail, x)


def _stage(graph: Graph, stage: nn.Module, x: str) -> str:
    for block in stage.children():
        inner = graph.node("Relu", _conv(graph, block.first, x))
        x = graph.node("Add", x, _conv(graph, block.second, inner))
    return x


def _conv(graph: Graph, layer: object, x: str) -> str:
    assert isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))
    assert isinstance(layer.padding, tuple)
    assert layer.bias is None
    weight = graph.constant(layer.weight.detach().cpu().float().numpy())
    pads = [*layer.padding, *layer.padding]
    kind = "ConvTranspose" if isinstance(layer, nn.ConvTranspose2d) else "Conv"
    return graph.node(kind, x, weight, kernel_shape=layer.kernel_size, strides=layer.stride, pads=pads)


def _unshuffled(graph: Graph, x: str, channels: int, block: int) -> str:
    """As `torch.nn.functional.pixel_unshuffle`: a strided convolution with ones (ONNX orders channels differently)."""
    if block == 1:
        return x
    ones = torch.eye(channels * block**2).reshape(-1, channels, block, block)
    return graph.node("Conv", x, graph.constant(ones.numpy()), kernel_shape=[block, block], strides=[block, block])


def _shuffled(graph: Graph, x: str, block: int) -> str:
    """As `torch.nn.functional.pixel_shuffle`."""
    return x if block == 1 else graph.node("DepthToSpace", x, blocksize=block, mode="CRD")


def _channels(graph: Graph, x: str, count: int) -> str:
    return graph.node("Slice", x, graph.integers(0), graph.integers(count), graph.integers(1))


def _padded(graph: Graph, x: str, size: str, multiple: int, *, mode: str) -> str:
    """Padded at the bottom and the right until both sides are multiples."""
    if multiple == 1:
        return x
    sides = graph.node("Slice", size, graph.integers(2), graph.integers(4), graph.integers(0))
    missing = graph.node("Mod", graph.node("Neg", sides), graph.integers(multiple))
    pads = graph.node("Concat", graph.integers(0, 0, 0, 0, 0, 0), missing, axis=0)
    return graph.node("Pad", x, pads, mode=mode)


def _cropped(graph: Graph, x: str, size: str) -> str:
    """Rows and columns beyond ``size`` (B, C, H, W) cut off."""
    ends = graph.node("Slice", size, graph.integers(2), graph.integers(4), graph.integers(0))
    return graph.node("Slice", x, graph.integers(0, 0), ends, graph.integers(2, 3))
