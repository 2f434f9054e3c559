"""``physrestore compare``: numbers, residual whiteness and crops of two or more pictures of one scene."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from physrestore.cli.console import Exit, JsonOption, emit, errors_as_exit, fail, note, say, table
from physrestore.cli.restore import given_profile, profile_folder

if TYPE_CHECKING:
    from physrestore.compare import Comparison, Picture, PlaneDifference
    from physrestore.noise_choice import ChosenNoise

_LETTERS = "ABCDEFGH"
_REFERENCE = "R"
_HEADER = (
    "colour", "mean [DN]", "PSNR [dB]", "std/noise", "on smooth", "> 3 std", "horizontal", "vertical", "diagonal", "+-",
)  # fmt: skip


def compare(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="A B [C...]", help="Raws, DNGs, results, PNG or TIFF of one scene; A comes first."),
    ],
    reference: Annotated[
        Path | None, typer.Option(metavar="CLEAN", help="The clean scene: every file is also compared with it.")
    ] = None,
    exposure: Annotated[
        float, typer.Option(min=1e-6, help="Light of the files over that of --reference, as told to `simulate`.")
    ] = 1.0,
    sheet: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="SHEET.png", help="Write a contact sheet with crops.")
    ] = None,
    profile: Annotated[
        str, typer.Option(metavar="auto|FILE", help="The noise to measure in. auto: as `restore` chooses it for A.")
    ] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the sheet if it exists.")] = False,
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Refuse larger raws before reading them.")] = 200.0,
    as_json: JsonOption = False,
) -> None:
    """Say how pictures of one scene differ, and whether what differs looks like noise.

    Every file is compared with A (and with --reference). A linear DNG or TIFF is sampled where the other file has its
    sites. What was only noise is white: its correlations are 0 within a few times the last column.
    """
    from noise_models.rawfile import Decoder
    from physrestore.compare import compare, known_noise, pair_up, read_picture

    if len(inputs) < (1 if reference else 2) or len(inputs) > len(_LETTERS):
        raise fail(f"needed are 2 to {len(_LETTERS)} files (or 1 with --reference), not {len(inputs)}.", Exit.USAGE)
    with errors_as_exit():
        given = given_profile(profile)
        with Decoder() as decoder:
            read = [read_picture(path, decoder=decoder, max_megapixels=max_megapixels) for path in inputs]
            clean = read_picture(reference, decoder=decoder, max_megapixels=max_megapixels) if reference else None
        pictures = list(zip(_LETTERS, _told_apart(inputs, read), strict=False))
        pairs = [(pictures[0], other) for other in pictures[1:]]
        if clean is not None:
            truth = (_REFERENCE, _exposed(clean, exposure))
            pairs = [(truth, other) for other in pictures] + pairs
            pictures.insert(0, truth)
        chosen, reasons = known_noise(read, given=given, folder=profile_folder())
        noise = None if chosen is None else chosen.noise
        results = [(first[0], second[0], compare(pair_up(first[1], second[1]), noise)) for first, second in pairs]
        if sheet is not None:
            _write_sheet(
                sheet, pictures, results, overwrite=overwrite, protect=[*inputs, *([reference] if reference else [])]
            )
    if as_json:
        emit(_as_json(pictures, results, chosen, reasons, sheet))
    else:
        _tell(pictures, results, chosen, reasons)
        if sheet is not None:
            note(f"contact sheet: {sheet}")


def _told_apart(paths: list[Path], read: list[Picture]) -> list[Picture]:
    """Files of one name, as results of two methods are, with their folders' names."""
    names = [path.name for path in paths]
    return [
        replace(one, name=f"{path.absolute().parent.name}/{path.name}") if names.count(path.name) > 1 else one
        for path, one in zip(paths, read, strict=True)
    ]


def _exposed(clean: Picture, factor: float) -> Picture:
    if factor == 1.0:
        return clean
    if clean.frame is not None:
        raise fail("--exposure goes with a --reference that is a PNG, TIFF or linear DNG, not a mosaic.", Exit.USAGE)
    return clean.exposed(factor)


def _write_sheet(
    path: Path,
    pictures: list[tuple[str, Picture]],
    results: list[tuple[str, str, Comparison]],
    *,
    overwrite: bool,
    protect: list[Path],
) -> None:
    from physrestore.compare.sheet import Difference, contact_sheet

    differences = [Difference(f"{second} - {first}", found) for first, second, found in results]
    contact_sheet(path, pictures, differences, overwrite=overwrite, protect=protect)


def _tell(
    pictures: list[tuple[str, Picture]],
    results: list[tuple[str, str, Comparison]],
    chosen: ChosenNoise | None,
    reasons: tuple[str, ...],
) -> None:
    for letter, picture in pictures:
        say(f"{letter}  {picture.name}{_made(picture, pictures)}")
    say(f"noise: {chosen.origin} ({chosen.trust})" if chosen else "noise: unknown. " + " ".join(reasons))
    for first, second, found in results:
        say(f"\n{second} - {first}")
        say(table([_row(plane) for plane in found.planes], _HEADER))
        level = _decibel(found.psnr_db)
        white = f"linear light, peak 1 = white = {found.white_dn:.6g} DN above black"
        say(f"PSNR of all colours: {level}{'' if level in ('-', 'equal') else ' dB'} ({white})")
        unit = "the noise" if found.in_noise else "the difference itself, for want of a known noise"
        say(f"smooth: {100 * found.smooth_share:.1f} % of the picture, judged by the std of {unit}")
        lost = f"{found.unclipped} of them not in {second}; {found.newly_clipped} clipped in {second} only"
        say(f"clipped in {first}: {found.clipped} sites, {lost}")


def _made(picture: Picture, pictures: list[tuple[str, Picture]]) -> str:
    """What the record of a restored file says, and whether its source is among the files."""
    record = picture.record
    if record is None:
        return ""
    hashes = {one.frame.source.sha256: letter for letter, one in pictures if one.frame is not None}
    source = hashes.get(str(record.get("source_sha256")))
    origin = (
        f"from {source}" if source else f"from {record.get('source') or 'an unnamed file'}, which is not among these"
    )
    return f"  ({record.get('method')}, strength {record.get('strength')}, {origin})"


def _row(plane: PlaneDifference) -> tuple[str, ...]:
    white = plane.whiteness
    share = None if plane.large_changes is None else 100 * plane.large_changes
    return (
        plane.plane,
        _number(plane.mean_dn, "+.3f"),
        _decibel(plane.psnr_db),
        _number(plane.over_noise, ".3f"),
        _number(plane.over_noise_smooth, ".3f"),
        "-" if share is None else f"{share:.2f} %",
        *(
            _number(None if white is None else value, "+.3f")
            for value in ((white.horizontal, white.vertical, white.diagonal) if white else (None,) * 3)
        ),
        _number(None if white is None else white.standard_error, ".4f"),
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _decibel(value: float | None) -> str:
    return "-" if value is None else "equal" if math.isinf(value) else f"{value:.2f}"


def _as_json(
    pictures: list[tuple[str, Picture]],
    results: list[tuple[str, str, Comparison]],
    chosen: ChosenNoise | None,
    reasons: tuple[str, ...],
    sheet: Path | None,
) -> dict[str, object]:
    """Plain types; the PSNR of equal pictures, which is infinite, is null, and ``equal`` says so."""
    return {
        "command": "compare",
        "exit_code": int(Exit.OK),
        "files": {letter: {"name": one.name, "record": one.record} for letter, one in pictures},
        "noise": None if chosen is None else {"origin": chosen.origin, "trust": chosen.trust},
        "noise_unknown_because": list(reasons),
        "pairs": [
            {
                "first": first,
                "second": second,
                "planes": [_finite(asdict(plane)) for plane in found.planes],
                **_finite(
                    {
                        name: getattr(found, name)
                        for name in (
                            "psnr_db", "white_dn", "smooth_share", "clipped", "unclipped", "newly_clipped", "in_noise",
                        )
                    }
                ),
            }
            for first, second, found in results
        ],
        "sheet": None if sheet is None else str(sheet),
    }  # fmt: skip


def _finite(numbers: dict[str, object]) -> dict[str, object]:
    return (
        {**numbers, "psnr_db": None, "equal": True} if numbers["psnr_db"] == math.inf else {**numbers, "equal": False}
    )
