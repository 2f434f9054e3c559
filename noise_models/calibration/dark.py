"""Dark frames of one ISO: black level, line noise, fixed pattern, hot pixels and the noise at zero light.

Frames are streamed: in memory are one pair, the running sum, and statistics.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.banding import LineNoise
from noise_models.calibration.frames import CalibrationFrame
from noise_models.calibration.pairs import SitePair, measure_site, resolved, sublattice
from noise_models.calibration.photon_transfer import TransferPoints, dark_points
from noise_models.calibration.quantised import count_codes
from noise_models.calibration.reader import FrameReader
from noise_models.calibration.spatial import Pattern, measure_pattern
from noise_models.calibration.stack import FrameStack
from noise_models.calibration.tails import MOST_PIXELS, SMALLEST_SIGMA_DN, classify_tail
from noise_models.cfa import Cfa
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Tail

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U16 = NDArray[np.uint16]
Site = tuple[int, int]

# Histogram of dark differences for the report, in units of their standard deviation.
HISTOGRAM_EDGES = np.linspace(-8.0, 8.0, 161)

# A pile of pixels at the lowest code is a clamp where it exceeds this share and stands above its neighbour.
_CLAMP_SHARE = 0.005
_CLAMP_STEP = 1.5


@dataclass
class DarkMeasurement:
    """What the darks of one ISO say. Lists grow pair by pair, frame by frame.

    Attributes:
        cfa: Of the frames.
        shape: Height and width of the frames.
        frame_means: Mean of every frame [DN], one value a plane.
        exposures: Exposure of every frame [s].
        groups: Level key of every frame.
        points: Per plane, one point at mean zero a pair.
        pair_groups: Level key and exposure [s] of every pair.
        rows: Temporal row noise.
        columns: Temporal column noise.
        codes: Per plane, pairs of codes; only where the noise is below half a code step.
        patterns: Fixed pattern of every CFA site, from the largest group.
        pattern_frames: Frames that ``patterns`` is the mean of.
        main_group: Level key of that largest group.
        tail: Shape of the read noise.
        histogram: Per plane, counts of the first pair's difference in `HISTOGRAM_EDGES`.
        notes: What was found and what was left out.
    """

    cfa: Cfa
    shape: tuple[int, int] = (0, 0)
    frame_means: list[F64] = field(default_factory=list)
    exposures: list[float | None] = field(default_factory=list)
    groups: list[Hashable] = field(default_factory=list)
    points: dict[str, list[TransferPoints]] = field(default_factory=dict)
    pair_groups: list[tuple[Hashable, float | None]] = field(default_factory=list)
    rows: LineNoise = field(default_factory=lambda: LineNoise("row"))
    columns: LineNoise = field(default_factory=lambda: LineNoise("column"))
    codes: dict[str, Counter[tuple[int, int]]] = field(default_factory=dict)
    patterns: dict[Site, Pattern] = field(default_factory=dict)
    pattern_frames: int = 0
    main_group: Hashable = None
    tail: Tail = field(default_factory=Tail)
    histogram: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def black(self, plane: str, exposure_s: float | None) -> float:
        """Mean dark level [DN] at the exposure nearest to the given one."""
        index = self.cfa.plane_names.index(plane)
        nearest = self._nearest(exposure_s, self.exposures)
        chosen = [mean[index] for mean, e in zip(self.frame_means, self.exposures, strict=True) if nearest in (None, e)]
        return float(np.mean(chosen))

    def zero_points(self, plane: str, exposures: Iterable[float | None]) -> list[TransferPoints]:
        """The pairs whose exposure is the nearest to one of the given ones: dark current adds noise with time."""
        known = [exposure for _, exposure in self.pair_groups]
        nearest = {self._nearest(exposure, known) for exposure in exposures}
        pairs = zip(self.points[plane], known, strict=True)
        return [point for point, exposure in pairs if None in nearest or exposure in nearest]

    @staticmethod
    def _nearest(exposure_s: float | None, known: Sequence[float | None]) -> float | None:
        """The known exposure nearest in ratio; None where nothing tells exposures apart."""
        positive = [e for e in known if e is not None and e > 0]
        if exposure_s is None or exposure_s <= 0 or not positive:
            return None
        return min(positive, key=lambda e: abs(math.log(e / exposure_s)))

    def pixel_variance(self, plane: str) -> float:
        """Temporal variance of one pixel [DN^2] in the largest group, rounding and line noise excluded."""
        return float(np.average([p.variance_dn2[0] for p in self._main(plane)], weights=self._weights(plane)))

    def _main(self, plane: str) -> list[TransferPoints]:
        return [p for p, (key, _) in zip(self.points[plane], self.pair_groups, strict=True) if key == self.main_group]

    def _weights(self, plane: str) -> F64:
        return np.array([1.0 / point.relative_error[0] ** 2 for point in self._main(plane)])

    def dsnu_variance(self, plane: str) -> tuple[float, float]:
        """Pixel-to-pixel variance [DN^2] of the fixed pattern, defects excluded, and its standard error."""
        patterns = [self.patterns[site] for site in self.cfa.sites(plane)]
        measured = float(np.mean([pattern.variance for pattern in patterns]))
        own_error = math.sqrt(sum(pattern.error**2 for pattern in patterns)) / len(patterns)
        temporal = self.pixel_variance(plane) + QUANTISATION_VARIANCE_DN2
        temporal_error = temporal / math.sqrt(float(self._weights(plane).sum()))
        # A frame has few lines, so what they leave in the mean scatters by more than their estimate's error.
        line_error = math.hypot(self.rows.variance()[1], self.columns.variance()[1]) * math.sqrt(
            len(self.points[plane])
        )
        error = math.hypot(own_error, math.hypot(temporal_error, line_error) / self.pattern_frames)
        return measured - (temporal + self.line_variance()) / self.pattern_frames, error

    def line_variance(self) -> float:
        """Variance [DN^2] of row and column offsets together, not below zero."""
        return max(0.0, self.rows.variance()[0]) + max(0.0, self.columns.variance()[0])


def measure_darks(frames: Sequence[CalibrationFrame], reader: FrameReader) -> DarkMeasurement:
    """Measure all darks of one ISO.

    Args:
        frames: Darks of one ISO; those that share a level key form pairs in their order.
        reader: Loads them.

    Raises:
        CalibrationError: no pair among them, or the black level cuts the noise off.
    """
    groups: dict[Hashable, list[CalibrationFrame]] = {}
    for frame in frames:
        groups.setdefault(frame.level_key, []).append(frame)
    result: DarkMeasurement | None = None
    for key, group in groups.items():
        stack = FrameStack()
        for raw in reader.load(group):
            result = result or DarkMeasurement(raw.cfa, raw.shape)
            _add_frame(result, raw, stack, group[0].exposure_s, key)
        if result is not None and stack.frames:
            _finish_group(result, stack, key)
    if result is None or not result.points:
        raise CalibrationError(
            f"Needed are at least 2 darks at one ISO and exposure; there are {len(frames)} dark(s) and no pair. "
            "Take 8 with the lens cap on, at the exposure of the flats."
        )
    return result


def _add_frame(
    result: DarkMeasurement, raw: RawFrame, stack: FrameStack, exposure_s: float | None, key: Hashable
) -> None:
    _refuse_clamp(raw)
    period = raw.cfa.period
    site_means = {
        site: float(sublattice(raw.mosaic, site, period).mean(dtype=np.float64))
        for plane in raw.cfa.plane_names
        for site in raw.cfa.sites(plane)
    }
    planes = [[site_means[site] for site in raw.cfa.sites(plane)] for plane in raw.cfa.plane_names]
    result.frame_means.append(np.array([np.mean(values) for values in planes]))
    result.exposures.append(exposure_s)
    result.groups.append(key)
    partner = stack.add(raw)
    if partner is not None:
        _add_pair(result, partner, raw, stack)


def _add_pair(result: DarkMeasurement, first: RawFrame, second: RawFrame, stack: FrameStack) -> None:
    period = first.cfa.period
    keep = len(stack.differences) < 2 and not result.tail.shape
    result.pair_groups.append((result.groups[-1], result.exposures[-1]))
    sites: dict[Site, SitePair] = {}
    crops: dict[Site, F32] = {}
    for plane in first.cfa.plane_names:
        for site in first.cfa.sites(plane):
            a, b = (sublattice(frame.mosaic, site, period) for frame in (first, second))
            black, white = float(first.black_level[site]), float(first.white_level[site])
            sites[site] = measure_site(a, b, black=black, clip=white)
            if keep:
                crops[site] = _crop(sites[site].residual, period)
        pairs = [sites[site] for site in first.cfa.sites(plane)]
        point = dark_points(pairs)
        result.points.setdefault(plane, []).append(point)
        _add_codes(result, plane, point, first, second)
        if plane not in result.histogram:
            result.histogram[plane] = _histogram(pairs)
    _add_lines(result, sites, period)
    if keep:
        stack.differences.append(crops)


def _add_lines(result: DarkMeasurement, sites: dict[Site, SitePair], period: tuple[int, int]) -> None:
    """Line means of the whole mosaic from those of its sites: a row of the mosaic holds several colours."""
    height, width = result.shape
    rows, columns = np.empty(height), np.empty(width)
    for i in range(period[0]):
        line = [sites[i, j] for j in range(period[1])]
        weights = np.array([pair.residual.shape[1] for pair in line], dtype=np.float64)
        rows[i :: period[0]] = np.average([p.row_means - p.row_means.mean() for p in line], axis=0, weights=weights)
        variance = float(np.mean([_site_variance(pair) for pair in line]))
        result.rows.add(rows[i :: period[0]], width, variance)
    for j in range(period[1]):
        line = [sites[i, j] for i in range(period[0])]
        weights = np.array([pair.residual.shape[0] for pair in line], dtype=np.float64)
        columns[j :: period[1]] = np.average(
            [p.column_means - p.column_means.mean() for p in line], axis=0, weights=weights
        )
        variance = float(np.mean([_site_variance(pair) for pair in line]))
        result.columns.add(columns[j :: period[1]], height, variance)
    result.rows.add_spectrum(rows)
    result.columns.add_spectrum(columns)


def _finish_group(result: DarkMeasurement, stack: FrameStack, key: Hashable) -> None:
    if stack.waiting is not None:
        label = "the only dark" if stack.frames == 1 else "one dark too many"
        result.notes.append(
            f"A dark has no partner ({label} of group {key!s}): it counts for the means, not the noise."
        )
    if stack.frames < 2 or stack.frames <= result.pattern_frames:
        return
    period = result.cfa.period
    result.pattern_frames, result.main_group = stack.frames, key
    result.patterns = {
        site: measure_pattern(stack.site(site, period), detrend=False)
        for plane in result.cfa.plane_names
        for site in result.cfa.sites(plane)
    }
    if len(stack.differences) == 2:
        result.tail = _tail(result, stack)


def _tail(result: DarkMeasurement, stack: FrameStack) -> Tail:
    first, second = [], []
    for plane in result.cfa.plane_names:
        sigma = math.sqrt(max(result.pixel_variance(plane), 0.0))
        if sigma < SMALLEST_SIGMA_DN:
            return Tail()
        for site in result.cfa.sites(plane):
            a, b = (difference[site] for difference in stack.differences)
            level = _crop(stack.site(site, result.cfa.period), result.cfa.period)
            good = level - np.median(level) < result.patterns[site].limit
            first.append(a[good].astype(np.float64) / a[good].std())
            second.append(b[good].astype(np.float64) / b[good].std())
    return classify_tail(np.concatenate(first), np.concatenate(second))


def _crop(image: F32, period: tuple[int, int]) -> F32:
    """Top-left part of one site's image, so that all sites together stay within `MOST_PIXELS`."""
    side = int(math.sqrt(MOST_PIXELS / math.prod(period)))
    return image[:side, :side].copy()


def _add_codes(result: DarkMeasurement, plane: str, point: TransferPoints, first: RawFrame, second: RawFrame) -> None:
    if resolved(float(point.variance_dn2[0]) + QUANTISATION_VARIANCE_DN2):
        return
    counter = result.codes.setdefault(plane, Counter())
    for site in first.cfa.sites(plane):
        counter.update(count_codes(*(sublattice(frame.mosaic, site, first.cfa.period) for frame in (first, second))))


def _site_variance(pair: SitePair) -> float:
    return float(np.average(pair.variance, weights=pair.count))


def _histogram(pairs: Sequence[SitePair]) -> NDArray[np.int64]:
    total = np.zeros(len(HISTOGRAM_EDGES) - 1, dtype=np.int64)
    for pair in pairs:
        spread = float(pair.residual.std()) or 1.0
        total += np.histogram(pair.residual / spread, HISTOGRAM_EDGES)[0]
    return total


def _refuse_clamp(raw: RawFrame) -> None:
    """Darks cut off at their lowest code have lost half of their noise, and their mean is too high."""
    counts = np.bincount(raw.mosaic.ravel())
    share = counts / counts.sum()
    lowest = int(np.flatnonzero(counts)[0])
    low, centre, high = np.searchsorted(np.cumsum(share), [0.16, 0.5, 0.84])  # robust against hot pixels
    spread = (high - low) / 2.0
    following = float(share[lowest + 1]) if lowest + 1 < len(share) else 0.0
    pile = share[lowest] > _CLAMP_SHARE and share[lowest] > _CLAMP_STEP * following and spread >= 1.0
    at_zero = lowest == 0 and share[lowest] > _CLAMP_SHARE and centre < 3.0 * max(spread, 0.5)
    if pile or at_zero:
        raise CalibrationError(
            f"The darks are cut off at code {lowest} ({100 * share[lowest]:.1f} % of the pixels): the camera subtracts "
            "its black level and clamps, so that noise and black level would come out wrong. "
            "Use the optical-black pixels of raw files that hold them."
        )
