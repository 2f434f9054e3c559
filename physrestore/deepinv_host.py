"""The one door to deepinv: imported on use, and importable beside a torchvision whose compiled part does not load.

deepinv imports torchvision, and torchvision registers Python kernels for its C++ operators ``nms`` and ``qnms`` while
it is imported. Where its wheel was built for another kind of torch (a CUDA wheel beside a CPU torch, as a plain ``pip
install`` can leave it), the C++ library does not load, the operators do not exist, and the registration ends the import
with "operator torchvision::nms does not exist". Nothing here detects boxes, so the two operators are declared, without
an implementation: the import succeeds, and whoever calls them gets torch's own error.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

BOX_OPERATORS = ("nms", "qnms")
BOX_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def load_deepinv() -> ModuleType:
    """The package deepinv; takes some seconds the first time.

    Raises:
        ImportError: deepinv or torchvision is not installed, or fails to import.

    >>> load_deepinv().__name__
    'deepinv'
    """
    if not _compiled_torchvision_loads():
        _declare_box_operators()
    return importlib.import_module("deepinv")


def _compiled_torchvision_loads() -> bool:
    """Whether torchvision's C++ library can be loaded (and does so: loading it again is no work)."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ImportError("deepinv needs torchvision, which is not installed. Install it: pip install torchvision.")
    for library in Path(spec.origin).parent.glob("_C.*"):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except OSError:  # made for another torch
            continue
        return True
    return False


@cache
def _declare_box_operators() -> torch.library.Library:
    """The schemas of `BOX_OPERATORS`; they live as long as the returned object, which the cache keeps."""
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in BOX_OPERATORS:
        library.define(name + BOX_SIGNATURE)  # type: ignore[no-untyped-call]
    return library
