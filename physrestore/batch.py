"""Many files, their steps overlapping: a bad file costs one file, a finished one is not made twice.

There is no journal. Every result carries a record of what made it (source hash, settings, versions), so a later run
recognises finished work by opening it; a killed run leaves either a whole result or none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from noise_models.rawfile import Decoder
from physrestore.inputs import Job
from physrestore.output.publish import sweep
from physrestore.overlap import overlapped
from physrestore.steps import Outcome as Outcome
from physrestore.steps import Settings as Settings
from physrestore.steps import Status as Status
from physrestore.steps import Steps


def run(
    jobs: Sequence[Job],
    settings: Settings,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Callable[[Job, float], None] | None = None,
) -> Iterator[Outcome]:
    """Work through ``jobs``; yields one outcome each, in order, and never raises for a file's sake.

    While one file is restored, the next is read and the last is written: see `physrestore.overlap`. An outcome is
    therefore told when the next file is restored.

    Args:
        jobs: From `inputs.plan`.
        settings: For all of them.
        overwrite: Replace results that exist already.
        dry_run: Read and choose the noise, restore and write nothing.
        progress: Called with the job and the share of its restoration done, 0..1.
    """
    originals = [*(job.source for job in jobs), *settings.burst]
    prepare_targets(jobs, dry_run=dry_run)
    with Decoder() as decoder:
        steps = Steps(settings, decoder, originals, overwrite=overwrite, dry_run=dry_run, progress=progress)
        yield from overlapped(jobs, read=steps.read, work=steps.restore, write=steps.write)


def prepare_targets(jobs: Sequence[Job], *, dry_run: bool = False) -> None:
    """Clear the folders of results of what a killed run left behind."""
    for folder in {job.target.parent for job in jobs}:
        if folder.is_dir() and not dry_run:
            sweep(folder)


def restore_file(
    job: Job,
    settings: Settings,
    decoder: Decoder,
    originals: Sequence[Path],
    *,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Outcome:
    """One file from reading to publishing, step after step; never raises for the file's sake.

    Args:
        job: Of the batch.
        settings: See `run`, as ``overwrite`` and ``dry_run``.
        decoder: Reads it.
        originals: Files that must never be written to.
        overwrite: See ``settings``.
        dry_run: See ``settings``.
    """
    steps = Steps(settings, decoder, originals, overwrite=overwrite, dry_run=dry_run)
    return steps.write(steps.restore(steps.read(job)))
