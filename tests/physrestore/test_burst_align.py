"""Where frames lie on each other: right, without bias, and as well known as is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from noise_models.cfa import XTRANS_ROWS, Cfa
from physrestore.burst.agreement import agreement
from physrestore.burst.align import align_burst
from physrestore.burst.cells import Grey, cell_side, cells_of
from physrestore.burst.coarse import shift_between
from physrestore.burst.frames import LinearFrame
from physrestore.burst.local import PITCH, local_offsets
from physrestore.burst.lucas_kanade import Fit, Model, fit
from physrestore.burst.motion import Motion
from physrestore.burst.root import Root
from physrestore.burst.warping import apply, grid
from physrestore.working_space import WorkingSpace
from tests.physrestore.burst_scenes import STILL, Blobs, expose, noise_of, turn, view

XTRANS = "".join(XTRANS_ROWS)
QUAD = "RRGGRRGGGGBBGGBB"
SIDE = 72  # of planes
TRIALS = 40


def plane(scene: Blobs, motion: Tensor, *, noise: float, seed: int) -> Grey:
    """Green of a view, its variation scaled to 1, with white noise of known variance."""
    generator = torch.Generator().manual_seed(seed)
    values = view(scene, SIDE, motion)[1] * 8 + noise * torch.randn(SIDE, SIDE, generator=generator)
    return Grey(values, torch.full((SIDE, SIDE), noise**2), torch.ones(SIDE, SIDE, dtype=torch.bool))


def errors(found: Fit, truth: Tensor, row: Tensor, column: Tensor) -> Tensor:
    return torch.stack(apply(found.matrix, row, column)) - torch.stack(apply(truth, row, column))


def z_scores(model: Model, truth: Tensor, *, shifted: float = 0.0) -> Tensor:
    """Error over its own std, of the displacement down and right of five points, (trials, 2, 5)."""
    scene, noise = Blobs(SIDE), 0.5
    row, column = torch.tensor([36.0, 5, 5, 66, 66]), torch.tensor([36.0, 5, 66, 5, 66])
    scores = []
    for trial in range(TRIALS):
        reference = plane(scene, STILL, noise=noise, seed=2 * trial)
        frame = plane(scene, truth, noise=noise, seed=2 * trial + 1)
        found = fit(reference, frame, STILL, model)
        scores.append((errors(found, truth, row, column) + shifted) / found.std_at(row, column))
    return torch.stack(scores)


@pytest.mark.parametrize(
    ("model", "truth"),
    [
        (Model.TRANSLATION, turn(0.0, 0.4, -0.7, middle=36)),
        (Model.AFFINE, turn(0.8, -0.3, 0.45, middle=36)),
        (Model.HOMOGRAPHY, torch.tensor([[1.0, 0.004, 0.3], [-0.003, 0.998, 0.5], [4e-5, -3e-5, 1.0]]).double()),
    ],
    ids=["translation", "affine", "homography"],
)
def test_a_motion_is_unbiased_within_its_own_covariance(model: Model, truth: Tensor) -> None:
    scores = z_scores(model, truth)

    # The std is that of the longer axis of the ellipse, so scores of single axes are below 1 on the average.
    assert float(scores.mean(0).abs().max()) < 5 / TRIALS**0.5
    assert 0.5 < float(scores.square().mean().sqrt()) < 1.15


def test_the_law_sees_a_twentieth_of_a_pixel() -> None:
    scores = z_scores(Model.TRANSLATION, turn(0.0, 0.4, -0.7, middle=36), shifted=0.05)

    assert float(scores.mean(0).abs().max()) > 5 / TRIALS**0.5


def test_a_flat_picture_determines_nothing() -> None:
    flat = Grey(torch.randn(2, SIDE, SIDE, generator=torch.Generator().manual_seed(0))[0], torch.ones(SIDE, SIDE),
                torch.ones(SIDE, SIDE, dtype=torch.bool))  # fmt: skip
    other = replace(flat, values=torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(1)))

    assert fit(flat, other, STILL, Model.TRANSLATION).worst_std() == torch.inf


@pytest.mark.parametrize("shift", [(0, 0), (9, -14), (-21, 3)])
def test_large_shifts_are_found_in_one_step(shift: tuple[int, int]) -> None:
    scene = Blobs(SIDE)
    reference = plane(scene, STILL, noise=0.5, seed=1)
    frame = plane(scene, turn(0.0, *map(float, shift), middle=0), noise=0.5, seed=2)

    assert shift_between(reference, frame) == shift


def prepared(size: int, name: str, motions: list[Tensor], *, seed: int = 0) -> tuple[list[LinearFrame], Root]:
    cfa, scene = Cfa.parse(name), Blobs(size, seed=seed)
    noise = noise_of(cfa)
    raws = [expose(view(scene, size, m), cfa, seed=10 + k) for k, m in enumerate(motions)]
    root = Root.of(WorkingSpace.of_frame(raws[0], noise))
    return [LinearFrame.of(raw, noise, exposure=1.0) for raw in raws], root


@pytest.mark.parametrize("name", ["RGGB", "GBRG", XTRANS, QUAD])
def test_frames_are_aligned_for_every_array(name: str) -> None:
    size = 160
    truth = turn(0.7, 15.3, -9.6, middle=80)
    frames, root = prepared(size, name, [STILL, truth])

    aligned = align_burst(frames, root)[1]

    row, column = (torch.tensor([values]) for values in ([80.0, 20, 130, 20], [80.0, 20, 130, 140]))
    error = torch.stack(aligned.motion.to_frame(row, column)) - torch.stack(apply(truth, row, column))
    assert aligned.used
    # White noise of two frames leaves this much, and undersampled cells a tenth of their side.
    assert float(error.abs().max()) < 4 * aligned.motion.std + 0.1 * cell_side(frames[0].cfa)
    assert float(aligned.weight[8:-8, 8:-8].mean()) > 0.95


def test_to_reference_undoes_to_frame() -> None:
    offsets = torch.rand(2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5
    motion = Motion(turn(1.0, 4.2, -3.1, middle=96), offsets, pitch=64, std=0.0, model="affine")
    row, column = grid(192, 192)

    back = motion.to_reference(*motion.to_frame(row, column))

    assert float((back[0] - row).abs().max()) < 1e-3
    assert float((back[1] - column).abs().max()) < 1e-3
    assert float((motion.to_frame(row, column)[0] - row).abs().max()) > 3


def test_offsets_are_found_where_there_are_any_and_only_there() -> None:
    size = 4 * PITCH
    scene = Blobs(size, count=700)
    rows, columns = grid(size, size)
    generator = torch.Generator().manual_seed(3)

    def seen(offset: Tensor | float) -> Grey:
        values = scene.at(rows - offset, columns)[1] * 8 + 0.2 * torch.randn(size, size, generator=generator)
        return Grey(values, torch.full((size, size), 0.04), torch.ones(size, size, dtype=torch.bool))

    still = local_offsets(seen(0.0), seen(0.0), STILL)
    bent = local_offsets(seen(0.0), seen(0.8 * torch.cos(columns / size * torch.pi)), STILL)

    assert not bool(still.any())  # exactly none
    expected = 0.8 * torch.cos((torch.arange(4) + 0.5) / 4 * torch.pi)
    assert float((bent[0].mean(0) - expected).abs().max()) < 0.2
    assert float(bent[1].abs().max()) < 0.2


def test_what_has_moved_is_left_out_and_noise_is_not() -> None:
    size = 128
    frames, root = prepared(size, "RGGB", [STILL, STILL])
    reference, frame = (cells_of(one, root) for one in frames)
    ghost = replace(frames[1], values=frames[1].values.clone())
    ghost.values[40:80, 60:90] *= 0.6

    alike = agreement(reference, frame, Motion.still(), frames=8)
    moved = agreement(reference, cells_of(ghost, root), Motion.still(), frames=8)

    # three standard errors leave noise alone: about one window in a hundred is touched, and slightly
    assert float(alike.mean()) > 0.98
    assert float(moved[22:38, 32:43].max()) < 0.1
    outside = torch.ones_like(moved, dtype=torch.bool)
    outside[10:50, 20:55] = False
    torch.testing.assert_close(moved[outside], alike[outside])


def test_a_frame_of_another_scene_is_not_used() -> None:
    (reference, frame), root = prepared(96, "RGGB", [STILL, STILL])
    other, _ = prepared(96, "RGGB", [STILL], seed=5)

    aligned = align_burst([reference, frame, other[0]], root)

    assert [one.used for one in aligned] == [True, True, False]
    assert not bool(aligned[2].weight.any())
