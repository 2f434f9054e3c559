"""The trap detectors, asked while the frames of a calibration stream by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from noise_models.calibration.traps import (
    Finding,
    IsoPoint,
    examine_darks,
    examine_flats,
    examine_isos,
    examine_photo,
    find_level_outliers,
)
from noise_models.calibration.traps.tiles import SIDE
from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise

# Flat pairs that are examined, the first and the last level: a trap sits in the camera, not in one level.
MOST_FLAT_PAIRS = 2


def can_be_examined(raw: RawFrame) -> bool:
    """Whether a frame holds at least one of the detectors' tiles of every CFA site."""
    return all(length // period >= SIDE for length, period in zip(raw.shape, raw.cfa.period, strict=True))


def of_darks(first: RawFrame, second: RawFrame) -> list[Finding]:
    """On a pair of darks; none where the frames are too small."""
    if not can_be_examined(first):
        return []
    return examine_darks(_with_black(first), _with_black(second))


def _with_black(dark: RawFrame) -> RawFrame:
    """The dark with its own median as black level where it declares none: light then shows as a bright area only."""
    if dark.black_level.any() or dark.masked:
        return dark
    ph, pw = dark.cfa.period
    median = np.array([[float(np.median(dark.mosaic[i::ph, j::pw])) for j in range(pw)] for i in range(ph)])
    return replace(dark, black_level=np.minimum(median, dark.white_level - 1.0))


def of_flats(first: RawFrame, second: RawFrame) -> list[Finding]:
    """On a pair of flats; none where the frames are too small."""
    return examine_flats(first, second) if can_be_examined(first) else []


def of_levels(darks: Sequence[RawFrame], flats: Sequence[RawFrame]) -> list[Finding]:
    """On pieces of several darks and of flats of different levels."""
    findings: list[Finding] = []
    if not darks or not can_be_examined(darks[0]):
        return findings
    if len(darks) > 2:
        findings.append(find_level_outliers(darks))
    return [*findings, *examine_photo([darks[0], *flats])]


def of_isos(entries: Sequence[SensorNoise]) -> list[Finding]:
    """On the measured numbers of all ISOs."""
    points, gains = [], {}
    for entry in entries:
        planes = entry.planes.values()
        pairs = [(p.gain, p.read_noise) for p in planes if p.gain is not None and p.read_noise is not None]
        if len(pairs) < len(planes):
            continue
        count = len(pairs)
        points.append(
            IsoPoint(
                iso=entry.setting,
                gain=sum(k.value for k, _ in pairs) / count,
                gain_error=sum((k.standard_error or 0.0) ** 2 for k, _ in pairs) ** 0.5 / count,
                read_noise=sum(r.value for _, r in pairs) / count,
                read_error=sum((r.standard_error or 0.0) ** 2 for _, r in pairs) ** 0.5 / count,
            )
        )
        gains[entry.setting] = {name: plane.gain for name, plane in entry.planes.items() if plane.gain is not None}
    return examine_isos(points, gains=gains) if points else []


def strongest(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding a trap: a found one before a clean one before one that the data could not judge."""
    best: dict[str, Finding] = {}
    for finding in findings:
        if finding.trap not in best or _rank(finding) > _rank(best[finding.trap]):
            best[finding.trap] = finding
    return tuple(best.values())


def as_notes(findings: Iterable[Finding]) -> tuple[str, ...]:
    """What a user should know: evidence and advice of every trap that was found."""
    return tuple(f"{finding.evidence} {finding.advice}".strip() for finding in findings if finding.found)


def found_anywhere(findings: Mapping[float | None, Sequence[Finding]]) -> list[str]:
    """Names of all traps found, sorted, none twice."""
    return sorted({finding.trap for group in findings.values() for finding in group if finding.found})


def _rank(finding: Finding) -> tuple[bool, bool]:
    return finding.found, finding.judged
