"""The whole way from frames to a camera's profile.

::

    darks --measure_darks--> black level, line noise, patterns, noise at zero light
    flats --measure_flats--> points of the photon-transfer curve, PRNU, saturation
    both  --sensor_noise---> SensorNoise of one ISO;  all ISOs --segments--> CameraProfile
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from noise_models.calibration import watch
from noise_models.calibration.assemble import iso_evidence, sensor_noise, white_levels
from noise_models.calibration.dark_frames import measure_darks
from noise_models.calibration.dark_quantities import black_jitter
from noise_models.calibration.evidence import IsoEvidence
from noise_models.calibration.flat import measure_flats
from noise_models.calibration.frames import CalibrationFrame
from noise_models.calibration.maps import BUDGET_BYTES, IsoMaps, have_room
from noise_models.calibration.reader import FrameReader, MixedCameras
from noise_models.calibration.segments import segment_ids
from noise_models.calibration.traps import Finding
from noise_models.errors import CalibrationError
from noise_models.profile import CameraProfile, FrameRecord, Provenance
from noise_models.sensor import Estimate, SensorNoise


@dataclass(frozen=True)
class Calibration:
    """A camera's profile and what it rests on.

    Attributes:
        profile: One entry an ISO.
        evidence: ISO -> arrays for the report.
        findings: ISO -> what the trap detectors say of its frames; None -> of the set as a whole.
        maps: ISO -> maps of the sites; empty unless they were asked for.
    """

    profile: CameraProfile
    evidence: dict[float, IsoEvidence]
    findings: dict[float | None, tuple[Finding, ...]] = field(default_factory=dict)
    maps: dict[float, IsoMaps] = field(default_factory=dict)


def calibrate(
    frames: Sequence[CalibrationFrame],
    *,
    progress: Callable[[int, int], None] | None = None,
    maps: bool = False,
) -> Calibration:
    """Measure a camera's noise from darks and flats.

    Every frame is decoded once; in memory are two frames and their sums. An ISO that cannot be measured is left out
    with a note in the profile.

    Args:
        frames: Darks and flats of one camera, of one or several ISOs.
        progress: Called with (frames done, frames in all) after every frame.
        maps: Also make maps of the sites; about 150 MB an ISO for 24 megapixels, and 200 MB while it is measured.

    Raises:
        CalibrationError: no ISO can be measured, or the frames are of different cameras.
    """
    reader = FrameReader(len(frames), progress)
    entries: list[SensorNoise] = []
    evidence: dict[float, IsoEvidence] = {}
    findings: dict[float | None, tuple[Finding, ...]] = {}
    kept: dict[float, IsoMaps] = {}
    failures: list[str] = []
    for iso in sorted({frame.iso for frame in frames}):
        try:
            room = maps and (reader.camera is None or have_room(len(kept) + 1, reader.camera.shape))
            one = _one_iso(iso, [frame for frame in frames if frame.iso == iso], reader, maps=room)
        except MixedCameras:
            raise
        except CalibrationError as error:
            failures.append(f"ISO {iso:g} was left out. {error}")
            continue
        entries.append(one.noise)
        evidence[iso], findings[iso] = one.evidence, one.findings
        if one.maps is not None:
            kept[iso] = one.maps
        elif maps:
            failures.append(f"ISO {iso:g} has no maps: those of the lower ISOs take {BUDGET_BYTES >> 20} MB already.")
    if not entries or reader.camera is None:
        raise CalibrationError(" ".join([*failures, *reader.notes]) or _NOTHING)
    entries = _with_segments(entries)
    findings[None] = watch.strongest(watch.of_isos(entries))
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
        notes=(*failures, *reader.notes, *watch.as_notes(findings[None])),
    )
    return Calibration(profile, evidence, findings, kept)


_NOTHING = "There are no frames. Needed are at least 2 darks and 2 flats at one level and ISO."


@dataclass(frozen=True)
class _OneIso:
    noise: SensorNoise
    evidence: IsoEvidence
    findings: tuple[Finding, ...]
    maps: IsoMaps | None


def _one_iso(iso: float, frames: Sequence[CalibrationFrame], reader: FrameReader, *, maps: bool) -> _OneIso:
    darks = [frame for frame in frames if frame.role == "dark"]
    flats = [frame for frame in frames if frame.role == "flat"]
    if len(darks) < 2:
        raise CalibrationError(
            f"A calibration needs at least 2 darks and 2 flats at one level; there are {len(darks)} dark(s) and "
            f"{len(flats)} flat(s). Take 8 darks with the lens cap on and 2 flats each at 5, 10 and 25 % of saturation."
        )
    dark = measure_darks(darks, reader, maps=maps)
    assert reader.camera is not None
    assert reader.white_level is not None
    white = white_levels(reader.camera, reader.white_level)
    jitter = math.sqrt(max(0.0, black_jitter(dark)[0]))
    flat = measure_flats(flats, dark, reader, black_jitter_dn=jitter) if flats else None
    entry, curves, response = sensor_noise(iso, dark, flat, white_dn=white)
    across = watch.of_levels(dark.specimen.frames, [pair[0] for pair in flat.pieces] if flat is not None else [])
    found = watch.strongest([*dark.findings, *(flat.findings if flat is not None else []), *across])
    entry = entry.model_copy(update={"notes": tuple(dict.fromkeys([*entry.notes, *watch.as_notes(found)]))})
    prnu = [plane.prnu.value for plane in entry.planes.values() if plane.prnu is not None]
    made = dark.maps.finish(tail=entry.tail, prnu=min(prnu, default=None)) if dark.maps is not None else None
    return _OneIso(entry, iso_evidence(entry, dark, flat, curves, response), found, made)


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
