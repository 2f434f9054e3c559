"""A trained blind-spot model as one safetensors file: weights, and the configuration as text in its header."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch

from physrestore.errors import RestoreError
from physrestore.output.publish import publish_bytes
from physrestore.selfsup.blind_spot import BlindSpotConfig, BlindSpotModel

FORMAT = "physrestore blind spot 1"


def save_blind_spot(path: Path, model: BlindSpotModel, *, about: Mapping[str, str] | None = None) -> None:
    """Write a model whole or not at all; an existing file is replaced.

    Args:
        path: Of the file.
        model: To be stored.
        about: Texts for the file's header: what it was trained on, its licence.
    """
    config = json.dumps(dataclasses.asdict(model.config), sort_keys=True)
    weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    metadata = {**(about or {}), "format": FORMAT, "config": config}
    publish_bytes(path, safetensors.torch.save(weights, metadata), overwrite=True)


def is_blind_spot(path: Path) -> bool:
    """Whether the header of a file says that `save_blind_spot` wrote it; False for whatever cannot be read."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (safetensors.SafetensorError, OSError):
        return False


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
            raise RestoreError(
                f"{path.name!r} is no blind-spot model of ours. Make one with `adapt --from blind-spot`."
            )
        model = BlindSpotModel(BlindSpotConfig(**json.loads(metadata["config"])))
        model.load_state_dict(weights)
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RestoreError(f"{path.name!r} cannot be read as a blind-spot model: {error}") from error
    wrong = [name for name, value in weights.items() if not bool(value.isfinite().all())]
    if wrong:
        raise RestoreError(f"{path.name!r} holds weights that are not finite: {', '.join(wrong)}. Train it anew.")
    return model.eval()
