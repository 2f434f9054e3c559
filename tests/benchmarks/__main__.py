"""Measure what the documentation claims: ``python -m tests.benchmarks NAME [OPTIONS]`` (without a name: list them).

Every module here has a docstring that says what it measures and a ``run()`` that prints its table; one that has options
takes them as ``run(arguments)`` and explains them with ``--help``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run one benchmark."""
    names = sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if not m.name.startswith("_"))
    if not arguments or arguments[0] not in names:
        print("usage: python -m tests.benchmarks NAME, with NAME one of")
        for name in names:
            summary = (importlib.import_module(f"tests.benchmarks.{name}").__doc__ or "").splitlines()[0]
            print(f"  {name:16} {summary}")
        return 2
    run = importlib.import_module(f"tests.benchmarks.{arguments[0]}").run
    if inspect.signature(run).parameters:
        run(arguments[1:])
    elif len(arguments) > 1:
        print(f"The benchmark {arguments[0]} has no options.")
        return 2
    else:
        run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
