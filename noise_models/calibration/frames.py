"""One frame of a calibration set: what it is, and how to get its pixels when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Literal

from noise_models.frame import RawFrame


@dataclass(frozen=True)
class CalibrationFrame:
    """A dark or flat frame that is decoded on demand: a set of 24-megapixel frames does not fit in memory.

    Attributes:
        load: Decodes the frame; called once a calibration.
        name: For messages and for the provenance, without folders.
        role: "dark": no light reached the sensor. "flat": even or smoothly uneven light.
        iso: As the file states it.
        exposure_s: Exposure time [s]; None: unknown.
        level_key: Frames of one ISO and role that share it saw the same light and form pairs.
        sha256: Of the file, hex; "" for a frame made in memory.
        light: Amount of light on the sensor in any unit, the same for all flats of an ISO; None: unknown.
    """

    load: Callable[[], RawFrame]
    name: str
    role: Literal["dark", "flat"]
    iso: float
    exposure_s: float | None
    level_key: Hashable
    sha256: str = ""
    light: float | None = None
