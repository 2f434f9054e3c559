"""Flat frames of one ISO: points of the photon-transfer curve, PRNU, saturation, and the steadiness of the light."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration import watch
from noise_models.calibration.dark import DarkMeasurement
from noise_models.calibration.frames import CalibrationFrame
from noise_models.calibration.linearity import LevelMean
from noise_models.calibration.pairs import light_ratio, measure_site, site_means, sublattice
from noise_models.calibration.photon_transfer import CLIPPED_SHARE, TransferPoints, flat_points, join
from noise_models.calibration.reader import FrameReader
from noise_models.calibration.spatial import DEFECT_SIGMA, measure_pattern
from noise_models.calibration.specimen import cut
from noise_models.calibration.stack import FrameStack
from noise_models.calibration.traps import Finding
from noise_models.frame import RawFrame
from noise_models.sensor import QUANTISATION_VARIANCE_DN2

F64 = NDArray[np.float64]

# Two frames of one level whose light differs by more are not a pair but a mistake in sorting.
MISMATCH = 1.25
# From here on the report mentions the light's unsteadiness; the scaling itself is good to far more.
_UNSTEADY = 0.02
# Codes on which this share of a bright plane piles up are its saturation, whatever white level the file states.
_PILE_SHARE = 0.02
# Sites of one place in the CFA period that determine the PRNU: a million give its variance to 0.14 %.
_PRNU_SITES = 1 << 20
# The error of the light ratio needs only a rough variance: every such row is enough.
_STRIDE = 4
_PILE_ABOVE = 0.5  # of the range from black to white; noise that low in codes does not occur above it


@dataclass(frozen=True)
class PrnuCandidate:
    """PRNU^2 from the mean frame of one level.

    Attributes:
        variance: PRNU^2, a ratio; unbiased, possibly negative.
        error: Its standard error.
        mean_dn: Mean above black of the level [DN].
        frames: Frames in the mean.
    """

    variance: float
    error: float
    mean_dn: float
    frames: int


@dataclass
class FlatMeasurement:
    """What the flats of one ISO say. Lists grow pair by pair.

    Attributes:
        points: Per plane, points of the photon-transfer curve.
        prnu: Per plane, one candidate a level.
        levels: Per plane, the mean of every level, for the linearity.
        saturation: Per plane, the lowest level [DN] at which codes pile up; absent where none did.
        black_dn: Per plane, the black level [DN] that was taken off the means.
        clip: Per plane, the lowest level [DN] that was taken as clipped so far.
        ratios: Light of the first frame over that of the second, one a pair and plane.
        exposures: Of all flats [s].
        frames: Frames read.
        pieces: Middle of the last pair of every level.
        findings: What the trap detectors say.
        notes: What was found and what was left out.
    """

    points: dict[str, list[TransferPoints]] = field(default_factory=dict)
    prnu: dict[str, list[PrnuCandidate]] = field(default_factory=dict)
    levels: dict[str, list[LevelMean]] = field(default_factory=dict)
    saturation: dict[str, float] = field(default_factory=dict)
    black_dn: dict[str, float] = field(default_factory=dict)
    clip: dict[str, float] = field(default_factory=dict)
    ratios: list[float] = field(default_factory=list)
    exposures: set[float | None] = field(default_factory=set)
    frames: int = 0
    pieces: list[tuple[RawFrame, RawFrame]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def measure_flats(
    frames: Sequence[CalibrationFrame], dark: DarkMeasurement, reader: FrameReader, *, black_jitter_dn: float
) -> FlatMeasurement:
    """Measure all flats of one ISO.

    Args:
        frames: Flats of one ISO; those that share a level key form pairs in their order.
        dark: Of the same ISO.
        reader: Loads the frames.
        black_jitter_dn: Std of the black level between frames [DN]; part of the means' error.
    """
    result = FlatMeasurement()
    groups: dict[Hashable, list[CalibrationFrame]] = {}
    for frame in frames:
        groups.setdefault(frame.level_key, []).append(frame)
    examined = set(np.linspace(0, len(groups) - 1, watch.MOST_FLAT_PAIRS).round().astype(int).tolist())
    for number, group in enumerate(groups.values()):
        pair: tuple[RawFrame, RawFrame] | None = None
        stack, exposure = FrameStack(), group[0].exposure_s
        result.exposures.add(exposure)
        before = {plane: len(points) for plane, points in result.points.items()}
        light: dict[str, list[float]] = {plane: [] for plane in dark.cfa.plane_names}
        clipped = dict.fromkeys(light, 0.0)
        for raw in reader.load(group):
            result.frames += 1
            means = {plane: site_means(raw, plane, dark.defects) - dark.black(plane, exposure) for plane in light}
            for plane, values in means.items():
                light[plane].append(float(values.mean()))
                clipped[plane] = max(clipped[plane], _clipped_share(raw, plane, dark))
            partner = stack.add(raw)
            if partner is not None:
                if pair is None and number in examined:
                    result.findings += watch.of_flats(partner, raw)
                pair = cut(partner), cut(raw)
                _add_pair(result, partner, raw, dark, exposure, black_jitter_dn)
        if pair is not None:
            result.pieces.append(pair)
        if stack.waiting is not None:
            result.notes.append(f"A flat has no partner ({group[-1].name}): it does not count for the noise.")
        if stack.frames >= 2:
            level = {plane: result.points.get(plane, [])[before.get(plane, 0) :] for plane in light}
            _add_prnu(result, stack, light, dark, level)
        for plane, means_dn in light.items():
            points = result.points.get(plane, [])[before.get(plane, 0) :]
            if means_dn and points:
                own = _pixel_mean_error(points, dark)
                error = math.hypot(_mean_error(dark, black_jitter_dn), own) / math.sqrt(len(means_dn))
                result.levels.setdefault(plane, []).append(
                    LevelMean(group[0].light, float(np.mean(means_dn)), error, clipped[plane])
                )
    usable = [abs(ratio - 1.0) for ratio in result.ratios if 1.0 / MISMATCH < ratio < MISMATCH]
    if usable and max(usable) > _UNSTEADY:
        result.notes.append(f"The light changed by up to {100 * max(usable):.1f} % within a pair; it was scaled out.")
    return result


def _add_pair(
    result: FlatMeasurement,
    first: RawFrame,
    second: RawFrame,
    dark: DarkMeasurement,
    exposure_s: float | None,
    black_jitter_dn: float,
) -> None:
    cfa = dark.cfa
    for plane in cfa.plane_names:
        result.black_dn[plane] = black = dark.black(plane, exposure_s)
        clip = _clip_level(result, plane, first, dark, black)
        ratio = _ratio(first, second, plane, dark, black, black_jitter_dn)
        result.ratios.append(ratio)
        if not 1.0 / MISMATCH < ratio < MISMATCH:
            result.notes.append(
                f"A pair of flats differs in light by a factor {ratio:.2f} in plane {plane} and was left out. "
                "Group the flats by level (a folder a level), or take them under steady light."
            )
            continue
        sites = [
            measure_site(
                *(sublattice(frame.mosaic, site, cfa.period) for frame in (first, second)),
                black=black,
                clip=clip,
                ratio=ratio,
                defects=dark.defects[site],
            )
            for site in cfa.sites(plane)
        ]
        error = _mean_error(dark, black_jitter_dn) / math.sqrt(2.0)
        points = flat_points(sites, range_dn=clip - black, line_mean_error=error)
        result.points.setdefault(plane, []).append(points)


def _mean_error(dark: DarkMeasurement, black_jitter_dn: float) -> float:
    """Std of the mean of one frame [DN] that row noise and black jitter cause."""
    return math.sqrt(dark.rows.variance_of_mean(dark.shape[0]) + black_jitter_dn**2)


def _pixel_mean_error(points: Sequence[TransferPoints], dark: DarkMeasurement) -> float:
    """Std of the mean of one frame of a plane [DN] that the noise of its pixels causes."""
    variance = np.concatenate([part.variance_dn2 for part in points])
    sites = math.prod(dark.shape) / len(dark.cfa.plane_names)
    return math.sqrt(float(variance.mean()) / sites) if len(variance) else 0.0


def _clipped_share(raw: RawFrame, plane: str, dark: DarkMeasurement) -> float:
    """Share of a plane's sound sites at or above the file's white level."""
    period = raw.cfa.period
    shares = [
        float((sublattice(raw.mosaic, s, period) >= raw.white_level[s])[~dark.defects[s]].mean())
        for s in raw.cfa.sites(plane)
    ]
    return float(np.mean(shares))


def _ratio(
    first: RawFrame, second: RawFrame, plane: str, dark: DarkMeasurement, black: float, black_jitter_dn: float
) -> float:
    a, b = (site_means(frame, plane, dark.defects) - black for frame in (first, second))
    sites = first.cfa.sites(plane)
    one, two = (sublattice(frame.mosaic, sites[0], first.cfa.period)[::_STRIDE] for frame in (first, second))
    spread = float(np.var(one.astype(np.float64) - two)) / (one.size * _STRIDE * len(sites))
    line = dark.rows.variance_of_mean(dark.shape[0])
    return light_ratio(a, b, math.sqrt(spread + 2.0 * (line + black_jitter_dn**2)))


def _clip_level(result: FlatMeasurement, plane: str, frame: RawFrame, dark: DarkMeasurement, black: float) -> float:
    """The level at and above which this plane is clipped: the file's white level, or a lower pile of codes."""
    white = min(float(frame.white_level[site]) for site in frame.cfa.sites(plane))
    sites = frame.cfa.sites(plane)
    codes = np.concatenate([sublattice(frame.mosaic, s, frame.cfa.period)[~dark.defects[s]] for s in sites])
    counts = np.bincount(codes)
    top = len(counts) - 1
    piled = counts[top] > _PILE_SHARE * codes.size and top > black + _PILE_ABOVE * (white - black)
    reached = float((codes >= white).mean()) > CLIPPED_SHARE
    level = min(white, float(top)) if piled else white
    result.clip[plane] = min(level, result.clip.get(plane, math.inf))
    if piled or reached:
        result.saturation[plane] = min(level, result.saturation.get(plane, math.inf))
    return level


def _add_prnu(
    result: FlatMeasurement,
    stack: FrameStack,
    light: dict[str, list[float]],
    dark: DarkMeasurement,
    level: dict[str, list[TransferPoints]],
) -> None:
    """Spatial variance of the mean flat, less the temporal noise left in it and the dark pattern."""
    seen: dict[str, tuple[float, float]] = {}
    for plane, values in light.items():
        mean = float(np.mean(values))
        if not level[plane] or mean <= 0 or max(values) > MISMATCH * min(values):
            continue
        points = join(level[plane])
        if not len(points.mean_dn):
            continue
        weights = points.relative_error**-2.0
        temporal = float(np.average(points.variance_dn2, weights=weights)) + QUANTISATION_VARIANCE_DN2
        temporal_error = temporal / math.sqrt(float(weights.sum()))
        patterns = [
            measure_pattern(
                stack.site(s, dark.cfa.period), detrend=True, exclude=dark.defects[s], most_sites=_PRNU_SITES
            )
            for s in dark.cfa.sites(plane)
        ]
        spatial = float(np.mean([pattern.variance for pattern in patterns]))
        brightest = max(float(pattern.tile_means.max()) for pattern in patterns)
        if brightest + DEFECT_SIGMA * math.sqrt(temporal + spatial) > result.clip[plane]:
            continue
        error = math.hypot(
            math.sqrt(sum(pattern.error**2 for pattern in patterns)) / len(patterns), temporal_error / stack.frames
        )
        # The response scales with the light, so its variance goes with the mean square of light that is uneven.
        tiles = np.concatenate([pattern.tile_means.ravel() for pattern in patterns]) - result.black_dn[plane]
        square = max(float(np.mean(tiles**2)), mean**2)
        fixed, fixed_error = dark.dsnu_variance(plane)
        variance = spatial - (temporal + dark.line_variance()) / stack.frames - max(fixed, 0.0)
        result.prnu.setdefault(plane, []).append(
            PrnuCandidate(variance / square, math.hypot(error, fixed_error) / square, mean, stack.frames)
        )
        seen[plane] = mean, temporal
    if dark.maps is not None:
        dark.maps.add_flats(stack, dark, seen)
