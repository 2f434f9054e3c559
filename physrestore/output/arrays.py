"""Arrays for scientists: npz without pickle."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from physrestore.errors import UnwritableImage
from physrestore.output.publish import publish

_TAKEN = frozenset({"file", "allow_pickle"})  # parameters of numpy.savez


def write_npz(
    path: Path, *, overwrite: bool = False, protect: Iterable[Path] = (), **arrays: NDArray[np.generic]
) -> None:
    """Write named arrays; ``numpy.load(path)`` reads them back.

    Args:
        path: Final name.
        overwrite: Replace what is at ``path``.
        protect: Originals that are never replaced.
        **arrays: Name and array, of numbers or of text.

    Raises:
        UnwritableImage: an array of Python objects, which only pickle could hold, or a name that numpy keeps for
            itself ("file", "allow_pickle").
        OutputExists, UnsafeOutput, WriteError: see `publish`.
    """
    objects = sorted(name for name, array in arrays.items() if np.asarray(array).dtype.hasobject)
    if objects or _TAKEN & arrays.keys():
        raise UnwritableImage(
            f"npz cannot hold Python objects (here: {objects}) nor arrays called {', '.join(sorted(_TAKEN))}."
        )
    publish(path, lambda file: np.savez(file, allow_pickle=False, **arrays), overwrite=overwrite, protect=protect)
