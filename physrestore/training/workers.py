"""One process or several: what `fit` needs of torch's own engine, started by ``torchrun``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


def is_first_process() -> bool:
    """Whether this process is the one that writes: the only one, or the first that ``torchrun`` started."""
    return os.environ.get("RANK", "0") == "0" if distributed.is_torchelastic_launched() else True


@dataclass(frozen=True)
class Worker:
    """This process among those that train together.

    Attributes:
        rank: 0 is the one that writes.
        count: Processes.
        device: Where this one computes.
    """

    rank: int
    count: int
    device: torch.device

    @classmethod
    def of_environment(cls, device: torch.device) -> Worker:
        """The only process, or one of those that ``torchrun`` started; joins them.

        Args:
            device: "cuda" becomes the process's own card.
        """
        if not distributed.is_torchelastic_launched():
            return cls(0, 1, device)
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(distributed.get_rank(), distributed.get_world_size(), device)

    def wrap(self, network: nn.Module) -> Callable[..., Tensor]:
        """The network, its gradients averaged over all processes."""
        return network if self.count == 1 else nn.parallel.DistributedDataParallel(network)

    def largest(self, number: float) -> float:
        """The largest of every process's number: all take the same decisions."""
        if self.count == 1:
            return number
        value = torch.tensor(number, dtype=torch.float64, device=self.device)
        distributed.all_reduce(value, distributed.ReduceOp.MAX)
        return float(value)

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process."""
        return self.largest(float(flag)) > 0
