"""Restoration without clean pictures: all parts of it, one after the other.

--part single, adapt, folder or distil runs one; what follows goes to it (``selfsup --part single --seconds 20``).
"""

from __future__ import annotations

import inspect

from tests.benchmarks import selfsup_adapt, selfsup_distil, selfsup_folder, selfsup_single

PARTS = {"single": selfsup_single, "adapt": selfsup_adapt, "folder": selfsup_folder, "distil": selfsup_distil}


def run(arguments: list[str]) -> None:
    """Print the tables."""
    wanted, rest = list(PARTS), arguments
    if arguments[:1] == ["--part"]:
        wanted, rest = arguments[1:2], arguments[2:]
    for name in wanted:
        if name not in PARTS:
            print(f"There is no part {name!r}; there are {', '.join(PARTS)}.")
            return
        print(f"== {name}: {(PARTS[name].__doc__ or '').splitlines()[0]}", flush=True)
        run_part = PARTS[name].run
        run_part(rest) if inspect.signature(run_part).parameters else run_part()
