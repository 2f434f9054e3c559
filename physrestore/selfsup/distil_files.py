"""A blind-spot teacher's knowledge in a network for mosaics, which restores photos in one pass at its usual speed.

The student starts as the shipped network. Where a site measured, it learns the teacher's posterior mean; the colours
between, of which a teacher knows nothing, it learns to leave as they are. Squares that no lesson shows decide whether
it became better than the network it started from.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from physrestore.networks.mosaic_net import MosaicNet, check_array
from physrestore.pnp.defects import repair_defects
from physrestore.selfsup.adapt_files import write_judged
from physrestore.selfsup.blind_spot import BlindSpotModel
from physrestore.selfsup.blind_spot_restore import light_posterior
from physrestore.selfsup.crops import NoisyImage, window_side, windows
from physrestore.selfsup.distil import DistilSettings, Lesson, distil
from physrestore.selfsup.held_out_gate import HeldOutGate, Role, Verdict
from physrestore.selfsup.light_gate import LightSquare
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from physrestore.selfsup.losses.stein import Stein
from physrestore.selfsup.tasks import Demosaicking
from physrestore.working_space import one_hot, working_value

# Share of the squares that no lesson shows.
JUDGED = 0.25
# Windows a call of the networks that are judged.
BATCH = 4
# Of the budget, for the verdict; the teacher's images are made before.
VERDICT_SHARE = 0.15


@dataclass(frozen=True, eq=False)
class Student:
    """What became of the lessons.

    Attributes:
        network: The student.
        verdict: The student against the network that it started from, on squares that no lesson showed.
        steps: Of its training.
        seconds: Wall time.
    """

    network: MosaicNet
    verdict: Verdict
    steps: int
    seconds: float

    @property
    def accepted(self) -> bool:
        """Whether it is clearly better than what it started from."""
        return self.verdict.better


def distil_squares(
    teacher: BlindSpotModel,
    squares: Sequence[LightSquare],
    *,
    start: MosaicNet,
    generator: torch.Generator,
    settings: DistilSettings,
    device: torch.device | str = "cpu",
    on_square: Callable[[int], None] | None = None,
) -> Student:
    """Teach a copy of a network for mosaics what a blind-spot teacher makes of squares of raw files.

    Args:
        teacher: From `physrestore.selfsup.blind_spot_files`.
        squares: Those it was trained on, or others; of a colour sensor, in one phase.
        start: What the student starts from; never changed.
        generator: Of all draws, on the CPU.
        settings: Of the lessons; windows are made to fit the array and the squares, the budget includes everything.
        device: Where the student learns; it stays there.
        on_square: Called with the number of squares that the teacher has worked on.

    Raises:
        ValueError: squares that are too small or too few for a verdict.
    """
    begin = time.monotonic()
    images, means = [], []
    for number, square in enumerate(squares):
        image, mean = _taught(teacher, square)
        images.append(image.to(device))
        means.append(mean.to(device))
        if on_square is not None:
            on_square(number + 1)
    cfa = squares[0].observed.cfa
    smallest = min(min(image.values.shape[-2:]) for image in images)
    side = window_side(min(settings.crop, smallest), cfa.period)
    gate = HeldOutGate(
        images,
        windows(images, side),
        side=side,
        judge=Stein(),
        shares=(0.0, JUDGED),
        batch=BATCH,
        generator=generator,
    )
    masks, start = [mask.to(device) for mask in gate.learn_masks()], copy.deepcopy(start).to(device)
    lessons = [_lesson(image, mean, start, mask) for image, mean, mask in zip(images, means, masks, strict=True)]
    if settings.budget_s is not None:
        left = settings.budget_s * (1.0 - VERDICT_SHARE) - (time.monotonic() - begin)
        settings = replace(settings, budget_s=max(left, 0.0))
    taught = distil(
        lessons,
        copy.deepcopy(start),
        generator=generator,
        settings=replace(settings, crop=side, align=cfa.period[0]),
        answer=_answer,
    )
    student = taught.network
    assert isinstance(student, MosaicNet)
    verdict = gate.compare(start, student, Demosaicking(cfa), Role.JUDGE)
    return Student(student, verdict, len(taught.losses), time.monotonic() - begin)


def write_student(
    path: Path, student: Student, *, used: Sequence[Path], start: str, licence: str, seed: int, overwrite: bool = False
) -> None:
    """Write a student, accepted or not, and its card; the weights come last.

    Args:
        path: Ends in ``.safetensors``.
        student: Of `distil_squares`.
        used: Files of the lessons.
        start: Name of the network that it started from.
        licence: Of the weights.
        seed: Of the lessons.
        overwrite: Replace files that exist.

    Raises:
        OutputExists: the file exists and ``overwrite`` is False.
        TrainingError: another ending.
    """
    write_judged(
        path,
        student.network,
        verdict=student.verdict,
        used=used,
        purpose=f"{start}, taught by a blind-spot network that saw nothing but noisy raw files of one photographer",
        recipe={"started from": start, "steps": student.steps, "seed": seed},
        licence=licence,
        overwrite=overwrite,
    )


def _taught(teacher: BlindSpotModel, square: LightSquare) -> tuple[NoisyImage, Tensor]:
    """A square as the student sees it, and the teacher's posterior mean in the same terms, (1, 1, H, W)."""
    observed, space = square.observed, square.space
    if space is None:
        raise ValueError("A monochrome sensor has nothing between its sites: its blind-spot network needs no student.")
    check_array(observed.cfa)
    colours = one_hot(observed.cfa, *observed.shape)
    black, std = ((level * colours[0]).sum(0)[None, None] for level in (space.black, space.scale))
    repaired = repair_defects(space.stabilise(square.steady[0, 0], observed.cfa), observed.cfa).mosaic
    values = space.balanced(repaired, observed.cfa)[None, None] - black
    image = NoisyImage(values, PixelNoise.of(sigma=std), observed.cfa, observed.measured.to(values), space.black)
    law = (space.gain[None], space.dark_noise.square()[None], space.balance[None])
    return image, working_value(light_posterior(teacher, observed).mean, law, colours) - black


def _lesson(image: NoisyImage, mean: Tensor, start: MosaicNet, mask: Tensor) -> Lesson:
    """The teacher's values where the site measured, the student's own first ones between."""
    assert image.cfa is not None
    assert image.weights is not None
    colours = one_hot(image.cfa, *mean.shape[-2:]).to(mean)
    spread = image.noise.sigma.to(mean) * colours
    task = Demosaicking(image.cfa, image.black)

    def between(picture: Tensor, y: Tensor, std: Tensor) -> Tensor:
        """The picture, with what the student first said of y in colours that were not measured."""
        with torch.no_grad():
            return torch.where(std > 0, picture, _answer(start, y, std))

    def anew(picture: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        # Windows lie in phase: the array seen from their corner is that of the square.
        rows, columns = picture.shape[-2:]
        std = spread[..., :rows, :columns]
        normal = torch.randn(picture.shape, generator=generator).to(picture)
        y = (task.mean_measurement(picture, std) + std * normal) * (std > 0)
        return y, std, between(picture, y, std)

    y = image.values * colours
    weights = (image.weights * mask).expand_as(colours)
    return Lesson(y, spread, between(mean.expand_as(colours), y, spread), weights, anew)


def _answer(student: nn.Module, y: Tensor, std: Tensor) -> Tensor:
    """Call a network for mosaics with values and stds that are spread over the colours they belong to."""
    image: Tensor = student(y.sum(1, keepdim=True), std.sum(1, keepdim=True), (std > 0).to(y))
    return image
