"""The shipped networks by name. Nothing is fetched: what is not in the package is not there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from physrestore.errors import WeightsError
from physrestore.networks.store import Stored, load_network

HOME = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """One shipped network.

    Attributes:
        name: By which it is asked for: ``--prior colour``.
        sha256: Of its file.
        purpose: What it does, one line.
    """

    name: str
    sha256: str
    purpose: str

    @property
    def path(self) -> Path:
        """The weights."""
        return HOME / f"{self.name}.safetensors"

    @property
    def card(self) -> Path:
        """Data, recipe, quality, limits."""
        return HOME / f"{self.name}.card.md"


@cache
def catalogue() -> dict[str, Entry]:
    """All shipped networks by name."""
    listed = json.loads((HOME / "manifest.json").read_text(encoding="utf-8"))
    return {name: Entry(name, **values) for name, values in sorted(listed.items())}


@cache
def load(name: str) -> Stored:
    """A shipped network, its file checked against the catalogue.

    The result is shared: copy the network before you change it.

    Raises:
        WeightsError: no such name, or a file that is not the one that was shipped.
    """
    entry = catalogue().get(name)
    if entry is None:
        raise WeightsError(f"No shipped network is called {name!r}; there are {', '.join(catalogue()) or 'none'}.")
    digest = hashlib.sha256(entry.path.read_bytes()).hexdigest()
    if digest != entry.sha256:
        raise WeightsError(
            f"{entry.path.name} is damaged (SHA-256 {digest[:12]}..., not {entry.sha256[:12]}...). "
            "Install the package again."
        )
    return load_network(entry.path)
