"""Many files, one after the other: a bad file costs one file, a finished one is not made twice.

There is no journal. Every result carries a record of what made it (source hash, settings, versions), so a later run
recognises finished work by opening it; a killed run leaves either a whole result or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import physrestore
from noise_models.errors import NoiseModelError
from noise_models.frame import RawFrame
from noise_models.profile import CameraProfile
from noise_models.rawfile import Decoder, read_raw
from physrestore.confidence import Confidence
from physrestore.contract import Options
from physrestore.errors import OutputExists, PhysrestoreError
from physrestore.inputs import Job
from physrestore.noise_choice import ChosenNoise, choose_noise
from physrestore.output.publish import sweep
from physrestore.pipeline import Method, Restoration, restore
from physrestore.results import OutputKind, preview_path, read_record, write_preview, write_result


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a result looks like; its fingerprint tells finished work from stale work."""

    method: Method = Method.FAST
    options: Options = field(default_factory=Options)
    output: OutputKind = OutputKind.CFA_DNG
    preview: bool = False
    profile: CameraProfile | None = None
    profile_folder: Path | None = None
    burst: tuple[Path, ...] = ()  # further frames of the one job's scene
    max_megapixels: float = 200.0
    allow_damaged: bool = False

    @property
    def fingerprint(self) -> str:
        """Hash of the settings and the version that decide the result's bytes."""
        profile = None if self.profile is None else self.profile.model_dump_json()
        decisive = [physrestore.__version__, self.method, self.options.identity, self.output, profile]
        decisive += [_sha256(path) for path in self.burst]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


class Status(StrEnum):
    """What became of one file."""

    RESTORED = "restored"
    FINISHED = "finished before"  # the same result is there already
    PLANNED = "would be restored"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of one file; ``message`` is for the user.

    ``notes`` are about the noise, ``remarks`` about the restoration.
    """

    source: Path
    target: Path
    status: Status
    message: str
    seconds: float = 0.0
    noise: str = ""
    trust: str = ""
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)
    confidence: Confidence | None = None

    def as_json(self) -> dict[str, object]:
        """For ``--json``: plain types."""
        return {**asdict(self), "source": str(self.source), "target": str(self.target), "status": self.status.value}


def run(
    jobs: Sequence[Job],
    settings: Settings,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Callable[[Job, float], None] | None = None,
) -> Iterator[Outcome]:
    """Work through ``jobs``; yields one outcome each, in order, and never raises for a file's sake.

    Args:
        jobs: From `inputs.plan`.
        settings: For all of them.
        overwrite: Replace results that exist already.
        dry_run: Read and choose the noise, restore and write nothing.
        progress: Called with the job and the share of it done, 0..1.
    """
    originals = [*(job.source for job in jobs), *settings.burst]
    prepare_targets(jobs, dry_run=dry_run)
    with Decoder() as decoder:
        for job in jobs:
            yield restore_file(
                job, settings, decoder, originals, overwrite=overwrite, dry_run=dry_run, progress=progress
            )


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
    progress: Callable[[Job, float], None] | None = None,
) -> Outcome:
    """One file from reading to publishing; never raises for the file's sake.

    Args:
        job: Of the batch.
        settings: See `run`, as ``overwrite``, ``dry_run`` and ``progress``.
        decoder: Reads it.
        originals: Files that must never be written to.
        overwrite: See ``settings``.
        dry_run: See ``settings``.
        progress: See ``settings``.
    """
    start = time.perf_counter()
    try:
        outcome = _one(job, settings, decoder, originals, overwrite, dry_run, progress)
    except (NoiseModelError, PhysrestoreError, OSError, MemoryError) as error:
        outcome = Outcome(job.source, job.target, Status.FAILED, str(error) or type(error).__name__)
    return replace(outcome, seconds=time.perf_counter() - start)


def _one(
    job: Job,
    settings: Settings,
    decoder: Decoder,
    originals: Sequence[Path],
    overwrite: bool,
    dry_run: bool,
    progress: Callable[[Job, float], None] | None,
) -> Outcome:
    same = not overwrite and _made_before(job, settings)
    if same and (not settings.preview or preview_path(job.target).exists()):
        return Outcome(job.source, job.target, Status.FINISHED, "already there with the same settings")
    if not overwrite and not same and os.path.lexists(job.target):
        # Told before the work, not after it; `publish` would refuse as well.
        raise OutputExists(
            job.target, "is there already, made from other data or settings. Replace it with --overwrite."
        )
    frame = read_raw(
        job.source, decoder=decoder, max_megapixels=settings.max_megapixels, allow_damaged=settings.allow_damaged
    )
    chosen = choose_noise(frame, given=settings.profile, folder=settings.profile_folder)
    outcome = Outcome(
        job.source,
        job.target,
        Status.PLANNED,
        f"noise: {chosen.origin}",
        noise=chosen.origin,
        trust=chosen.trust,
        notes=chosen.notes,
    )
    if dry_run:
        return outcome
    report = None if progress is None else (lambda share: progress(job, share))
    options = _with_burst(settings, decoder)
    result = restore(frame, chosen.noise, method=settings.method, options=options, progress=report)
    outcome = replace(
        outcome,
        status=Status.RESTORED,
        numbers=result.numbers,
        confidence=result.confidence,
        remarks=result.notes,
    )
    if same:  # the same picture would come out again; only its preview was not asked for last time
        write_preview(job.target, frame, result, protect=originals)
        return replace(outcome, message="added the preview")
    metadata = write_result(
        job.target,
        frame,
        result,
        kind=settings.output,
        record=_record(frame, chosen, settings, result),
        preview=settings.preview,
        overwrite=overwrite,
        protect=originals,
    )
    told = () if metadata is None or metadata.copied else (metadata.detail,)
    return replace(outcome, notes=(*outcome.notes, *told))


def _made_before(job: Job, settings: Settings) -> bool:
    """The picture is there, whole, of these very source bytes and settings."""
    record = read_record(job.target) if job.target.is_file() and job.source.is_file() else None
    if record is None or record.get("fingerprint") != settings.fingerprint:
        return False
    return record.get("source_sha256") == _sha256(job.source)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _with_burst(settings: Settings, decoder: Decoder) -> Options:
    """The options, with the further frames of the burst read and their noise chosen."""
    frames = tuple(
        read_raw(path, decoder=decoder, max_megapixels=settings.max_megapixels, allow_damaged=settings.allow_damaged)
        for path in settings.burst
    )
    chosen = (choose_noise(frame, given=settings.profile, folder=settings.profile_folder) for frame in frames)
    return replace(settings.options, burst=frames, burst_noises=tuple(one.noise for one in chosen))


def _record(
    frame: RawFrame, chosen: ChosenNoise, settings: Settings, result: Restoration
) -> dict[str, str | float | bool | None]:
    confidence = {} if result.confidence is None else {"confidence": str(result.confidence), **vars(result.confidence)}
    return {
        "tool": "physrestore",
        "version": physrestore.__version__,
        "fingerprint": settings.fingerprint,
        "source": "" if frame.source.path is None else frame.source.path.name,
        "source_sha256": frame.source.sha256,
        "method": settings.method.value,
        **settings.options.identity,
        **({"burst": " ".join(path.name for path in settings.burst)} if settings.burst else {}),
        "noise": chosen.origin,
        "trust": chosen.trust,
        **confidence,
    }
