"""What has moved is told from noise by single sites, on every array, and only where it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from noise_models.cfa import XTRANS_ROWS, Cfa
from physrestore.burst.cells import cell_side
from physrestore.burst.frames import LinearFrame
from physrestore.burst.ghosts import Guide, Residuals, shown
from physrestore.burst.motion import Motion
from tests.physrestore.burst_scenes import STILL, Blobs, expose, noise_of, turn, view

XTRANS = "".join(XTRANS_ROWS)
ARRAYS = ["GBRG", XTRANS, "RRGGRRGGGGBBGGBB"]
SIZE, FRAMES = 96, 8
RADIUS, ROW, COLUMN = 7, 40, 36


def compared(
    name: str,
    *,
    ghost: float = 1.0,
    motion: Tensor = STILL,
    error: float = 0.0,
    bias: float = 1.0,
    clipped: bool = False,
) -> Tensor:
    """Weights, a pixel each, of a frame in which a small disc has ``ghost`` times its light."""
    cfa, scene = Cfa.parse(name), Blobs(SIZE, seed=2)
    seen = view(scene, SIZE, motion)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    seen[:, (rows - ROW) ** 2 + (columns - COLUMN) ** 2 < RADIUS**2] *= ghost
    frame = LinearFrame.of(expose(seen, cfa, seed=4), noise_of(cfa), exposure=1.0)
    if clipped:
        frame = replace(frame, clipped=torch.ones_like(frame.clipped))
    truth = view(scene, SIZE, STILL)
    told = Motion(motion, torch.zeros(2, 1, 1, dtype=torch.float64), 1, 0.0, "affine")
    side = cell_side(cfa)
    reference = LinearFrame.of(expose(truth, cfa, seed=3), noise_of(cfa), exposure=1.0)
    guide = Guide(truth * bias, torch.full_like(truth, error))
    own, theirs = (
        Residuals.of(guide, one, of_one, side=side) for one, of_one in ((reference, Motion.still()), (frame, told))
    )
    weight = shown(own, theirs, frames=FRAMES)
    return weight.repeat_interleave(side, 0).repeat_interleave(side, 1)


def inside() -> tuple[slice, slice]:
    half = RADIUS // 2
    return slice(ROW - half, ROW + half), slice(COLUMN - half, COLUMN + half)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("motion", [STILL, turn(0.6, 2.3, -1.4, middle=48)], ids=["still", "moved"])
def test_noise_is_no_ghost(name: str, motion: Tensor) -> None:
    weight = compared(name, motion=motion)

    # Three standard errors of two windows: one cell in a hundred is touched, with its neighbours.
    assert float(weight[8:-8, 8:-8].mean()) > 0.96


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("ghost", [0.3, 2.0])
def test_a_small_ghost_has_no_weight_where_it_is_and_only_there(name: str, ghost: float) -> None:
    weight = compared(name, ghost=ghost)

    assert float(weight[inside()].max()) == 0.0
    assert float(weight[8:-8, 72:-8].mean()) > 0.92
    assert float(weight[76:-8, 8:-8].mean()) > 0.92


def test_a_guide_that_is_said_to_be_bad_would_hide_it() -> None:
    """The planted error of the law above."""
    assert float(compared(XTRANS, ghost=0.3, error=0.5)[inside()].min()) == 1.0


def test_clipped_sites_say_nothing_and_missing_ones_have_no_weight() -> None:
    assert torch.equal(compared("RGGB", clipped=True), torch.ones(SIZE, SIZE))
    beside = compared("RGGB", motion=turn(0.0, 0.0, -30.0, middle=48))
    assert float(beside[:, :28].max()) == 0.0  # the frame begins 30 columns to the right
    assert float(beside[8:-8, 40:-8].mean()) > 0.92


def test_faint_ghosts_are_seen_beside_a_guide_that_is_wrong_by_as_much() -> None:
    """Twenty per cent of the light, about half of a site's noise; the guide is half as wrong, and said to be."""
    assert float(compared("RGGB", bias=0.95, error=0.02)[8:-8, 8:-8].mean()) > 0.92
    assert float(compared("RGGB", bias=0.95, error=0.02, ghost=0.8)[inside()].mean()) < 0.5
