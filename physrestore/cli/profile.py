"""``physrestore profile``: look into noise profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from physrestore.cli.console import Exit, JsonOption, emit, errors_as_exit, say, table

if TYPE_CHECKING:
    from noise_models.profile import CameraProfile
    from noise_models.sensor import Estimate

app = typer.Typer(help="Look into noise profiles.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="PROFILE", help="A .pnoise.json file.")]


@app.command()
def show(path: File, as_json: JsonOption = False) -> None:
    """Print a profile as a table: every quantity with its unit and standard error."""
    from noise_models.store import profile_to_json, read_profile

    with errors_as_exit():
        profile = read_profile(path)
    if as_json:
        print(profile_to_json(profile))
        return
    tell(profile)


def tell(profile: CameraProfile) -> None:
    """Print a profile as a table, with its notes."""
    say(f"{profile.make} {profile.model}, CFA {profile.cfa}")
    header = (
        "ISO",
        "plane",
        "K [DN/e-]",
        "read [DN]",
        "read [e-]",
        "black [DN]",
        "PRNU [%]",
        "row [DN]",
        "chi2",
        "segment",
    )
    rows = []
    for entry in profile.entries:
        for name, plane in entry.planes.items():
            percent = None if plane.prnu is None else plane.prnu.model_copy(update=_scaled(plane.prnu, 100.0))
            rows.append(
                (
                    f"{entry.iso:g}",
                    name,
                    _cell(plane.gain),
                    _cell(plane.read_noise_dn),
                    _cell(plane.read_noise),
                    _cell(plane.black_level_dn),
                    _cell(percent),
                    _cell(entry.row_noise_dn),
                    "" if plane.chi2_dof is None else f"{plane.chi2_dof:.2f}",
                    str(entry.segment),
                )
            )
    say(table(rows, header))
    for remark in (*profile.notes, *(f"ISO {e.iso:g}: {text}" for e in profile.entries for text in e.notes)):
        say(f"note: {remark}")


@app.command()
def validate(paths: Annotated[list[Path], typer.Argument(metavar="PROFILES...")], as_json: JsonOption = False) -> None:
    """Check that files are well-formed profiles; says what is wrong and where."""
    from noise_models.errors import ProfileError
    from noise_models.store import read_profile

    reports = []
    for path in paths:
        try:
            profile = read_profile(path)
            reports.append({"file": str(path), "valid": True, "camera": profile.model, "isos": list(profile.isos)})
        except (ProfileError, OSError) as error:
            reports.append({"file": str(path), "valid": False, "reason": str(error)})
        if not as_json:
            last = reports[-1]
            told = f"valid ({last['camera']}, ISO {last['isos']})" if last["valid"] else str(last["reason"])
            say(f"{path}: {told}")
    bad = sum(not report["valid"] for report in reports)
    code = Exit.OK if bad == 0 else Exit.NOTHING_USABLE if bad == len(reports) else Exit.SOME_FAILED
    if as_json:
        emit({"command": "profile validate", "exit_code": int(code), "files": reports})
    raise typer.Exit(code)


def _cell(estimate: Estimate | None) -> str:
    """Value and standard error, e.g. ``0.4987 ± 0.0012``."""
    if estimate is None:
        return ""
    error = "" if estimate.standard_error is None else f" ± {estimate.standard_error:.2g}"
    return f"{estimate.value:.4g}{error}"


def _scaled(estimate: Estimate, factor: float) -> dict[str, float | None]:
    error = estimate.standard_error
    return {"value": estimate.value * factor, "standard_error": None if error is None else error * factor}
