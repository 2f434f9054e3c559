"""Blinking and hot pixels: found where planted, not found where there are none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from noise_models.calibration.shape.rts import FALSE_DISCOVERY_RATE, TemporalMoments, find_defects
from noise_models.errors import CalibrationError
from tests.noise_models.dark_simulation import darks


def moments_of(frames: NDArray[np.generic]) -> TemporalMoments:
    moments = TemporalMoments(frames.shape[1:])
    for frame in frames:
        moments.update(frame)
    return moments


def blink(frames: NDArray[np.uint16], where: NDArray[np.bool_], step: int, rng: np.random.Generator) -> None:
    """Two levels, each half of the time."""
    for frame in frames:
        frame[where & (rng.random(where.shape) < 0.5)] += step


def test_moments_equal_those_of_the_stack() -> None:
    rng = np.random.default_rng(0)
    frames = rng.normal(16000.0, 3.0, (9, 300, 40)).astype(np.float32)  # more rows than a block

    moments = moments_of(frames)

    flat = np.stack([f - np.median(f) for f in frames.astype(np.float64)])
    flat -= flat.mean(axis=2, keepdims=True)
    flat -= flat.mean(axis=1, keepdims=True)
    # float32 around 16,000 has steps of 0.001
    np.testing.assert_allclose(moments.mean(), flat.mean(axis=0), atol=5e-3)
    np.testing.assert_allclose(moments.variance(), flat.var(axis=0, ddof=1), rtol=5e-3)


def test_blinking_and_hot_pixels_are_found() -> None:
    rng = np.random.default_rng(1)
    frames = darks("gaussian", 0.0, rng, std=3.0, frames=16, side=256)
    blinking = np.zeros((256, 256), dtype=bool)
    blinking.flat[rng.choice(256 * 256, 300, replace=False)] = True
    hot = np.zeros_like(blinking)
    hot.flat[rng.choice(256 * 256, 40, replace=False)] = True
    hot &= ~blinking
    blink(frames, blinking, 30, rng)
    frames[:, hot] += 60

    found = find_defects(moments_of(frames))

    assert (found.blinking & blinking).sum() >= 0.99 * blinking.sum()
    false = (found.blinking & ~blinking).sum()
    assert false <= FALSE_DISCOVERY_RATE * 300 + 5 * np.sqrt(FALSE_DISCOVERY_RATE * 300)
    assert (found.hot & hot).sum() == hot.sum()
    assert found.typical_variance == pytest.approx(9.0 + 1 / 12, rel=0.02)
    # Levels 0 and 30 with equal odds: excess variance 225 on average over pixels.
    assert np.mean(found.excess_variance) == pytest.approx(225.0, rel=0.05)
    population = found.hot_pixels()
    assert population is not None
    assert population.fraction.value * 256**2 == found.hot.sum()
    # Blinking pixels are bright on average, too; the hot ones stand 60 DN out.
    assert (found.hot_excess_dn > 40.0).sum() == hot.sum()
    assert found.hot_excess_dn[-hot.sum() :].mean() == pytest.approx(60.0, abs=1.0)
    assert (found.any == (found.blinking | found.hot | found.cold)).all()


def test_nothing_is_found_where_nothing_is() -> None:
    rng = np.random.default_rng(2)

    found = [find_defects(moments_of(darks("gaussian", 0.0, rng, frames=8, side=128))) for _ in range(20)]

    # The rule lets one series in a hundred show anything at all: 3 of 20 would be a five-sigma event.
    assert sum(bool(f.blinking.any()) for f in found) < 3
    assert all(f.hot_pixels() is None for f in found)


def test_a_spread_of_sigma_is_not_blinking_once_it_is_known() -> None:
    rng = np.random.default_rng(3)
    moments = moments_of(darks("lognormal", 0.4, rng, std=4.0, frames=12, side=256))

    known = find_defects(moments, spread_width=0.4)

    assert known.blinking.sum() <= 5
    assert known.typical_variance == pytest.approx(16.0 + 1 / 12, rel=0.02)
    # The planted error: the plain chi^2 law takes ordinary noisy pixels for blinking ones.
    assert find_defects(moments).blinking.sum() > 500


def test_subtracted_hot_pixels_show_as_cold() -> None:
    frames = darks("gaussian", 0.0, np.random.default_rng(4), frames=8, side=64)
    frames[:, 10, 20] -= 100

    found = find_defects(moments_of(frames))

    assert np.argwhere(found.cold).tolist() == [[10, 20]]
    assert not found.hot.any()


def test_too_few_darks_are_refused() -> None:
    with pytest.raises(CalibrationError, match="at least 8 darks, there are 7"):
        find_defects(moments_of(darks("gaussian", 0.0, np.random.default_rng(5), frames=7, side=16)))


def test_frames_must_fit() -> None:
    with pytest.raises(CalibrationError, match=r"\(4, 5\) pixels of one colour, the ones before \(4, 4\)"):
        TemporalMoments((4, 4)).update(np.zeros((4, 5), dtype=np.uint16))


def test_one_frame_has_no_variance() -> None:
    with pytest.raises(CalibrationError, match="needs two frames; there are 0"):
        TemporalMoments((4, 4)).variance()
