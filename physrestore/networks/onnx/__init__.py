"""Networks as ONNX graphs, written without a package: the format is protobuf, and a network needs little of it."""

from physrestore.networks.onnx.translate import EXPORTABLE as EXPORTABLE
from physrestore.networks.onnx.translate import onnx_bytes as onnx_bytes
