"""``physrestore profile``: look into noise profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from physrestore.cli.console import Exit, JsonOption, emit, errors_as_exit, fail, say, table

if TYPE_CHECKING:
    from noise_models.profile import CameraProfile
    from noise_models.sensor import Estimate

app = typer.Typer(help="Look into noise profiles.", no_args_is_help=True)

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the profile if it exists.")]
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
    from noise_models.read_split import split_read_noise

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
    for split in split_read_noise(profile.entries):
        say(
            f"segment {split.segment}: read noise {_cell(split.before)} e- before the gain, "
            f"{_cell(split.behind_dn)} DN behind it (law met within {100 * split.misfit:.1f} %)"
        )
    for remark in (*profile.notes, *(f"ISO {e.iso:g}: {text}" for e in profile.entries for text in e.notes)):
        say(f"note: {remark}")


@app.command()
def merge(
    paths: Annotated[list[Path], typer.Argument(metavar="PROFILES...", help="Profiles of one camera.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="CAMERA.pnoise.json", help="The profile to write.")],
    overwrite: Overwrite = False,
) -> None:
    """Join profiles of one camera: the union of their ISOs, the mean where an ISO was measured twice."""
    from noise_models.merge import merge_profiles
    from noise_models.store import profile_to_json, read_profile
    from physrestore.output.publish import publish_bytes

    with errors_as_exit():
        merged = merge_profiles([read_profile(path) for path in paths])
        publish_bytes(out, profile_to_json(merged).encode(), overwrite=overwrite, protect=paths)
    tell(merged)


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A DNG with a NoiseProfile, or darktable's noiseprofiles.json.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="CAMERA.pnoise.json", help="The profile to write.")],
    model: Annotated[str | None, typer.Option(help="darktable: the camera, as the file spells it.")] = None,
    black: Annotated[float | None, typer.Option(help="darktable: black level of the camera [DN].")] = None,
    white: Annotated[float | None, typer.Option(help="darktable: white level of the camera [DN].")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a profile from a noise description of another program. It says how far it is to be trusted."""
    from noise_models.store import profile_to_json
    from physrestore.output.publish import publish_bytes

    path = Path(source)
    with errors_as_exit():
        if path.suffix.lower() == ".json":
            from noise_models.interchange.darktable import import_darktable

            if model is None or black is None or white is None:
                raise fail("a darktable file needs --model, --black and --white: it states no levels.", Exit.USAGE)
            profile = import_darktable(path, model=model, black=black, white=white)
        else:
            profile = _of_dng(path)
        publish_bytes(out, profile_to_json(profile).encode(), overwrite=overwrite, protect=[path])
    tell(profile)


@app.command()
def export(
    path: File,
    to: Annotated[Literal["darktable", "dng", "eld", "csv"], typer.Option(help="Whose words.")],
    white: Annotated[
        float | None, typer.Option(help="White level [DN]. Default: the measured saturation, where there is one.")
    ] = None,
) -> None:
    """Print a profile as darktable entries, as DNG NoiseProfile pairs, in ELD's parameters, or as CSV."""
    import dataclasses

    from noise_models.interchange.darktable import export_darktable
    from noise_models.interchange.eld import eld_view
    from noise_models.report import profile_csv
    from noise_models.store import read_profile

    with errors_as_exit():
        profile = read_profile(path)
        if to == "csv":
            print(profile_csv(profile), end="")
        elif to == "eld":
            emit({"segments": [dataclasses.asdict(view) for view in eld_view(profile)]})
        else:
            level = _white_level(profile) if white is None else white
            if to == "darktable":
                print(export_darktable(profile, white=level))
            else:
                emit({"white_level": level, "entries": _dng_pairs(profile, level)})


def _of_dng(path: Path) -> CameraProfile:
    from noise_models.errors import ProfileError
    from noise_models.interchange.dng import noise_from_tag
    from noise_models.profile import CameraProfile, Provenance
    from noise_models.rawfile import read_raw

    frame = read_raw(path)
    if frame.noise_profile is None or frame.shot.iso is None:
        missing = "DNG NoiseProfile" if frame.noise_profile is None else "ISO"
        raise ProfileError(f"{path.name!r} has no {missing}. Calibrate the camera, or estimate from the photo itself.")
    levels = {"black": frame.black_level, "white": frame.white_level}
    noise = noise_from_tag(frame.noise_profile, cfa=frame.cfa, iso=frame.shot.iso, **levels)
    return CameraProfile(
        make=frame.shot.make,
        model=frame.shot.model,
        cfa=frame.cfa.name,
        entries=(noise,),
        provenance=Provenance(source=f"NoiseProfile of {path.name}"),
    )


def _white_level(profile: CameraProfile) -> float:
    from noise_models.errors import ProfileError

    levels = [
        plane.saturation_dn.value
        for entry in profile.entries
        for plane in entry.planes.values()
        if plane.saturation_dn is not None
    ]
    if not levels:
        raise ProfileError("The profile holds no saturation level. Give the camera's white level with --white.")
    return max(levels)


def _dng_pairs(profile: CameraProfile, white: float) -> list[dict[str, object]]:
    import numpy as np

    from noise_models.cfa import Cfa
    from noise_models.interchange.dng import tag_from_noise

    cfa = Cfa.parse(profile.cfa)
    rows: list[dict[str, object]] = []
    for entry in profile.entries:
        black = np.array([[entry.planes[name].black_level_dn.value for name in row] for row in cfa.plane_of_site])
        pairs = tag_from_noise(entry, cfa=cfa, black=black, white=np.full(cfa.period, white))
        rows.append({"iso": entry.iso, "noise_profile": [list(pair) for pair in pairs]})
    return rows


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
