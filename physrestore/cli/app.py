"""The command table and what happens to errors nobody handled."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from physrestore import __version__
from physrestore.cli import adapt, calibrate, compare, demo, doctor, export, inspect, profile, restore, simulate, train
from physrestore.cli.console import Exit, note, say

app = typer.Typer(
    name="physrestore",
    help="Calibrate a camera's noise from raw files, simulate it, and restore raws with it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        say(f"physrestore {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


app.command("demo")(demo.demo)
app.command("inspect")(inspect.inspect)
app.command("calibrate")(calibrate.calibrate)
app.add_typer(profile.app, name="profile")
app.command("simulate")(simulate.simulate)
app.command("restore")(restore.restore)
app.command("compare")(compare.compare)
app.command("train")(train.train)
app.command("adapt")(adapt.adapt)
app.command("export")(export.export)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Entry point of ``physrestore``."""
    # Threads that wait shall sleep: spinning ones make a photo six times slower on a machine with other work to do.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(args=calibrate.spread_path_lists(sys.argv[1:], (*calibrate.PATH_LISTS, *train.PATH_LISTS)))
    except SystemExit as end:
        # typer turns Ctrl-C into this code without a word.
        if end.code == Exit.INTERRUPTED:
            # A second Ctrl-C must not change the exit code, nor end the writing of a file that is being finished.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            note("physrestore: interrupted; finished results are whole, and the next run skips them.")
        raise
