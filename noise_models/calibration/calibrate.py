"""The whole way from frames to a camera's profile.

::

    darks --measure_darks--> black level, line noise, patterns, noise at zero light
    flats --measure_flats--> points of the photon-transfer curve, PRNU, saturation
    both  --sensor_noise---> SensorNoise of one ISO;  all ISOs --segments--> CameraProfile
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from noise_models.calibration.assemble import black_jitter, iso_evidence, sensor_noise, white_levels
from noise_models.calibration.dark_frames import measure_darks
from noise_models.calibration.evidence import IsoEvidence
from noise_models.calibration.flat import measure_flats
from noise_models.calibration.frames import CalibrationFrame
from noise_models.calibration.reader import FrameReader, MixedCameras
from noise_models.calibration.segments import segment_ids
from noise_models.errors import CalibrationError
from noise_models.profile import CameraProfile, FrameRecord, Provenance
from noise_models.sensor import Estimate, SensorNoise

# K follows the ISO setting to about a per cent where ISO is analog gain; beyond this the user should know.
_PROPORTIONAL = 0.05


@dataclass(frozen=True)
class Calibration:
    """A camera's profile and what it rests on.

    Attributes:
        profile: One entry an ISO.
        evidence: ISO -> arrays for the report.
    """

    profile: CameraProfile
    evidence: dict[float, IsoEvidence]


def calibrate(frames: Sequence[CalibrationFrame], *, progress: Callable[[int, int], None] | None = None) -> Calibration:
    """Measure a camera's noise from darks and flats.

    Every frame is decoded once; in memory are two frames and their sums. An ISO that cannot be measured is left out
    with a note in the profile.

    Args:
        frames: Darks and flats of one camera, of one or several ISOs.
        progress: Called with (frames done, frames in all) after every frame.

    Raises:
        CalibrationError: no ISO can be measured, or the frames are of different cameras.
    """
    reader = FrameReader(len(frames), progress)
    entries: list[SensorNoise] = []
    evidence: dict[float, IsoEvidence] = {}
    failures: list[str] = []
    for iso in sorted({frame.iso for frame in frames}):
        try:
            entry, seen = _one_iso(iso, [frame for frame in frames if frame.iso == iso], reader)
        except MixedCameras:
            raise
        except CalibrationError as error:
            failures.append(f"ISO {iso:g} was left out. {error}")
            continue
        entries.append(entry)
        evidence[iso] = seen
    if not entries or reader.camera is None:
        raise CalibrationError(" ".join([*failures, *reader.notes]) or _NOTHING)
    entries = _with_segments(entries)
    profile = CameraProfile(
        make=reader.camera.make,
        model=reader.camera.model,
        cfa=reader.camera.cfa.name,
        entries=tuple(entries),
        provenance=Provenance(
            tool=f"physrestore {version('physrestore')}",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            frames=tuple(FrameRecord(name=f.name, sha256=f.sha256, role=f.role) for f in reader.read),
        ),
        notes=(*failures, *reader.notes, *_proportionality(entries)),
    )
    return Calibration(profile, evidence)


_NOTHING = "There are no frames. Needed are at least 2 darks and 2 flats at one level and ISO."


def _one_iso(iso: float, frames: Sequence[CalibrationFrame], reader: FrameReader) -> tuple[SensorNoise, IsoEvidence]:
    darks = [frame for frame in frames if frame.role == "dark"]
    flats = [frame for frame in frames if frame.role == "flat"]
    if len(darks) < 2:
        raise CalibrationError(
            f"A calibration needs at least 2 darks and 2 flats at one level; there are {len(darks)} dark(s) and "
            f"{len(flats)} flat(s). Take 8 darks with the lens cap on and 2 flats each at 5, 10 and 25 % of saturation."
        )
    dark = measure_darks(darks, reader)
    assert reader.camera is not None
    assert reader.white_level is not None
    white = white_levels(reader.camera, reader.white_level)
    jitter = math.sqrt(max(0.0, black_jitter(dark)[0]))
    flat = measure_flats(flats, dark, reader, black_jitter_dn=jitter) if flats else None
    entry, curves = sensor_noise(iso, dark, flat, white_dn=white)
    return entry, iso_evidence(dark, flat, curves)


def _with_segments(entries: Sequence[SensorNoise]) -> list[SensorNoise]:
    combined = [_mean_read_noise(entry) for entry in entries]
    return [
        entry.model_copy(update={"segment": segment})
        for entry, segment in zip(entries, segment_ids(combined), strict=True)
    ]


def _mean_read_noise(entry: SensorNoise) -> Estimate:
    """Read noise averaged over the planes: the conversion gain is switched for all of them."""
    reads = [plane.read_noise_dn for plane in entry.planes.values()]
    errors = [read.standard_error or 0.0 for read in reads]
    return Estimate(
        value=float(np.mean([read.value for read in reads])),
        standard_error=math.sqrt(sum(error**2 for error in errors)) / len(errors),
    )


def _proportionality(entries: Sequence[SensorNoise]) -> list[str]:
    """A note for every ISO whose K / ISO is far from the median: digital or extended ISO."""
    ratios = {
        entry.setting: float(np.mean([p.gain.value for p in entry.planes.values() if p.gain is not None]))
        / entry.setting
        for entry in entries
        if all(plane.gain is not None for plane in entry.planes.values())
    }
    if len(ratios) < 3:
        return []
    centre = float(np.median(list(ratios.values())))
    return [
        f"ISO {iso:g}: K is {100 * (ratio / centre - 1):+.0f} % off proportionality to ISO (extended or digital ISO?)."
        for iso, ratio in ratios.items()
        if abs(ratio / centre - 1.0) > _PROPORTIONAL
    ]
