"""One file from reading to publishing, in three steps; a failure of any becomes the file's outcome.

    read -> Loaded (frame, noise) -> restore -> Restored -> write -> Outcome

A step that has nothing left to do gives the outcome itself, and the later steps pass it on.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

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
from physrestore.pipeline import Method, Restoration, restore
from physrestore.results import OutputKind, preview_path, read_record, shown_by, write_preview, write_result


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


@dataclass(frozen=True)
class Loaded:
    """A file that was read.

    Attributes:
        outcome: So far: planned, with the noise that was chosen.
        frame: What was in it.
        chosen: Its noise.
        options: What is asked for; the further frames of a burst are among them.
        only_preview: The picture is there already, of the same source and settings; its preview is not.
    """

    outcome: Outcome
    frame: RawFrame
    chosen: ChosenNoise
    options: Options
    only_preview: bool


@dataclass(frozen=True)
class Restored:
    """A file that was read and restored.

    Attributes:
        outcome: So far: restored, but not yet written.
        loaded: What it was made of.
        result: What is to be written; parts that the output does not show are gone.
    """

    outcome: Outcome
    loaded: Loaded
    result: Restoration


_Made = TypeVar("_Made", Loaded, Restored, Outcome)


@dataclass(frozen=True)
class Steps:
    """What is done with every file of a batch.

    Attributes:
        settings: For all files.
        decoder: Reads them.
        originals: Files that must never be written to.
        overwrite: Replace results that exist already.
        dry_run: Read and choose the noise, restore and write nothing.
        progress: Called with the job and the share of its restoration done, 0..1.
    """

    settings: Settings
    decoder: Decoder
    originals: Sequence[Path]
    overwrite: bool = False
    dry_run: bool = False
    progress: Callable[[Job, float], None] | None = None

    def read(self, job: Job) -> Loaded | Outcome:
        """The frame and its noise."""
        begun = Outcome(job.source, job.target, Status.PLANNED, "")
        return _step(begun, lambda: self._read(job))

    def restore(self, loaded: Loaded | Outcome) -> Restored | Outcome:
        """What the method makes of it."""
        if isinstance(loaded, Outcome):
            return loaded
        return _step(loaded.outcome, lambda: self._restore(loaded))

    def write(self, restored: Restored | Outcome) -> Outcome:
        """Publish it."""
        if isinstance(restored, Outcome):
            return restored
        return _step(restored.outcome, lambda: self._write(restored))

    def _read(self, job: Job) -> Loaded | Outcome:
        settings = self.settings
        same = not self.overwrite and _made_before(job, settings)
        if same and (not settings.preview or preview_path(job.target).exists()):
            return Outcome(job.source, job.target, Status.FINISHED, "already there with the same settings")
        if not self.overwrite and not same and os.path.lexists(job.target):
            # Told before the work, not after it; `publish` would refuse as well.
            raise OutputExists(
                job.target, "is there already, made from other data or settings. Replace it with --overwrite."
            )
        frame, chosen = self._frame(job.source)
        outcome = Outcome(
            job.source,
            job.target,
            Status.PLANNED,
            f"noise: {chosen.origin}",
            noise=chosen.origin,
            trust=chosen.trust,
            notes=chosen.notes,
        )
        if self.dry_run:
            return outcome
        burst = [self._frame(path) for path in settings.burst]
        options = replace(
            settings.options,
            burst=tuple(frame for frame, _ in burst),
            burst_noises=tuple(chosen.noise for _, chosen in burst),
        )
        return Loaded(outcome, frame, chosen, options, only_preview=same)

    def _frame(self, path: Path) -> tuple[RawFrame, ChosenNoise]:
        settings = self.settings
        frame = read_raw(
            path,
            decoder=self.decoder,
            max_megapixels=settings.max_megapixels,
            allow_damaged=settings.allow_damaged,
        )
        return frame, choose_noise(frame, given=settings.profile, folder=settings.profile_folder)

    def _restore(self, loaded: Loaded) -> Restored:
        job, progress = Job(loaded.outcome.source, loaded.outcome.target), self.progress
        report = None if progress is None else (lambda share: progress(job, share))
        result = restore(
            loaded.frame,
            loaded.chosen.noise,
            method=self.settings.method,
            options=loaded.options,
            progress=report,
        )
        outcome = replace(
            loaded.outcome,
            status=Status.RESTORED,
            numbers=result.numbers,
            confidence=result.confidence,
            remarks=result.notes,
        )
        kept = shown_by(self.settings.output, result, preview=self.settings.preview)
        return Restored(outcome, loaded, kept)

    def _write(self, restored: Restored) -> Outcome:
        outcome, loaded, result = restored.outcome, restored.loaded, restored.result
        if loaded.only_preview:  # the same picture would come out again; only its preview was not asked for last time
            write_preview(outcome.target, loaded.frame, result, protect=self.originals)
            return replace(outcome, message="added the preview")
        metadata = write_result(
            outcome.target,
            loaded.frame,
            result,
            kind=self.settings.output,
            record=_record(loaded, self.settings, result),
            preview=self.settings.preview,
            overwrite=self.overwrite,
            protect=self.originals,
        )
        told = () if metadata is None or metadata.copied else (metadata.detail,)
        return replace(outcome, notes=(*outcome.notes, *told))


def _step(so_far: Outcome, step: Callable[[], _Made | Outcome]) -> _Made | Outcome:
    """What the step gives, or the failure that is the file's own; the time of all steps adds up, waits left out."""
    start = time.perf_counter()
    made: _Made | Outcome
    try:
        made = step()
    except (NoiseModelError, PhysrestoreError, OSError, MemoryError) as error:
        made = Outcome(so_far.source, so_far.target, Status.FAILED, str(error) or type(error).__name__)
    seconds = so_far.seconds + time.perf_counter() - start
    if isinstance(made, Outcome):
        return replace(made, seconds=seconds)
    return replace(made, outcome=replace(made.outcome, seconds=seconds))


def _made_before(job: Job, settings: Settings) -> bool:
    """The picture is there, whole, of these very source bytes and settings."""
    record = read_record(job.target) if job.target.is_file() and job.source.is_file() else None
    if record is None or record.get("fingerprint") != settings.fingerprint:
        return False
    return record.get("source_sha256") == _sha256(job.source)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _record(loaded: Loaded, settings: Settings, result: Restoration) -> dict[str, str | float | bool | None]:
    source = loaded.frame.source
    confidence = {} if result.confidence is None else {"confidence": str(result.confidence), **vars(result.confidence)}
    return {
        "tool": "physrestore",
        "version": physrestore.__version__,
        "fingerprint": settings.fingerprint,
        "source": "" if source.path is None else source.path.name,
        "source_sha256": source.sha256,
        "method": settings.method.value,
        **settings.options.identity,
        **({"burst": " ".join(path.name for path in settings.burst)} if settings.burst else {}),
        "noise": loaded.chosen.origin,
        "trust": loaded.chosen.trust,
        **confidence,
    }
