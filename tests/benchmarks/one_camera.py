"""What a network gains from being made for one camera and one ISO, and what it loses if it learned the wrong noise.

The shipped small network is trained on for the same number of steps in three ways: for any camera, as it was made; for
one camera at one ISO; and for Gaussian noise that has the variance of that camera at every level of light, but no
tails, rows, pattern and rounding. All are told the true noise of the test pictures, which are those of the benchmark
priors with the whole noise of the camera.

--steps, --isos, --images; scenes are those of CBSD432.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from noise_models.profile import CameraProfile
from noise_models.published import published_profiles
from noise_models.sampling import ProfileLaw
from physrestore import weights
from physrestore.fast import restore_fast
from physrestore.networks.mosaic_net import MosaicNet
from physrestore.pipeline import sampled
from physrestore.training.fit import Task, fit
from physrestore.training.pictures import Pictures
from physrestore.training.recipe import Recipe
from physrestore.training.tasks.mosaic import MosaicTask
from physrestore.training.tasks.onward import Onward
from tests.benchmarks.priors import PICTURES, camera_rgb, score, shots
from tests.shared_data import data_folder

CAMERA = "ILCE-7SM2"
PATCH, BATCH, PEAK_RATE = 128, 4, 3e-4


def run(arguments: list[str]) -> None:
    """Train and print one row per network."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks one_camera")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--isos", type=float, nargs="+", default=[1600.0, 6400.0])
    parser.add_argument("--images", type=int, default=6)
    options = parser.parse_args(arguments)
    sets = data_folder() / "sets"
    if not (sets / "kodak24").exists():
        print("one_camera: no pictures (set PHYSRESTORE_TEST_DATA)")
        return
    torch.set_num_threads(1)
    scenes = Pictures.read([sets / "cbsd432_train"], smallest_side=PATCH)
    pictures = [Image.open(sets / "kodak24" / f"{name}.png") for name in PICTURES[: options.images]]
    truths = [camera_rgb(np.asarray(picture.convert("RGB"))) for picture in pictures]
    profile = next(p for p in published_profiles() if CAMERA in p.model)
    shipped = weights.load("mosaic-small").network
    assert isinstance(shipped, MosaicNet)
    print(f"{profile.model}, raw and developed PSNR [dB]; {options.steps} steps each")
    for iso in options.isos:
        law = ProfileLaw(profile, isos=[iso])
        any_camera = MosaicTask(scenes, network=shipped.config, side=PATCH, count=BATCH)
        tasks: dict[str, Task | None] = {
            "as shipped": None,
            "trained on, any camera": any_camera,
            "this camera and ISO": MosaicTask(scenes, network=shipped.config, side=PATCH, count=BATCH, fixed=law),
            "the same, Gaussian": MosaicTask(
                scenes, network=shipped.config, side=PATCH, count=BATCH, fixed=law, noise="gaussian"
            ),
        }
        for name, task in tasks.items():
            network = shipped if task is None else _trained(Onward(task, shipped), options.steps)
            raw, developed = _scores(network, profile, iso, truths)
            print(f"ISO {iso:6.0f}  {name:24}{raw:8.2f}{developed:8.2f}", flush=True)


def _trained(task: Task, steps: int) -> torch.nn.Module:
    recipe = Recipe(steps=steps, learning_rate=PEAK_RATE, optimiser="muon", precision="bfloat16", save_every=steps)
    with tempfile.TemporaryDirectory() as folder:
        return fit(task, recipe, Path(folder)).network


def _scores(
    network: torch.nn.Module, profile: CameraProfile, iso: float, truths: list[torch.Tensor]
) -> tuple[float, float]:
    rows = []
    for shot in shots([profile], iso, truths):
        result = restore_fast(shot.frame, shot.noise, network=network)
        raw, _, developed, _ = score(shot, (sampled(result.rgb, shot.frame), result.rgb))
        rows.append((raw, developed))
    raw, developed = np.mean(rows, axis=0)
    return float(raw), float(developed)
