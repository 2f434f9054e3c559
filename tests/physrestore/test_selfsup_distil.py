"""Distillation: a student that has seen neither truth nor noise-free data comes near its teacher, or above it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noise_models.cfa import Cfa
from physrestore.demosaic import demosaic
from physrestore.operators.mosaic import Mosaic
from physrestore.selfsup.distil import DistilSettings, Lesson, distil, with_pixel_noise
from physrestore.selfsup.losses.pixel_noise import PixelNoise

SIGMA = 0.1
NOISE = PixelNoise.of(sigma=SIGMA)
QUICK = DistilSettings(steps=120, crop=32, batch=4, learning_rate=0.05)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Mix(nn.Module):
    """``keep y + (1 - keep) (mean of the eight neighbours)``."""

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = nn.Parameter(torch.tensor(keep))

    def forward(self, y: Tensor, std: Tensor) -> Tensor:
        kernel = torch.ones(1, 1, 3, 3)
        kernel[..., 1, 1] = 0.0
        return self.keep * y + (1 - self.keep) * F.conv2d(F.pad(y, (1, 1, 1, 1), mode="reflect"), kernel / 8)


def picture(side: int = 96) -> Tensor:
    t = torch.linspace(0, 6, side)
    return (0.5 + 0.2 * torch.sin(t)[:, None] * torch.cos(t))[None, None]


def lesson(seed: int, weights: Tensor | None = None) -> tuple[Lesson, Tensor]:
    """A blind-spot teacher: the neighbours' mean, which never looks at the own pixel; and the truth."""
    x = picture()
    y = x + SIGMA * torch.randn(x.shape, generator=drawn(seed))
    with torch.no_grad():
        teacher = Mix(0.0)(y, y)
    return Lesson(y, torch.tensor(SIGMA), teacher, weights), x


def test_real_pairs_alone_teach_the_blindness_too_renoised_pairs_do_not() -> None:
    """The teacher's mean of neighbours is what a mix with keep 0 returns; renoised pairs ask for more.

    They hold the teacher's image for the truth, whose detail (the noise that the teacher left, less its mean over
    neighbours) has s times the variance of the noise. Least squares: keep (9/8 + s) = 1/8 + s.
    """
    one, _ = lesson(0)
    neighbours = torch.ones(1, 1, 3, 3) / 8
    neighbours[..., 1, 1] = 0.0
    detail = F.pad(neighbours, (1, 1, 1, 1)) - F.conv2d(F.pad(neighbours, (2, 2, 2, 2)), neighbours)
    s = detail.square().sum().item()

    def keep(settings: DistilSettings) -> float:
        student = Mix(0.5)
        distil([one], student, renoise=with_pixel_noise(NOISE), generator=drawn(1), settings=settings)
        return student.keep.item()

    assert keep(replace(QUICK, renoised=0.0)) == pytest.approx(0.0, abs=0.03)
    assert keep(replace(QUICK, renoised=1000.0)) == pytest.approx((1 / 8 + s) / (9 / 8 + s), abs=0.03)


def test_the_student_beats_its_blind_teacher() -> None:
    one, x = lesson(0)
    student = Mix(0.5)

    result = distil([one], student, renoise=with_pixel_noise(NOISE), generator=drawn(1), settings=QUICK)

    fresh, truth = lesson(7)
    with torch.no_grad():
        errors = [(image - truth).square().mean().item() for image in (student(fresh.y, fresh.std), fresh.estimate)]
    assert result.network is student
    assert not student.training
    assert len(result.losses) == QUICK.steps
    assert sum(result.losses[-10:]) < sum(result.losses[:10])
    assert errors[0] < errors[1]
    assert torch.equal(x, truth)


def test_places_that_the_teacher_does_not_know_teach_nothing() -> None:
    weights = torch.ones(1, 1, 96, 96)
    weights[..., 40:] = 0.0
    plain, _ = lesson(0, weights)
    wrong = plain.estimate.clone()
    wrong[..., 40:] = 50.0
    hurt = Lesson(plain.y, plain.std, wrong, weights)
    settings = replace(QUICK, renoised=0.0, steps=20)

    students = [Mix(0.5) for _ in range(2)]
    for student, one in zip(students, (plain, hurt), strict=True):
        distil([one], student, renoise=with_pixel_noise(NOISE), generator=drawn(1), settings=settings)

    assert students[0].keep.item() == students[1].keep.item()


def test_mosaics_are_taught_from_images() -> None:
    """The teacher's image is RGB, the measurement a mosaic: new measurements are taken through the array."""
    cfa = Cfa.parse("RGGB")
    operator = Mosaic(cfa)
    rgb = picture().expand(1, 3, -1, -1) * torch.tensor([0.5, 1.0, 0.7]).reshape(1, 3, 1, 1)
    y = operator.A(rgb) + 0.02 * torch.randn(1, 1, 96, 96, generator=drawn())

    class Gains(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gains = nn.Parameter(torch.full((1, 3, 1, 1), 0.8))

        def forward(self, mosaic: Tensor, std: Tensor) -> Tensor:
            return self.gains * demosaic(mosaic, cfa)

    student = Gains()
    distil(
        [Lesson(y, torch.tensor(0.02), demosaic(y, cfa))],
        student,
        renoise=with_pixel_noise(PixelNoise.of(sigma=0.02), measure=operator.A),
        generator=drawn(2),
        settings=replace(QUICK, steps=40),
    )

    assert student.gains.flatten().tolist() == pytest.approx([1.0, 1.0, 1.0], abs=0.02)


def test_time_ends_the_lessons() -> None:
    seconds = iter(range(1000))
    settings = replace(QUICK, budget_s=5.0)

    result = distil(
        [lesson(0)[0]],
        Mix(0.5),
        renoise=with_pixel_noise(NOISE),
        generator=drawn(),
        settings=settings,
        clock=lambda: float(next(seconds)),
    )

    assert 0 < len(result.losses) < 6


def test_refusals() -> None:
    one, _ = lesson(0)
    with pytest.raises(ValueError, match="no lesson"):
        distil([], Mix(0.5), renoise=with_pixel_noise(NOISE), generator=drawn())
    with pytest.raises(ValueError, match="smaller than windows"):
        distil([one], Mix(0.5), renoise=with_pixel_noise(NOISE), generator=drawn(), settings=DistilSettings(crop=128))
    with pytest.raises(ValueError, match="same size"):
        Lesson(one.y, one.std, one.estimate[..., :50])
    with pytest.raises(ValueError, match="at least 1"):
        DistilSettings(steps=0)
