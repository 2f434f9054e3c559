"""The page: verdict on top for a photographer, every number below for an engineer."""

from __future__ import annotations

import base64
from importlib.resources import files

from noise_models.calibration.calibrate import Calibration
from noise_models.frame import Shot
from noise_models.report.plots import figures
from noise_models.report.tables import rows, with_error
from noise_models.report.verdict import judge


def render_report(calibration: Calibration) -> str:
    """One self-contained HTML page: no scripts, no links, pictures inside.

    Args:
        calibration: From `noise_models.calibration.calibrate.calibrate`.

    Returns:
        The page, UTF-8 text. Everything that comes from files is escaped.
    """
    from jinja2 import Environment

    template = files("noise_models.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    checks = judge(calibration)
    pictures = {name: base64.b64encode(png).decode() for name, png in figures(calibration).items()}
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    return page.render(
        profile=calibration.profile,
        camera=Shot(make=calibration.profile.make, model=calibration.profile.model).camera,
        checks=checks,
        passed=all(check.passed for check in checks),
        rows=rows(calibration.profile),
        overview=pictures.pop("read_noise_over_iso", None),
        pictures=pictures,
        evidence=calibration.evidence,
        with_error=with_error,
    )
