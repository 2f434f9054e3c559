"""A network in an ONNX file as a prior, run by ONNX Runtime. Data only: an ONNX file holds no code that Python runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from physrestore.errors import PriorError
from physrestore.priors.adapter import TILE, Adapter
from physrestore.priors.base import PriorSpec
from physrestore.priors.network import Condition, condition_of
from physrestore.priors.optional import require

_DTYPES: dict[str, type[np.floating[Any]]] = {
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
}


class OnnxPrior(Adapter):
    """A denoiser exported to ONNX: first input the image (1, C, H, W), first output the same.

    Images are run one by one, on the CPU unless other providers are named; the result returns to the input's device.
    There are no gradients.

    Attributes:
        path: The file.
        condition: How the network learns the noise level: "channels" (appended to the image), "argument" (a second
            input: (1,) for noise "scalar", (1, 1|C, H, W) for noise "map"), or "none".

    Raises:
        MissingPackage: onnxruntime is not installed.
        PriorError: a file that ONNX Runtime refuses, inputs that contradict ``condition``, or sides that were fixed
            when the network was exported.
    """

    def __init__(
        self,
        path: str | Path,
        spec: PriorSpec,
        *,
        condition: Condition,
        map_channels: Literal["one", "each"] = "each",
        providers: tuple[str, ...] = ("CPUExecutionProvider",),
        tile: int | None = TILE,
    ) -> None:
        """Open the file; ``map_channels`` as in `physrestore.priors.network.NetworkPrior`."""
        if spec.differentiable:
            raise PriorError("A network in an ONNX file has no gradients. Declare differentiable=False.")
        super().__init__(spec, tile=tile, level_axes=(1,) if spec.noise == "map" and map_channels == "one" else None)
        self.path = Path(path)
        self.condition = condition_of(spec, condition)
        self._map_channels = map_channels
        self._session = _open(self.path, providers)
        inputs = self._session.get_inputs()
        self._names = [one.name for one in inputs]
        self._dtypes = [_dtype_of(one.type) for one in inputs]
        wanted = 2 if condition == "argument" else 1
        if len(inputs) != wanted:
            raise PriorError(
                f"{self.path.name!r} has inputs {self._names}; condition={condition!r} needs {wanted}. Choose the "
                "condition that the network was exported with."
            )
        if any(isinstance(side, int) for side in inputs[0].shape[2:]):
            raise PriorError(
                f"{self.path.name!r} takes images of {inputs[0].shape} only. Export it with dynamic height and width."
            )

    def _denoise_own(self, x: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.expand(x.shape[0], *sigma.shape[1:])
        return torch.stack([self._one(image, one) for image, one in zip(x, level, strict=True)])

    def _one(self, image: Tensor, level: Tensor) -> Tensor:
        planes = image.shape[0] if self.spec.noise == "map" and self._map_channels == "each" else 1
        mapped = level.expand(planes, *image.shape[1:])
        match self.condition:
            case "none":
                feeds = [image[None]]
            case "channels":
                feeds = [torch.cat([image, mapped])[None]]
            case "argument":
                feeds = [image[None], mapped[None] if self.spec.noise == "map" else level.flatten()]
        arrays = [feed.cpu().numpy().astype(dtype) for feed, dtype in zip(feeds, self._dtypes, strict=True)]
        out = self._session.run(None, dict(zip(self._names, arrays, strict=True)))[0]
        return torch.from_numpy(out[0]).to(image)


def _open(path: Path, providers: tuple[str, ...]) -> Any:
    runtime = require("onnxruntime", purpose="A prior from an ONNX file", install="'physrestore[onnx]'")
    if not path.is_file():
        raise PriorError(f"There is no file {path.name!r}. Needed: a network in ONNX format.")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # fatal only; errors are raised
    try:
        return runtime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's own exceptions share no public base
        raise PriorError(f"ONNX Runtime refuses {path.name!r}: {error}") from error


def _dtype_of(name: str) -> type[np.floating[Any]]:
    if name not in _DTYPES:
        raise PriorError(f"An input of type {name}; needed: {', '.join(_DTYPES)}. Export the network in one of these.")
    return _DTYPES[name]
