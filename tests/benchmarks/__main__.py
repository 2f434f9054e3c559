"""Measure what the documentation claims: ``python -m tests.benchmarks NAME`` (without a name: list them).

Every module here has a docstring that says what it measures and a ``run()`` that prints its table.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run one benchmark."""
    names = sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if not m.name.startswith("_"))
    if len(arguments) != 1 or arguments[0] not in names:
        print("usage: python -m tests.benchmarks NAME, with NAME one of")
        for name in names:
            summary = (importlib.import_module(f"tests.benchmarks.{name}").__doc__ or "").splitlines()[0]
            print(f"  {name:16} {summary}")
        return 2
    importlib.import_module(f"tests.benchmarks.{arguments[0]}").run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
