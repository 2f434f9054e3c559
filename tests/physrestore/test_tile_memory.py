"""What happens when memory or time runs out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import physrestore.pnp.budget as budget_module
from physrestore.errors import RestoreError
from physrestore.pnp import restore_pnp
from physrestore.pnp.budget import FEWEST_STEPS, plan_steps
from physrestore.pnp.tile import TileSolver
from physrestore.tiling import is_out_of_memory, map_tiles_within_memory
from tests.physrestore.test_pnp import frame_of, scene, sensor_noise

CPU_TEXT = (
    "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
)


class Small:
    """An operation that fits tiles up to a number of pixels."""

    def __init__(self, most: int, error: Exception) -> None:
        self.most, self.error, self.seen = most, error, list[int]()

    def __call__(self, planes: Tensor) -> Tensor:
        self.seen.append(planes[0].numel())
        if planes[0].numel() > self.most:
            raise self.error
        return 2 * planes


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(CPU_TEXT)])
def test_tiles_are_halved_until_they_fit(error: Exception) -> None:
    picture = torch.rand(1, 96, 96, generator=torch.Generator().manual_seed(0))
    small, tried = Small(30**2, error), list[int]()

    result, tile = map_tiles_within_memory(
        small, picture, tile=96, smallest=12, halo=2, blend=0, align=2, on_retry=tried.append
    )

    assert torch.equal(result, 2 * picture)
    assert tried == [48, 24]
    assert tile == 24


def test_below_the_smallest_tile_it_says_so() -> None:
    small = Small(0, MemoryError("no more"))

    with pytest.raises(RestoreError, match=r"even with tiles of 24x24 pixels \(no more\)"):
        map_tiles_within_memory(small, torch.zeros(1, 96, 96), tile=96, smallest=24, halo=2, blend=0, align=2)


def test_other_errors_are_not_taken_for_memory() -> None:
    small = Small(0, RuntimeError("shapes do not match"))

    with pytest.raises(RuntimeError, match="shapes do not match"):
        map_tiles_within_memory(small, torch.zeros(1, 96, 96), tile=96, smallest=24, halo=2, blend=0, align=2)

    assert len(small.seen) == 1
    assert not is_out_of_memory(ValueError("can't allocate memory"))


def test_a_restoration_survives_and_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = frame_of(scene(96, 144), "RGGB")
    noise = sensor_noise(frame.cfa)
    whole = restore_pnp(frame, noise).rgb
    honest, shares, sides = TileSolver.__call__, list[float](), list[int]()

    def limited(self: TileSolver, planes: Tensor) -> Tensor:
        made = honest(self, planes)
        sides.append(planes.shape[-1])
        if len(sides) == 1:  # after its work, so that progress has been told
            raise torch.OutOfMemoryError("planted")
        return made

    monkeypatch.setattr(TileSolver, "__call__", limited)
    result = restore_pnp(frame, noise, tile=192, progress=shares.append)

    assert result.notes == ("Memory ran out: solved in tiles of 96x96 pixels.",)
    assert float((result.rgb - whole).abs().max()) < 0.01
    assert len(sides) == 3  # one whole, then two tiles
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_budget_buys_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(budget_module.time, "perf_counter", lambda: float(next(clock)))
    planes = torch.zeros(4, 48, 48)  # two steps of it take one tick: half a second a step

    def plan(seconds: float, beside: Callable[[Tensor], None] | None = None) -> tuple[int, float]:
        made = plan_steps(lambda *_: None, planes, pixels=48 * 48, most=6, budget_seconds=seconds, beside=beside)
        return made.steps, made.seconds

    assert plan(100.0) == (6, 3.0)
    assert plan(2.2) == (4, 2.0)
    assert plan(0.1) == (FEWEST_STEPS, 1.5)
    assert plan(3.2, lambda _: None) == (4, 3.0)  # a tick for the rest


def test_a_budget_that_is_too_small_is_told() -> None:
    frame = frame_of(scene(48, 48), "RGGB")
    noise = sensor_noise(frame.cfa)

    hurried = restore_pnp(frame, noise, budget_seconds=1e-6)
    easy = restore_pnp(frame, noise, budget_seconds=1e6)

    assert hurried.numbers["steps"] == FEWEST_STEPS
    assert "longer than the budget of 1e-06 s" in hurried.notes[0]
    assert easy.notes == ()
    assert torch.equal(easy.rgb, restore_pnp(frame, noise).rgb)
