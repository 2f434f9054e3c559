"""Borders are kept where they are dark sensor, cut where they are not, and keep their colours' phase."""

import numpy as np
import pytest

from noise_models.cfa import Cfa
from noise_models.reading.decoder import Report
from noise_models.reading.masked_areas import GUARD_LINES, masked_areas

BLACK = 500.0
TOP, LEFT, HEIGHT, WIDTH = 20, 30, 200, 300
RGGB = Cfa.parse("RGGB")


def report(margins=(TOP, LEFT, HEIGHT, WIDTH)):
    return Report.model_construct(margins=margins)


def frame(seed=0, right=10, bottom=8):
    """Dark borders around a lit area; every border pixel also tells its colour by +-0.2 DN of nothing."""
    rng = np.random.default_rng(seed)
    full = rng.normal(BLACK, 4.0, (TOP + HEIGHT + bottom, LEFT + WIDTH + right))
    full[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] += 3000
    return np.rint(full).astype(np.uint16)


def areas(full, *, black=BLACK, cfa=RGGB):
    return {a.side: a for a in masked_areas(full, report(), cfa, np.full((2, 2), black))}


def test_all_four_borders_without_the_guard():
    full = frame()
    found = areas(full)
    shapes = {side: area.pixels.shape for side, area in found.items()}
    g = GUARD_LINES
    assert shapes == {"left": (200, 30 - g), "right": (200, 10 - g), "top": (20 - g, 300), "bottom": (8 - g, 300)}
    np.testing.assert_array_equal(found["left"].pixels, full[TOP : TOP + HEIGHT, : LEFT - g])
    np.testing.assert_array_equal(found["top"].pixels, full[: TOP - g, LEFT : LEFT + WIDTH])
    for area in found.values():
        n = area.pixels.size
        assert abs(area.pixels.mean() - BLACK) < 5 * 4.0 / np.sqrt(n)
        assert not area.pixels.flags.writeable


@pytest.mark.parametrize("phase", ["RGGB", "GBRG"])
def test_the_phase_is_that_of_the_first_kept_pixel(phase):
    full = frame()
    full[:3, :] += 40  # rows of start-up noise: an odd number is cut, the phase moves by a row
    found = areas(full, cfa=Cfa.parse(phase))
    assert found["top"].pixels.shape[0] == TOP - GUARD_LINES - 3
    assert found["top"].cfa == Cfa.parse(phase).shifted(3 - TOP, 0)
    assert found["left"].cfa == Cfa.parse(phase).shifted(0, -LEFT)


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_columns_lit_by_leaking_light_are_cut(columns):
    full = frame()
    full[:, LEFT - columns : LEFT] += 25
    kept = areas(full)["left"].pixels.shape[1]
    assert kept == LEFT - max(columns, GUARD_LINES)


def test_noisy_rows_are_cut_and_hot_pixels_are_not():
    full = frame()
    rng = np.random.default_rng(9)
    full[:4] = np.rint(rng.normal(BLACK, 30, full[:4].shape))
    full[TOP + 5, 10] = full[TOP + 80, 12] = 4000
    found = areas(full)
    assert found["top"].pixels.shape[0] == TOP - GUARD_LINES - 4
    assert found["left"].pixels.shape[1] == LEFT - GUARD_LINES


@pytest.mark.parametrize("fill", [0, 500, 3000])
def test_padding_and_lit_borders_are_no_optical_black(fill):
    full = frame()
    lit = np.rint(np.random.default_rng(2).normal(3000, 40, full[:, :LEFT].shape))
    full[:, :LEFT] = lit if fill == 3000 else fill
    assert "left" not in areas(full)
    assert "top" in areas(full)


def test_a_border_far_from_black_or_too_thin_is_left_out():
    assert areas(frame(), black=BLACK - 20) == {}
    assert set(areas(frame(right=5, bottom=6))) == {"left", "top", "bottom"}


def test_no_borders_no_areas():
    full = frame()
    whole = report((0, 0, *full.shape))
    assert masked_areas(full, whole, RGGB, np.full((2, 2), BLACK)) == ()


def test_column_patterns_of_a_real_sensor_stay():
    """Canon 30D, ISO 100: column means scatter by 0.8 DN at 1.6 DN of noise; that is pattern, not light."""
    full = frame().astype(float)
    full[:, :LEFT] += np.random.default_rng(4).normal(0, 2.0, LEFT)
    assert areas(np.rint(full).astype(np.uint16))["left"].pixels.shape[1] == LEFT - GUARD_LINES
