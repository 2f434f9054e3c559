"""Restoration without a parameter to turn: schedule, weights and strength come from the noise model and the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from physrestore.quality import Correlation, residual_correlation
from physrestore.solvers.choice import Choice, blend
from physrestore.solvers.half_scale import choose_by_half_scale
from physrestore.solvers.held_out import choose_by_held_out
from physrestore.solvers.iterate import Denoise, Iterate, Solution
from physrestore.solvers.locked import NoiseLocked
from physrestore.solvers.noise_level import Operator
from physrestore.solvers.sure import choose_by_sure

# Measured on mosaics of three Kodak pictures with the transform prior at strength 1, mean PSNR: at 60, 400 and 4000
# electrons 20 steps are 1.1 dB better than 8; at 400 and 4000 a first level of 49/255 washes out what a classical
# demosaic knows (1.1 dB worse than 0.08) and one of 0.03 leaves its aliases (0.2 dB worse).
STEPS = 20
FIRST = 0.08
# Restore as if the noise were so many times the calibrated one. The thresholding transform prior is best between 0.55
# and 1.2 (measured, `tests.benchmarks.solver_parameters`), but at 2 to 2.8 on a mosaic of 16000 electrons, where what
# is left to do is to demosaick; 1 is right for a prior that is the posterior mean. The parabola between candidates
# (`Choice.between`) needs one on either side: the ends lie beyond what is ever best. On a picture at 60 electrons the
# best candidate alone lost 0.45 (denoising), 0.35 (blur) and 0.21 dB (mosaic) against the best strength of all, the
# parabola 0.08, 0.01 and 0.04; on another mosaic 0.30 and 0.24.
STRENGTHS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)

Selection = Literal["half-scale", "held-out", "sure", "both"]


@dataclass(frozen=True)
class TuningFree:
    """A restoration and what speaks for its parameters.

    Attributes:
        solution: Of `physrestore.solvers.hqs.hqs`.
        noise_level: Std of the data's noise in the image, (B, C, H, W).
        choice: Strengths tried and their evidence; None: strength 1 was not put to a vote.
        strength: The one used: 1, or `Choice.between` those tried.
        chi2: Mean square of the whitened residual, per image. 1: exactly the noise was removed; well above: data and
            model disagree, or the prior is too strong; well below: noise is left.
        correlation: Of neighbours in the whitened residual, per plane: picture that was taken for noise.
    """

    solution: Solution
    noise_level: Tensor
    choice: Choice | None
    strength: float
    chi2: tuple[float, ...]
    correlation: Correlation

    @property
    def x(self) -> Tensor:
        """The estimate, (B, C, H, W)."""
        return self.solution.x


def restore_tuning_free(
    y: Tensor,
    *,
    operator: Operator,
    variance: Callable[[Tensor], Tensor],
    denoise: Denoise,
    start: Callable[[Tensor], Tensor],
    generator: torch.Generator,
    measured: Tensor | None = None,
    select: Selection | None = None,
    strengths: Sequence[float] = STRENGTHS,
    period: tuple[int, int] = (1, 1),
    steps: int = STEPS,
    first: float = FIRST,
    on_iterate: Callable[[Iterate], None] | None = None,
) -> TuningFree:
    """Half-quadratic splitting on the noise-locked schedule, the data weighed by the variance expected at each step.

    Args:
        y: Data in linear units (white is 1), finite everywhere, (B, C, H, W).
        operator: Forward operator.
        variance: Mean of the data -> variance of its noise, positive, same shape.
        denoise: The prior.
        start: Data -> first image, e.g. a classical demosaic; it is where quality begins.
        generator: Of held-out sites and probes.
        measured: Sites that count, bool like ``y``; None: all.
        select: How to choose the strength; None: 1, as calibrated. "sure" judges measured values (two more solves per
            candidate): the best where all are, as in denoising and deblurring. "half-scale" judges all values of the
            photo simulated at half its size (a solve of a quarter of the pixels per candidate): the best for mosaics.
            "held-out" judges hidden sites (one solve), "both" weighs it and "sure" by their shares of the image.
        strengths: Candidates.
        period: Of the colour filter array, for held-out sites.
        steps: Of the schedule.
        first: Std of its first level: what the errors of ``start`` may be.
        on_iterate: Called with every iterate of every solve.

    Raises:
        SolverDiverged: see `physrestore.solvers.solve.solve`.
        ValueError: ``y`` is not finite or nothing is measured.
    """
    if not bool(torch.isfinite(y).all()):
        raise ValueError("The data hold values that are not finite. Set them to any number and mark them unmeasured.")
    mask = torch.ones_like(y, dtype=torch.bool) if measured is None else measured
    solver = NoiseLocked(operator, variance, denoise, start, steps, first, on_iterate)
    choice = None if select is None else _chosen(y, mask, solver, select, strengths, period, generator)
    strength = 1.0 if choice is None else choice.between
    solution, noise = solver.solve(y, mask, strength)
    mean = operator.A(solution.x)
    whitened = mask * (y - mean) / variance(mean).sqrt()
    chi2 = whitened.double().square().flatten(1).sum(1) / mask.flatten(1).sum(1)
    correlation = residual_correlation(whitened.flatten(0, 1))
    return TuningFree(solution, noise, choice, strength, tuple(chi2.tolist()), correlation)


def _chosen(
    y: Tensor,
    measured: Tensor,
    solver: NoiseLocked,
    select: Selection,
    strengths: Sequence[float],
    period: tuple[int, int],
    generator: torch.Generator,
) -> Choice:
    """The choice; variances are those of the solution at strength 1, the same for every candidate."""
    first = solver.solve(y, measured, 1.0)[0].x
    if select == "half-scale":
        return choose_by_half_scale(
            first,
            operator=solver.operator,
            variance=solver.variance,
            restore=lambda data, strength: solver.solve(data, torch.ones_like(data, dtype=torch.bool), strength)[0].x,
            candidates=strengths,
            generator=generator,
        )
    variance = solver.variance(solver.operator.A(first))
    # Fewer data than image values: so many of these are interpolated, and hidden sites stand for them.
    share = min(1.0, y.numel() / first.numel())

    def held_out() -> Choice:
        return choose_by_held_out(
            y,
            restore=solver.predict,
            variance=variance,
            measured=measured,
            candidates=strengths,
            period=period,
            generator=generator,
        )

    if select == "held-out":
        return held_out()
    by_sure = choose_by_sure(
        y, restore=solver.predict, variance=variance, measured=measured, candidates=strengths, generator=generator
    )
    return by_sure if select == "sure" or share == 1.0 else blend(by_sure, held_out(), share=share)
