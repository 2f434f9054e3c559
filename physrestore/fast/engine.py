"""How the network is run on this machine: which device, which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Engine:
    """One way to run a network.

    Attributes:
        device: Where.
        dtype: In which precision convolutions multiply; sums and results are float32.
        reason: Why this one, for `physrestore doctor`.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        """For people: "cpu, bfloat16"."""
        return f"{self.device}, {str(self.dtype).removeprefix('torch.')}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inference in this precision."""
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            yield


def choose_engine(device: torch.device | str = "cpu") -> Engine:
    """The fastest engine of a device whose rounding stays below the noise of any camera.

    On a CPU with bfloat16 instructions they double the speed; the network's correction is rounded to 0.4 % of itself,
    the measured value that it corrects is not rounded at all (`docs/benchmarks.md`, table of engines).
    """
    device = torch.device(device)
    if device.type == "cuda":
        return Engine(device, torch.float16, "a CUDA device multiplies fastest in half precision")
    if device.type == "cpu" and _cpu_multiplies_bfloat16():
        return Engine(device, torch.bfloat16, "this CPU has bfloat16 instructions, twice as fast as float32")
    return Engine(device, torch.float32, "this device has no faster precision that is known to be good enough")


def _cpu_multiplies_bfloat16() -> bool:
    # Without AVX-512 BF16 or AMX the format is emulated, slower than float32.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())  # noqa: SLF001
