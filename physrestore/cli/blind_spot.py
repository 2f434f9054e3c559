"""``physrestore adapt --from blind-spot``: a network of nothing but noisy raws, and its student for the method fast."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from physrestore.cli.console import Bar, Exit, emit, note, say

if TYPE_CHECKING:
    import torch

    from noise_models.profile import CameraProfile
    from physrestore.selfsup.blind_spot import BlindSpotModel
    from physrestore.selfsup.blind_spot_files import FolderTeacher
    from physrestore.selfsup.distil_files import Student

# Of the budget: the teacher's training where there are lessons too.
TEACHER_SHARE = 0.6
# Steps of the lessons at most; the budget ends most before.
MOST_LESSONS = 5000
# Of the bar: what reading takes, and what is done when the teacher is trained.
READ, TRAINED = 0.1, 0.7


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What is asked for.

    Attributes:
        files: To learn from.
        out: Weights to write.
        teacher: A blind-spot network to go on with; None: a new one.
        distil: Write a student of the teacher. A teacher that is given is then not trained further; a new one is
            written beside the student.
        keep: Write a student that is no clear gain, too.
        seconds: Wall time of the learning.
        device: Where to learn.
        profile: Of the camera; None: as `restore` finds it.
        profile_folder: Where.
        seed: Of all draws.
        licence: Of the weights.
        overwrite: Replace weights that exist.
    """

    files: list[Path]
    out: Path
    teacher: BlindSpotModel | None
    distil: bool
    keep: bool
    seconds: float
    device: torch.device
    profile: CameraProfile | None
    profile_folder: Path
    seed: int
    licence: str
    overwrite: bool

    @property
    def teacher_path(self) -> Path | None:
        """Where the teacher goes; None: it is not written, for it was given and is only asked."""
        if not self.distil:
            return self.out
        return self.out.with_name(f"{self.out.stem}.teacher.safetensors") if self.teacher is None else None

    @property
    def training_seconds(self) -> float:
        """Wall time of the teacher's training."""
        return self.seconds * ((TEACHER_SHARE if self.teacher is None else 0.0) if self.distil else 1.0)


def learn_blind_spot(wanted: Learning, bar: Bar, *, as_json: bool) -> Exit:
    """Train a blind-spot network and write it, or write what a student learned from it; say what came of it."""
    from physrestore.fast import default_network
    from physrestore.selfsup.adapt_files import check_target
    from physrestore.selfsup.blind_spot_files import MOST_STEPS, teach_by_files, write_teacher
    from physrestore.selfsup.folder import FolderTraining

    target, seconds = wanted.teacher_path, wanted.training_seconds
    if target is not None:
        check_target(target, overwrite=wanted.overwrite)
    begin = time.monotonic()  # of the training, once the files are read

    def on_file(path: Path) -> None:
        nonlocal begin
        begin = time.monotonic()
        bar(path.name, READ * wanted.files.index(path) / len(wanted.files))

    def on_step(step: int, loss: float) -> None:
        done = min(1.0, (time.monotonic() - begin) / seconds)
        bar(f"step {step}, loss {loss:.3f}", READ + (TRAINED - READ) * done)

    taught = teach_by_files(
        wanted.files,
        training=FolderTraining(steps=MOST_STEPS, budget_s=seconds) if seconds else None,
        rival=default_network(),
        start=wanted.teacher,
        profile=wanted.profile,
        profile_folder=wanted.profile_folder,
        device=wanted.device,
        seed=wanted.seed,
        on_file=on_file,
        on_step=on_step,
    )
    if target is not None:
        write_teacher(target, taught, licence=wanted.licence, seed=wanted.seed, overwrite=wanted.overwrite)
    student = _student(wanted, taught, bar) if wanted.distil else None
    if as_json:
        return _emit(wanted, taught, student)
    return _tell(wanted, taught, student)


def _student(wanted: Learning, taught: FolderTeacher, bar: Bar) -> Student:
    """The student, written if it is a clear gain or is to be kept."""
    import torch

    from physrestore.errors import TrainingError
    from physrestore.fast import default_network
    from physrestore.fast.restore import DEFAULT
    from physrestore.selfsup.distil import DistilSettings
    from physrestore.selfsup.distil_files import distil_squares, write_student

    left = wanted.seconds - wanted.training_seconds
    try:
        student = distil_squares(
            taught.model,
            taught.squares,
            start=default_network(),
            generator=torch.Generator().manual_seed(wanted.seed),
            settings=DistilSettings(steps=MOST_LESSONS, budget_s=left),
            device=wanted.device,
            on_square=lambda number: bar(f"lesson {number}", TRAINED),
        )
    except ValueError as error:  # too small, too few, or monochrome
        raise TrainingError(str(error)) from error
    if student.accepted or wanted.keep:
        write_student(
            wanted.out,
            student,
            used=taught.found.used,
            start=DEFAULT,
            licence=wanted.licence,
            seed=wanted.seed,
            overwrite=wanted.overwrite,
        )
    return student


def _code(wanted: Learning, taught: FolderTeacher, student: Student | None) -> Exit:
    if student is not None and not (student.accepted or wanted.keep):
        return Exit.NOTHING_USABLE
    return Exit.SOME_FAILED if taught.found.refused else Exit.OK


def _emit(wanted: Learning, taught: FolderTeacher, student: Student | None) -> Exit:
    from physrestore.cli.adapt import files_as_json

    code, verdict = _code(wanted, taught, student), taught.verdict
    written = student is not None and code is not Exit.NOTHING_USABLE
    compared = None
    if verdict is not None:
        compared = {
            "error": verdict.teacher,
            "error_of_shipped": verdict.rival,
            "standard_error": verdict.standard_error,
            "sites": verdict.sites,
        }
    lessons = None
    if student is not None:
        lessons = {
            "weights": str(wanted.out) if written else None,
            "accepted": student.accepted,
            "error_before": student.verdict.before,
            "error_after": student.verdict.after,
            "difference": student.verdict.difference,
            "standard_error": student.verdict.standard_error,
            "squares": student.verdict.blocks,
            "steps": student.steps,
            "seconds": student.seconds,
        }
    emit(
        {
            "command": "adapt",
            "exit_code": int(code),
            "blind_spot": None if wanted.teacher_path is None else str(wanted.teacher_path),
            "steps": taught.steps,
            "compared": compared,
            "student": lessons,
            **files_as_json(taught.found.used, taught.found.refused, taught.found.passed_over),
        }
    )
    return code


def _tell(wanted: Learning, taught: FolderTeacher, student: Student | None) -> Exit:
    from physrestore.cli.adapt import tell_change, tell_files

    tell_files(taught.found.refused, taught.found.passed_over)
    if wanted.teacher_path is not None:
        say(f"{wanted.teacher_path}: blind-spot network, {taught.steps} steps on {len(taught.found.used)} files")
        note(f"Restore with: physrestore restore FILES --method selfsup --prior {wanted.teacher_path}")
    if taught.verdict is not None:
        note(taught.verdict.sentence)
    if student is not None:
        tell_change(
            wanted.out,
            student.verdict,
            steps=student.steps,
            seconds=student.seconds,
            written=wanted.keep or student.accepted,
        )
    return _code(wanted, taught, student)
