"""The strength between the candidates: the minimum of a parabola, never beyond what was tried."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from physrestore.operators.exposure import Exposure
from physrestore.solvers.auto import STRENGTHS, restore_tuning_free
from physrestore.solvers.choice import Choice


def choice(score: Callable[[float], float], candidates: tuple[float, ...] = STRENGTHS) -> Choice:
    scores = tuple(score(s) for s in candidates)
    best = min(range(len(scores)), key=scores.__getitem__)
    return Choice(candidates[best], candidates, scores, (0.0,) * len(scores), "test")


@pytest.mark.parametrize("best", [0.65, 0.8, 1.0, 1.1])
@pytest.mark.parametrize("order", [1, -1])
def test_a_parabola_is_met_exactly(best: float, order: int) -> None:
    found = choice(lambda s: 3.0 + 2.0 * math.log(s / best) ** 2, STRENGTHS[::order])

    assert found.between == pytest.approx(best)
    assert best == 1.0 or found.strength != pytest.approx(best), "the candidate alone is not the minimum"


def test_it_stays_between_the_midpoints_of_its_neighbours() -> None:
    """However steep a side is, the parabola's minimum is nearer to the best candidate than to the others."""
    steep = choice(lambda s: {0.5: 1e9, 0.7: 1e8, 1.0: 1.0, 1.4: 1.0 + 1e-9}[s], (0.5, 0.7, 1.0, 1.4))

    assert 1.0 < steep.between <= math.sqrt(1.4) + 1e-9


@pytest.mark.parametrize(("slope", "end"), [(1.0, STRENGTHS[0]), (-1.0, STRENGTHS[-1])])
def test_an_end_stays_an_end(slope: float, end: float) -> None:
    assert choice(lambda s: slope * s).between == end


def test_one_candidate_and_equal_scores() -> None:
    assert choice(lambda _: 1.0, (0.7,)).between == 0.7
    assert 0.5 <= choice(lambda _: 1.0, (0.5, 0.7, 1.0)).between <= 1.0


def test_the_restoration_uses_it() -> None:
    """A prior told of half the noise is best at a strength of two, which is not among the candidates."""
    generator = torch.Generator().manual_seed(0)
    truth = 0.5 + 0.2 * torch.randn(1, 1, 64, 64, generator=generator)
    y = truth + 0.1 * torch.randn(1, 1, 64, 64, generator=generator)

    found = restore_tuning_free(
        y,
        operator=Exposure(1.0),
        variance=lambda mean: torch.full_like(mean, 0.01),
        denoise=lambda x, s: 0.5 + (x - 0.5) / (1 + (s / (2 * 0.2)) ** 2),
        start=lambda y: y,
        generator=generator,
        select="sure",
        strengths=(0.7, 1.5, 3.0),
        steps=3,
    )

    assert found.choice is not None
    assert found.strength == found.choice.between != found.choice.strength
    assert found.choice.strength == 1.5
