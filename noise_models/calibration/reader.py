"""Loads the frames of one calibration in turn and makes sure that they come from one camera."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.frames import CalibrationFrame
from noise_models.cfa import Cfa
from noise_models.errors import CalibrationError, RawFileError
from noise_models.frame import RawFrame


class MixedCameras(CalibrationError):
    """Frames of different cameras or modes in one calibration."""


@dataclass(frozen=True)
class Camera:
    """What all frames of one calibration have in common."""

    make: str
    model: str
    cfa: Cfa
    shape: tuple[int, int]


class FrameReader:
    """Decodes one frame at a time, reports progress, and leaves damaged files out with a note.

    Attributes:
        camera: Of the first frame; every other one must match it. None before any.
        white_level: Of the frame read last, per CFA site [DN]; some cameras change it with ISO.
        read: Frames that were decoded and used.
        notes: One sentence for every file left out.
    """

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.camera: Camera | None = None
        self.white_level: NDArray[np.float64] | None = None
        self.read: list[CalibrationFrame] = []
        self.notes: list[str] = []
        self._done = 0
        self._total = total
        self._progress = progress

    def load(self, frames: Iterable[CalibrationFrame]) -> Iterator[RawFrame]:
        """Decode frames in order; only the one being yielded is held here.

        Raises:
            MixedCameras: a frame of another size, CFA or camera than the first.
        """
        for frame in frames:
            try:
                raw = frame.load()
            except RawFileError as error:
                self.notes.append(f"Left out: {error}")
                self._step()
                continue
            self._check(raw, frame.name)
            self.white_level = raw.white_level
            self.read.append(frame)
            self._step()
            yield raw

    def _check(self, raw: RawFrame, name: str) -> None:
        camera = Camera(raw.shot.make, raw.shot.model, raw.cfa, raw.shape)
        if self.camera is None:
            self.camera = camera
        if camera != self.camera:
            raise MixedCameras(
                f"{name!r} is {_describe(camera)}; the other frames are {_describe(self.camera)}. "
                "Calibrate one camera in one mode at a time."
            )

    def _step(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _describe(camera: Camera) -> str:
    height, width = camera.shape
    return f"{camera.make} {camera.model} {height}x{width} {camera.cfa.name}".strip()
