"""A blind-spot teacher of a folder, its student, and the shipped network that the student started from.

Sixteen noisy frames of one virtual camera, and four that no training sees: the photographs of the part "folder", or one
subject over and over (a weave at the finest period that the array resolves). PSNR of linear mosaics, processor time per
megapixel, and the verdicts that are given without the truth.

--subject photos or weave, --network (start of the student), --teacher-steps, --student-steps choose.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from noise_models.frame import RawFrame
from physrestore import weights
from physrestore.fast import restore_fast
from physrestore.networks.mosaic_net import MosaicNet
from physrestore.quality import psnr
from physrestore.selfsup.blind_spot import BlindSpotConfig
from physrestore.selfsup.blind_spot_restore import restore_blind_spot
from physrestore.selfsup.distil import DistilSettings
from physrestore.selfsup.distil_files import distil_squares
from physrestore.selfsup.folder import blind_spot_loss, fit, fresh_model, hide_held_out
from physrestore.selfsup.light_gate import LightSquare, compare_in_light
from physrestore.working_space import one_hot
from tests.benchmarks.selfsup_adapt import weave
from tests.benchmarks.selfsup_folder import FRAMES, SIDE, TRAINING, UNSEEN, WIDTH, Folder, noise_of, scenes, shoot
from tests.shared_data import data_folder

Restorer = Callable[[RawFrame], Tensor]


def run(arguments: list[str]) -> None:
    """Print the table; one thread."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks selfsup --part distil")
    parser.add_argument("--subject", choices=("photos", "weave"), default="photos")
    parser.add_argument("--network", default="mosaic-large")
    parser.add_argument("--teacher-steps", type=int, default=TRAINING.steps)
    parser.add_argument("--student-steps", type=int, default=200)
    options = parser.parse_args(arguments)
    if not (data_folder() / "sets" / "cbsd432_train").exists():
        print("selfsup distil: no pictures (set PHYSRESTORE_TEST_DATA)")
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = shoot(noise_of(), scenes() if options.subject == "photos" else weaves())
    shipped = weights.load(options.network).network
    assert isinstance(shipped, MosaicNet)
    print(f"{'PSNR of linear mosaics [dB]':34}{'folder':>8}{'unseen':>8}{'CPU-s':>8}{'CPU-s/MP':>10}")
    print_row("noisy", folder, lambda frame: frame.linear()[0, 0], 0.0)
    print_row(f"{options.network} as shipped", folder, by_network(shipped, folder), 0.0)
    generator = torch.Generator().manual_seed(0)
    squares = [
        replace(one, observed=hide_held_out(one.observed, seed=k))
        for k, one in enumerate(LightSquare.of_frame(frame, folder.noise) for frame in folder.frames[:FRAMES])
    ]
    begin = time.process_time()
    teacher = fit(
        fresh_model(BlindSpotConfig(width=WIDTH), generator=generator),
        [one.observed for one in squares],
        loss=blind_spot_loss,
        training=replace(TRAINING, steps=options.teacher_steps),
        generator=generator,
    )
    spent = time.process_time() - begin
    print_row("blind-spot teacher", folder, lambda f: restore_blind_spot(f, folder.noise, teacher).mosaic, spent)
    print(compare_in_light(teacher, shipped, squares, generator=generator).sentence, flush=True)
    begin = time.process_time()
    student = distil_squares(
        teacher, squares, start=shipped, generator=generator, settings=DistilSettings(steps=options.student_steps)
    )
    spent = time.process_time() - begin
    print_row("student", folder, by_network(student.network, folder), spent)
    print(f"{'accepted' if student.accepted else 'refused'}: {student.verdict}")
    torch.set_num_threads(threads)


def weaves() -> list[Tensor]:
    """Pieces of one cloth."""
    cloth = weave(3 * SIDE)
    corners = torch.randint(2 * SIDE, (FRAMES + UNSEEN, 2), generator=torch.Generator().manual_seed(1)).tolist()
    return [cloth[:, top : top + SIDE, left : left + SIDE] for top, left in corners]


def by_network(network: MosaicNet, folder: Folder) -> Restorer:
    """The method fast, at the measured sites."""

    def restore(frame: RawFrame) -> Tensor:
        colours = one_hot(frame.cfa, *frame.shape)[0]
        return (restore_fast(frame, folder.noise, network=network).rgb * colours).sum(0)

    return restore


def print_row(name: str, folder: Folder, restorer: Restorer, seconds: float) -> None:
    """Quality on the folder and on unseen frames, time of the training and of the restoring."""
    begin = time.process_time()
    each = [psnr(restorer(frame), truth[0, 0]) for frame, truth in zip(folder.frames, folder.truths, strict=True)]
    cost = (time.process_time() - begin) / (sum(frame.mosaic.size for frame in folder.frames) / 1e6)
    own, unseen = float(np.mean(each[:FRAMES])), float(np.mean(each[FRAMES:]))
    print(f"{name:34}{own:8.2f}{unseen:8.2f}{seconds:8.0f}{cost:10.1f}", flush=True)
