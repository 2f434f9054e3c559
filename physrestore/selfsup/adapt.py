"""Adaptation: a copy of a network learns from one photo, a burst or a folder, and is kept only if it got better.

The verdict is without bias at what was measured. The colours between cannot be judged (`physrestore.selfsup.tasks`):
there the copy is held to the network it started from, and counts as worse by the square of what it changes. That is
right on average for changes that have nothing to do with the error that was there; changes that make this very error
larger could cost more.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from physrestore.selfsup.crops import Batch, NoisyImage, Place, contrast, cut, window_side, windows
from physrestore.selfsup.held_out_gate import HeldOutGate, Role, Verdict
from physrestore.selfsup.losses.base import Risk, SelfLoss
from physrestore.selfsup.losses.recorrupted import Recorrupted
from physrestore.selfsup.losses.stein import Stein
from physrestore.selfsup.tasks import Denoising, Task

# Windows looked at for contrast: 512 of 96x96 sites are 5 megapixels, some seconds; a folder holds far more.
MOST_CANDIDATES = 512


@dataclass(frozen=True)
class AdaptSettings:
    """How to adapt.

    Attributes:
        loss: What is minimised.
        judge: What stops and accepts. `Stein` judges the network as it is used; `Noise2Void` judges what it makes of
            masked pictures, and is the choice for networks that are used that way only.
        unseen: Weight of changes in colours that were not measured, where there are such.
        steps: Most steps.
        budget_s: Most wall time [s], scores included; None: no limit.
        crop: Side of the windows, rounded down to whole periods of the colour filter array.
        batch: Windows a step.
        learning_rate: Of Adam at the start, in a cosine to zero.
        average: Of the running mean of the weights, a step.
        check_every: Steps between scores for stopping.
        patience: Scores in a row without a new best that end it.
        informative: Share of the windows, the most contrasty, that is learned from.
        shares: Of the squares to stop by, and for the verdict.

    Raises:
        ValueError: settings out of range.
    """

    loss: SelfLoss = field(default_factory=lambda: Recorrupted(0.5))
    judge: SelfLoss = field(default_factory=Stein)
    unseen: float = 2.0
    steps: int = 60
    budget_s: float | None = None
    crop: int = 96
    batch: int = 4
    learning_rate: float = 2e-4
    average: float = 0.95
    check_every: int = 20
    patience: int = 3
    informative: float = 0.5
    shares: tuple[float, float] = (0.12, 0.28)

    def __post_init__(self) -> None:
        """Refuse settings that could not do anything."""
        counts = {name: getattr(self, name) for name in ("steps", "crop", "batch", "check_every", "patience")}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} must be at least 1, not {count}.")
        if not (self.learning_rate > 0 and 0 <= self.average < 1 and 0 < self.informative <= 1):
            raise ValueError(
                f"Needed: learning_rate > 0, 0 <= average < 1 and 0 < informative <= 1, not {self.learning_rate:g}, "
                f"{self.average:g} and {self.informative:g}."
            )
        if min(self.shares) <= 0 or sum(self.shares) >= 1:
            raise ValueError(f"shares must be positive and leave squares to learn from, not {self.shares}.")
        if self.budget_s is not None and not self.budget_s > 0:
            raise ValueError(f"budget_s must be positive, not {self.budget_s:g}.")


@dataclass(frozen=True, eq=False)
class Adapted:
    """What came of it.

    Attributes:
        network: The adapted copy, or the network that was given, unchanged, where it was not accepted.
        best: The best copy, accepted or not.
        verdict: Before and after on the held-out squares; "after" is that of `best`.
        steps: Steps done.
        best_step: After which the copy was taken; 0: none was better on the squares to stop by.
        seconds: Wall time.
    """

    network: nn.Module
    best: nn.Module
    verdict: Verdict
    steps: int
    best_step: int
    seconds: float

    @property
    def accepted(self) -> bool:
        """Whether `network` is the adapted one."""
        return self.best_step > 0 and self.verdict.better

    @property
    def score_before(self) -> float:
        """Squared error of the given network, in units of the noise's variance."""
        return self.verdict.before

    @property
    def score_after(self) -> float:
        """The same of the best copy."""
        return self.verdict.after


def adapt(
    network: nn.Module,
    images: NoisyImage | Sequence[NoisyImage],
    *,
    generator: torch.Generator,
    settings: AdaptSettings | None = None,
    task: Task | None = None,
    parameters: Callable[[nn.Module], Iterable[nn.Parameter]] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Adapted:
    """Fine-tune a copy of a network on noisy pictures, without any clean one.

    It learns from the informative windows, and stops by squares it does not learn from. A second set of squares, not
    looked at before, decides by two standard errors whether the copy is returned or the network as it was. The network
    given is never changed; layers that behave differently in training (dropout, batch statistics) stay as in use.

    Args:
        network: Any; on the device of the images.
        images: One photo, a burst, or a folder's, of any levels and noise; of one colour filter array, all of the same
            phase.
        generator: Of everything that is drawn, on the CPU.
        settings: As `AdaptSettings`; None: its defaults.
        task: What the network is asked; None: `Denoising`. `Demosaicking` for networks that take mosaics.
        parameters: Which of the copy's parameters learn; None: all.
        clock: For the budget [s].

    Raises:
        ValueError: pictures that are too small or too few, of several arrays or channels; parameters that are none.
    """
    start, settings = clock(), settings or AdaptSettings()
    images = [images] if isinstance(images, NoisyImage) else list(images)
    _check_alike(images)
    side = window_side(settings.crop, images[0].period)
    places = windows(images, side)
    gate = HeldOutGate(
        images,
        places,
        side=side,
        judge=settings.judge,
        shares=settings.shares,
        batch=settings.batch,
        generator=generator,
    )
    masks = gate.learn_masks()
    order = torch.randperm(len(places), generator=generator).tolist()[:MOST_CANDIDATES]
    chosen = _informative(images, [places[k] for k in sorted(order)], side, masks, settings.informative)
    tuning = _Tuning(network, Denoising() if task is None else task, gate, settings, parameters)

    def batch() -> Batch:
        drawn = torch.randint(len(chosen), (settings.batch,), generator=generator).tolist()
        return cut(images, [chosen[k] for k in drawn], side, masks)

    tuning.run(batch, generator, lambda: clock() - start)
    return tuning.result(lambda: clock() - start)


class _Tuning:
    """The copy that learns, its running mean, and the best of the running means."""

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        gate: HeldOutGate,
        settings: AdaptSettings,
        parameters: Callable[[nn.Module], Iterable[nn.Parameter]] | None,
    ) -> None:
        self.given, self.task, self.gate, self.settings = network, task, gate, settings
        self.copy = copy.deepcopy(network).eval()
        for parameter in self.copy.parameters():
            parameter.requires_grad_(parameters is None)
        self.learning = list(self.copy.parameters() if parameters is None else parameters(self.copy))
        if not self.learning:
            raise ValueError("No parameter to adapt. Give a network that has some, or choose other ones.")
        for parameter in self.learning:
            parameter.requires_grad_(True)
        # The running mean and the best of it: evaluated only, never trained.
        self.mean = copy.deepcopy(self.copy).requires_grad_(False)
        self.best, self.best_step, self.steps = copy.deepcopy(self.mean), 0, 0
        self.before = copy.deepcopy(self.mean)

    def run(self, batch: Callable[[], Batch], generator: torch.Generator, elapsed: Callable[[], float]) -> None:
        """Learn until steps, time or patience end."""
        s = self.settings
        optimiser = torch.optim.Adam(self.learning, lr=s.learning_rate)
        # Nothing has changed yet: the first comparison tells how long the verdict will take.
        begin = elapsed()
        lowest, waited = self._compare(self.mean, Role.STOP).difference, 0
        verdict_s = elapsed() - begin
        while self.steps < s.steps and waited < s.patience:
            used = 0.0 if s.budget_s is None else (elapsed() + verdict_s) / s.budget_s
            if used >= 1.0:
                break
            optimiser.param_groups[0]["lr"] = s.learning_rate * _cosine(max(self.steps / s.steps, used))
            if not self._step(batch(), optimiser, generator):
                break
            if self.steps % s.check_every == 0:
                difference = self._compare(self.mean, Role.STOP).difference
                waited = 0 if difference < lowest else waited + 1
                if waited == 0:
                    lowest, self.best_step = difference, self.steps
                    self.best.load_state_dict(self.mean.state_dict())

    def result(self, elapsed: Callable[[], float]) -> Adapted:
        """The verdict, and the network that it falls on."""
        verdict = self._compare(self.best, Role.JUDGE)
        best = self.best.requires_grad_(True).train(self.given.training)
        kept = self.best_step > 0 and verdict.better
        return Adapted(best if kept else self.given, best, verdict, self.steps, self.best_step, elapsed())

    def _step(self, batch: Batch, optimiser: torch.optim.Optimizer, generator: torch.Generator) -> bool:
        """One step; False where the loss is not finite, which ends the adaptation."""
        task = self.task.of_batch(batch)
        risk = self.settings.loss.risk(
            lambda y, std: task.estimate(self.copy, y, std),
            batch.y,
            batch.noise,
            generator=generator,
            weights=batch.weights,
        )
        loss = _in_noise(risk, batch)
        unseen = task.unseen_change(self.before, self.copy, batch)
        if unseen is not None:
            loss = loss + self.settings.unseen * _in_noise(unseen, batch)
        if not bool(torch.isfinite(loss)):
            return False
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.learning, 1.0)
        optimiser.step()
        self.steps += 1
        with torch.no_grad():
            # The mean of few steps weighs them alike: it would else stay at the start for 1 / (1 - average) steps.
            keep = min(self.settings.average, (1 + self.steps) / (10 + self.steps))
            for mean, current in zip(self.mean.parameters(), self.copy.parameters(), strict=True):
                mean.lerp_(current, 1.0 - keep)
        return True

    def _compare(self, network: nn.Module, role: Role) -> Verdict:
        """With the network as it was."""
        return self.gate.compare(self.before, network, self.task, role)


def _informative(
    images: Sequence[NoisyImage], places: Sequence[Place], side: int, masks: Sequence[torch.Tensor], share: float
) -> list[Place]:
    """The windows of most contrast above the noise, of those that have sites to learn from."""
    period, everything = images[0].period, [torch.ones_like(mask) for mask in masks]
    usable = [place for place in places if bool(cut(images, [place], side, masks).weights.any())]
    if not usable:
        raise ValueError("No site is left to learn from: the weights of the pictures are 0 nearly everywhere.")
    scores = torch.tensor([float(contrast(cut(images, [place], side, everything), period)) for place in usable])
    order = scores.argsort(descending=True).tolist()
    return [usable[k] for k in order[: math.ceil(share * len(usable))]]


def _check_alike(images: Sequence[NoisyImage]) -> None:
    if not images:
        raise ValueError("There is no picture to adapt to.")
    if len({image.black is None for image in images}) > 1:
        raise ValueError("Some pictures say what their values lie above, others do not. Give all a black, or none.")
    kinds = {(image.cfa, image.values.shape[1], image.noise.row_groups) for image in images}
    if len(kinds) > 1:
        raise ValueError(
            "Pictures of one adaptation need the same colour filter array, phase and channels. Crop mosaics of another "
            "phase by a row or column."
        )


def _in_noise(risk: Risk, batch: Batch) -> Tensor:
    """Mean risk in units of each window's noise, so that photos of a high ISO do not drown those of a low one.

    The mean is over all windows together: one alone may have hardly a site to learn from.
    """
    variance = batch.noise.variance(batch.y).mean(dim=(1, 2, 3), keepdim=True)
    return (risk.values / variance * risk.weights).sum() / risk.weights.sum()


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
