"""A profile from ordinary photos or from bursts, several ISOs mixed: each is judged alone, then pooled per ISO."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby

from noise_models.calibration.burst.estimate import estimate_from_burst
from noise_models.calibration.inputs.group import FrameItem, Reader, iso_of, item_name, load_item
from noise_models.calibration.photo.photo_evidence import UNSEEN_TEXTURE
from noise_models.calibration.photo.pool import Answer, PooledProfile, Refusal, pool_isos
from noise_models.calibration.photo.single_photo import NotIdentifiable, estimate_from_frame
from noise_models.calibration.reader import MixedCameras
from noise_models.errors import CalibrationError, RawFileError
from noise_models.frame import RawFrame
from noise_models.profile import FrameRecord
from noise_models.rawfile import read_raw

Progress = Callable[[int, int], None]


def estimate_from_photos(
    photos: Sequence[FrameItem],
    *,
    read: Reader = read_raw,
    iso: float | None = None,
    progress: Progress | None = None,
) -> PooledProfile:
    """Estimate a camera's noise from ordinary photos.

    Photos of one ISO are pooled; what a single photo cannot see (texture that looks like noise) does not average out.
    An ISO whose photos do not tell is left out with the reason, never guessed from the others.

    Args:
        photos: Frames in memory, or files, of one camera; one is held in memory at a time.
        read: Decodes one file.
        iso: For photos that state none.
        progress: Called with (photos done, photos in all).

    Raises:
        NothingIdentifiable: no photo determines its noise.
        CalibrationError: photos of different cameras, or not one that can be read.
    """
    desk = _Desk("photo", read, iso, len(photos), progress)
    for frame, name in desk.frames(photos):
        setting = iso_of(frame, name, iso)
        try:
            estimate = estimate_from_frame(frame)
        except NotIdentifiable as error:
            desk.refusals.append(Refusal(name, setting, error))
            continue
        noise = estimate.noise.model_copy(update={"iso": setting})
        desk.answers.append(Answer(name, noise, estimate.trust, estimate.reasons))
    return desk.pooled(unseen=UNSEEN_TEXTURE)


def estimate_from_bursts(
    frames: Sequence[FrameItem],
    *,
    read: Reader = read_raw,
    iso: float | None = None,
    progress: Progress | None = None,
) -> PooledProfile:
    """Estimate a camera's noise from bursts of still scenes.

    Neighbouring frames of one folder, ISO, exposure and aperture are one burst.

    Args:
        frames: Of one camera, in the order they were taken; two are held in memory at a time.
        read: Decodes one file.
        iso: For frames that state none.
        progress: Called with (frames done, frames in all).

    Raises:
        NothingIdentifiable: no burst determines its noise.
        CalibrationError: frames of different cameras, or not one that can be read.
    """
    desk = _Desk("burst", read, iso, len(frames), progress)

    def key(found: tuple[RawFrame, str]) -> tuple[object, ...]:
        frame, _ = found
        folder = None if frame.source.path is None else frame.source.path.parent
        return folder, frame.shot.iso, frame.shot.exposure_s, frame.shot.aperture

    for _, burst in groupby(desk.frames(frames), key):
        _add_burst(desk, burst)
    return desk.pooled(unseen=0.0)


def _add_burst(desk: _Desk, burst: Iterator[tuple[RawFrame, str]]) -> None:
    first, name = next(burst)
    setting = iso_of(first, name, desk.iso)
    try:
        estimate = estimate_from_burst(chain((first,), (frame for frame, _ in burst)))
    except NotIdentifiable as error:
        desk.refusals.append(Refusal(name, setting, error))
    except CalibrationError as error:
        desk.left_out.append(f"Left out: the burst of {name!r}. {error}")
    else:
        noise = estimate.noise.model_copy(update={"iso": setting})
        desk.answers.append(Answer(name, noise, estimate.trust, estimate.reasons))


@dataclass
class _Desk:
    """Hands out frames of one camera and gathers what becomes of them."""

    kind: str
    read: Reader
    iso: float | None
    total: int
    progress: Progress | None
    answers: list[Answer] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    records: list[FrameRecord] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    camera: RawFrame | None = None

    def frames(self, items: Sequence[FrameItem]) -> Iterator[tuple[RawFrame, str]]:
        """Every frame that can be read, with its name; the others leave a note."""
        for index, item in enumerate(items):
            name = item_name(item, f"{self.kind} frame {index + 1}")
            try:
                frame = load_item(item, self.read)
                iso_of(frame, name, self.iso)
            except (RawFileError, CalibrationError) as error:
                self.left_out.append(f"Left out: {error}")
            else:
                self._check(frame, name)
                self.records.append(FrameRecord(name=name, sha256=frame.source.sha256, role=self.kind))
                yield frame, name
            if self.progress is not None:
                self.progress(index + 1, self.total)

    def _check(self, frame: RawFrame, name: str) -> None:
        if self.camera is None:
            self.camera = frame
        first = self.camera
        if (frame.shot.camera, set(frame.cfa.plane_names)) != (first.shot.camera, set(first.cfa.plane_names)):
            raise MixedCameras(
                f"{name!r} is from {frame.shot.camera} ({frame.cfa.name}); the other {self.kind}s are from "
                f"{first.shot.camera} ({first.cfa.name}). Calibrate one camera at a time."
            )

    def pooled(self, *, unseen: float) -> PooledProfile:
        """The profile from everything gathered."""
        if self.camera is None or not (self.answers or self.refusals):
            told = " ".join(self.left_out) or f"There are no {self.kind}s."
            raise CalibrationError(f"Not one {self.kind} can be used. {told}")
        return pool_isos(
            self.answers,
            self.refusals,
            camera=self.camera,
            records=self.records,
            left_out=self.left_out,
            unseen=unseen,
            kind=self.kind,
        )
