"""The training loop: what it returns, where it resumes, what it refuses."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from physrestore.errors import TrainingError
from physrestore.networks.mosaic_net import MosaicNetConfig
from physrestore.training import checkpoint
from physrestore.training.fit import Step, Trained, fit
from physrestore.training.pictures import Pictures
from physrestore.training.recipe import Recipe
from physrestore.training.tasks.mosaic import MosaicTask
from tests.physrestore.toy_tasks import Regression, Union
from tests.physrestore.two_workers import RECIPE as TWO_WORKERS
from tests.shared_data import ROOT

RECIPE = Recipe(steps=40, learning_rate=0.01, save_every=10, log_every=10)


def weights(trained: Trained) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trained.network.state_dict().items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def rows(trained: Trained) -> list[dict[str, str]]:
    with trained.log.open(newline="") as stream:
        return list(csv.DictReader(stream))


def stop_after(updates: int) -> Callable[[], bool]:
    """True when asked for the so-many-th time."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked >= updates

    return stop


# --- the recipe


def test_the_rate_rises_then_falls_along_a_cosine() -> None:
    recipe = Recipe(learning_rate=1.0, warm_up=0.1, final_rate=0.01)
    rates = [recipe.rate(k / 1000) for k in range(1001)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[100] == pytest.approx(1.0)
    assert rates[1000] == pytest.approx(0.01)
    assert rates[550] == pytest.approx((1.0 + 0.01) / 2)  # half of the cosine
    assert rates[:101] == sorted(rates[:101])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert Recipe(learning_rate=1.0, warm_up=0.0).rate(0.0) == 1.0


def test_progress_is_the_larger_share_of_steps_and_time() -> None:
    recipe = Recipe(steps=100, budget_seconds=10.0)
    assert recipe.progress(20, 1.0) == 0.2
    assert recipe.progress(20, 5.0) == 0.5
    assert recipe.progress(20, 50.0) == 1.0
    assert Recipe(steps=100).progress(20, 1e9) == 0.2


def test_the_running_mean_forgets_its_start() -> None:
    recipe = Recipe(ema=0.99)
    assert recipe.decay(0) == 0.0
    assert recipe.decay(10) == 0.5
    assert recipe.decay(10**6) == 0.99


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "steps >= 1"),
        ({"learning_rate": 0.0}, "positive learning_rate"),
        ({"ema": 1.5}, "shares between 0 and 1"),
        ({"clip": -1.0}, "clip"),
        ({"save_every": 0}, "must be positive"),
        ({"budget_seconds": 0.0}, "must be positive"),
    ],
    ids=str,
)
def test_recipes_that_cannot_be(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(RECIPE, **change)


# --- the loop


def test_the_loss_falls_and_the_log_says_so(tmp_path: Path) -> None:
    seen: list[Step] = []
    trained = fit(Regression(), replace(RECIPE, steps=200), tmp_path, on_step=seen.append)

    assert (trained.steps, [step.number for step in seen][-1]) == (200, 200)
    assert not trained.network.training
    logged = rows(trained)
    assert [int(row["step"]) for row in logged] == list(range(10, 201, 10))
    assert float(logged[-1]["loss"]) < 0.3 * float(logged[0]["loss"])
    assert float(logged[-1]["rate"]) < float(logged[2]["rate"])
    assert [row.loss for row in seen] == pytest.approx([float(row["loss"]) for row in logged], rel=1e-4)


def test_a_tiny_network_really_learns_to_denoise(tmp_path: Path) -> None:
    """On smooth scenes it must beat its own start, bilinear interpolation that removes no noise, by a quarter."""
    y, x = torch.meshgrid(torch.linspace(0, 3, 64), torch.linspace(0, 3, 64), indexing="ij")
    waves = torch.stack([torch.sin(x + y), torch.cos(2 * x), torch.sin(y - x)])
    picture = (127 + 100 * waves).to(torch.uint8)
    task = MosaicTask(Pictures([picture]), network=MosaicNetConfig(channels=(8, 12)), side=32, count=4)
    recipe = Recipe(steps=300, learning_rate=1e-2, log_every=300)

    trained = fit(task, recipe, tmp_path)

    batches = [task.batch(torch.Generator().manual_seed(seed)) for seed in range(100, 106)]
    with torch.no_grad():
        losses = [sum(float(task.loss(net, batch)) for batch in batches) for net in (trained.network, fresh(task))]
    assert losses[0] < 0.75 * losses[1]


def fresh(task: MosaicTask) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return task.build()


def test_a_time_budget_ends_it(tmp_path: Path) -> None:
    trained = fit(Regression(), replace(RECIPE, steps=10**9, budget_seconds=0.2), tmp_path)
    assert 1 <= trained.steps < 10**6
    assert trained.seconds >= 0.2
    assert float(rows(trained)[-1]["progress"]) == 1.0


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    torch.manual_seed(123)  # the caller's state must neither matter nor change
    before = torch.get_rng_state()
    first = weights(fit(Regression(), RECIPE, tmp_path / "a"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(321)
    assert equal(first, weights(fit(Regression(), RECIPE, tmp_path / "b")))
    assert not equal(first, weights(fit(Regression(), replace(RECIPE, seed=1), tmp_path / "c")))


@dataclass(frozen=True)
class Recorded(Regression):
    """Remembers the weights that every loss was computed with."""

    seen: tuple[list[Tensor], ...] = ()

    def loss(self, network: Callable[..., Tensor], batch: Any) -> Tensor:
        assert isinstance(network, nn.Module)
        self.seen[0].append(next(network.parameters()).detach().clone())
        return super().loss(network, batch)


def test_the_result_is_the_running_mean_of_the_weights(tmp_path: Path) -> None:
    seen: list[Tensor] = []
    recipe = replace(RECIPE, ema=0.8, log_every=100)
    fit(Recorded(seen=([],)), replace(recipe, steps=1), tmp_path / "warm")  # a list in the task does not disturb

    trained = fit(Recorded(seen=(seen,)), recipe, tmp_path / "run")

    last = load_file(tmp_path / "run" / "checkpoint.safetensors")["network.0.weight"]
    mean = torch.zeros_like(last)
    for step, value in enumerate([*seen[1:], last]):  # the weights after every update
        decay = min(0.8, 1 - 1 / (1 + 0.1 * step))
        mean = decay * mean + (1 - decay) * value
    torch.testing.assert_close(trained.network.state_dict()["0.weight"], mean)
    assert not torch.allclose(mean, last, atol=1e-4)


class Boxed(nn.Linear):
    """A network whose weights live in a box."""

    def project(self) -> None:
        with torch.no_grad():
            self.weight.clamp_(-0.5, 0.5)


@dataclass(frozen=True)
class BoxedTask(Regression):
    def build(self) -> nn.Module:
        return Boxed(3, 1)


def test_weights_stay_in_their_set(tmp_path: Path) -> None:
    trained = fit(BoxedTask(), replace(RECIPE, steps=100, learning_rate=0.1), tmp_path)
    assert float(trained.network.state_dict()["weight"].abs().max()) == pytest.approx(0.5)  # the slope 2 lies outside


@dataclass(frozen=True)
class Broken(Regression):
    """Its loss is no number from some draw on."""

    from_update: int = 15
    calls: tuple[list[int], ...] = ()

    def __repr__(self) -> str:
        return "Broken()"

    def loss(self, network: Callable[..., Tensor], batch: Any) -> Tensor:
        self.calls[0].append(1)
        return super().loss(network, batch) * (float("nan") if len(self.calls[0]) > self.from_update else 1.0)


def test_a_loss_that_is_no_number_ends_it_before_the_weights_do(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="The loss is nan at step 15"):
        fit(Broken(calls=([],)), RECIPE, tmp_path)

    saved = load_file(tmp_path / "checkpoint.safetensors")
    assert all(bool(torch.isfinite(value).all()) for value in saved.values())
    resumed = fit(Broken(from_update=1000, calls=([],)), RECIPE, tmp_path)  # from step 10
    assert resumed.steps == 40


# --- stopping and going on


@pytest.mark.parametrize("stopped_at", [1, 10, 17])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path, stopped_at: int) -> None:
    whole = fit(Regression(), RECIPE, tmp_path / "whole")

    part = fit(Regression(), RECIPE, tmp_path / "parts", stop=stop_after(stopped_at))
    assert part.steps == stopped_at
    resumed = fit(Regression(), RECIPE, tmp_path / "parts")

    assert resumed.steps == whole.steps
    assert equal(weights(whole), weights(resumed))
    # The file too, down to the state of Adam.
    first, second = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "parts"))
    assert equal(first, second)
    assert any(name.startswith("optimiser.") for name in first)


def test_a_resume_without_its_draws_would_be_noticed(tmp_path: Path) -> None:
    whole = fit(Regression(), RECIPE, tmp_path / "whole")
    fit(Regression(), RECIPE, tmp_path / "parts", stop=stop_after(17))
    path = tmp_path / "parts" / "checkpoint.safetensors"
    with safe_open(path, framework="pt") as file:
        about, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors | {"generator": torch.Generator().manual_seed(99).get_state()}, path, about)

    assert not equal(weights(whole), weights(fit(Regression(), RECIPE, tmp_path / "parts")))


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    first = fit(Regression(), RECIPE, tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    again = fit(Regression(), RECIPE, tmp_path)
    assert equal(weights(first), weights(again))
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("task", "recipe"),
    [(Regression(slope=3.0), RECIPE), (Regression(), replace(RECIPE, learning_rate=0.02))],
    ids=["task", "recipe"],
)
def test_a_folder_of_another_training_is_refused(tmp_path: Path, task: Regression, recipe: Recipe) -> None:
    fit(Regression(), RECIPE, tmp_path, stop=stop_after(5))
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(TrainingError, match="belongs to another training"):
        fit(task, recipe, tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    fit(Regression(), RECIPE, tmp_path, stop=stop_after(5))
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(TrainingError, match=r"checkpoint\.safetensors cannot be read.*Delete it"):
        fit(Regression(), RECIPE, tmp_path)


@pytest.mark.parametrize("missing", ["network.0.weight", "mean.2.bias", "generator"])
def test_a_checkpoint_of_another_network_is_named(tmp_path: Path, missing: str) -> None:
    fit(Regression(), RECIPE, tmp_path, stop=stop_after(5))
    path = tmp_path / "checkpoint.safetensors"
    with safe_open(path, framework="pt") as file:
        about, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del tensors[missing]
    save_file(tensors, path, about)
    with pytest.raises(TrainingError, match="another version of its network"):
        fit(Regression(), RECIPE, tmp_path)


class Killed(BaseException):
    """The process ends here."""


def test_killed_while_saving_the_last_checkpoint_still_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit(Regression(), RECIPE, tmp_path / "whole")
    writes = 0

    def half_written(tensors: dict[str, Tensor], path: Path, about: dict[str, str]) -> None:
        nonlocal writes
        writes += 1
        save_file(tensors, path, about)
        if writes == 2:
            path.write_bytes(path.read_bytes()[:100])
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_file", half_written)
        with pytest.raises(Killed):
            fit(Regression(), RECIPE, tmp_path / "killed")

    resumed = fit(Regression(), RECIPE, tmp_path / "killed")

    assert equal(weights(whole), weights(resumed))
    # Rows of updates that were lost are not kept twice.
    assert [row["step"] for row in rows(resumed)] == [row["step"] for row in rows(whole)]
    assert [row["loss"] for row in rows(resumed)] == [row["loss"] for row in rows(whole)]


def test_killed_before_the_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    whole = fit(Regression(), replace(RECIPE, save_every=1000), tmp_path / "whole")

    def kill(_: Step) -> None:
        raise Killed

    with pytest.raises(Killed):
        fit(Regression(), replace(RECIPE, save_every=1000), tmp_path / "killed", on_step=kill)
    resumed = fit(Regression(), replace(RECIPE, save_every=1000), tmp_path / "killed")
    assert equal(weights(whole), weights(resumed))
    assert len(rows(resumed)) == len(rows(whole))


# --- several processes


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.physrestore.two_workers", str(tmp_path / "two")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr

    first, second = (load_file(tmp_path / "two" / str(rank)) for rank in (0, 1))
    assert equal(first, second)
    # Averaged gradients of two halves are the gradient of the whole.
    union = weights(fit(Union(seeds=(1, 2)), TWO_WORKERS, tmp_path / "union"))
    alone = weights(fit(Regression(), TWO_WORKERS, tmp_path / "alone"))
    assert max(float((first[name] - union[name]).abs().max()) for name in first) < 1e-5
    assert max(float((first[name] - alone[name]).abs().max()) for name in first) > 1e-3
    steps = [int(line.split(",")[0]) for line in (tmp_path / "two" / "log.csv").read_text().splitlines()[1:]]
    assert steps == list(range(5, 31, 5))  # one process writes
