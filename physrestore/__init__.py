"""Restoration of raw photographs from a calibrated model of their noise.

The public names are loaded when they are first used, so that `import physrestore` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from physrestore.noise_choice import ChosenNoise as ChosenNoise
    from physrestore.noise_choice import choose_noise as choose_noise
    from physrestore.pipeline import Restoration as Restoration
    from physrestore.pipeline import restore as restore
    from physrestore.results import write_result as write_result

__version__ = "0.1.0"

_HOMES = {
    "ChosenNoise": "physrestore.noise_choice",
    "Restoration": "physrestore.pipeline",
    "choose_noise": "physrestore.noise_choice",
    "restore": "physrestore.pipeline",
    "write_result": "physrestore.results",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 (a list of the table above)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'physrestore' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
