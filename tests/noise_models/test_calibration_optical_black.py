from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from noise_models.calibration.photo.optical_black import OpticalBlack, coarse_code_error, measure_optical_black
from noise_models.cfa import Cfa
from noise_models.frame import MaskedArea, RawFrame
from noise_models.rawfile import read_raw
from noise_models.sensor import Estimate
from tests.shared_data import shared

RGGB = Cfa.parse("RGGB")


def frame_with(
    pixels: NDArray[np.float64], *, side: str = "left", cfa: Cfa = RGGB, shift: tuple[int, int] = (0, 0)
) -> RawFrame:
    codes = np.clip(np.rint(pixels), 0, 4095).astype(np.uint16)
    return RawFrame(
        mosaic=np.full((64, 64), 500, np.uint16),
        cfa=cfa,
        black_level=np.full(cfa.period, 128.0),
        white_level=np.full(cfa.period, 4095.0),
        masked=(MaskedArea(side, codes, cfa.shifted(*shift)),),
    )


def dark(
    seed: int, shape: tuple[int, int] = (800, 48), *, read: float = 3.0, row: float = 0.0, column: float = 0.0
) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    pixels = 128 + rng.normal(0, read, shape)
    return np.asarray(pixels + row * rng.standard_normal((shape[0], 1)) + column * rng.standard_normal((1, shape[1])))


def measured(frame: RawFrame) -> OpticalBlack:
    result = measure_optical_black(frame)
    assert result is not None
    return result


def sigmas(estimate: Estimate | None, truth: float) -> float:
    assert estimate is not None
    assert estimate.standard_error is not None
    return (estimate.value - truth) / estimate.standard_error


@pytest.mark.parametrize(
    ("read", "row", "column"), [(3.0, 0.0, 0.0), (3.0, 0.3, 0.5), (0.7, 0.5, 0.0), (12.0, 2.0, 3.0)]
)
def test_every_quantity_is_recovered(read: float, row: float, column: float) -> None:
    result = measured(frame_with(dark(1, read=read, row=row, column=column)))
    assert abs(sigmas(result.read_noise_dn, read)) < 5
    assert result.row_noise_dn is not None
    assert result.column_pattern_dn is not None
    assert abs(result.row_noise_dn.value - row) < 5 * (result.row_noise_dn.standard_error or 0)
    assert abs(result.column_pattern_dn.value - column) < 5 * (result.column_pattern_dn.standard_error or 0)
    assert all(abs(sigmas(level, 128.0)) < 5 for level in result.black_level_dn.values())
    assert result.read_noise_dn.standard_error == pytest.approx(read / np.sqrt(2 * 800 * 48), rel=0.3)


def test_standard_errors_are_the_scatter_of_repeats() -> None:
    results = [measured(frame_with(dark(seed, (400, 24), row=0.4))) for seed in range(60)]
    for read in (
        [sigmas(result.read_noise_dn, 3.0) for result in results],
        [sigmas(result.row_noise_dn, 0.4) for result in results],
        [sigmas(result.black_level_dn["R"], 128.0) for result in results],
    ):
        # The std of 60 normal draws is 1 +- 0.09; a standard error off by 1.6 or more fails.
        assert 0.6 < np.std(read) < 1.5


def test_row_noise_does_not_take_the_noise_of_a_mean_for_row_noise() -> None:
    values = [measured(frame_with(dark(seed))).row_noise_dn for seed in range(20)]
    squares = np.mean([value.value**2 for value in values if value is not None])
    naive = 9.0 / 48  # variance of a mean of 48 pixels: what the uncorrected estimator reports
    assert squares < naive / 5


def test_planes_keep_their_own_black_whatever_the_phase_of_the_area() -> None:
    pixels = dark(2)
    pixels[1::2, 0::2] += 4.0  # seen from a visible area one column further right, this is blue
    result = measured(frame_with(pixels, shift=(0, -1)))
    assert result.black_level_dn["B"].value == pytest.approx(132, abs=0.3)
    assert result.black_level_dn["G2"].value == pytest.approx(128, abs=0.3)
    assert abs(sigmas(result.read_noise_dn, 3.0)) < 5


def test_garbage_columns_and_hot_pixels_are_left_out() -> None:
    pixels = dark(3)
    pixels[:, 47] += 60  # light beside the image
    pixels[:, 0] = 128 + 40 * np.random.default_rng(1).standard_normal(800)  # an unconnected column
    pixels[::20, 5:45] += 3000 * np.eye(40)  # forty hot pixels, one in each column
    result = measured(frame_with(pixels))
    assert result.rejected_lines == 2
    assert result.rejected_pixels >= 40
    assert abs(sigmas(result.read_noise_dn, 3.0)) < 5
    assert result.total_std_dn > 30  # nothing removed there: the planted pixels are seen


def test_drift_is_reported_and_is_not_row_noise() -> None:
    result = measured(frame_with(dark(4) + np.linspace(-2, 2, 800)[:, None]))
    assert result.drift_dn[0] == pytest.approx(-1.75, abs=0.15)
    assert result.drift_dn[-1] == pytest.approx(1.75, abs=0.15)
    assert result.row_noise_dn is not None
    assert result.row_noise_dn.value < 0.3


def test_a_strip_above_the_image_gives_black_and_read_noise_but_no_row_noise() -> None:
    result = measured(frame_with(dark(5, (12, 900), column=0.5), side="top"))
    assert result.row_noise_dn is None
    assert abs(sigmas(result.read_noise_dn, 3.0)) < 5
    assert abs(sigmas(result.column_pattern_dn, 0.5)) < 5


def test_two_sides_are_joined() -> None:
    both = dark(6, (800, 96), row=0.5)
    left, right = frame_with(both[:, :48]), frame_with(both[:, 48:], side="right")
    result = measured(dataclasses.replace(left, masked=left.masked + right.masked))
    assert result.sides == ("left", "right")
    assert result.n_pixels == 800 * 96
    assert abs(sigmas(result.row_noise_dn, 0.5)) < 5


def test_xtrans_and_monochrome() -> None:
    xtrans = Cfa.parse("GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG")
    assert set(measured(frame_with(dark(7), cfa=xtrans)).black_level_dn) == {"R", "G", "B"}
    assert set(measured(frame_with(dark(7), cfa=Cfa.parse("M"))).black_level_dn) == {"M"}


def test_noise_under_half_a_code_says_how_uncertain_it_is() -> None:
    for offset in np.linspace(0, 0.5, 6):
        result = measured(frame_with(dark(8, read=0.35) + offset))
        error = result.read_noise_dn.standard_error
        assert error is not None
        assert error > 0.02  # statistics alone would say 0.001; 25 % of 0.35 is the worst phase's bias
        assert abs(result.read_noise_dn.value - 0.35) < 3 * error
    assert coarse_code_error(1.0) < 1e-7


@pytest.mark.parametrize(
    "pixels",
    [
        dark(9, (800, 4)),  # too few columns
        dark(9, (20, 20)),  # too few pixels
        dark(9) - 128,  # clamped at black: half of the pixels read 0
    ],
)
def test_unusable_areas_give_none(pixels: NDArray[np.float64]) -> None:
    assert measure_optical_black(frame_with(pixels)) is None


def test_no_masked_area_gives_none() -> None:
    assert measure_optical_black(dataclasses.replace(frame_with(dark(9)), masked=())) is None


@pytest.mark.data
@pytest.mark.parametrize(("name", "std"), [("canon_30d_iso100.CR2", 1.75), ("canon_30d_iso640.CR2", 2.26)])
def test_canon_30d(name: str, std: float) -> None:
    result = measured(read_raw(shared(f"raw/{name}")))
    assert np.mean([level.value for level in result.black_level_dn.values()]) == pytest.approx(128.0, abs=0.1)
    assert result.total_std_dn == pytest.approx(std, rel=0.02)
    assert result.row_noise_dn is not None
    parts = [result.read_noise_dn, result.row_noise_dn, result.column_pattern_dn]
    explained = sum(part.value**2 for part in parts if part is not None) + 1 / 12
    assert explained <= result.total_std_dn**2 * 1.02
