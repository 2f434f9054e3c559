"""How the commands speak: results on stdout, everything else on stderr, control characters never."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Annotated, Protocol

import typer


class Exit(IntEnum):
    """Exit codes, part of the interface."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    NOTHING_USABLE = 3
    INTERRUPTED = 130


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of text.")]


def shown(text: object) -> str:
    r"""Text from a file made safe for a terminal: control and unprintable characters are written as escapes.

    >>> print(shown("IMG\x1b[31m.CR2"))
    IMG\x1b[31m.CR2
    """
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape", "backslashreplace").decode()
        for char in str(text).encode("utf-8", "backslashreplace").decode()
    )


def say(text: str) -> None:
    """One line of results on stdout."""
    print(shown(text), flush=True)


def note(text: str) -> None:
    """One line of news on stderr."""
    print(shown(text), file=sys.stderr, flush=True)


def emit(data: Mapping[str, object]) -> None:
    """The JSON result on stdout."""
    print(json.dumps(data, indent=2, default=str, allow_nan=False), flush=True)


def fail(text: str, code: Exit = Exit.NOTHING_USABLE) -> typer.Exit:
    """Say why on stderr; raise what this returns."""
    note(f"physrestore: {text}")
    return typer.Exit(code)


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Columns aligned by spaces, header underlined."""
    cells = [[shown(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


class Bar(Protocol):
    """What the commands need of a progress display."""

    def __call__(self, label: str, share: float, /) -> None:
        """``share`` of all the work is done, now at ``label``."""


@contextmanager
def progress(quiet: bool) -> Iterator[Bar]:
    """A bar with remaining time on a terminal; nothing otherwise (the commands print a line per finished file)."""
    if quiet or not sys.stderr.isatty():
        yield lambda _label, _share: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def update(label: str, share: float) -> None:
            bar.update(task, description=escape(shown(label)), completed=share)

        yield update


@contextmanager
def errors_as_exit() -> Iterator[None]:
    """Turn the errors that a user can cause into one line on stderr and exit code 3."""
    from noise_models.errors import NoiseModelError
    from physrestore.errors import PhysrestoreError

    try:
        yield
    except (NoiseModelError, PhysrestoreError, OSError) as error:
        raise fail(str(error)) from error
