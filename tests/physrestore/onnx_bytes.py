"""Small ONNX models, written byte by byte, so that the tests need no package that makes them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

FLOAT, IR_VERSION, OPSET = 1, 8, 13


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: int | str | bytes) -> bytes:
    """One protobuf field: an integer, or text, bytes and submessages with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def node(op: str, inputs: Sequence[str], output: str, **lists: Sequence[int]) -> bytes:
    attributes = b"".join(
        field(5, field(1, name) + b"".join(field(8, n) for n in values) + field(20, 7))
        for name, values in lists.items()
    )
    return b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, op) + attributes


def constant(name: str, shape: Sequence[int], values: Sequence[float]) -> bytes:
    dims = b"".join(field(1, n) for n in shape)
    return dims + field(2, FLOAT) + field(8, name) + field(9, struct.pack(f"<{len(values)}f", *values))


def value(name: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(field(1, field(2 if isinstance(n, str) else 1, n)) for n in shape)
    return field(1, name) + field(2, field(1, field(1, FLOAT) + field(2, dims)))


def model(nodes: Sequence[bytes], inputs: Sequence[bytes], output: bytes, constants: Sequence[bytes] = ()) -> bytes:
    graph = b"".join(field(1, n) for n in nodes) + field(2, "graph") + b"".join(field(5, c) for c in constants)
    graph += b"".join(field(11, v) for v in inputs) + field(12, output)
    return field(1, IR_VERSION) + field(7, graph) + field(8, field(1, "") + field(2, OPSET))


def box_filter(height: int | str = "H", width: int | str = "W") -> bytes:
    """3x3 mean of one channel; borders average what there is."""
    pool = node("AveragePool", ["x"], "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return model([pool], [value("x", (1, 1, height, width))], value("y", (1, 1, "H", "W")))


def shrinkage() -> bytes:
    """``x / (1 + sigma^2)`` with sigma as a second input of any shape that broadcasts."""
    nodes = [node("Mul", ["s", "s"], "v"), node("Add", ["v", "one"], "d"), node("Div", ["x", "d"], "y")]
    inputs = [value("x", (1, "C", "H", "W")), value("s", ("a", "b", "c", "d"))]
    return model(nodes, inputs, value("y", (1, "C", "H", "W")), [constant("one", [1], [1.0])])


def minus_level() -> bytes:
    """``x - sigma`` with sigma as a second channel, by a 1x1 convolution."""
    convolution = node("Conv", ["x", "w"], "y", kernel_shape=[1, 1])
    inputs = [value("x", (1, 2, "H", "W"))]
    return model([convolution], inputs, value("y", (1, 1, "H", "W")), [constant("w", [1, 2, 1, 1], [1.0, -1.0])])
