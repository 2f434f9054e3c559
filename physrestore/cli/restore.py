"""``physrestore restore``: noisy raws to better raws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from physrestore.cli.chosen_options import chosen_options
from physrestore.cli.console import Exit, JsonOption, emit, errors_as_exit, fail, note, progress, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from noise_models.profile import CameraProfile
    from physrestore.batch import Outcome, Settings
    from physrestore.inputs import Job

# Spelt out here so that `--help` needs neither torch nor the pipeline; a test compares them with the enums.
MethodName = Literal["fast", "selfsup", "classic", "pnp"]
OutputName = Literal["cfa-dng", "linear-dng", "tiff", "npz"]


def restore(
    inputs: Annotated[list[Path], typer.Argument(metavar="FILES|FOLDERS...", help="Raw files, or folders of them.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder for results. Default: beside each source.")
    ] = None,
    profile: Annotated[
        str,
        typer.Option(
            metavar="auto|FILE", help="Noise profile. auto: the DNG tag, your profile folder, or the file itself."
        ),
    ] = "auto",
    method: Annotated[
        MethodName,
        typer.Option(help="fast: a network. selfsup: adapted to the photo. classic: no network. pnp: a solver; slow."),
    ] = "fast",
    strength: Annotated[float, typer.Option(min=0, max=100, help="0 changes nothing, 100 removes all noise.")] = 100.0,
    output: Annotated[
        OutputName | None, typer.Option(help="What to write. Default: cfa-dng; linear-dng for pnp and bursts.")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE|MODULE:FUNCTION",
            help="The denoiser: a name (`physrestore doctor` lists them), .safetensors, .onnx, or your own function.",
        ),
    ] = None,
    burst: Annotated[
        bool,
        typer.Option("--burst", help="All FILES are one hand-held burst: one picture, that of the first. fast, pnp."),
    ] = False,
    deblur: Annotated[
        str | None,
        typer.Option(
            metavar="gaussian:SIGMA|FILE|estimate",
            help="Undo a blur: a Gaussian in pixels, a kernel's image or .npy, or what the edges show. pnp.",
        ),
    ] = None,
    scale: Annotated[int, typer.Option(min=1, max=2, help="2: twice the pixels along each side. pnp.")] = 1,
    uncertainty: Annotated[
        bool | None,
        typer.Option(
            "--uncertainty/--no-uncertainty",
            help="Write the expected error of every pixel beside the result. Default: with pnp and selfsup.",
        ),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="60s|5m", help="Time per photo: give up steps rather than take longer. pnp.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:N", help="Where to compute.")] = "auto",
    workers: Annotated[
        str | None,
        typer.Option(metavar="local:N|dask://HOST:PORT", help="Share the files among processes or machines (dask)."),
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Also write a before/after PNG with 100 % crops.")] = False,
    suffix: Annotated[str, typer.Option(help="Added to the name of each result.")] = "_restored",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist. Never a source.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and report the plan; write nothing.")] = False,
    recursive: Annotated[bool, typer.Option(help="Look into folders inside folders.")] = True,
    allow_damaged: Annotated[
        bool, typer.Option("--allow-damaged", help="Restore files whose data are known to be damaged.")
    ] = False,
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Refuse larger frames before reading them.")] = 200.0,
    as_json: JsonOption = False,
) -> None:
    """Restore raw files: a cleaner DNG beside each, the original untouched.

    A second run skips what is finished. One bad file costs one file.
    """
    from physrestore import batch
    from physrestore.allocator import keep_freed_memory
    from physrestore.inputs import collect, plan
    from physrestore.pipeline import Method
    from physrestore.results import OutputKind

    keep_freed_memory()
    # Of a burst every colour was measured nearly everywhere: a mosaic would throw most of it away.
    kind = OutputKind(output or ("linear-dng" if method == "pnp" or burst else "cfa-dng"))
    if scale > 1 and kind is OutputKind.CFA_DNG:
        raise fail("--scale 2 has no mosaic to write: use --output linear-dng, tiff or npz.", Exit.USAGE)
    if burst:
        beyond = {"--deblur": deblur, "--scale": scale > 1, "--budget": budget}
        _check_burst(method, [word for word, given in beyond.items() if given])
    with errors_as_exit():
        settings = batch.Settings(
            method=Method(method),
            options=chosen_options(
                Method(method),
                strength=strength,
                prior=prior,
                deblur=deblur,
                scale=scale,
                uncertainty=False if burst and uncertainty is None else uncertainty,
                budget=budget,
                device=device,
            ),
            output=kind,
            preview=preview,
            profile=given_profile(profile),
            profile_folder=profile_folder(),
            max_megapixels=max_megapixels,
            allow_damaged=allow_damaged,
        )
    found = collect(inputs, recursive=recursive, skip_suffix=suffix)
    if not found:
        raise fail("no raw files in " + ", ".join(map(str, inputs)) + ". Name raw files, or folders that hold some.")
    if burst and len(found) < 2:
        raise fail("--burst needs at least two files of one scene.", Exit.USAGE)
    if burst:
        settings, found = replace(settings, burst=tuple(one.path for one in found[1:])), found[:1]
    try:
        jobs = plan(found, out=out, suffix=suffix, extension=kind.extension)
    except ValueError as error:
        raise fail(str(error), Exit.USAGE) from error
    outcomes: list[Outcome] = []
    with errors_as_exit(), progress(quiet=as_json) as bar:
        share = 1.0 / len(jobs)
        update = lambda job, part: bar(job.source.name, (len(outcomes) + part) * share)  # noqa: E731
        if workers is None:
            results = batch.run(jobs, settings, overwrite=overwrite, dry_run=dry_run, progress=update)
        else:
            results = _on_workers(workers, jobs, settings, overwrite=overwrite, dry_run=dry_run)
        for outcome in results:
            outcomes.append(outcome)
            bar(outcome.source.name, len(outcomes) * share)
            if not as_json:
                _tell(outcome, len(outcomes), len(jobs))
    raise typer.Exit(_finish(outcomes, settings, as_json))


def _check_burst(method: str, beyond: list[str]) -> None:
    """Refuse what does not go with ``--burst`` before anything is read."""
    from physrestore.pipeline import Method, knows

    able = [one.value for one in Method if "burst" in knows(one)]
    if method not in able:
        raise fail(f"The method {method!r} does not know --burst. Use --method {' or '.join(able)}.", Exit.USAGE)
    if beyond:
        raise fail(f"--burst cannot be combined with {', '.join(beyond)}.", Exit.USAGE)


def _on_workers(word: str, jobs: list[Job], settings: Settings, *, overwrite: bool, dry_run: bool) -> Iterator[Outcome]:
    from physrestore.workers import Workers, run_on_workers

    try:
        where = Workers.parse(word)
    except ValueError as error:
        raise fail(str(error), Exit.USAGE) from error
    absolute = [replace(job, source=job.source.absolute(), target=job.target.absolute()) for job in jobs]
    return run_on_workers(absolute, settings, where, overwrite=overwrite, dry_run=dry_run)


def profile_folder() -> Path:
    """Where ``--profile auto`` looks for the user's profiles."""
    import platformdirs

    return platformdirs.user_data_path("physrestore") / "profiles"


def given_profile(word: str) -> CameraProfile | None:
    """The profile of ``--profile auto|FILE``; None for auto."""
    from noise_models.store import read_profile

    return None if word == "auto" else read_profile(Path(word))


def _tell(outcome: Outcome, number: int, total: int) -> None:
    from physrestore.batch import Status

    head = f"[{number}/{total}] {outcome.source.name}"
    if outcome.status is Status.FAILED:
        note(f"{head}: failed: {outcome.message}")
        return
    say(f"{head}: {outcome.status.value} -> {outcome.target} ({outcome.seconds:.1f} s); {outcome.message}")
    if outcome.confidence is not None:
        say(f"    {outcome.confidence}")
    for line in outcome.remarks:
        note(f"    {line}")
    if outcome.trust in ("fair", "poor"):
        note(f"    the noise estimate is {outcome.trust}: " + " ".join(outcome.notes))


def _finish(outcomes: list[Outcome], settings: Settings, as_json: bool) -> Exit:
    from physrestore.batch import Status

    failed = sum(outcome.status is Status.FAILED for outcome in outcomes)
    code = Exit.OK if failed == 0 else Exit.NOTHING_USABLE if failed == len(outcomes) else Exit.SOME_FAILED
    if as_json:
        emit(
            {
                "command": "restore",
                "exit_code": int(code),
                "settings": {"method": settings.method, "output": settings.output, **settings.options.identity},
                "files": [outcome.as_json() for outcome in outcomes],
            }
        )
    else:
        done = len(outcomes) - failed
        note(f"{done} of {len(outcomes)} files done" + (f", {failed} failed." if failed else "."))
    return code
