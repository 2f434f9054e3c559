"""How the network is run on this machine: which program, which device, which precision."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from physrestore.networks.mosaic_net import MosaicNet
from physrestore.networks.onnx import onnx_bytes
from physrestore.priors.optional import require

# Mosaic, noise and colours as `MosaicNet.forward` takes them, to float32 colours on the engine's device.
Run = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Engine:
    """One way to run a network.

    Attributes:
        device: Where.
        dtype: In which precision convolutions multiply; sums and results are float32.
        reason: Why this one, for `physrestore doctor`.
        program: Who computes. ONNX Runtime takes the CPU and float32 only.

    Raises:
        ValueError: ONNX Runtime on another device or in another precision.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str
    program: Literal["torch", "onnxruntime"] = "torch"

    def __post_init__(self) -> None:
        """Refuse what there is not."""
        if self.program == "onnxruntime" and (self.device.type, self.dtype) != ("cpu", torch.float32):
            raise ValueError(f"ONNX Runtime is used on the CPU in float32, not on {self.device} in {self.dtype}.")

    @property
    def name(self) -> str:
        """For people: "torch, cpu, bfloat16"."""
        return f"{self.program}, {self.device}, {str(self.dtype).removeprefix('torch.')}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Torch's inference in this precision."""
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            yield

    def prepare(self, network: MosaicNet) -> Run:
        """The network, ready to be run; it is copied, not changed.

        Raises:
            MissingPackage: ONNX Runtime is not installed.
        """
        return _in_onnxruntime(network) if self.program == "onnxruntime" else self._in_torch(network)

    def _in_torch(self, network: MosaicNet) -> Run:
        ready = copy.deepcopy(network).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

        def run(mosaic: Tensor, noise: Tensor, colours: Tensor) -> Tensor:
            with self.running():
                out: Tensor = ready(mosaic, noise, colours)
            return out.float()

        return run


def choose_engine(device: torch.device | str = "cpu") -> Engine:
    """The fastest engine of a device whose rounding stays below the noise of any camera.

    On a CPU with bfloat16 instructions they halve the time; the network's correction is rounded to 0.4 % of itself, the
    measured value that it corrects is not rounded at all. On other CPUs ONNX Runtime is faster than torch
    (`docs/benchmarks.md`, table of engines).
    """
    device = torch.device(device)
    if device.type == "cuda":
        return Engine(device, torch.float16, "a CUDA device multiplies fastest in half precision")
    if device.type == "cpu" and _cpu_multiplies_bfloat16():
        return Engine(device, torch.bfloat16, "this CPU has bfloat16 instructions, twice as fast as float32")
    if device.type == "cpu" and importlib.util.find_spec("onnxruntime") is not None:
        reason = "this CPU has no bfloat16 instructions, and ONNX Runtime is installed, faster than torch in float32"
        return Engine(device, torch.float32, reason, program="onnxruntime")
    if device.type == "cpu":
        reason = "this CPU has no bfloat16 instructions; ONNX Runtime would be faster: pip install 'physrestore[onnx]'"
        return Engine(device, torch.float32, reason)
    return Engine(device, torch.float32, "this device has no faster precision that is known to be good enough")


def _in_onnxruntime(network: MosaicNet) -> Run:
    runtime = require("onnxruntime", purpose="This engine", install="'physrestore[onnx]'")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait shall sleep, as torch's do (see `physrestore.cli.app.main`).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = runtime.InferenceSession(onnx_bytes(network, {}), options, providers=["CPUExecutionProvider"])

    def run(mosaic: Tensor, noise: Tensor, colours: Tensor) -> Tensor:
        inputs = {"mosaic": mosaic, "noise": noise, "colours": colours}
        arrays = {name: x.float().contiguous().numpy() for name, x in inputs.items()}
        return torch.from_numpy(session.run(None, arrays)[0])

    return run


def _cpu_multiplies_bfloat16() -> bool:
    # Without AVX-512 BF16 or AMX the format is emulated, slower than float32.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())  # noqa: SLF001
