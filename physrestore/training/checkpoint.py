"""State of a training in one safetensors file: enough to go on as if it had never stopped."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from physrestore.errors import TrainingError

FORMAT = "physrestore-checkpoint-1"


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        step: Updates done.
        seconds: Wall time of all runs so far.
        fingerprint: Of the task and recipe; another one cannot be resumed from here.
    """

    step: int
    seconds: float
    fingerprint: str


def save(
    path: Path,
    progress: Progress,
    *,
    network: nn.Module,
    mean: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    """Write a checkpoint whole or not at all.

    Args:
        path: Replaced if it exists.
        progress: How far.
        network: Its weights.
        mean: Running mean of the weights.
        optimiser: Adam or Muon.
        generator: Of the draws.
    """
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"mean.{name}": value for name, value in mean.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    tensors["generator"] = generator.get_state()
    about = {
        "format": FORMAT,
        "step": str(progress.step),
        "seconds": repr(progress.seconds),
        "fingerprint": progress.fingerprint,
    }
    partial = path.with_name(path.name + ".part")
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, partial, about)
    os.replace(partial, path)


def load(
    path: Path,
    fingerprint: str,
    *,
    network: nn.Module,
    mean: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> Progress:
    """Read a checkpoint into the given objects.

    Raises:
        TrainingError: the file is damaged, or of another task, recipe or network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path} cannot be read: {error}. Delete it to begin anew.") from error
    if about.get("format") != FORMAT or about.get("fingerprint") != fingerprint:
        raise TrainingError(
            f"{path} belongs to another training ({json.dumps(about)}). Choose another folder, or delete it."
        )
    try:
        _restore(tensors, network, mean, optimiser, generator)
        return Progress(int(about["step"]), float(about["seconds"]), fingerprint)
    except (RuntimeError, LookupError, ValueError) as error:
        raise TrainingError(
            f"{path} is of another version of its network: {error}. Delete it to begin anew."
        ) from error


def _restore(
    tensors: dict[str, Tensor],
    network: nn.Module,
    mean: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    device = next(network.parameters()).device
    network.load_state_dict(_part(tensors, "network."))
    for name, value in mean.items():
        value.copy_(tensors[f"mean.{name}"].to(device))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "optimiser.").items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    generator.set_state(tensors["generator"])


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
