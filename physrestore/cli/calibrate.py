"""``physrestore calibrate``: raw frames to a noise profile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from physrestore.cli.console import Exit, JsonOption, emit, errors_as_exit, fail, note, progress

if TYPE_CHECKING:
    from noise_models.calibration.calibrate import Calibration
    from noise_models.calibration.frames import CalibrationFrame
    from noise_models.rawfile import Decoder

# Options that take every path up to the next option, as a shell's ``darks/*.CR2`` gives them.
PATH_LISTS = ("--darks", "--flats")


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
    iso: Annotated[float | None, typer.Option(min=1, help="ISO of frames whose files do not state it.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="REPORT.html", help="Also write a report.")] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write every figure as PNG and the table as CSV.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist. Never a frame.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a camera's noise from darks and flats; several ISOs at once are sorted by their metadata.

    A good set: per ISO 8 darks, and 3 to 5 light levels below 30 % of saturation with 2 flats each.
    """
    from noise_models.calibration.calibrate import calibrate as measure
    from noise_models.rawfile import Decoder

    if emva is None and not (darks and flats):
        raise fail("calibrate needs --darks and --flats, or --emva.", Exit.USAGE)
    with errors_as_exit(), Decoder() as decoder, progress(quiet=as_json) as bar:
        frames = _frames(darks or [], flats or [], emva, decoder, iso)
        result = measure(frames, progress=lambda done, total: bar(f"frame {done} of {total}", done / total))
        sources = [*_raws(darks or []), *_raws(flats or []), *([emva] if emva else [])]
        written = _write(result, out, report, figures, overwrite=overwrite, protect=sources)
    if as_json:
        emit(
            {
                "command": "calibrate",
                "exit_code": 0,
                "files": [str(path) for path in written],
                "profile": result.profile.model_dump(mode="json"),
            }
        )
        return
    from physrestore.cli.profile import tell

    tell(result.profile)
    for path in written:
        note(f"wrote {path}")


def _frames(
    darks: Sequence[Path], flats: Sequence[Path], emva: Path | None, decoder: Decoder, iso: float | None
) -> list[CalibrationFrame]:
    from noise_models.calibration.emva import read_emva
    from noise_models.calibration.group import frames_from
    from noise_models.frame import RawFrame
    from noise_models.rawfile import read_raw

    if emva is not None:
        return read_emva(emva) if iso is None else read_emva(emva, iso=iso)

    def read(path: Path) -> RawFrame:
        return read_raw(path, decoder=decoder)

    return frames_from(_raws(darks), _raws(flats), read=read, iso=iso)


def _raws(paths: Sequence[Path]) -> list[Path]:
    from physrestore.inputs import collect

    return [one.path for one in collect(paths)]


def _write(
    result: Calibration,
    out: Path,
    report: Path | None,
    figures: Path | None,
    *,
    overwrite: bool,
    protect: Sequence[Path],
) -> list[Path]:
    from noise_models.report import profile_csv, render_report
    from noise_models.report.plots import figures as draw
    from noise_models.store import profile_to_json
    from physrestore.output.publish import publish_bytes

    contents = {out: profile_to_json(result.profile).encode()}
    if report is not None:
        contents[report] = render_report(result).encode()
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        contents |= {figures / f"{name}.png": png for name, png in draw(result).items()}
        contents[figures / "profile.csv"] = profile_csv(result.profile).encode()
    for path, content in contents.items():
        publish_bytes(path, content, overwrite=overwrite, protect=protect)
    return list(contents)


def spread_path_lists(arguments: Sequence[str], names: Sequence[str] = PATH_LISTS) -> list[str]:
    """Repeat an option before each of its paths, so that ``--darks a b`` works like ``--darks a --darks b``.

    >>> spread_path_lists(["calibrate", "--darks", "a", "b", "-o", "c"])
    ['calibrate', '--darks', 'a', '--darks', 'b', '-o', 'c']
    """
    spread: list[str] = []
    current = ""
    for argument in arguments:
        if argument.startswith("-"):
            current = argument if argument in names else ""
            spread += [] if current else [argument]
        else:
            spread += [current, argument] if current else [argument]
    return spread
