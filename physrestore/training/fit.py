"""The loop: draw a batch, take a step, keep a running mean, save now and then. It resumes where it was stopped."""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from physrestore.errors import TrainingError
from physrestore.training import checkpoint
from physrestore.training.muon import optimiser_of
from physrestore.training.recipe import Recipe
from physrestore.training.workers import Worker

# Between the seeds of a worker's draws before and after a resume: more than there are workers.
SEEDS_APART = 7919


class Task(Protocol):
    """What is learned: network, data and loss. A frozen dataclass, whose ``repr`` says all that decides it."""

    def build(self) -> nn.Module:
        """The network at its start; its initial weights follow torch's global seed, which `fit` sets for the call."""
        ...

    def batch(self, generator: torch.Generator) -> Any:
        """Data of one step, on the CPU: a tuple of tensors."""
        ...

    def loss(self, network: Callable[..., Tensor], batch: Any) -> Tensor:
        """A number to make small."""
        ...


@dataclass(frozen=True)
class Step:
    """What `fit` reports.

    Attributes:
        number: Updates done.
        progress: Share of the training done, 0..1.
        loss: Mean since the last report.
        seconds: Wall time so far.
    """

    number: int
    progress: float
    loss: float
    seconds: float


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        network: With the running mean of the weights, in evaluation mode.
        steps: Updates done.
        progress: Share of the training done; below 1 where it was stopped.
        seconds: Wall time of all runs.
        log: CSV with one row a report: step, progress, loss, rate, seconds.
    """

    network: nn.Module
    steps: int
    progress: float
    seconds: float
    log: Path


def fit(
    task: Task,
    recipe: Recipe,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    on_step: Callable[[Step], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train, or go on training, in a folder.

    Started by ``torchrun`` it runs on several processes, each with its own share of random batches; gradients are
    averaged (`physrestore.training.workers`). On one CPU process a stopped and resumed training without a time budget
    gives bit-identical weights.

    Args:
        task: What.
        recipe: How long and how fast.
        folder: Holds ``checkpoint.safetensors`` and ``log.csv``; made if missing.
        device: Where the network computes.
        on_step: Called at every row of the log.
        stop: Asked after every step; True saves and ends early.

    Raises:
        TrainingError: the folder holds another training, or the loss is no longer finite.
    """
    worker = Worker.of_environment(torch.device(device))
    folder.mkdir(parents=True, exist_ok=True)
    session = _Session(task, recipe, folder, worker, initial_network(task, recipe.seed).to(worker.device))
    session.run(on_step or (lambda _: None), stop)
    return session.result()


def initial_network(task: Task, seed: int) -> nn.Module:
    """The network with which a training of this seed begins; torch's global generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return task.build()


class _Session:
    """The state of one training."""

    def __init__(self, task: Task, recipe: Recipe, folder: Path, worker: Worker, network: nn.Module) -> None:
        self.task, self.recipe, self.worker, self.network = task, recipe, worker, network
        self.path, self.log = folder / "checkpoint.safetensors", folder / "log.csv"
        self.generator = torch.Generator().manual_seed(recipe.seed + 1 + worker.rank)
        self.optimiser = optimiser_of(recipe.optimiser, network.parameters(), recipe.learning_rate)
        self.mean = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.step, self.before = 0, 0.0
        if self.path.exists():
            at = checkpoint.load(self.path, self.fingerprint, **self._parts())
            self.step, self.before = at.step, at.seconds
            if worker.rank > 0:  # the file holds the first worker's draws
                self.generator.manual_seed(recipe.seed + 1 + worker.rank + SEEDS_APART * self.step)
        if worker.rank == 0:
            self._forget_rows_after(self.step)
        self.start = time.monotonic()

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.task!r} {self.recipe!r}".encode()).hexdigest()[:16]

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.start

    @property
    def progress(self) -> float:
        return self.worker.largest(self.recipe.progress(self.step, self.seconds))

    def run(self, report: Callable[[Step], None], stop: Callable[[], bool]) -> None:
        model = self.worker.wrap(self.network.train())
        losses: list[float] = []
        progress = self.progress
        while progress < 1.0:
            losses.append(self._update(model, self.recipe.rate(progress)))
            self.step += 1
            progress = self.progress
            ends = progress >= 1.0 or self.worker.any(stop())
            if ends or self.step % self.recipe.log_every == 0:
                row = Step(self.step, progress, sum(losses) / len(losses), self.seconds)
                losses.clear()
                if self.worker.rank == 0:
                    self._write(row)
                    report(row)
            if ends or self.step % self.recipe.save_every == 0:
                self._save()
            if ends:
                break

    def _update(self, model: Callable[..., Tensor], rate: float) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batch = tuple(part.to(self.worker.device, non_blocking=True) for part in self.task.batch(self.generator))
        low = self.recipe.precision == "bfloat16"
        with torch.autocast(self.worker.device.type, torch.bfloat16) if low else nullcontext():
            loss = self.task.loss(model, batch)
        if not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"The loss is {float(loss.detach())} at step {self.step}. Lower learning_rate, or clip more."
            )
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimiser.step()
        project = getattr(self.network, "project", None)
        if project is not None:  # networks whose weights live in a set, such as unit-norm filters
            project()
        decay = self.recipe.decay(self.step)
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.dtype.is_floating_point:
                    self.mean[name].lerp_(value, 1.0 - decay)
                else:
                    self.mean[name].copy_(value)
        return float(loss.detach())

    def _parts(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "mean": self.mean,
            "optimiser": self.optimiser,
            "generator": self.generator,
        }

    def _save(self) -> None:
        if self.worker.rank == 0:
            at = checkpoint.Progress(self.step, self.seconds, self.fingerprint)
            checkpoint.save(self.path, at, **self._parts())

    def _forget_rows_after(self, step: int) -> None:
        """Rows of updates that were lost when a run was killed; they will be written again."""
        lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True) if self.log.exists() else []
        kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",", 1)[0]) <= step]
        if len(kept) < len(lines) - 1:
            self.log.write_text("".join([lines[0], *kept]), encoding="utf-8")

    def _write(self, row: Step) -> None:
        new = not self.log.exists()
        with self.log.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            if new:
                writer.writerow(["step", "progress", "loss", "rate", "seconds"])
            rate = self.recipe.rate(row.progress)
            writer.writerow([row.number, f"{row.progress:.4f}", f"{row.loss:.6g}", f"{rate:.3g}", f"{row.seconds:.1f}"])

    def result(self) -> Trained:
        self.network.load_state_dict(self.mean)
        return Trained(self.network.eval(), self.step, self.progress, self.seconds, self.log)
