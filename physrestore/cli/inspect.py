"""``physrestore inspect``: what a file is and what can be done with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from physrestore.cli.console import Exit, JsonOption, emit, fail, say

if TYPE_CHECKING:
    from noise_models.frame import RawFrame


def inspect(
    inputs: Annotated[list[Path], typer.Argument(metavar="FILES|FOLDERS...", help="Raw files, or folders of them.")],
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Refuse larger frames before reading them.")] = 200.0,
    as_json: JsonOption = False,
) -> None:
    """Say what each file is: camera, ISO, array, levels, integrity, and which noise it would be restored with."""
    from noise_models.errors import RawFileError
    from noise_models.rawfile import Decoder, read_raw
    from physrestore.inputs import collect

    found = collect(inputs)
    if not found:
        raise fail("no raw files in " + ", ".join(map(str, inputs)) + ". Name raw files, or folders that hold some.")
    reports: list[dict[str, object]] = []
    with Decoder() as decoder:
        for one in found:
            try:
                frame = read_raw(one.path, decoder=decoder, max_megapixels=max_megapixels, allow_damaged=True)
                report = describe(frame)
            except RawFileError as error:
                report = {"usable": False, "problem": type(error).__name__, "reason": error.reason}
            reports.append({"file": str(one.path), **report})
            if not as_json:
                _tell(reports[-1])
    refused = sum(not report["usable"] for report in reports)
    code = Exit.OK if refused == 0 else Exit.NOTHING_USABLE if refused == len(reports) else Exit.SOME_FAILED
    if as_json:
        emit({"command": "inspect", "exit_code": int(code), "files": reports})
    raise typer.Exit(code)


def describe(frame: RawFrame) -> dict[str, object]:
    """What is known of a frame, as plain types."""
    from noise_models.calibration.photo.optical_black import measure_optical_black
    from noise_models.errors import NoiseModelError
    from noise_models.frame import Integrity
    from physrestore.cli.restore import profile_folder
    from physrestore.noise_choice import choose_noise

    shot, black = frame.shot, measure_optical_black(frame)
    try:
        chosen = choose_noise(frame, folder=profile_folder())
        noise = f"{chosen.origin} ({chosen.trust})"
    except NoiseModelError as error:
        noise = f"none: {error}"
    optical = None
    if black is not None:
        optical = {
            "pixels": black.n_pixels,
            "black_level_dn": {name: round(one.value, 3) for name, one in black.black_level_dn.items()},
            "read_noise_dn": round(black.read_noise_dn.value, 3),
            "row_noise_dn": None if black.row_noise_dn is None else round(black.row_noise_dn.value, 3),
        }
    return {
        "usable": frame.source.integrity is not Integrity.DAMAGED,
        "camera": shot.camera,
        "lens": shot.lens,
        "iso": shot.iso,
        "exposure_s": shot.exposure_s,
        "aperture": shot.aperture,
        "size": [frame.shape[1], frame.shape[0]],
        "megapixels": round(frame.megapixels, 2),
        "cfa": frame.cfa.name,
        "orientation": frame.orientation,
        "black_level": frame.black_level.tolist(),
        "white_level": frame.white_level.tolist(),
        "clipped_fraction": float(frame.clipped().float().mean()),
        "as_shot_neutral": frame.colour.as_shot_neutral,
        "dng_noise_profile": frame.noise_profile,
        "optical_black": optical,
        "decoder": frame.source.decoder,
        "integrity": frame.source.integrity.value,
        "integrity_evidence": frame.source.integrity_evidence,
        "noise": noise,
    }


def _tell(report: dict[str, object]) -> None:
    say(str(report["file"]))
    if "problem" in report:
        say(f"  cannot be used ({report['problem']}): {report['reason']}")
        return
    for key, value in report.items():
        if key in ("file", "usable") or value is None or value == "":
            continue
        say(f"  {key.replace('_', ' '):20} {_text(value)}")


def _text(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key.replace('_', ' ')} {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
