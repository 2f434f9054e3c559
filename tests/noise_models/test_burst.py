"""Bursts of a still scene: intervals that cover, motion that is found, and refusals with a reason."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from noise_models.calibration.burst.estimate import (
    STATED_BLACK_ERROR_DN,
    BurstEstimate,
    BurstNotIdentifiable,
    estimate_from_burst,
)
from noise_models.calibration.burst.law import select_still
from noise_models.calibration.burst.tiles import burst_tiles, join_pairs
from noise_models.calibration.photo.photo_evidence import MAX_GAIN_ERROR
from noise_models.calibration.photo.single_photo import NotIdentifiable
from noise_models.cfa import XTRANS_ROWS
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame
from noise_models.sensor import Estimate
from tests.noise_models.photo_scenes import power_law_scene
from tests.noise_models.still_scenes import MARGIN, SHAPE, body, burst

SMALL = (256, 384)
RUNS = 40


def sigmas(estimate: Estimate | None, truth: float) -> float:
    assert estimate is not None
    assert estimate.standard_error
    return (estimate.value - truth) / estimate.standard_error


def gain_ratios(result: BurstEstimate, truth: float) -> list[float]:
    return [plane.gain.value / truth for plane in result.noise.planes.values() if plane.gain is not None]


def naive_gain(frames: list[RawFrame]) -> float:
    """The planted error: a line through local variances of the difference, motion and all."""
    a, b = (frame.mosaic[0::2, 0::2].astype(float) - 512 for frame in frames)
    tiles = [
        array[:240, :368].reshape(15, 16, 23, 16).transpose(0, 2, 1, 3).reshape(-1, 256) for array in (a + b, a - b)
    ]
    return float(np.polyfit(tiles[0].mean(1) / 2, tiles[1].var(1) / 2, 1)[0])


@pytest.mark.parametrize(("gain", "read"), [(0.1, 1.0), (1.0, 4.0), (10.0, 20.0)])
@pytest.mark.parametrize("masked", [True, False])
def test_a_still_burst_determines_its_noise(gain: float, read: float, masked: bool) -> None:
    camera = body(gain=gain, read=read, masked=masked)
    result = estimate_from_burst(burst(camera, seed=1))

    assert result.trust == "good"
    assert result.noise.origin == "estimated"
    assert result.noise.iso == 800.0
    for plane in result.noise.planes.values():
        assert abs(sigmas(plane.gain, gain)) < 4
        assert abs(sigmas(plane.read_noise_dn, read)) < 4
        assert abs(sigmas(plane.black_level_dn, 512.0)) < 4
        assert plane.black_level_dn.method == ("optical black" if masked else "stated by the file")
    assert max(abs(ratio - 1) for ratio in gain_ratios(result, gain)) < 0.05
    assert result.evidence.used_masked_noise is masked
    assert result.evidence.moving_share < 0.1
    assert result.evidence.textured_excess == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("camera", "scene"),
    [
        ({}, {}),
        ({"masked": False}, {}),
        ({}, {"shift": 0.05}),
        ({}, {"mover": 0.2, "light": 1.08}),
    ],
    ids=["still", "no masked pixels", "shifted", "moving object, unsteady light"],
)
def test_intervals_cover(camera: dict[str, bool], scene: dict[str, float]) -> None:
    """95 % intervals of 40 small bursts a case, four planes each: planes are independent, bodies and seeds too."""
    found: dict[str, list[float]] = {"gain": [], "read": [], "row": [], "black": []}
    for seed in range(RUNS):
        result = estimate_from_burst(burst(body(shape=SMALL, seed=seed, **camera), seed=1000 + seed, **scene)).noise  # type: ignore[arg-type]
        found["row"].append(sigmas(result.row_noise_dn, 0.5))
        for plane in result.planes.values():
            found["gain"].append(sigmas(plane.gain, 1.0))
            found["read"].append(sigmas(plane.read_noise_dn, 4.0))
            found["black"].append(sigmas(plane.black_level_dn, 512.0))
    for name, values in found.items():
        covered = float(np.mean(np.abs(values) < 1.96))
        # Planes share their scene and masked pixels: count the bursts, not the planes.
        assert covered > 0.95 - 3 * math.sqrt(0.95 * 0.05 / RUNS), f"{name}: {covered:.2f}"
    assert abs(np.mean(found["gain"])) < 0.6


def test_motion_is_measured_and_left_out() -> None:
    camera = body(masked=True)
    still, moved = (burst(camera, seed=3, shift=shift) for shift in (0.0, 0.1))
    result = estimate_from_burst(moved)

    shift, error = result.evidence.motion_px
    assert shift == pytest.approx(0.1, rel=0.4)
    assert shift > 5 * error
    assert result.evidence.textured_excess > 1.3
    assert max(abs(sigmas(plane.gain, 1.0)) for plane in result.noise.planes.values()) < 4
    assert estimate_from_burst(still).evidence.motion_px[0] < 0.03
    assert naive_gain(still) == pytest.approx(1.0, rel=0.2)
    assert not 0.5 < naive_gain(moved) < 1.5


def test_an_object_that_moves_is_left_out() -> None:
    result = estimate_from_burst(burst(body(), seed=4, mover=0.3))

    assert 0.2 < result.evidence.moving_share < 0.5
    assert max(abs(sigmas(plane.gain, 1.0)) for plane in result.noise.planes.values()) < 4


def test_choosing_tiles_does_not_bias_them() -> None:
    """Tiles are chosen by the other lattices: on pure noise the chosen ones have the variance of all."""
    tiles = join_pairs(
        [
            burst_tiles(*pair, (camera.black_level, camera.black_level))
            for seed in range(4)
            for camera in [body(row=0.0, column=0.0)]
            for pair in [burst(camera, seed=seed, scene=torch.full((3, SHAPE[0], SHAPE[1] + MARGIN), 0.02))]
        ]
    )
    used = select_still(tiles).used
    ratio = tiles.variance[used].mean() / tiles.variance.mean()
    assert used.mean() > 0.9
    assert abs(ratio - 1) < 5 * math.sqrt(2 / 225 / used.sum())
    own = tiles.variance < np.quantile(tiles.variance, used.mean())
    assert tiles.variance[own].mean() / tiles.variance.mean() < 1 - 5 * math.sqrt(2 / 225 / used.sum())


@pytest.mark.parametrize(("beta", "shift"), [(2.0, 1.0), (2.5, 3.0)])
def test_a_hand_held_burst_of_texture_is_refused(beta: float, shift: float) -> None:
    scene = power_law_scene(beta, (SHAPE[0], SHAPE[1] + MARGIN), mean=0.05, seed=2)
    textured = torch.from_numpy(np.minimum(scene, 0.9)).float()[None].expand(3, -1, -1)
    camera = body(gain=0.2, read=2.0)
    with pytest.raises(BurstNotIdentifiable, match=r"does not determine its noise.*tripod") as refusal:
        estimate_from_burst(burst(camera, seed=5, shift=shift, scene=textured))
    assert isinstance(refusal.value, NotIdentifiable)
    assert any("mov" in reason or "motion" in reason for reason in refusal.value.reasons)
    result = estimate_from_burst(burst(camera, seed=5, scene=textured))
    assert max(abs(sigmas(plane.gain, 0.2)) for plane in result.noise.planes.values()) < 4


def test_a_scene_of_one_level_without_masked_pixels_is_refused() -> None:
    even = torch.full((3, SHAPE[0], SHAPE[1] + MARGIN), 0.02)
    with pytest.raises(BurstNotIdentifiable, match=r"uncertain by|does not grow with light"):
        estimate_from_burst(burst(body(masked=False), seed=6, scene=even))
    result = estimate_from_burst(burst(body(), seed=6, scene=even))  # masked pixels are the second level
    assert all(
        (p.gain.standard_error or 1) / p.gain.value < MAX_GAIN_ERROR for p in result.noise.planes.values() if p.gain
    )


def test_unsteady_light_is_scaled_out_and_told() -> None:
    result = estimate_from_burst(burst(body(), seed=7, light=1.1))
    assert np.median(result.evidence.light_ratios) == pytest.approx(1 / 1.1, rel=0.005)
    assert any("light changed by up to 9" in note for note in result.noise.notes)
    assert not any("light" in note for note in estimate_from_burst(burst(body(), seed=7)).noise.notes)
    with pytest.raises(BurstNotIdentifiable, match=r"differs in light by a factor 0\.67"):
        estimate_from_burst(burst(body(), seed=7, light=1.5))


def test_line_noise() -> None:
    quiet, loud = (estimate_from_burst(burst(body(row=row), seed=8)).noise for row in (0.0, 3.0))
    assert abs(sigmas(loud.row_noise_dn, 3.0)) < 4
    assert loud.row_noise_dn.value == pytest.approx(3.0, rel=0.25)
    assert quiet.row_noise_dn.value < 2.5 * (quiet.row_noise_dn.standard_error or 0.0) + 0.1
    assert loud.column_noise_dn is not None
    assert abs(sigmas(loud.column_noise_dn, 0.3)) < 4


@pytest.mark.parametrize("cfa", ["M", "GBRG", "".join(XTRANS_ROWS)])
def test_other_arrays(cfa: str) -> None:
    shape = (768, 1152) if len(cfa) == 36 else SMALL
    result = estimate_from_burst(burst(body(cfa=cfa, shape=shape), seed=9))
    assert max(abs(sigmas(plane.gain, 1.0)) for plane in result.noise.planes.values()) < 4


def test_more_frames_know_more_and_an_odd_one_is_told() -> None:
    two, five = (estimate_from_burst(burst(body(shape=SMALL), seed=10, frames=count)) for count in (2, 5))
    errors = [result.noise.planes["G1"].gain.standard_error for result in (two, five) if result.noise.planes["G1"].gain]
    assert (errors[1] or 1) < (errors[0] or 0)
    assert any("no partner" in note for note in five.noise.notes)


def test_what_is_no_burst() -> None:
    first, second = burst(body(shape=SMALL), seed=11)
    with pytest.raises(CalibrationError, match="two or more photos of one still scene; there are 1"):
        estimate_from_burst([first])
    with pytest.raises(CalibrationError, match="copies of each other"):
        estimate_from_burst([first, first])
    other = dataclasses.replace(second, shot=dataclasses.replace(second.shot, iso=100.0))
    with pytest.raises(CalibrationError, match=r"must be alike; one is .*ISO 100"):
        estimate_from_burst([first, other])
    white = [dataclasses.replace(f, mosaic=np.full_like(f.mosaic, 16383 - i)) for i, f in enumerate((first, second))]
    with pytest.raises(BurstNotIdentifiable, match="keeps clear of clipping"):
        estimate_from_burst(white)


def test_black_that_only_the_file_states_is_uncertain() -> None:
    plane = estimate_from_burst(burst(body(masked=False, shape=SMALL), seed=12)).noise.planes["R"]
    assert plane.black_level_dn.standard_error == STATED_BLACK_ERROR_DN
