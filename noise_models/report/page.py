"""The page: verdict on top for a photographer, every number below for an engineer."""

from __future__ import annotations

import base64
from importlib.resources import files

from noise_models.calibration.calibrate import Calibration
from noise_models.calibration.traps import Finding
from noise_models.frame import Shot
from noise_models.read_split import split_read_noise
from noise_models.report.fit_table import fit_lines
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
    traps = _traps(calibration)
    pictures = {name: base64.b64encode(png).decode() for name, png in figures(calibration).items()}
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    return page.render(
        profile=calibration.profile,
        camera=Shot(make=calibration.profile.make, model=calibration.profile.model).camera,
        checks=checks,
        splits=split_read_noise(calibration.profile.entries),
        passed=all(check.passed for check in checks) and not traps,
        rows=rows(calibration.profile),
        overview=pictures.pop("read_noise_over_iso", None),
        pictures=pictures,
        evidence=calibration.evidence,
        fits={iso: fit_lines(seen) for iso, seen in calibration.evidence.items()},
        findings=_findings(calibration),
        traps=traps,
        with_error=with_error,
    )


def _findings(calibration: Calibration) -> list[tuple[float | None, Finding]]:
    """All findings: those found first, then by ISO, the set as a whole at the end."""
    every = [(iso, finding) for iso, group in calibration.findings.items() for finding in group]
    return sorted(every, key=lambda one: (not one[1].found, one[0] is None, one[0] or 0.0))


def _traps(calibration: Calibration) -> list[str]:
    """One sentence an ISO and trap found, for the top of the page."""
    return [
        f"ISO {iso:g}: {finding.trap.replace('_', ' ')}. {finding.advice}"
        for iso, group in calibration.findings.items()
        if iso is not None
        for finding in group
        if finding.found
    ]
