"""Trained networks for other programs."""

from physrestore.export.darktable import export_darktable as export_darktable
from physrestore.export.onnx import export_onnx as export_onnx
