"""``physrestore adapt``: the shipped network, fine-tuned on your own noisy raws; no clean picture is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from physrestore.cli.console import Exit, JsonOption, emit, errors_as_exit, fail, note, progress, say
from physrestore.cli.durations import seconds_of

if TYPE_CHECKING:
    from physrestore.selfsup.adapt_files import FolderAdaptation

# What one photo bears (`AdaptSettings`), and a folder at most: longer, networks drift where no score sees it.
STEPS_PER_FILE, MOST_STEPS = 60, 1000


def adapt(
    inputs: Annotated[list[Path], typer.Argument(metavar="FILES|FOLDERS...", help="Noisy raw files of one camera.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.safetensors", help="Weights to write.")],
    start: Annotated[
        str, typer.Option("--from", metavar="NAME|FILE", help="Network to start from; `physrestore doctor` lists them.")
    ] = "mosaic-large",
    profile: Annotated[
        str, typer.Option(metavar="auto|FILE", help="Noise profile; auto: as `restore` finds it.")
    ] = "auto",
    budget: Annotated[str, typer.Option(metavar="TIME", help="Wall time of the learning, e.g. 60s, 10m.")] = "10m",
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
    licence: Annotated[str, typer.Option(help="Of the weights, for their card.")] = "not stated by who adapted it",
    keep: Annotated[bool, typer.Option("--keep", help="Write the weights even if they are no clear gain.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace weights that exist.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Adapt a network to a photo, a burst or a folder of your own raws, without any clean picture.

    Squares that it did not learn from decide whether it became better; if not, nothing is written (exit code 3).
    Use the result with `physrestore restore --prior FILE.safetensors`.
    """
    from physrestore.cli.prior_names import named_prior
    from physrestore.cli.restore import given_profile, profile_folder
    from physrestore.inputs import collect
    from physrestore.selfsup.adapt import AdaptSettings
    from physrestore.selfsup.adapt_files import adapt_to_files, write_adapted

    found = collect(inputs)
    if not found:
        raise fail("no raw files in " + ", ".join(map(str, inputs)) + ". Name raw files, or folders that hold some.")
    try:
        steps = min(STEPS_PER_FILE * len(found), MOST_STEPS)
        settings = AdaptSettings(steps=steps, budget_s=seconds_of(budget))
    except ValueError as error:
        raise fail(str(error), Exit.USAGE) from error
    with errors_as_exit(), progress(quiet=as_json) as bar:
        named = named_prior(start)
        if named.network is None:
            raise fail(f"{start} takes pictures, not mosaics: start from a mosaic network.", Exit.USAGE)
        if out.exists() and not overwrite:
            raise fail(f"{out} exists. Choose another name, or replace it with --overwrite.")
        files = [one.path for one in found]
        result = adapt_to_files(
            files,
            network=named.network,
            profile=given_profile(profile),
            profile_folder=profile_folder(),
            settings=settings,
            seed=seed,
            on_file=lambda path: bar(path.name, 0.3 * files.index(path) / len(files)),
        )
        if result.adapted.accepted or keep:
            write_adapted(out, result, start=named.name, licence=licence, seed=seed, overwrite=overwrite)
    raise typer.Exit(_finish(result, out, keep=keep, as_json=as_json))


def _finish(result: FolderAdaptation, out: Path, *, keep: bool, as_json: bool) -> Exit:
    adapted, verdict = result.adapted, result.adapted.verdict
    written = adapted.accepted or keep
    code = Exit.NOTHING_USABLE if not written else Exit.SOME_FAILED if result.refused else Exit.OK
    if as_json:
        emit(
            {
                "command": "adapt",
                "exit_code": int(code),
                "weights": str(out) if written else None,
                "accepted": adapted.accepted,
                "error_before": verdict.before,
                "error_after": verdict.after,
                "standard_error": verdict.standard_error,
                "squares": verdict.blocks,
                "steps": adapted.steps,
                "best_step": adapted.best_step,
                "seconds": adapted.seconds,
                "used": [str(path) for path in result.used],
                "refused": {str(path): reason for path, reason in result.refused.items()},
            }
        )
        return code
    for path, reason in result.refused.items():
        note(f"{path.name}: not used: {reason}")
    change = (
        f"expected squared error on {verdict.blocks} held-out squares {verdict.before:.4f} -> {verdict.after:.4f} of "
        f"the noise's variance (standard error {verdict.standard_error:.4f}), "
        f"{adapted.steps} steps in {adapted.seconds:.0f} s"
    )
    if written:
        say(f"{out}: {change}" + ("" if adapted.accepted else "; no clear gain, written because of --keep"))
    else:
        note(
            f"no clear gain, nothing written: {change}. More files or a longer --budget may help; --keep writes anyway."
        )
    return code
