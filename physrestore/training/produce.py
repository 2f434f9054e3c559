"""From an order to a file of weights with its card, log and curve; stopped trainings go on where they were."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from physrestore.errors import OutputExists, TrainingError
from physrestore.networks.store import save_network
from physrestore.output.publish import publish_bytes
from physrestore.training.card import Card
from physrestore.training.curve import write_curve
from physrestore.training.fit import Step, Task, Trained, fit, initial_network
from physrestore.training.orders import PURPOSES, Order, digest_of, scenes
from physrestore.training.recipe import Recipe
from physrestore.training.tasks.onward import digest_of_weights
from physrestore.training.workers import is_first_process

# Batches on which a finished network is compared with its start, and the seed of their draws: far from a training's.
SCORED_BATCHES, SCORING_SEED = 8, 2**40
LIMITS = {
    "mosaic": (
        "It recognises noise by its calibrated level: with a wrong profile it removes too little or too much.",
        "Row and column noise and hot pixels are removed before it; it was not trained to see them whole.",
        "Where noise hides a structure, what it shows is a guess.",
    ),
    "colour": (
        "Noise is white and Gaussian; for raw files use a network of the task 'mosaic', or a solver around this one.",
        "Where noise hides a structure, what it shows is a guess.",
    ),
    "gray": (
        "Noise is white and Gaussian, values are those of a display.",
        "Where noise hides a structure, what it shows is a guess.",
    ),
}


@dataclass(frozen=True)
class Files:
    """Names of what a training leaves.

    Attributes:
        weights: ``NAME.safetensors``.
    """

    weights: Path

    @property
    def card(self) -> Path:
        """Model card."""
        return self.weights.with_suffix(".card.md")

    @property
    def log(self) -> Path:
        """Loss and rate over the steps."""
        return self.weights.with_suffix(".log.csv")

    @property
    def curve(self) -> Path:
        """The log as a picture."""
        return self.weights.with_suffix(".loss.png")

    @property
    def unfinished(self) -> Path:
        """Folder of a training that was stopped."""
        return self.weights.with_suffix(".training")


@dataclass(frozen=True)
class Product:
    """How a training ended.

    Attributes:
        files: What was written; of an unfinished training the folder to go on from.
        finished: Whether there are weights.
        steps: Updates done.
        seconds: Wall time of all runs.
        parameters: Of the network.
        loss: On fresh draws of the training scenes; None: unfinished.
        loss_at_start: The same of the network it began with.
    """

    files: Files
    finished: bool
    steps: int
    seconds: float
    parameters: int
    loss: float | None = None
    loss_at_start: float | None = None


def produce(
    order: Order,
    recipe: Recipe,
    folders: Sequence[Path],
    weights: Path,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    licence: str = "not stated by who trained it",
    on_step: Callable[[Step], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Product:
    """Train and write weights, card, log and curve.

    Args:
        order: What.
        recipe: How long and how fast.
        folders: Of pictures.
        weights: Ends in ``.safetensors``; its folder must exist.
        device: Where the network computes.
        resume: Go on with the unfinished training of this name.
        overwrite: Replace weights that exist.
        licence: Of the weights.
        on_step: Called at every row of the log.
        stop: Asked after every step; True ends early and leaves an unfinished training.

    Raises:
        OutputExists: weights of this name exist, or an unfinished training does and ``resume`` is False.
        TrainingError: nothing to resume, another order than the unfinished one's, or folders without pictures.
        ProfileError: the camera's gain or white level is unknown.
    """
    files = Files(weights)
    first = is_first_process()
    if first:
        _check_place(files, resume=resume, overwrite=overwrite)
    pictures = scenes(folders, order)
    task = order.build(pictures)
    identity = {"order": order.identity, "recipe": asdict(recipe), "scenes": digest_of(pictures)}
    if first:
        _claim(files.unfinished, identity)
    trained = fit(task, recipe, files.unfinished, device=device, on_step=on_step, stop=stop)
    parameters = sum(values.numel() for values in trained.network.parameters())
    if trained.progress < 1.0:
        return Product(files, False, trained.steps, trained.seconds, parameters)
    after, before = (_score(task, net) for net in (trained.network.cpu(), initial_network(task, recipe.seed).eval()))
    product = Product(files, True, trained.steps, trained.seconds, parameters, after, before)
    if first:
        _write(product, trained, order, recipe, data=_describe(pictures.names), licence=licence)
        shutil.rmtree(files.unfinished)
    return product


def _check_place(files: Files, *, resume: bool, overwrite: bool) -> None:
    if files.weights.suffix != ".safetensors":
        raise TrainingError(f"Weights end in .safetensors; {files.weights.name!r} does not.")
    if files.weights.exists() and not overwrite:
        raise OutputExists(files.weights, "exists. Choose another name, or ask to overwrite it.")
    begun = files.unfinished.exists()
    if begun and not resume:
        raise OutputExists(files.unfinished, "is an unfinished training. Resume it, or delete it to begin anew.")
    if resume and not begun:
        raise TrainingError(f"There is no unfinished training {files.unfinished.name!r} to resume. Begin it first.")


def _claim(folder: Path, identity: Mapping[str, object]) -> None:
    """Note what is trained in the folder, or check that it is the same.

    Raises:
        TrainingError: it is another training; the message says in what.
    """
    note = folder / "order.json"
    if not note.exists():
        folder.mkdir(parents=True, exist_ok=True)
        publish_bytes(note, json.dumps(identity, indent=2).encode())
        return
    try:
        begun = json.loads(note.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainingError(f"{note} is damaged: {error}. Delete {folder.name!r} to begin anew.") from error
    if begun != identity:
        changed = [name for name in sorted({*begun, *identity}) if begun.get(name) != identity.get(name)]
        raise TrainingError(
            f"{folder.name!r} holds another training: {' and '.join(changed)} differ. Resume it with what it was begun "
            "with, or delete it to begin anew."
        )


@torch.no_grad()
def _score(task: Task, network: nn.Module) -> float:
    """Mean loss on draws that no training sees."""
    generator = torch.Generator().manual_seed(SCORING_SEED)
    losses = [float(task.loss(network, task.batch(generator))) for _ in range(SCORED_BATCHES)]
    return sum(losses) / len(losses)


def _describe(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)} pictures ({shown}), turned into linear light of random exposure and white balance."


def _write(product: Product, trained: Trained, order: Order, recipe: Recipe, *, data: str, licence: str) -> None:
    files = product.files
    card = Card(
        title=files.weights.stem,
        purpose=PURPOSES[order.task],
        noise_range=order.noise_range,
        data=data,
        recipe={
            "task": order.task,
            "begun with": "nothing" if order.start is None else f"a trained network ({digest_of_weights(order.start)})",
            "size": order.size if order.start is None else "that of its start",
            "parameters": product.parameters,
            "patch and batch": f"{order.patch} x {order.patch}, {order.batch}",
            "steps": product.steps,
            "wall time": f"{product.seconds:.0f} s",
            **{
                name: value
                for name, value in asdict(recipe).items()
                if name not in ("steps", "save_every", "log_every")
            },
        },
        quality=(
            f"Loss on {SCORED_BATCHES} fresh batches of the training scenes: {product.loss:.4g}; of the network "
            f"it began with {product.loss_at_start:.4g}. Nothing else was measured: compare it on pictures that it did "
            "not see."
        ),
        limits=LIMITS[order.task],
        licence=licence,
    )
    about = {
        "purpose": card.purpose,
        "licence": licence,
        "noise_range": card.noise_range,
        "data": data,
        "seed": str(recipe.seed),
        "steps": str(product.steps),
    }
    publish_bytes(files.log, trained.log.read_bytes(), overwrite=True)
    write_curve(files.log, files.curve)
    publish_bytes(files.card, card.markdown().encode(), overwrite=True)
    save_network(files.weights, trained.network, about=about)  # last: whoever finds weights finds the rest
