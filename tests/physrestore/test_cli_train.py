"""``physrestore train`` as a user meets it: files, card, going on, refusals."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from noise_models.cfa import BAYER_PLANES
from noise_models.profile import CameraProfile
from noise_models.store import profile_to_json
from physrestore.cli import train as command
from physrestore.cli.app import app
from physrestore.cli.calibrate import spread_path_lists
from physrestore.cli.durations import seconds_of
from physrestore.errors import OutputExists, TrainingError
from physrestore.networks.mosaic_net import MosaicNet, MosaicNetConfig
from physrestore.networks.store import load_network
from physrestore.training import orders
from physrestore.training.card import Card
from physrestore.training.curve import write_curve
from physrestore.training.orders import Order
from physrestore.training.pictures import Pictures
from physrestore.training.produce import produce
from physrestore.training.recipe import Recipe
from physrestore.training.tasks.mosaic import MosaicTask
from tests.noise_models.noise_profiles import entry
from tests.shared_data import ROOT

# As small as a training gets; the smallest patches keep it quick.
QUICK = ("--patch", 32, "--batch", 1)


def cli(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    done = CliRunner().invoke(app, ["train", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def camera(cfa: str = "RGGB", planes: tuple[str, ...] = BAYER_PLANES) -> CameraProfile:
    entries = (entry(800.0, planes=planes), entry(1600.0, planes=planes))
    return CameraProfile(make="Test", model="One", cfa=cfa, entries=entries)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(2):
        pixels = torch.randint(256, (48, 40, 3), generator=torch.Generator().manual_seed(k), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"p{k}.png")
    return folder


def test_option_words_are_the_librarys() -> None:
    assert get_args(command.TaskName) == get_args(orders.TaskName)
    assert get_args(command.SizeName) == get_args(orders.SizeName)
    words = get_type_hints(Recipe)
    assert get_args(command.OptimiserName) == get_args(words["optimiser"])
    assert get_args(command.PrecisionName) == get_args(words["precision"])


def test_a_training_leaves_weights_card_log_and_curve(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"

    code, stdout, _ = cli("--pictures", photos, "-o", out, "--steps", 3, "--seed", 7, *QUICK, "--json")

    report = json.loads(stdout)
    assert (code, report["exit_code"], report["finished"], report["steps"]) == (0, 0, True, 3)
    stored = load_network(out)
    assert stored.architecture == "MosaicNet"
    assert stored.network.config == orders.MOSAIC_SIZES["small"]
    assert report["parameters"] == sum(values.numel() for values in stored.network.parameters())
    assert {"purpose", "licence", "noise_range", "data", "seed", "steps"} <= set(stored.about)
    assert (stored.about["seed"], stored.about["steps"]) == ("7", "3")
    card = Path(report["card"]).read_text(encoding="utf-8")
    for heading in ("Noise range", "Data", "Recipe and seed", "Quality", "Limits", "Licence"):
        assert f"\n## {heading}\n" in card
    assert "2 pictures (p0.png, p1.png)" in card
    assert "| seed | 7 |" in card
    with Path(report["log"]).open(newline="") as stream:
        assert [row["step"] for row in csv.DictReader(stream)] == ["3"]
    with Image.open(report["curve"]) as curve:
        assert curve.format == "PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine.card.md", "mine.log.csv", "mine.loss.png", "mine.safetensors", "photos",
    ]  # fmt: skip


@pytest.mark.parametrize(("task", "architecture"), [("colour", "ColourNet"), ("gray", "CDLNet")])
def test_every_task_can_be_ordered(photos: Path, tmp_path: Path, task: str, architecture: str) -> None:
    out = tmp_path / "n.safetensors"
    code, stdout, stderr = cli("--pictures", photos, "-o", out, "--task", task, "--steps", 1, *QUICK)
    assert code == 0, stderr
    assert "n.safetensors" in stdout
    assert load_network(out).architecture == architecture


def test_one_camera_alone(photos: Path, tmp_path: Path) -> None:
    profile, out = tmp_path / "c.pnoise.json", tmp_path / "n.safetensors"
    profile.write_text(profile_to_json(camera()))

    code, _, stderr = cli("--pictures", photos, "-o", out, "--profile", profile, "--steps", 1, *QUICK)

    assert code == 0, stderr
    assert load_network(out).about["noise_range"] == "Test One, ISO 800 to 1600"
    task = Order(camera=camera()).build(Pictures.read([photos], smallest_side=32))
    assert isinstance(task, MosaicTask)
    assert task.fixed is not None
    drawn = task.fixed.draw(50, generator=torch.Generator().manual_seed(0))
    assert 800 <= float(drawn.iso.min()) < float(drawn.iso.max()) <= 1600
    assert Order(size="large").build(Pictures.read([photos], smallest_side=32)).fixed is None


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--pictures", "absent", "-o", "n.safetensors"), 3, "absent is no folder"),
        (("--pictures", "photos", "-o", "n.pt"), 3, "end in .safetensors"),
        (("--pictures", "photos", "-o", "n.safetensors", "--patch", 64), 3, "none with sides of 64 pixels"),
        (("--pictures", "photos", "-o", "n.safetensors", "--patch", 33), 3, "even side"),
        (("--pictures", "photos", "-o", "n.safetensors", "--budget", "soon"), 2, "'soon' is no duration"),
        (("--pictures", "photos", "-o", "n.safetensors", "--learning-rate", -1), 2, "positive learning_rate"),
        (("--pictures", "photos", "-o", "n.safetensors", "--device", "cuda:99"), 3, "no device 'cuda:99'"),
        (("--pictures", "photos", "-o", "n.safetensors", "--profile", "absent.json"), 3, "absent.json"),
        (("--pictures", "photos", "-o", "n.safetensors", "--resume"), 3, "no unfinished training"),
        (("--pictures", "photos", "-o", "mine.safetensors"), 3, "exists"),
    ],
    ids=lambda value: " ".join(map(str, value[4:])) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_done_is_said(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.safetensors").write_bytes(b"precious")
    before = sorted(path.name for path in tmp_path.iterdir())

    given, _, stderr = cli(*arguments)

    assert (given, words in stderr) == (code, True), stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "mine.safetensors").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": "colour"}, "the task 'colour' knows none"),
        ({"camera": camera("M", ("M",))}, "sees no colours"),
        ({"task": "poem"}, "Tasks are mosaic, colour, gray"),
        ({"batch": 0}, "one patch or more"),
    ],
    ids=["camera for colour", "mono camera", "unknown task", "no patch"],
)
def test_orders_that_cannot_be(change: dict[str, object], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        Order(**{"camera": camera(), **change})  # type: ignore[arg-type]


def test_a_stopped_training_goes_on_and_ends_as_if_never_stopped(photos: Path, tmp_path: Path) -> None:
    order, recipe = Order(patch=32, batch=1), Recipe(steps=4, log_every=2)
    whole = produce(order, recipe, [photos], tmp_path / "a.safetensors")
    asked = iter([False, True])
    part = produce(order, recipe, [photos], tmp_path / "b.safetensors", stop=lambda: next(asked))
    assert (part.finished, part.steps, part.loss) == (False, 2, None)
    assert not (tmp_path / "b.safetensors").exists()

    with pytest.raises(OutputExists, match=r"unfinished training\. Resume it"):
        produce(order, recipe, [photos], tmp_path / "b.safetensors")
    for changed_order, changed_recipe, words in (
        (Order(patch=32, batch=2), recipe, "order differ"),
        (order, Recipe(steps=4, log_every=2, seed=1), "recipe differ"),
        (replace(order, start=MosaicNet(MosaicNetConfig(channels=(4, 6)))), recipe, "order differ"),
    ):
        with pytest.raises(TrainingError, match=words):
            produce(changed_order, changed_recipe, [photos], tmp_path / "b.safetensors", resume=True)
    (photos / "p0.png").rename(tmp_path / "p0.png")
    with pytest.raises(TrainingError, match="scenes differ"):
        produce(order, recipe, [photos], tmp_path / "b.safetensors", resume=True)
    (tmp_path / "p0.png").rename(photos / "p0.png")

    done = produce(order, recipe, [photos], tmp_path / "b.safetensors", resume=True)

    assert (done.finished, done.steps, done.loss) == (True, 4, whole.loss)
    assert not done.files.unfinished.exists()
    first, second = (load_network(tmp_path / name).network.state_dict() for name in ("a.safetensors", "b.safetensors"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_training_can_begin_with_a_trained_network(photos: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert cli("--pictures", photos, "-o", first, "--steps", 2, *QUICK)[0] == 0
    # So slow that it stays where it began, within what float16 can tell.
    still = ("--steps", 1, "--learning-rate", 1e-9, "--optimiser", "muon")

    code, stdout, stderr = cli("--pictures", photos, "-o", second, "--from", first, *still, *QUICK, "--json")

    assert code == 0, stderr
    report = json.loads(stdout)
    assert report["loss"] == pytest.approx(report["loss_at_start"], rel=1e-3)
    states = [load_network(path).network.state_dict() for path in (first, second)]
    assert all(torch.allclose(value, states[1][name], atol=1e-4) for name, value in states[0].items())
    assert "begun with" in second.with_suffix(".card.md").read_text(encoding="utf-8")
    # Planted: the same, begun with nothing, is elsewhere.
    assert cli("--pictures", photos, "-o", second, "--overwrite", "--seed", 5, *still, *QUICK)[0] == 0
    other = load_network(second).network.state_dict()
    assert max(float((value - other[name]).abs().max()) for name, value in states[0].items()) > 0.01


def test_starts_that_cannot_be(photos: Path, tmp_path: Path) -> None:
    begun = ("--pictures", photos, "-o", tmp_path / "n.safetensors", *QUICK)
    code, _, stderr = cli(*begun, "--from", "mosaic-small", "--size", "large")
    assert (code, "Leave out --size" in stderr) == (2, True)
    code, _, stderr = cli(*begun, "--from", "lidia-gray")
    assert (code, "trains a MosaicNet; the start is a LIDIA" in stderr) == (3, True)
    code, _, stderr = cli(*begun, "--from", tmp_path / "none.safetensors")
    assert (code, "cannot be read" in stderr) == (3, True)


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_learned(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "n.safetensors"
    arguments = ["train", "--pictures", str(photos), "-o", str(out), "--steps", "1000000", *map(str, QUICK)]
    running = subprocess.Popen(
        [sys.executable, "-c", "from physrestore.cli import main; main()", *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
    )
    log = tmp_path / "n.training" / "log.csv"
    deadline = time.monotonic() + 240
    while not log.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)

    assert running.returncode == 130, stderr
    assert "--resume" in stderr
    assert (tmp_path / "n.training" / "checkpoint.safetensors").is_file()
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_leave_one_result(photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    command += [sys.executable, "-c", "from physrestore.cli import main; main()", "train", "--pictures", str(photos)]
    command += ["-o", str(tmp_path / "n.safetensors"), "--steps", "2", "--json", *map(str, QUICK)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=540)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 2  # one object: one process speaks
    assert load_network(tmp_path / "n.safetensors").architecture == "MosaicNet"


def test_several_folders_follow_one_option() -> None:
    given = ["train", "--pictures", "a", "b", "-o", "n"]
    assert spread_path_lists(given, command.PATH_LISTS) == ["train", "--pictures", "a", "--pictures", "b", "-o", "n"]


@pytest.mark.parametrize(("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("0.5m", 30)])
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "5d", "2 h", "-1h", "1h30", "soon"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        seconds_of(text)


def test_a_log_without_rows_has_no_curve(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,progress,loss,rate,seconds\n")
    with pytest.raises(TrainingError, match="has no rows"):
        write_curve(tmp_path / "log.csv", tmp_path / "log.png")
    assert not (tmp_path / "log.png").exists()


def test_a_card_says_everything_once() -> None:
    card = Card(
        title="T", purpose="P", noise_range="N", data="D.", recipe={"seed": 3}, quality="Q.", limits=("L1.", "L2."),
        licence="CC0-1.0",
    ).markdown()  # fmt: skip
    assert card.count("## ") == 6
    assert card.startswith("# T\n\nP.\n")
    assert "- L1.\n- L2.\n" in card
