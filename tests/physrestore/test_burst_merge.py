"""The parts of a burst restored by a network: looking up, refining, merging, cleaning, giving back."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from noise_models.cfa import XTRANS_ROWS, Cfa
from physrestore.burst.align import Aligned
from physrestore.burst.frames import LinearFrame
from physrestore.burst.interpolation import WIDE_TAPS, kernel, look_up, look_up_with_slopes
from physrestore.burst.kept_detail import given_back
from physrestore.burst.merge import Merged, effective_frames, merge, spreads
from physrestore.burst.motion import Motion
from physrestore.burst.phases import clean
from physrestore.burst.refine import refined
from physrestore.burst.root import Root
from physrestore.burst.sites import Look, sites_of
from physrestore.operators.kernels import keys_cubic
from physrestore.working_space import WorkingSpace
from tests.physrestore.burst_scenes import STILL, Blobs, expose, noise_of, turn, view

XTRANS = "".join(XTRANS_ROWS)
SIZE = 72
WHOLE = (slice(0, SIZE), slice(0, SIZE))


def wave(places: Tensor, *, cycles: float) -> Tensor:
    return torch.sin(2 * math.pi * cycles * places + 0.4)


def error_between_pixels(kernel: str) -> float:
    """Largest error of a fine wave (3.3 pixels a period) half way between pixels, its amplitude being 1."""
    columns = torch.arange(40, dtype=torch.float64)
    plane = wave(columns, cycles=0.3).expand(40, 40).float()
    row, column = torch.full((24,), 20.0, dtype=torch.float64), columns[8:32] + 0.5
    if kernel == "lanczos":
        seen = look_up(plane[None], torch.zeros(24, dtype=torch.int64), row, column)
    else:
        seen = sum(keys_cubic(0.5 - torch.tensor(tap)) * plane[20, columns[8:32].long() + tap] for tap in (-1, 0, 1, 2))
    return float((seen - wave(column, cycles=0.3)).abs().max())


def test_fine_waves_are_sharp_between_pixels() -> None:
    assert error_between_pixels("lanczos") < 0.04


def test_a_cubic_would_blur_them() -> None:
    assert error_between_pixels("cubic") > 0.15


def test_whole_pixels_and_flat_planes_are_looked_up_exactly() -> None:
    planes = torch.rand(3, 9, 11, generator=torch.Generator().manual_seed(0))
    plane, row, column = (
        torch.tensor([0, 2, 1]),
        torch.tensor([0.0, 8, 4]).double(),
        torch.tensor([0.0, 10, 3]).double(),
    )

    assert torch.equal(look_up(planes, plane, row, column), planes[plane, row.long(), column.long()])
    assert float((look_up(torch.ones(3, 9, 11), plane, row + 0.37, column - 0.71) - 1).abs().max()) < 1e-6


def test_the_kernel_is_lanczos() -> None:
    rest = torch.tensor([-0.5, -1e-9, 0.0, 1e-9, 0.3, 0.5, 1.0, 1.0 - 1e-9], dtype=torch.float64)
    distance = rest - torch.tensor(WIDE_TAPS)[:, None]
    expected = torch.where(distance.abs() < 3, torch.sinc(distance) * torch.sinc(distance / 3), 0.0)
    torch.testing.assert_close(kernel(rest, WIDE_TAPS), expected, rtol=0, atol=1e-7)


def test_slopes_are_differences_of_what_is_looked_up() -> None:
    drawn = torch.Generator().manual_seed(1)
    planes, plane = torch.rand(3, 30, 40, generator=drawn), torch.randint(3, (500,), generator=drawn)
    row, column = (50 * torch.rand(2, 500, generator=drawn, dtype=torch.float64)) - 5  # beyond the border, too
    row[:9], column[:5] = torch.arange(9) / 2, 7.0  # on pixels and half way between them

    value, down, right = look_up_with_slopes(planes, plane, row, column)

    near = {"rtol": 0, "atol": 2e-6}
    torch.testing.assert_close(value, look_up(planes, plane, row, column), **near)
    ends = [look_up(planes, plane, row + half, column) for half in (-0.5, 0.5)]
    torch.testing.assert_close(down, ends[1] - ends[0], **near)
    ends = [look_up(planes, plane, row, column + half) for half in (-0.5, 0.5)]
    torch.testing.assert_close(right, ends[1] - ends[0], **near)
    assert float((down - right).abs().max()) > 0.1


def burst(name: str, motions: list[Tensor]) -> tuple[Tensor, list[LinearFrame], Root]:
    """Clean light of the reference, the frames and their space."""
    cfa, scene = Cfa.parse(name), Blobs(SIZE, seed=2)
    noise = noise_of(cfa)
    raws = [expose(view(scene, SIZE, motion), cfa, seed=30 + k) for k, motion in enumerate(motions)]
    root = Root.of(WorkingSpace.of_frame(raws[0], noise))
    return view(scene, SIZE, STILL), [LinearFrame.of(raw, noise, exposure=1.0) for raw in raws], root


def motion_of(matrix: Tensor, *, model: str = "affine") -> Motion:
    return Motion(matrix, torch.zeros(2, 1, 1, dtype=torch.float64), 1, 0.0, model)


def looks(frames: list[LinearFrame], motions: list[Tensor]) -> list[Look]:
    trusted = torch.ones(SIZE // 2, SIZE // 2)
    pairs = zip(frames, motions, strict=True)
    return [sites_of(frame, Aligned(motion_of(m), trusted, used=True), WHOLE, side=2) for frame, m in pairs]


MOVED = turn(0.4, 1.3, -2.4, middle=36)


def error_of(matrix: Tensor) -> float:
    """Largest error of places [sites] in the middle of the frame, against `MOVED`."""
    row, column = (torch.tensor([values], dtype=torch.float64) for values in ([12.0, 60, 36], [12.0, 20, 60]))
    found, true = (motion_of(one).to_frame(row, column) for one in (matrix, MOVED))
    return float((torch.stack(found) - torch.stack(true)).abs().max())


@pytest.mark.parametrize("name", ["RGGB", XTRANS])
def test_a_motion_is_refined_on_single_sites(name: str) -> None:
    truth, (_, frame), _ = burst(name, [STILL, MOVED])
    start = turn(0.3, 1.6, -2.0, middle=36)

    found = refined(motion_of(start), frame, truth)

    assert error_of(start) > 0.3
    assert error_of(found.matrix) < min(0.15, 4 * found.std)


def test_a_picture_of_another_place_would_not_refine_it() -> None:
    """The planted error of the law above: the clean picture lies half a site beside the reference."""
    scene = Blobs(SIZE, seed=2)
    _, (_, frame), _ = burst("RGGB", [STILL, MOVED])

    found = refined(motion_of(MOVED), frame, view(scene, SIZE, turn(0.0, 0.5, 0.0, middle=36)))

    assert error_of(found.matrix) > 0.4


def test_a_still_frame_stays_exactly_still_and_flat_ones_stay_as_they_are() -> None:
    truth, (_, frame), _ = burst("RGGB", [STILL, STILL])
    nearly = motion_of(turn(0.0, 0.05, -0.05, middle=36), model="translation")
    flat = torch.full_like(truth, float(truth.mean()))

    assert torch.equal(refined(nearly, frame, truth).matrix, STILL)
    assert refined(nearly, frame, flat) is nearly
    undetermined = motion_of(STILL, model="none")
    assert refined(undetermined, frame, truth) is undetermined


@pytest.mark.parametrize("bent", [0.0, 1.5])
def test_offsets_stay_where_sites_fit_better_with_them(bent: float) -> None:
    """Rows that are bent along the frame, or are not: the same offsets are told in both cases."""
    scene, cfa = Blobs(SIZE, seed=2), Cfa.parse("RGGB")
    rows, columns = torch.meshgrid(*(torch.arange(SIZE, dtype=torch.float64),) * 2, indexing="ij")
    truth = scene.at(rows, columns)
    pitch, middles = SIZE // 3, (torch.arange(3) + 0.5) * SIZE / 3
    offsets = torch.zeros(2, 3, 3, dtype=torch.float64)
    offsets[0] = 1.5 * torch.cos(middles / SIZE * torch.pi)
    raw = expose(scene.at(rows - bent * torch.cos(columns / SIZE * torch.pi), columns), cfa, seed=5)
    frame = LinearFrame.of(raw, noise_of(cfa), exposure=1.0)

    found = refined(Motion(STILL, offsets, pitch, 0.1, "translation"), frame, truth)

    assert bool(found.offsets.any()) == (bent > 0)


def scores(name: str, *, understated: float = 1.0) -> Tensor:
    """Squared errors of frames merged around the truth over the variance that is stated, inner pixels."""
    motions = [STILL, MOVED, turn(-0.3, -0.6, 1.7, middle=36)]
    truth, frames, root = burst(name, motions)
    frames = [
        replace(one, gain=one.gain * understated, dark_variance=one.dark_variance * understated) for one in frames
    ]
    honest = Root(root.gain * understated, root.dark_variance * understated, root.balance)
    merged = merge(truth, looks(frames, motions), frames[0].cfa, honest)
    stated = merged.share * honest.reference_variance(truth)
    return ((merged.light - truth).square() / stated)[:, 8:-8, 8:-8]


# Values are averaged over about this many sites, so that many neighbours share their noise.
SHARED = 8


@pytest.mark.parametrize("name", ["RGGB", XTRANS])
def test_the_noise_of_merged_frames_is_what_is_said(name: str) -> None:
    found = scores(name)

    assert float(found.mean()) == pytest.approx(1.0, abs=5 * math.sqrt(2 * SHARED / found.numel()) + 0.02)


def test_noise_that_is_understated_would_be_seen() -> None:
    found = scores("RGGB", understated=0.7)

    assert float(found.mean()) > 1.0 + 5 * math.sqrt(2 * SHARED / found.numel()) + 0.02


def test_frames_correct_a_wrong_guess_and_count_as_many() -> None:
    motions = [STILL, MOVED, turn(-0.3, -0.6, 1.7, middle=36)]
    truth, frames, root = burst("RGGB", motions)
    seen = looks(frames, motions)
    inner = (slice(None), slice(8, -8), slice(8, -8))

    merged = merge(0.8 * truth, seen, frames[0].cfa, root)

    assert float((merged.light / truth)[inner].mean()) == pytest.approx(1.0, abs=0.01)
    assert float(effective_frames(seen, truth, root)[8:-8, 8:-8].mean()) == pytest.approx(3.0, rel=0.05)


def test_clipped_sites_only_raise() -> None:
    """A site that clipped at half the guess says nothing, at twice the guess it does."""
    truth, (frame,), root = burst("RGGB", [STILL])
    clipped = replace(frame, clipped=torch.ones_like(frame.clipped))

    below, above = (
        merge(truth, looks([replace(clipped, values=torch.full_like(frame.values, level))], [STILL]), frame.cfa, root)
        for level in (0.0, 2.0)
    )

    assert torch.equal(below.light, truth)
    assert torch.equal(below.share, torch.ones_like(truth))
    assert float((above.difference > 0.5).float().mean()) > 0.9


def averaged(sites: Tensor) -> tuple[Tensor, Tensor]:
    """What `clean` makes of a stand-in that sees white in mosaics that begin with red, and black in others."""
    grey = torch.full((3, SIZE, SIZE), 0.25)
    root = Root(torch.full((3,), 1e-6), torch.full((3,), 1e-12), torch.ones(3))
    merged = Merged(grey, torch.zeros_like(grey), torch.ones_like(grey), sites)

    def run(mosaic: Tensor, noise: Tensor, colours: Tensor) -> Tensor:
        assert float(noise.max()) == pytest.approx(5e-4)  # sqrt(gain) / 2
        return torch.ones(1, 3, *mosaic.shape[-2:]) * colours[:, :1, 8:9, 8:9]

    return clean(merged, run, Cfa.parse("RGGB"), root)


def test_mosaics_count_by_the_sites_that_decide_them() -> None:
    alone = torch.full((3, SIZE, SIZE), 0.4)
    for colour, row, column in ((0, 0, 0), (1, 0, 1), (1, 1, 0), (2, 1, 1)):
        alone[colour, row::2, column::2] = 1.0

    light, variety = averaged(alone)
    assert float(light.min()) > 0.7  # one frame: its own array; 1 with nothing of others
    assert float(variety.max()) < 0.15
    light, variety = averaged(torch.ones_like(alone))
    # Moved frames decide all pixels of all colours: a quarter of four roots, squared.
    torch.testing.assert_close(light, torch.full_like(alone, 0.0625), rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(variety, torch.ones_like(variety))


def given(pilot: Tensor, light: Tensor, root: Root, *, variety: float = 1.0) -> Tensor:
    """`given_back` of a pilot, from a picture with a fifth of a site's noise."""
    merged = Merged(light, light - pilot, torch.full_like(light, 0.2), torch.full_like(light, 2.5))
    return given_back(pilot, merged, torch.full(light.shape[-2:], variety), spreads(Cfa.parse("RGGB")), root)


def lost_and_found(*, pilot_contrast: float, variety: float = 1.0) -> float:
    """Of a texture far above the noise: share of what a pilot lacks that is still lacking in the end."""
    root = Root(torch.full((3,), 1e-4), torch.full((3,), 1e-7), torch.ones(3))
    columns = torch.arange(SIZE, dtype=torch.float64)
    texture = wave(columns, cycles=0.2).expand(3, SIZE, SIZE).float()
    truth = 0.4 + 0.05 * texture
    pilot = 0.4 + 0.05 * pilot_contrast * texture
    found = given(pilot, truth, root, variety=variety)
    inner = (slice(None), slice(8, -8), slice(8, -8))
    return float((found - truth)[inner].std() / (pilot - truth)[inner].std())


def test_texture_that_stands_out_comes_back() -> None:
    assert lost_and_found(pilot_contrast=0.6) < 0.25


def test_texture_of_which_the_pilot_knows_nothing_does_not() -> None:
    assert lost_and_found(pilot_contrast=0.0) > 0.9


def test_nothing_comes_back_between_the_sites_of_a_single_frame() -> None:
    assert lost_and_found(pilot_contrast=0.6, variety=0.0) == pytest.approx(1.0, abs=1e-4)


def test_noise_is_not_given_back() -> None:
    root = Root(torch.full((3,), 1e-4), torch.full((3,), 1e-7), torch.ones(3))
    flat = torch.full((3, SIZE, SIZE), 0.4)
    noise = (1e-4 * 0.4 * 0.2) ** 0.5 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))

    found = given(flat, flat + noise, root)

    assert float((found - flat).std()) < 0.2 * float(noise.std())
