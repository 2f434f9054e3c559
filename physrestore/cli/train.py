"""``physrestore train``: a network for any camera, or for one's own."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from physrestore.cli.console import Bar, Exit, JsonOption, emit, errors_as_exit, fail, note, progress, say
from physrestore.cli.durations import seconds_of

if TYPE_CHECKING:
    from physrestore.training.fit import Step
    from physrestore.training.produce import Product

# Options that take several paths.
PATH_LISTS = ("--pictures",)

# Spelt out here so that `--help` needs no torch; a test compares them with the library's.
TaskName = Literal["mosaic", "colour", "gray"]
SizeName = Literal["small", "large"]
PrecisionName = Literal["float32", "bfloat16"]
OptimiserName = Literal["adam", "muon"]


def train(
    pictures: Annotated[
        list[Path], typer.Option(metavar="FOLDER...", help="Ordinary photographs, searched with all inside them.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.safetensors", help="Weights to write.")],
    task: Annotated[
        TaskName,
        typer.Option(help="mosaic: raws, for --method fast. colour: a prior for solvers. gray: sparse, for study."),
    ] = "mosaic",
    size: Annotated[
        SizeName | None,
        typer.Option(help="large takes about four times as long, to train and to run.  [default: small]"),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="NAME|FILE", help="Begin with a shipped network or weights in a file."),
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Train for this camera's noise alone. Default: any camera.")
    ] = None,
    white_level: Annotated[
        float | None, typer.Option(min=1, help="Highest code of the camera [DN], where its profile has none.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Wall time, e.g. 2h, 90m or 1h30m. Default: --steps alone.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Updates at most.")] = 100_000,
    batch: Annotated[int, typer.Option(min=1, help="Patches a step.")] = 8,
    patch: Annotated[int, typer.Option(min=32, help="Side of a patch, pixels.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="At its peak.")] = 1e-3,
    optimiser: Annotated[OptimiserName, typer.Option(help="muon needs somewhat fewer steps.")] = "adam",
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")] = "auto",
    precision: Annotated[PrecisionName, typer.Option(help="bfloat16 is faster where the device has it.")] = "float32",
    seed: Annotated[int, typer.Option(min=0, help="Of the first weights and all draws.")] = 0,
    licence: Annotated[str, typer.Option(help="Of the weights, for their card.")] = "not stated by who trained it",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished training of this name.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace weights that exist.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a network on photographs, degraded by the calibrated noise of cameras.

    Beside the weights: a model card, a log (CSV) and its curve (PNG). Ctrl-C keeps what was learned for --resume.
    """
    from physrestore.contract import Options
    from physrestore.training.orders import Order
    from physrestore.training.produce import produce
    from physrestore.training.recipe import Recipe
    from physrestore.training.workers import is_first_process

    quiet = as_json or not is_first_process()
    if size is not None and start is not None:
        raise fail("--from brings the size of its network. Leave out --size, or --from.", Exit.USAGE)
    try:
        recipe = Recipe(
            steps=steps,
            budget_seconds=None if budget is None else seconds_of(budget),
            learning_rate=learning_rate,
            optimiser=optimiser,
            precision=precision,
            seed=seed,
        )
    except ValueError as error:
        raise fail(str(error), Exit.USAGE) from error
    with errors_as_exit(), progress(quiet=quiet) as bar, _interruptible() as stop:
        camera = None if profile is None else _camera(profile)
        order = Order(
            task=task,
            size=size or "small",
            camera=camera,
            white_level=white_level,
            patch=patch,
            batch=batch,
            start=None if start is None else _network(start),
        )
        product = produce(
            order,
            recipe,
            pictures,
            out,
            device=Options(device=device).torch_device,
            resume=resume,
            overwrite=overwrite,
            licence=licence,
            on_step=lambda step: _tell_step(step, bar, quiet=quiet),
            stop=stop,
        )
    raise typer.Exit(_finish(product, as_json))


def _camera(path: Path):  # type: ignore[no-untyped-def]
    from noise_models.store import read_profile

    return read_profile(path)


def _network(name: str):  # type: ignore[no-untyped-def]
    """A shipped network by name, or one in a file."""
    from physrestore import weights
    from physrestore.networks.store import load_network

    return (weights.load(name) if name in weights.catalogue() else load_network(Path(name))).network


@contextmanager
def _interruptible() -> Iterator[_Stop]:
    """Within it the first Ctrl-C asks for an orderly end, the second one ends at once."""
    stop = _Stop()
    before = signal.signal(signal.SIGINT, stop.ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


class _Stop:
    """Whether an end was asked for."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self, _signal: int, _frame: object) -> None:
        """Handle a SIGINT."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        note("physrestore: stopping after this step; once more ends at once and loses what is not saved.")

    def __call__(self) -> bool:
        """See the class."""
        return self.asked


def _tell_step(step: Step, bar: Bar, *, quiet: bool) -> None:
    label = f"step {step.number}, loss {step.loss:.4g}"
    bar(label, step.progress)
    if not quiet and not sys.stderr.isatty():
        note(f"{label}, {step.progress:.1%} done, {step.seconds:.0f} s")


def _finish(product: Product, as_json: bool) -> Exit:
    from physrestore.training.workers import is_first_process

    code = Exit.OK if product.finished else Exit.INTERRUPTED
    if not is_first_process():
        return code
    files = product.files
    if as_json:
        emit(
            {
                "command": "train",
                "exit_code": int(code),
                "finished": product.finished,
                "weights": files.weights if product.finished else None,
                "card": files.card if product.finished else None,
                "log": files.log if product.finished else None,
                "curve": files.curve if product.finished else None,
                "unfinished": None if product.finished else files.unfinished,
                "parameters": product.parameters,
                "steps": product.steps,
                "seconds": product.seconds,
                "loss": product.loss,
                "loss_at_start": product.loss_at_start,
            }
        )
    elif product.finished:
        say(f"{files.weights}: {product.parameters} parameters, {product.steps} steps, {product.seconds:.0f} s")
        say(f"loss {product.loss:.4g}, of the network it began with {product.loss_at_start:.4g}; see {files.card.name}")
    else:
        note(f"stopped after {product.steps} steps; go on with the same command and --resume.")
    return code
