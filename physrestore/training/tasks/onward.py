"""Any task, begun with a network that is trained already: for one camera, for longer, with other pictures."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from physrestore.errors import TrainingError
from physrestore.training.fit import Task


@dataclass(frozen=True)
class Onward:
    """A task with another start; see `physrestore.training.fit.Task`.

    Attributes:
        task: What is learned.
        start: Network to begin with; it is copied, not changed. Its size is the result's, whatever ``task`` says.
        digest: Of its weights: a folder is resumed only from the start it was begun with.

    Raises:
        TrainingError: a network of another architecture than the task's.
    """

    task: Task
    start: nn.Module = field(repr=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        """Refuse another architecture."""
        needed, given = type(self.task.build()).__name__, type(self.start).__name__
        if needed != given:
            raise TrainingError(f"This task trains a {needed}; the start is a {given}. Begin with a {needed}.")
        object.__setattr__(self, "digest", digest_of_weights(self.start))

    def build(self) -> nn.Module:
        """A copy of the start."""
        return copy.deepcopy(self.start).float().requires_grad_(True)

    def batch(self, generator: Any) -> Any:
        """The task's."""
        return self.task.batch(generator)

    def loss(self, network: Callable[..., Tensor], batch: Any) -> Tensor:
        """The task's."""
        return self.task.loss(network, batch)


def digest_of_weights(network: nn.Module) -> str:
    """First 16 hex digits of the SHA-256 of all weights and their names."""
    total = hashlib.sha256()
    for name, values in network.state_dict().items():
        total.update(f"{name} {tuple(values.shape)}".encode())
        total.update(values.detach().cpu().float().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]
