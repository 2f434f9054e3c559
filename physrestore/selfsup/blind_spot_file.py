"""A trained blind-spot model as one safetensors file: weights, and the configuration as text in its header."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import safetensors
import safetensors.torch

from physrestore.errors import RestoreError
from physrestore.selfsup.blind_spot import BlindSpotConfig, BlindSpotModel

FORMAT = "physrestore blind spot 1"


def save_blind_spot(path: Path, model: BlindSpotModel) -> None:
    """Write a model; an existing file is replaced."""
    config = json.dumps(dataclasses.asdict(model.config), sort_keys=True)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(weights, path, metadata={"format": FORMAT, "config": config})


def load_blind_spot(path: Path) -> BlindSpotModel:
    """Read a model that `save_blind_spot` wrote, in evaluation mode.

    Raises:
        RestoreError: another kind of file, or a damaged one.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        if metadata.get("format") != FORMAT:
            raise RestoreError(f"{path.name!r} is no blind-spot model of ours. Make one with train_folder.")
        model = BlindSpotModel(BlindSpotConfig(**json.loads(metadata["config"])))
        model.load_state_dict(weights)
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RestoreError(f"{path.name!r} cannot be read as a blind-spot model: {error}") from error
    return model.eval()
