"""The report: one page that needs nothing else, says what is wrong at the top, and shows every number."""

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest

from noise_models.calibration import Calibration, calibrate
from noise_models.calibration.frames import CalibrationFrame
from noise_models.report import profile_csv, render_report
from noise_models.report.fit_table import fit_lines
from noise_models.report.plots import figures
from noise_models.report.verdict import judge
from tests.noise_models.calibration_camera import Camera

LEVELS = (150.0, 900.0, 1600.0, 3000.0, 4500.0, 9000.0)


def frames(camera: Camera) -> list[CalibrationFrame]:
    return camera.darks(8) + [
        replace(frame, light=LEVELS[frame.level_key])  # type: ignore[call-overload]
        for frame in camera.flats(*LEVELS)
    ]


def scaled(frame: CalibrationFrame) -> CalibrationFrame:
    """As a camera with a digital gain would write it."""
    raw = frame.load()
    codes = np.rint(512 + 1.6 * (raw.mosaic.astype(float) - 512)).astype(np.uint16)
    return replace(frame, load=lambda: replace(raw, mosaic=codes))


@pytest.fixture(scope="module")
def good() -> Calibration:
    camera = Camera(read=6.0, black=512.0, row=0.5, hot=5e-4, shape=(256, 256), seed=2)
    return calibrate(frames(camera))


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds; a test of the text does without."""
    monkeypatch.setattr("noise_models.report.page.figures", lambda _: {})


def test_the_page_is_self_contained(good: Calibration) -> None:
    page = render_report(good)
    assert "<script" not in page
    assert "http" not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]*", "", page)
    assert len(re.findall(r'src="data:image/png;base64,iVBORw0KGgo', page)) == 8
    assert all(tag in page for tag in ("A good calibration", "Does the profile describe the frames?", "Traps"))


def test_every_figure_is_a_picture_of_what_was_measured(good: Calibration) -> None:
    drawn = figures(good)
    names = (
        "photon_transfer", "stabilised", "linearity", "dark_histogram", "line_spectra", "dark_map", "defect_map",
        "black_over_frames",
    )  # fmt: skip
    assert set(drawn) == {f"iso100_{name}" for name in names}
    assert all(png.startswith(b"\x89PNG\r\n") for png in drawn.values())
    dark_only = figures(calibrate(Camera(shape=(64, 64)).darks(2)))
    assert set(dark_only) == {f"iso100_{name}" for name in ("dark_histogram", "line_spectra", "dark_map")}


@pytest.mark.usefixtures("no_figures")
def test_a_trap_stands_at_the_top_and_spoils_the_verdict() -> None:
    camera = Camera(read=6.0, black=512.0, shape=(128, 128), seed=5)
    page = render_report(calibrate([scaled(frame) for frame in frames(camera)]))
    top = page[: page.index("In short")]
    assert "Usable, with reservations" in top
    assert "digital gain" in top
    row = page[page.index('<tr class="hit">') :]
    assert "yes" in row[: row.index("</tr>")]


@pytest.mark.usefixtures("no_figures")
def test_names_from_files_are_escaped(good: Calibration) -> None:
    profile = good.profile.model_copy(update={"model": "<b>&", "notes": ("<script>alert(1)</script>",)})
    page = render_report(replace(good, profile=profile))
    assert "<script" not in page
    assert "&lt;b&gt;&amp;" in page


def test_the_box_fails_a_profile_that_does_not_describe_its_frames(good: Calibration) -> None:
    assert all(check.passed for check in judge(good)), [check.text for check in judge(good) if not check.passed]
    plane = good.profile.entries[0].planes["M"]
    assert plane.gain is not None
    seen = good.evidence[100.0]
    off = [
        replace(level, variance=level.variance.model_copy(update={"value": level.variance.value * 1.1}))
        for level in seen.quality.stabilised["M"]
    ]
    codes = seen.quality.codes
    assert codes is not None
    wrong = replace(
        seen.quality, stabilised={"M": off}, codes=replace(codes, attainable=codes.log_likelihood.value + 0.1)
    )
    failed = [
        check.text for check in judge(replace(good, evidence={100.0: replace(seen, quality=wrong)})) if not check.passed
    ]
    assert len(failed) == 2
    assert "off the profile" in failed[0]
    assert "nats" in failed[1]


def test_lines_without_data_are_left_out(good: Calibration) -> None:
    full = [line.text for line in fit_lines(good.evidence[100.0])]
    assert any("stabilisation" in text for text in full)
    assert any("divergence" in text for text in full)
    assert fit_lines(calibrate(Camera(shape=(64, 64)).darks(2)).evidence[100.0]) == []


def test_the_table_as_csv_holds_every_quantity(good: Calibration) -> None:
    rows = list(csv.DictReader(io.StringIO(profile_csv(good.profile))))
    values = {row["quantity"]: float(row["value"]) for row in rows}
    plane = good.profile.entries[0].planes["M"]
    assert plane.linearity_error is not None
    assert values["linearity_error"] == plane.linearity_error.value
    assert values["black_level_dn"] == plane.black_level_dn.value
