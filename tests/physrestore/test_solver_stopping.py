"""Solvers stop for the reason they state, diverge with an error, and follow the schedule of the noise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from physrestore.solvers.hqs import hqs
from physrestore.solvers.iterate import Iterate, StopReason
from physrestore.solvers.pgd import pgd
from physrestore.solvers.schedule import PRIOR_WEIGHT, Schedule, noise_locked
from physrestore.solvers.solve import SolverDiverged, solve
from physrestore.solvers.stopping import Discrepancy, MaxSteps, RelativeChange, ResidualWhiteness

STD = 0.1
SHAPE = (1, 1, 64, 64)
NOISE = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).double()
TRUTH = torch.linspace(0, 3, 64).sin().double().expand(SHAPE)
Y = TRUTH + STD * NOISE


def halving(n: int = 60) -> Iterator[Iterate]:
    """From far away to the truth, half the way at every step."""
    for step in range(n):
        yield Iterate(x=TRUTH + 2.0 ** (1 - step), step=step)


def mixing(n: int = 21) -> Iterator[Iterate]:
    """From the data to half of the truth: the residual grows from nothing to noise and picture."""
    for step in range(n):
        share = step / (n - 1)
        yield Iterate(x=(1 - share) * Y + share * 0.5 * TRUTH, step=step)


def whitened(x: Tensor) -> Tensor:
    return (Y - x) / STD


def test_relative_change_is_that_of_the_worst_image() -> None:
    def two() -> Iterator[Iterate]:
        for iterate in halving():
            yield Iterate(x=torch.cat([iterate.x, iterate.x + 8.0**-iterate.step]), step=iterate.step)

    solution = solve(two(), stop=RelativeChange(1e-3))

    change = (2.0 ** (1 - solution.last.step)) * 64
    assert solution.reason is StopReason.CONVERGED
    assert change <= 1e-3 * float(TRUTH.norm()) < 2 * change
    assert "tolerance 0.001" in solution.evidence


def test_the_first_rule_that_fires_names_the_reason() -> None:
    few = solve(halving(), stop=RelativeChange(1e-3) | MaxSteps(4))
    many = solve(halving(), stop=MaxSteps(40) | RelativeChange(1e-3) | MaxSteps(50))

    assert (few.reason, few.steps) == (StopReason.MAX_STEPS, 4)
    assert many.reason is StopReason.CONVERGED


def test_discrepancy_stops_where_the_residual_is_as_large_as_the_noise_from_both_sides() -> None:
    from_afar = solve(halving(), stop=Discrepancy(whitened))
    from_data = solve(mixing(200), stop=Discrepancy(whitened))

    # Noise of 4096 sites: the mean square is 1 within 2.2 % (one standard error); a step of the path adds less.
    for solution in (from_afar, from_data):
        assert solution.reason is StopReason.DISCREPANCY
        assert float(whitened(solution.x).square().mean()) == pytest.approx(1.0, abs=0.15)
    assert from_data.last.step > 1


def test_whiteness_stops_when_no_picture_is_left_in_the_residual() -> None:
    solution = solve(halving(), stop=ResidualWhiteness(whitened))
    tilted = (Iterate(x=TRUTH + 2.0 ** (1 - k) * TRUTH, step=k) for k in range(60))

    assert solution.last.step == 0, "an offset is no correlation"
    seen = solve(tilted, stop=ResidualWhiteness(whitened))
    assert seen.reason is StopReason.WHITE
    assert 2 < seen.last.step < 10


def test_a_residual_of_zero_is_not_white() -> None:
    solution = solve(iter([Iterate(x=Y, step=0)]), stop=ResidualWhiteness(whitened))

    assert solution.reason is StopReason.ENDED


def test_divergence_is_an_error_that_names_the_step() -> None:
    runaway = pgd(Y.float(), gradient=lambda x: -x, denoise=lambda x, _: x, gamma=1e9, noise_level=STD, max_steps=100)

    with pytest.raises(SolverDiverged, match=r"Step \d+ gave values that are not finite"):
        solve(runaway)


def test_no_step_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="made no step"):
        solve(hqs(Y, prox_fidelity=lambda x, _: x, denoise=lambda x, _: x, schedule=[]))


def test_every_iterate_is_reported_and_a_schedule_ends_by_itself() -> None:
    seen: list[int] = []
    schedule = noise_locked(torch.tensor(STD), steps=5)

    solution = solve(
        hqs(Y, prox_fidelity=lambda x, _: x, denoise=lambda x, s: x * (1 - s), schedule=schedule),
        on_iterate=lambda iterate: seen.append(iterate.step),
    )

    assert seen == [0, 1, 2, 3, 4]
    assert (solution.reason, solution.evidence) == (
        StopReason.SCHEDULE,
        "the schedule came to its end after 5 steps.",
    )


def test_gradients_flow_only_when_asked_for() -> None:
    scale = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)

    def unrolled() -> Iterator[Iterate]:
        schedule = noise_locked(torch.tensor(STD), steps=3)
        return hqs(Y, prox_fidelity=lambda x, _: x, denoise=lambda x, _: scale * x, schedule=schedule)

    assert not solve(unrolled()).x.requires_grad
    (slope,) = torch.autograd.grad(solve(unrolled(), differentiable=True).x.sum(), scale)
    assert torch.allclose(slope, 3 * 0.9**2 * Y.sum())


def test_the_schedule_is_dpirs_for_one_noise_level() -> None:
    noise, steps = 7.65 / 255, 8
    levels = list(noise_locked(torch.tensor(noise).double(), steps=steps))

    expected = torch.logspace(*torch.tensor([49 / 255, noise]).double().log10(), steps, dtype=torch.float64)
    assert torch.allclose(torch.stack([level.noise_level for level in levels]), expected)
    # DPIR's prox of 1/2 |y - x|^2 has rho = 0.23 noise^2 / level^2; ours is of |y - x|^2 / (2 noise^2).
    for level in levels:
        assert float(noise**2 / level.gamma) == pytest.approx(PRIOR_WEIGHT * noise**2 / float(level.noise_level) ** 2)


def test_a_map_runs_the_same_schedule_relative_to_its_noise() -> None:
    noise = torch.tensor([0.01, 0.03]).reshape(1, 2, 1, 1)
    levels = list(noise_locked(noise, steps=4))

    assert torch.equal(levels[-1].noise_level, noise)
    for level in levels:
        assert torch.allclose(level.noise_level / noise, (level.noise_level / noise)[0, 0])
    assert float(levels[0].noise_level.mean()) == pytest.approx(49 / 255)


def test_strength_restores_as_if_there_were_so_much_more_noise() -> None:
    noise = torch.tensor(0.02).double()
    dialled, real = (list(noise_locked(n, steps=6, strength=s)) for n, s in ((noise, 2.0), (2 * noise, 1.0)))

    for ours, theirs in zip(dialled, real, strict=True):
        assert torch.allclose(ours.noise_level, theirs.noise_level)
        # The data term keeps its weight 1 / noise^2, 4 times too large for that much noise: the step makes up for it.
        assert torch.allclose(4 * ours.gamma, theirs.gamma)


@pytest.mark.parametrize(("noise", "steps"), [(0.5, 3), (0.02, 1)])
def test_the_schedule_ends_at_the_noise_however_noisy_or_short(noise: float, steps: int) -> None:
    levels = [float(level.noise_level) for level in noise_locked(torch.tensor(noise).double(), steps=steps)]

    assert levels[-1] == pytest.approx(noise)
    assert steps == 1 or levels[0] == pytest.approx(3 * noise)


@pytest.mark.parametrize("noise", [0.0, -0.1, float("nan"), float("inf")])
def test_a_schedule_needs_positive_finite_noise(noise: float) -> None:
    with pytest.raises(ValueError, match="finite positive noise"):
        Schedule(torch.tensor(noise), (1.0,))


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="steps >= 1"):
        noise_locked(torch.tensor(0.1), steps=0)
