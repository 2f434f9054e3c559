"""Distillation: what a slow or blind teacher knows, taught to a plain network that answers in one pass."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from physrestore.selfsup.losses.pixel_noise import PixelNoise

# Clean image (B, C, H, W) and the generator of the draws, to a measurement of it and the std of its noise.
Renoise = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
# The same, and the image that is to be found again, where that is not the one given.
Anew = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor, Tensor]]
# Student, measurement and std of its noise, to the image in the teacher's terms.
Answer = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Lesson:
    """One picture and what the teacher makes of it.

    Attributes:
        y: Measurement, (1, C, H, W).
        std: Of its noise, broadcasts to ``y``.
        estimate: The teacher's posterior mean, (1, C', H, W).
        weights: Broadcasts to ``estimate``; 0 where the teacher knows nothing. None: all count.
        anew: Measures windows of the estimate, where pictures differ in their noise or the student is to answer
            something else; None: as `distil` is told.

    Raises:
        ValueError: a batch, or pictures of different sizes.
    """

    y: Tensor
    std: Tensor
    estimate: Tensor
    weights: Tensor | None = None
    anew: Anew | None = None

    def __post_init__(self) -> None:
        """Refuse what crops could not be cut from alike."""
        shapes = (tuple(self.y.shape), tuple(self.estimate.shape))
        if any(len(s) != 4 or s[0] != 1 for s in shapes) or shapes[0][2:] != shapes[1][2:]:
            raise ValueError(
                f"A lesson is (1, C, H, W) and an estimate of the same size, not {shapes[0]}, {shapes[1]}."
            )


@dataclass(frozen=True)
class DistilSettings:
    """How to teach.

    Attributes:
        steps: Most steps.
        budget_s: Most wall time [s]; None: no limit.
        crop: Side of the windows.
        align: Windows start at multiples of it: the period of a colour filter array.
        batch: Windows a step.
        learning_rate: Of Adam at the start, in a cosine to zero at the last step, or where the time ends.
        renoised: Weight of the pairs (teacher's image with new noise, teacher's image); that of the pairs (measurement,
            teacher's image) is 1. The first are free of the noise that the teacher left and of its blindness.

    Raises:
        ValueError: settings out of range.
    """

    steps: int = 1000
    budget_s: float | None = None
    crop: int = 96
    align: int = 2
    batch: int = 4
    learning_rate: float = 3e-4
    renoised: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that could not teach."""
        if min(self.steps, self.crop, self.align, self.batch) < 1 or not self.learning_rate > 0 or self.renoised < 0:
            raise ValueError(
                "steps, crop, align and batch must be at least 1, learning_rate positive and renoised not negative."
            )


@dataclass(frozen=True, eq=False)
class Distilled:
    """The student after its lessons.

    Attributes:
        network: The student that was given, trained in place.
        losses: Of every step, in units of the noise's variance.
        seconds: Wall time.
    """

    network: nn.Module
    losses: tuple[float, ...]
    seconds: float


def distil(
    lessons: Sequence[Lesson],
    student: nn.Module,
    *,
    renoise: Renoise | None = None,
    generator: torch.Generator,
    settings: DistilSettings | None = None,
    answer: Answer | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Distilled:
    """Teach a student what a teacher makes of noisy pictures.

    Two kinds of pairs: the real measurement with the teacher's image, and the teacher's image with noise drawn anew
    (by the calibrated law) with itself. The second show the student the pixels' own measurement, which a blind-spot
    teacher does not look at, and images whose truth is exactly known.

    Args:
        lessons: Pictures with the teacher's images.
        student: Trained in place.
        renoise: Draws measurements of the teacher's images; `with_pixel_noise`, or a `NoiseSampler`. None: every lesson
            has its own.
        generator: Of windows and noise, on the CPU.
        settings: As `DistilSettings`; None: its defaults.
        answer: How the student is called; None: ``student(y, std)``.
        clock: For the budget [s].

    Raises:
        ValueError: no lesson, one smaller than the windows, or one whose noise is not told.

    Source:
        Wu et al., "Unpaired learning of deep image denoising" (DBSN), ECCV 2020, section 3.4.
    """
    begin, settings = clock(), settings or DistilSettings()
    _check(lessons, settings, renoise)
    call = _with_std if answer is None else answer
    optimiser = torch.optim.Adam(student.parameters(), lr=settings.learning_rate)
    student.train()
    losses: list[float] = []
    for step in range(settings.steps):
        done = max(step / settings.steps, _share(clock() - begin, settings.budget_s))
        if done >= 1.0:
            break
        optimiser.param_groups[0]["lr"] = settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
        y, std, image, weights, fresh, fresh_std, again = _windows(lessons, settings, renoise, generator)
        loss = _error(call(student, y, std), image, std, weights)
        loss = loss + settings.renoised * _error(call(student, fresh, fresh_std), again, fresh_std, weights)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    student.eval()
    return Distilled(student, tuple(losses), clock() - begin)


def with_pixel_noise(noise: PixelNoise, *, measure: Callable[[Tensor], Tensor] | None = None) -> Renoise:
    """New measurements with normal noise of a known law.

    Args:
        noise: Constant over the image: windows come from anywhere.
        measure: Image to noise-free measurement (a colour filter array, say); None: they are the same.
    """

    def renoise(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mean = image if measure is None else measure(image)
        return mean + noise.draw(mean, generator=generator), noise.std(mean)

    return renoise


def _share(seconds: float, budget: float | None) -> float:
    """Of the budget, what is used."""
    if budget is None:
        return 0.0
    return seconds / budget if budget > 0 else 1.0


def _error(answer: Tensor, image: Tensor, std: Tensor, weights: Tensor) -> Tensor:
    """Mean squared difference in units of the mean variance of each window's noise."""
    variance = std.square().mean(dim=(1, 2, 3), keepdim=True)
    return ((answer - image).square() / variance * weights).sum() / weights.sum().clamp(min=1.0)


def _windows(
    lessons: Sequence[Lesson], settings: DistilSettings, renoise: Renoise | None, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """Of random windows: measurements, stds, teacher's images, weights; new measurements, stds, what they ask for."""
    parts: list[tuple[Tensor, ...]] = []
    for number in torch.randint(len(lessons), (settings.batch,), generator=generator).tolist():
        lesson = lessons[number]
        places = [(n - settings.crop) // settings.align + 1 for n in lesson.y.shape[-2:]]
        top, left = (int(torch.randint(n, (), generator=generator)) * settings.align for n in places)
        window = (..., slice(top, top + settings.crop), slice(left, left + settings.crop))
        weights = torch.ones_like(lesson.estimate) if lesson.weights is None else lesson.weights
        full = (lesson.y, lesson.std.expand(lesson.y.shape), lesson.estimate, weights.expand(lesson.estimate.shape))
        y, std, image, counted = (value[window] for value in full)
        fresh, fresh_std, again = _measured_anew(lesson, renoise, image, generator)
        parts.append((y, std, image, counted, fresh, fresh_std.expand(fresh.shape), again))
    return tuple(torch.cat(values).detach() for values in zip(*parts, strict=True))


def _measured_anew(
    lesson: Lesson, renoise: Renoise | None, image: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    if lesson.anew is not None:
        return lesson.anew(image, generator)
    assert renoise is not None  # checked before the first step
    return *renoise(image, generator), image


def _check(lessons: Sequence[Lesson], settings: DistilSettings, renoise: Renoise | None) -> None:
    if not lessons:
        raise ValueError("There is no lesson: give the teacher's images of some pictures.")
    for number, lesson in enumerate(lessons):
        if min(lesson.y.shape[-2:]) < settings.crop:
            raise ValueError(
                f"Lesson {number + 1} is {tuple(lesson.y.shape[-2:])}, smaller than windows of {settings.crop}. Use a "
                "smaller crop."
            )
        if lesson.anew is None and renoise is None:
            raise ValueError(f"The noise of lesson {number + 1} is not told. Give it anew, or renoise for all.")


def _with_std(student: nn.Module, y: Tensor, std: Tensor) -> Tensor:
    image: Tensor = student(y, std)
    return image
