"""A writer of ONNX models: nodes, constants, inputs, outputs and metadata, in protobuf's wire format.

Source: onnx.proto3 of the ONNX standard, IR version 8 (field numbers as there), operator set 13; protobuf's encoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

IR_VERSION, OPERATOR_SET = 8, 13
# TensorProto.DataType and AttributeProto.AttributeType of the standard.
_FLOAT, _INT64 = 1, 7
_ATTRIBUTE_INT, _ATTRIBUTE_STRING, _ATTRIBUTE_INTS = 2, 3, 7
_DTYPES = {np.dtype(np.float32): _FLOAT, np.dtype(np.int64): _INT64}

Attribute = int | str | Sequence[int]


class Graph:
    """A model that grows node by node; values are called by name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[bytes] = []
        self._constants: dict[str, bytes] = {}
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []

    def input(self, name: str, shape: Sequence[int | str]) -> str:
        """Declare a float32 input; a side given as text may have any length."""
        self._inputs.append(_value_info(name, shape))
        return name

    def output(self, name: str, value: str, shape: Sequence[int | str]) -> None:
        """Declare a float32 output with the content of ``value``."""
        self._nodes.append(_node("Identity", [value], name, {}))
        self._outputs.append(_value_info(name, shape))

    def constant(self, values: NDArray[np.float32] | NDArray[np.int64]) -> str:
        """Name of a constant."""
        content = b"".join(_integer(1, side) for side in values.shape)
        content += _integer(2, _DTYPES[values.dtype]) + _bytes(9, np.ascontiguousarray(values).tobytes())
        name = f"c{len(self._constants)}"
        self._constants[name] = content
        return name

    def integers(self, *values: int) -> str:
        """Name of a constant list of integers, as operators want for sizes and axes."""
        return self.constant(np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        """Name of a constant that broadcasts to anything."""
        return self.constant(np.array(value, dtype=np.float32))

    def node(self, operator: str, *inputs: str, **attributes: Attribute) -> str:
        """Apply an operator; the name of its (first) result."""
        result = f"v{len(self._nodes)}"
        self._nodes.append(_node(operator, inputs, result, attributes))
        return result

    def model(self, metadata: Mapping[str, str], *, producer: str, version: str) -> bytes:
        """The whole file."""
        graph = b"".join(_bytes(1, node) for node in self._nodes) + _text(2, self.name)
        graph += b"".join(_bytes(5, content + _text(8, name)) for name, content in self._constants.items())
        graph += b"".join(_bytes(11, one) for one in self._inputs) + b"".join(_bytes(12, one) for one in self._outputs)
        properties = b"".join(_bytes(14, _text(1, key) + _text(2, value)) for key, value in metadata.items())
        head = _integer(1, IR_VERSION) + _text(2, producer) + _text(3, version)
        return head + _bytes(7, graph) + _bytes(8, _text(1, "") + _integer(2, OPERATOR_SET)) + properties


def _node(operator: str, inputs: Sequence[str], output: str, attributes: Mapping[str, Attribute]) -> bytes:
    parts = [_text(1, name) for name in inputs] + [_text(2, output), _text(3, output), _text(4, operator)]
    return b"".join(parts) + b"".join(_bytes(5, _attribute(name, value)) for name, value in attributes.items())


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + _integer(3, value) + _integer(20, _ATTRIBUTE_INT)
    if isinstance(value, str):
        return _text(1, name) + _text(4, value) + _integer(20, _ATTRIBUTE_STRING)
    return _text(1, name) + b"".join(_integer(8, one) for one in value) + _integer(20, _ATTRIBUTE_INTS)


def _value_info(name: str, shape: Sequence[int | str]) -> bytes:
    sides = b"".join(_bytes(1, _text(2, side) if isinstance(side, str) else _integer(1, side)) for side in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _integer(1, _FLOAT) + _bytes(2, sides)))


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are written as their two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, content: str) -> bytes:
    return _bytes(field, content.encode())
