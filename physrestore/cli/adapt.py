"""``physrestore adapt``: a network learns from your own noisy raws; no clean picture is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from physrestore.cli.console import Exit, JsonOption, emit, errors_as_exit, fail, note, progress, say
from physrestore.cli.durations import seconds_of

if TYPE_CHECKING:
    from physrestore.selfsup.adapt_files import FolderAdaptation
    from physrestore.selfsup.held_out_gate import Verdict

# What one photo bears (`AdaptSettings`), and a folder at most: longer, networks drift where no score sees it.
STEPS_PER_FILE, MOST_STEPS = 60, 1000
# The word for a network that starts from nothing.
BLIND_SPOT = "blind-spot"


def adapt(
    inputs: Annotated[list[Path], typer.Argument(metavar="FILES|FOLDERS...", help="Noisy raw files.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.safetensors", help="Weights to write.")],
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="NAME|FILE|blind-spot",
            help="Network to start from; `physrestore doctor` lists them. blind-spot: a new one, of your files alone.",
        ),
    ] = "mosaic-large",
    distil: Annotated[
        bool,
        typer.Option(
            "--distil", help="Teach what the blind spot learned to a network for --method fast, and write it."
        ),
    ] = False,
    profile: Annotated[
        str, typer.Option(metavar="auto|FILE", help="Noise profile; auto: as `restore` finds it.")
    ] = "auto",
    budget: Annotated[str, typer.Option(metavar="TIME", help="Wall time of the learning, e.g. 60s, 10m.")] = "10m",
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:N", help="Where to compute.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
    licence: Annotated[str, typer.Option(help="Of the weights, for their card.")] = "not stated by who adapted it",
    keep: Annotated[bool, typer.Option("--keep", help="Write the weights even if they are no clear gain.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace weights that exist.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Adapt a network to a photo, a burst or a folder of your own raws, without any clean picture.

    Files may differ in ISO, exposure and camera. Squares that were not learned from decide whether a network for
    mosaics became better; if not, nothing is written (exit code 3). Use it with `physrestore restore --prior
    FILE.safetensors`; a blind-spot network also needs `--method selfsup`, and says how sure it is.
    """
    from physrestore.cli.blind_spot import Learning, learn_blind_spot
    from physrestore.cli.prior_names import named_prior
    from physrestore.cli.restore import given_profile, profile_folder
    from physrestore.contract import Options
    from physrestore.inputs import collect
    from physrestore.selfsup.adapt import AdaptSettings
    from physrestore.selfsup.adapt_files import adapt_to_files, check_target, write_adapted
    from physrestore.selfsup.blind_spot import BlindSpotModel

    try:
        seconds = seconds_of(budget)
    except ValueError as error:
        raise fail(str(error), Exit.USAGE) from error
    if not seconds > 0:
        raise fail(f"--budget {budget} leaves no time to learn.", Exit.USAGE)
    files = [one.path for one in collect(inputs)]
    if not files:
        raise fail("no raw files in " + ", ".join(map(str, inputs)) + ". Name raw files, or folders that hold some.")
    with errors_as_exit(), progress(quiet=as_json) as bar:
        check_target(out, overwrite=overwrite)
        where = Options(device=device).torch_device
        named = None if start == BLIND_SPOT else named_prior(start)
        network = None if named is None else named.network
        if named is None or isinstance(network, BlindSpotModel):
            wanted = Learning(
                files=files,
                out=out,
                teacher=network if isinstance(network, BlindSpotModel) else None,
                distil=distil,
                keep=keep,
                seconds=seconds,
                device=where,
                profile=given_profile(profile),
                profile_folder=profile_folder(),
                seed=seed,
                licence=licence,
                overwrite=overwrite,
            )
            raise typer.Exit(learn_blind_spot(wanted, bar, as_json=as_json))
        if distil:
            raise fail(f"--distil needs a teacher: --from {BLIND_SPOT}, or a file that came of it.", Exit.USAGE)
        if network is None:
            raise fail(f"{start} takes pictures, not mosaics: start from a mosaic network.", Exit.USAGE)
        result = adapt_to_files(
            files,
            network=network,
            profile=given_profile(profile),
            profile_folder=profile_folder(),
            settings=AdaptSettings(steps=min(STEPS_PER_FILE * len(files), MOST_STEPS), budget_s=seconds),
            device=where,
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
                "difference": verdict.difference,
                "standard_error": verdict.standard_error,
                "squares": verdict.blocks,
                "steps": adapted.steps,
                "best_step": adapted.best_step,
                "seconds": adapted.seconds,
                **files_as_json(result.used, result.refused, result.passed_over),
            }
        )
        return code
    tell_files(result.refused, result.passed_over)
    tell_change(out, verdict, steps=adapted.steps, seconds=adapted.seconds, written=written)
    return code


def tell_change(out: Path, verdict: Verdict, *, steps: int, seconds: float, written: bool) -> None:
    """The verdict on weights, and whether they were written."""
    change = (
        f"expected squared error of measured colours on {verdict.blocks} held-out squares {verdict.before:.4f} -> "
        f"{verdict.after:.4f} of the noise's variance, over all colours {verdict.difference:+.4f} (standard error "
        f"{verdict.standard_error:.4f}), {steps} steps in {seconds:.0f} s"
    )
    if written:
        say(f"{out}: {change}" + ("" if verdict.better else "; no clear gain, written because of --keep"))
    else:
        note(
            f"no clear gain, nothing written: {change}. More files or a longer --budget may help; --keep writes anyway."
        )


def files_as_json(used: tuple[Path, ...], refused: dict[Path, str], passed_over: tuple[Path, ...]) -> dict[str, object]:
    """What became of the files, for ``--json``."""
    return {
        "used": [str(path) for path in used],
        "refused": {str(path): reason for path, reason in refused.items()},
        "passed_over": [str(path) for path in passed_over],
    }


def tell_files(refused: dict[Path, str], passed_over: tuple[Path, ...]) -> None:
    """What became of the files, in words."""
    for path, reason in refused.items():
        note(f"{path.name}: not used: {reason}")
    if passed_over:
        note(f"{len(passed_over)} more files were not opened: the others fill the memory that learning may take.")
