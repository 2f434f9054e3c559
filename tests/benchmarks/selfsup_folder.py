"""A folder of noisy raws and nothing else: what a blind spot learns, and what the calibrated noise adds to it.

Sixteen Bayer frames of one virtual camera (pictures of the BSD training set and procedural scenes), and four that no
training sees. All networks are of one size and see the same number of crops. Rivals: the same network with clean
targets; with a Gaussian noise of one level, estimated from each frame; on rows with noise, a four-sided blind spot
that knows of no rows. Then: how true the 90 % intervals are, by colour and brightness; risk by declared confidence; and
what becomes of wrong profiles.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.frame import RawFrame
from noise_models.published import published_profiles
from noise_models.scene.still_life import procedural_scene
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from noise_models.simulate import VirtualCamera
from physrestore.pictures import read_linear
from physrestore.quality import psnr
from physrestore.selfsup.blind_spot import BlindSpotConfig, BlindSpotModel, Prediction
from physrestore.selfsup.blind_spot_data import Observed
from physrestore.selfsup.blind_spot_restore import BlindSpotResult, restore_blind_spot
from physrestore.selfsup.folder import (
    FolderTraining,
    blind_spot_loss,
    fit,
    fresh_model,
    hide_held_out,
    observe,
    train_folder,
)
from physrestore.selfsup.posterior import Evidence, nll, posterior
from physrestore.selfsup.posterior_spread import SpreadCorrection
from tests.shared_data import data_folder

FRAMES, UNSEEN, SIDE = 16, 4, 192
# The virtual camera: electrons at white, read noise and, in the second part, row noise [e-].
FULL_SCALE, READ, ROW = 60.0, 2.0, 2.5
BLACK, WHITE = 512.0, 16383.0
TRAINING = FolderTraining(steps=1200, batch=4, crop=48, learning_rate=3e-3)
WIDTH = 12
NORMAL_90 = 1.6449
TONES = 4
KEPT = (0.1, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Folder:
    """Frames of one camera with their truth, (1, 1, H, W) linear light."""

    frames: list[RawFrame]
    truths: list[Tensor]
    noise: SensorNoise


def noise_of(*, gain: float = 1.0, row: float = 0.0, read: float = READ) -> SensorNoise:
    """The camera's noise, or a wrong one with another gain."""
    dn = (WHITE - BLACK) / FULL_SCALE
    plane = PlaneNoise(
        gain=Estimate(value=gain * dn),
        read_noise_dn=Estimate(value=read * dn),
        black_level_dn=Estimate(value=BLACK),
    )
    return SensorNoise(
        iso=3200.0, planes=dict.fromkeys(("R", "G1", "G2", "B"), plane), row_noise_dn=Estimate(value=row * dn)
    )


def scenes() -> list[Tensor]:
    """Twenty scenes: every fifth is procedural, the others are photographs."""
    files = sorted((data_folder() / "sets" / "cbsd432_train").glob("*.jpg"))
    pictures = [read_linear(file)[:, :SIDE, :SIDE] for file in files[:: len(files) // 16][:16]]
    made = [procedural_scene(SIDE, SIDE, seed=k).clamp(0.0, 1.0) for k in range(4)]
    return [made[k // 5] if k % 5 == 4 else pictures[k - k // 5] for k in range(FRAMES + UNSEEN)]


def shoot(noise: SensorNoise, pictures: list[Tensor]) -> Folder:
    """Photograph every scene once."""
    camera = VirtualCamera(noise, cfa=Cfa.parse("RGGB"), shape=(SIDE, SIDE), white_level=WHITE)
    frames, truths = [], []
    for k, scene in enumerate(pictures):
        frames.append(camera.expose(scene, generator=torch.Generator().manual_seed(k)))
        truths.append((torch.from_numpy(camera.clean(scene)) - BLACK)[None, None] / (WHITE - BLACK))
    return Folder(frames, truths, noise)


def calibrated(folder: Folder, *, told: SensorNoise | None = None, own_row: bool = False) -> BlindSpotModel:
    """Blind spot with the calibrated likelihood (or with a profile that is ``told`` instead)."""
    noise = folder.noise if told is None else told
    return train_folder(
        folder.frames[:FRAMES],
        [noise] * FRAMES,
        config=BlindSpotConfig(own_row=own_row, width=WIDTH),
        training=TRAINING,
        generator=torch.Generator().manual_seed(0),
    )


def clean_targets(folder: Folder) -> BlindSpotModel:
    """The same network told the truth: it learns the law of the light given its surroundings."""

    def loss(prediction: Prediction, observed: Observed) -> Tensor:
        truth = observed.planes[:, -1:]
        exact = Evidence(truth, torch.zeros_like(truth), prediction.evidence.known, torch.zeros_like(truth))
        return nll(prediction.mean, prediction.variance, exact).mean()

    return _fit(folder, loss, extra=folder.truths)


def estimated_gaussian(folder: Folder) -> BlindSpotModel:
    """The same network under a Gaussian noise of one level a frame; its input stays the calibrated root."""
    levels = [
        torch.full_like(truth, level) for truth, level in zip(folder.truths, gaussian_levels(folder), strict=True)
    ]

    def loss(prediction: Prediction, observed: Observed) -> Tensor:
        old = prediction.evidence
        constant = Evidence(old.light, observed.planes[:, -1:], old.known, old.censored)
        return blind_spot_loss(replace(prediction, evidence=constant), observed)

    return _fit(folder, loss, extra=levels)


def gaussian_levels(folder: Folder) -> list[float]:
    """Noise variance of each frame by the median deviation of diagonal differences of one colour (no calibration)."""
    found = []
    for frame in folder.frames:
        x = frame.linear()[0, 0]
        wave = (x[:-2, :-2] - x[2:, :-2] - x[:-2, 2:] + x[2:, 2:]) / 2.0
        found.append((float(wave.abs().median()) / 0.6745) ** 2)
    return found


def _fit(folder: Folder, loss: Callable[[Prediction, Observed], Tensor], *, extra: list[Tensor]) -> BlindSpotModel:
    config = BlindSpotConfig(own_row=False, width=WIDTH)
    generator = torch.Generator().manual_seed(0)
    model = fresh_model(config, generator=generator)
    seen = []
    for k, frame in enumerate(folder.frames[:FRAMES]):
        one = hide_held_out(observe(config, frame, folder.noise), seed=k)
        seen.append(Observed(torch.cat([one.planes, extra[k]], 1), one.cfa))
    return fit(model, seen, loss=loss, training=TRAINING, generator=generator)


Restorer = Callable[[RawFrame, int], Tensor]


def score(folder: Folder, restorer: Restorer) -> tuple[float, float]:
    """Mean PSNR [dB] of linear mosaics over the folder's own frames and over the unseen ones."""
    each = [
        psnr(restorer(frame, k), truth[0, 0])
        for k, (frame, truth) in enumerate(zip(folder.frames, folder.truths, strict=True))
    ]
    return float(np.mean(each[:FRAMES])), float(np.mean(each[FRAMES:]))


def by_posterior(model: BlindSpotModel, noise: SensorNoise, *, few_electrons: bool = False) -> Restorer:
    """Restore as users do, with the exact law of dark sites or without."""
    return lambda frame, _: restore_blind_spot(frame, noise, model, few_electrons=few_electrons).mosaic


def by_gaussian(model: BlindSpotModel, folder: Folder) -> Restorer:
    """Posterior mean under the estimated Gaussian noise."""
    levels = gaussian_levels(folder)

    def restore(frame: RawFrame, index: int) -> Tensor:
        observed = observe(model.config, frame, folder.noise)
        with torch.no_grad():
            prediction = model(observed)
        old, noise = prediction.evidence, torch.full_like(prediction.mean, levels[index])
        error = old.light - prediction.mean
        correction = SpreadCorrection.fit(error, prediction.variance, noise, observed.measured)
        variance = correction.apply(prediction.variance, noise)
        return posterior(prediction.mean, variance, replace(old, noise=noise)).mean[0, 0]

    return restore


def print_score(name: str, folder: Folder, restorer: Restorer, seconds: float) -> None:
    """One row of the first table."""
    own, unseen = score(folder, restorer)
    print(f"{name:44}{own:8.2f}{unseen:10.2f}{seconds:10.0f}", flush=True)


def print_intervals(folder: Folder, results: list[BlindSpotResult]) -> None:
    """Coverage of 90 % intervals by colour and brightness of the truth, and risk by declared confidence."""
    truth = torch.stack([t[0, 0] for t in folder.truths[: len(results)]])
    mean, std = torch.stack([r.mosaic for r in results]), torch.stack([r.std for r in results])
    inside = (truth - mean).abs() < NORMAL_90 * std
    colour = torch.tensor([[0, 1], [1, 2]]).repeat(SIDE // 2, SIDE // 2).expand_as(truth)
    print("90 % intervals hold (by quarters of the predicted light, dark to bright)")
    for k, letter in enumerate("RGB"):
        mine = colour == k
        place = torch.bucketize(mean, torch.quantile(mean[mine][::7], torch.linspace(0, 1, TONES + 1)[1:-1]))
        shares = [float(inside[mine & (place == tone)].double().mean()) for tone in range(TONES)]
        print(f"  {letter}  " + "".join(f"{100 * share:7.1f}" for share in shares))
    squares = (truth - mean).double().square().flatten()
    order = std.flatten().argsort()
    risks = [float(squares[order[: int(share * len(order))]].mean().sqrt()) for share in KEPT]
    told = (f"{100 * share:.0f} %: {risk:.5f}" for share, risk in zip(KEPT, risks, strict=True))
    print("rms error of the surest share: " + ", ".join(told))


def print_wrong_profiles(folder: Folder, model: BlindSpotModel) -> None:
    """Restoring with a wrong profile: is it said, and what does it cost?"""
    other = next(p for p in published_profiles() if "R" in p.entries[0].planes)
    foreign = other.at(other.isos[len(other.isos) // 2])
    cases = {
        "right profile": folder.noise,
        "gain x 2": noise_of(gain=2.0),
        "gain / 2": noise_of(gain=0.5),
        "read noise x 3": noise_of(read=3 * READ),
        "read noise of 0.3": noise_of(read=0.1 * READ),
        f"{other.model}, ISO {foreign.setting:g}": foreign,
    }
    print(f"{'told':32}{'PSNR':>8}{'reported in':>14}   noise seen / told: level, bound")
    for name, told in cases.items():
        results = [restore_blind_spot(f, told, model, few_electrons=False) for f in folder.frames[:FRAMES]]
        quality = np.mean([psnr(r.mosaic, t[0, 0]) for r, t in zip(results, folder.truths, strict=False)])
        reported = sum(bool(r.z.wrong) for r in results)
        middle = ", ".join(f"{np.median([getattr(r.z, q).value for r in results]):.2f}" for q in ("level", "bound"))
        print(f"{name:32}{quality:8.2f}{reported:8d} of {FRAMES}   {middle}", flush=True)


def timed(train: Callable[[], BlindSpotModel]) -> tuple[BlindSpotModel, float]:
    """A model and the processor time of its training [s]."""
    start = time.process_time()
    return train(), time.process_time() - start


def run() -> None:
    """Print the tables; one thread."""
    if not (data_folder() / "sets" / "cbsd432_train").exists():
        print("selfsup folder: no pictures (set PHYSRESTORE_TEST_DATA)")
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pictures = scenes()
    quiet = shoot(noise_of(), pictures)
    print(f"{'PSNR of linear mosaics [dB]':44}{'folder':>8}{'unseen':>10}{'CPU-s':>10}")
    print_score("noisy", quiet, lambda frame, _: frame.linear()[0, 0], 0)
    told, seconds = timed(lambda: clean_targets(quiet))
    print_score("clean targets", quiet, by_posterior(told, quiet.noise), seconds)
    model, seconds = timed(lambda: calibrated(quiet))
    print_score("noisy frames, calibrated likelihood", quiet, by_posterior(model, quiet.noise), seconds)
    gauss, seconds = timed(lambda: estimated_gaussian(quiet))
    print_score("noisy frames, estimated Gaussian", quiet, by_gaussian(gauss, quiet), seconds)
    striped = shoot(noise_of(row=ROW), pictures)
    print_score("rows: noisy", striped, lambda frame, _: frame.linear()[0, 0], 0)
    naive_noise = noise_of(read=float(np.hypot(READ, ROW)))
    naive, seconds = timed(lambda: calibrated(striped, told=naive_noise, own_row=True))
    print_score("rows: naive blind spot", striped, by_posterior(naive, naive_noise), seconds)
    rows, seconds = timed(lambda: calibrated(striped))
    print_score("rows: own row hidden, row posterior", striped, by_posterior(rows, striped.noise), seconds)
    print_intervals(quiet, [restore_blind_spot(f, quiet.noise, model) for f in quiet.frames])
    print_wrong_profiles(quiet, model)
    torch.set_num_threads(threads)


if __name__ == "__main__":
    run()
