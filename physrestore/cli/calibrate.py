"""``physrestore calibrate``: frames to a noise profile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from physrestore.cli.console import Bar, Exit, JsonOption, emit, errors_as_exit, fail, note, progress, say, table

if TYPE_CHECKING:
    from noise_models.calibration.calibrate import Calibration
    from noise_models.calibration.frames import CalibrationFrame
    from noise_models.calibration.inputs.group import FrameItem, Reader
    from noise_models.calibration.inputs.stacks import StackFormat
    from noise_models.calibration.photo.pool import PooledProfile
    from noise_models.profile import CameraProfile

# Options that take every path up to the next option, as a shell's ``darks/*.CR2`` gives them.
PATH_LISTS = ("--darks", "--flats", "--bursts", "--photos")
_ADVICE = "calibrate needs FRAMES, --darks with --flats, --bursts, --photos, or --emva."


@dataclasses.dataclass(frozen=True)
class _Source:
    """What one kind of frames told.

    Attributes:
        name: For the table.
        profile: Its ISOs.
        rows: ISO, trust and what limits it, also of ISOs that could not be told.
        complete: Every file was used and every ISO told.
        calibration: With the evidence, where there is any.
    """

    name: str
    profile: CameraProfile
    rows: list[tuple[float, str, tuple[str, ...]]]
    complete: bool
    calibration: Calibration | None = None


@dataclasses.dataclass(frozen=True)
class _Given:
    """The files of the command line."""

    unsorted: list[FrameItem]
    darks: list[FrameItem]
    flats: list[FrameItem]
    bursts: list[FrameItem]
    photos: list[FrameItem]
    emva: Path | None
    iso: float | None
    maps: bool


def calibrate(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="CAMERA.pnoise.json", help="The profile to write.")],
    frames: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FRAMES...", help="Darks and flats mixed; their content tells which is which."),
    ] = None,
    darks: Annotated[
        list[Path] | None, typer.Option(metavar="FILES|FOLDERS...", help="Frames without light (lens cap on).")
    ] = None,
    flats: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILES|FOLDERS...", help="Defocused frames of an even surface, two or more per level."),
    ] = None,
    bursts: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILES|FOLDERS...", help="Two or more photos of a still scene, from a tripod."),
    ] = None,
    photos: Annotated[
        list[Path] | None, typer.Option(metavar="FILES|FOLDERS...", help="Ordinary photos: an estimate with a grade.")
    ] = None,
    emva: Annotated[
        Path | None, typer.Option(metavar="EMVA1288_Data.txt", help="An EMVA 1288 descriptor file.")
    ] = None,
    iso: Annotated[float | None, typer.Option(min=1, help="ISO of frames whose files do not state it.")] = None,
    cfa: Annotated[
        str | None, typer.Option(metavar="RGGB|GRBG|...|M", help="TIFF and PNG: colour filters. Default: M (none).")
    ] = None,
    black: Annotated[float | None, typer.Option(min=0, help="TIFF and PNG: black level [DN]. Default: 0.")] = None,
    white: Annotated[float | None, typer.Option(min=1, help="TIFF and PNG: white level [DN]. Default: 4095.")] = None,
    exposure: Annotated[
        float | None,
        typer.Option(min=0, help="TIFF and PNG: exposure [s]. Default: the folder's name, where it is like 10ms."),
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="REPORT.html", help="Also write a report.")] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write every figure as PNG and the table as CSV.")
    ] = None,
    maps: Annotated[
        Path | None, typer.Option(metavar="MAPS.npz", help="Also write maps: mean dark, defects, blinking, response.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist. Never a frame.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a camera's noise; several ISOs at once are sorted by their metadata.

    Darks and flats are best: per ISO 8 darks, and 3 to 5 light levels below 30 % of saturation with 2 flats each.
    An ISO that they lack is filled in from bursts, and what those lack from photos.
    """
    from noise_models.rawfile import Decoder, read_raw

    if not (frames or bursts or photos or emva or (darks and flats)) or (bool(darks) != bool(flats) and not frames):
        raise fail(_ADVICE, Exit.USAGE)
    form = _stack_format(cfa, black, white, iso, exposure)
    lists = [_items(paths or [], form) for paths in (frames, darks, flats, bursts, photos)]
    items = [item for one in lists for item, _ in one]
    if not items and emva is None:
        raise fail("there are no raw, TIFF or PNG files in what was given.")
    if (cfa, black, white, exposure) != (None,) * 4 and not any(stack for one in lists for _, stack in one):
        raise fail("--cfa, --black, --white and --exposure are for TIFF and PNG; raw files state these.", Exit.USAGE)
    by_kind = [[item for item, _ in one] for one in lists]
    given = _Given(by_kind[0], by_kind[1], by_kind[2], by_kind[3], by_kind[4], emva, iso, maps is not None)
    with errors_as_exit(), Decoder() as decoder, progress(quiet=as_json) as bar:
        sources, failures = _measure(given, lambda path: read_raw(path, decoder=decoder), bar)
        result = _joined(sources)
        protect = [_path_of(item) for item in items] + ([emva] if emva else [])
        written = _write(result, out, report, figures, maps, overwrite=overwrite, protect=protect)
    code = Exit.SOME_FAILED if failures or not all(source.complete for source in sources) else Exit.OK
    _tell(result.profile, sources, failures, written, code, as_json=as_json)
    raise typer.Exit(code)


def _stack_format(
    cfa: str | None, black: float | None, white: float | None, iso: float | None, exposure: float | None
) -> StackFormat:
    from noise_models.calibration.inputs.stacks import StackFormat
    from noise_models.cfa import Cfa
    from noise_models.errors import CfaError

    usual = StackFormat()
    form = StackFormat(
        cfa=usual.cfa if cfa is None else cfa,
        black=usual.black if black is None else black,
        white=usual.white if white is None else white,
        iso=usual.iso if iso is None else iso,
        exposure_s=exposure,
    )
    try:
        Cfa.parse(form.cfa)
    except CfaError as error:
        raise fail(str(error), Exit.USAGE) from error
    if form.black >= form.white:
        raise fail(f"--black {form.black:g} is not below --white {form.white:g}.", Exit.USAGE)
    return form


def _items(paths: Sequence[Path], form: StackFormat) -> list[tuple[FrameItem, bool]]:
    """Frames of files and folders, each with whether it is of a TIFF or PNG.

    In a folder those count only where there are no raw files: beside raw files they are previews and results.
    """
    from noise_models.calibration.inputs.stacks import STACK_EXTENSIONS, stack_files
    from physrestore.inputs import collect

    files: list[Path] = []
    for path in paths:
        found = [one.path for one in collect([path])]
        if path.is_dir() and not found:
            inside = (one for one in sorted(path.rglob("*")) if not _hidden(one.relative_to(path)))
            found = [one for one in inside if one.suffix.lower() in STACK_EXTENSIONS and one.is_file()]
        files += found
    items: list[tuple[FrameItem, bool]] = []
    for file in dict.fromkeys(files):
        stack = file.suffix.lower() in STACK_EXTENSIONS
        items += [(page, True) for page in stack_files(file, form)] if stack else [(file, False)]
    return items


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _path_of(item: FrameItem) -> Path:
    from noise_models.calibration.inputs.group import FrameFile

    assert not hasattr(item, "mosaic")
    return item.path if isinstance(item, FrameFile) else Path(str(item))


def _measure(given: _Given, read: Reader, bar: Bar) -> tuple[list[_Source], list[str]]:
    """Every kind of frames that was given, the most trusted first, and why the others told nothing.

    Raises:
        CalibrationError: none told anything.
    """
    from noise_models.calibration.photo.photos import estimate_from_bursts, estimate_from_photos
    from noise_models.errors import CalibrationError

    def progress_of(kind: str) -> Callable[[int, int], None]:
        return lambda done, total: bar(f"{kind} {done} of {total}", done / total)

    steps: list[Callable[[], _Source]] = []
    if given.emva is not None or given.unsorted or given.darks:
        steps.append(lambda: _measured(_frames(given, read), progress_of("frame"), maps=given.maps))
    for kind, estimate, items in (
        ("bursts", estimate_from_bursts, given.bursts),
        ("photos", estimate_from_photos, given.photos),
    ):
        if items:
            steps.append(
                lambda kind=kind, estimate=estimate, items=items: _pooled(  # type: ignore[misc]
                    kind, estimate(items, read=read, iso=given.iso, progress=progress_of(kind))
                )
            )
    sources: list[_Source] = []
    failures: list[CalibrationError] = []
    for step in steps:
        try:
            sources.append(step())
        except CalibrationError as error:
            failures.append(error)
    if not sources:
        raise failures[0] if len(failures) == 1 else CalibrationError(" ".join(map(str, failures)))
    return sources, [str(error) for error in failures]


def _measured(frames: Sequence[CalibrationFrame], told: Callable[[int, int], None], *, maps: bool) -> _Source:
    from noise_models.calibration.calibrate import calibrate as measure

    result = measure(frames, progress=told, maps=maps)
    rows: list[tuple[float, str, tuple[str, ...]]] = []
    for iso in sorted({frame.iso for frame in frames}):
        measured = iso in result.profile.isos
        rows.append((iso, "measured" if measured else "not measured", ()))
    complete = len(result.profile.provenance.frames) == len(frames) and len(rows) == len(result.profile.isos)
    return _Source("darks and flats", result.profile, rows, complete, result)


def _pooled(kind: str, result: PooledProfile) -> _Source:
    rows: list[tuple[float, str, tuple[str, ...]]] = [
        (one.iso, one.trust or "not identifiable", one.reasons) for one in result.outcomes
    ]
    complete = not result.left_out and all(one.trust is not None for one in result.outcomes)
    return _Source(kind, result.profile, rows, complete)


def _frames(given: _Given, read: Reader) -> list[CalibrationFrame]:
    from noise_models.calibration.inputs.emva import read_emva
    from noise_models.calibration.inputs.group import frames_from

    if given.emva is not None:
        return read_emva(given.emva) if given.iso is None else read_emva(given.emva, iso=given.iso)
    return frames_from(given.darks, given.flats, unsorted=given.unsorted, read=read, iso=given.iso)


def _joined(sources: Sequence[_Source]) -> Calibration:
    from noise_models.calibration.calibrate import Calibration
    from noise_models.calibration.photo.pool import fill_in

    profile = sources[0].profile if len(sources) == 1 else fill_in([source.profile for source in sources])
    for source in sources:
        if source.calibration is not None:
            return dataclasses.replace(source.calibration, profile=profile)
    return Calibration(profile=profile, evidence={})


def _tell(
    profile: CameraProfile,
    sources: Sequence[_Source],
    failures: Sequence[str],
    written: Sequence[Path],
    code: Exit,
    *,
    as_json: bool,
) -> None:
    rows = [(iso, source.name, trust, reasons) for source in sources for iso, trust, reasons in source.rows]
    rows.sort(key=lambda row: row[0])
    if as_json:
        emit(
            {
                "command": "calibrate",
                "exit_code": int(code),
                "files": [str(path) for path in written],
                "sources": [
                    {"iso": iso, "source": source, "trust": trust, "reasons": list(reasons)}
                    for iso, source, trust, reasons in rows
                ],
                "failures": list(failures),
                "profile": profile.model_dump(mode="json"),
            }
        )
        return
    from physrestore.cli.profile import tell

    tell(profile)
    say(table([(f"{iso:g}", source, trust) for iso, source, trust, _ in rows], ("ISO", "source", "trust")))
    for failure in failures:
        note(f"physrestore: {failure}")
    for path in written:
        note(f"wrote {path}")


def _write(
    result: Calibration,
    out: Path,
    report: Path | None,
    figures: Path | None,
    maps: Path | None,
    *,
    overwrite: bool,
    protect: Sequence[Path],
) -> list[Path]:
    from noise_models.calibration.maps import pack_maps
    from noise_models.report import profile_csv, render_report
    from noise_models.report.plots import figures as draw
    from noise_models.store import profile_to_json
    from physrestore.output.publish import publish_bytes

    contents: dict[Path, bytes] = {}
    profile = result.profile
    if maps is not None:
        contents[maps], profile = pack_maps(result)  # the profile names its maps by their hash
    contents[out] = profile_to_json(profile).encode()
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
