"""``physrestore calibrate``: raw frames to a noise profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from physrestore.cli.console import Exit, JsonOption, emit, errors_as_exit, fail, note, progress, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from noise_models.calibration.calibrate import Calibration
    from noise_models.calibration.frames import CalibrationFrame


def calibrate(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="CAMERA.pnoise.json", help="The profile to write.")],
    darks: Annotated[
        list[Path] | None, typer.Option(metavar="FILES|FOLDERS...", help="Frames without light (lens cap on).")
    ] = None,
    flats: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILES|FOLDERS...", help="Defocused frames of an even surface, two or more per level."),
    ] = None,
    emva: Annotated[
        Path | None, typer.Option(metavar="EMVA1288_Data.txt", help="An EMVA 1288 descriptor file instead.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="REPORT.html", help="Also write a report.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a profile or report that exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a camera's noise from darks and flats; several ISOs at once are sorted by their metadata.

    Good sets: per ISO 8 darks, and 3 to 5 light levels below 30 % of saturation with 2 flats each.
    """
    from noise_models.rawfile import Decoder

    if emva is None and not (darks and flats):
        raise fail("calibrate needs --darks and --flats (or --emva).", Exit.USAGE)
    sources = [path for path in (*(darks or ()), *(flats or ()), *([emva] if emva else ())) if path.is_file()]
    with errors_as_exit(), Decoder() as decoder, progress(quiet=as_json) as bar:
        frames = _frames(darks or [], flats or [], emva, decoder)
        result = _calibrate(frames, lambda done, total: bar(f"frame {done} of {total}", done / total))
        _write(result, out, report, overwrite=overwrite, protect=sources)
    _tell(result, out, report, as_json)


def _frames(darks: list[Path], flats: list[Path], emva: Path | None, decoder: object) -> list[CalibrationFrame]:
    raise NotImplementedError


def _calibrate(frames: list[CalibrationFrame], update: Callable[[int, int], None]) -> Calibration:
    from noise_models.calibration.calibrate import calibrate as measure

    return measure(frames, progress=update)
