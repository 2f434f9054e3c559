"""Weights in files: safetensors with the architecture and its configuration beside the numbers.

A file is enough to have the network back. No code is stored, and none is run from a file.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from physrestore.errors import WeightsError

# Raised when an architecture computes something else with the same weights or names them otherwise (2: MosaicNet bounds
# its corrections; 3: its trunk sees differences from local means; 4: trunks widen by transposed convolutions).
FORMAT = "physrestore-network-4"
# Architectures that a file may name: class -> module; its configuration is the class of the same name with `Config`.
ARCHITECTURES = {
    "MosaicNet": "mosaic_net",
    "ColourNet": "colour_net",
    "CDLNet": "cdlnet",
    "CSCNet": "cscnet",
    "DeepKSVD": "deep_ksvd",
    "DnCNN": "dncnn",
    "FFDNet": "ffdnet",
    "GroupSC": "groupsc",
    "LIDIA": "lidia",
}


@dataclass(frozen=True)
class Stored:
    """A network from a file.

    Attributes:
        network: In evaluation mode, float32.
        architecture: Name of its class.
        about: What the file says of it: purpose, noise range, data, licence.
    """

    network: nn.Module
    architecture: str
    about: dict[str, str]


def save_network(path: Path, network: nn.Module, *, about: Mapping[str, str], half: bool = True) -> None:
    """Write a network whole or not at all.

    Args:
        path: Ends in ``.safetensors``; replaced if it exists.
        network: One of `ARCHITECTURES`, with its ``config``.
        about: Texts for the file's metadata: at least "purpose" and "licence".
        half: Store the weights in float16, which halves the file; their rounding (0.05 %) is far below what training
            leaves uncertain.

    Raises:
        WeightsError: another architecture, or weights that float16 cannot hold.
    """
    name = type(network).__name__
    if name not in ARCHITECTURES:
        raise WeightsError(f"{name} is none of the architectures that can be stored: {', '.join(ARCHITECTURES)}.")
    config: Any = network.config
    metadata = {"format": FORMAT, "architecture": name, "config": json.dumps(asdict(config)), **about}
    tensors = {
        key: (value.half() if half and value.dtype == torch.float32 else value).cpu().contiguous()
        for key, value in network.state_dict().items()
    }
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise WeightsError(f"Some weights of {name} are not finite{' in float16' if half else ''}.")
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(save(tensors, metadata))  # `save_file` would make it unreadable for others
    os.replace(partial, path)


def load_network(path: Path) -> Stored:
    """Read a network back.

    Raises:
        WeightsError: not a file of `save_network`, damaged, of an unknown architecture, or not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}.") from error
    name = metadata.pop("architecture", "")
    if metadata.pop("format", None) != FORMAT or name not in ARCHITECTURES:
        raise WeightsError(
            f"{path} holds no network of this version of physrestore (architecture {name or 'not named'!r}; known are "
            f"{', '.join(ARCHITECTURES)}). Give a file written by `physrestore train` or `adapt`."
        )
    wrong = [key for key, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if wrong:
        raise WeightsError(f"{path} holds weights that are not finite: {', '.join(wrong)}. Train or fetch it anew.")
    network = _build(path, name, metadata.pop("config", "{}"))
    try:
        network.load_state_dict({key: _single(value) for key, value in tensors.items()})
    except RuntimeError as error:
        raise WeightsError(f"The weights in {path} do not fit their own configuration: {error}") from error
    return Stored(network.eval(), name, metadata)


def _build(path: Path, name: str, config: str) -> nn.Module:
    module = importlib.import_module(f"physrestore.networks.{ARCHITECTURES[name]}")
    kind = getattr(module, f"{name}Config")
    try:
        values = json.loads(config)
        known = {f.name for f in fields(kind)}
        unknown = sorted(set(values) - known)
        plain = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items() if key in known}
        network: nn.Module = getattr(module, name)(kind(**plain))
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"The configuration {config} in {path} is none of {name}: {error}.") from error
    if unknown:
        raise WeightsError(f"The configuration in {path} has {', '.join(unknown)}, which {name} does not know.")
    return network


def _single(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.dtype == torch.float16 else value
