"""Dark frames of one ISO, measured as they stream by: in memory are one pair, the running sum, and statistics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.dark import HISTOGRAM_EDGES, DarkMeasurement
from noise_models.calibration.defects import beyond, pair_defects
from noise_models.calibration.frames import CalibrationFrame
from noise_models.calibration.pairs import SitePair, all_sites, measure_site, resolved, site_means, sublattice
from noise_models.calibration.photon_transfer import TransferPoints, dark_points
from noise_models.calibration.quantised import count_codes
from noise_models.calibration.reader import FrameReader
from noise_models.calibration.spatial import measure_pattern
from noise_models.calibration.stack import FrameStack
from noise_models.calibration.tails import MOST_PIXELS, SMALLEST_SIGMA_DN, classify_tail
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Tail

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
Site = tuple[int, int]

# A pile of pixels at the lowest code is a clamp where it exceeds this share and stands above its neighbour.
_CLAMP_SHARE = 0.005
_CLAMP_STEP = 1.5


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
            _finish_group(result, stack, group[0].exposure_s, key)
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
    partner = stack.add(raw)
    if partner is None:
        return  # its mean waits for the defects, which a pair shows
    period = raw.cfa.period
    if not stack.defects:
        stack.defects = {
            site: pair_defects(*(sublattice(frame.mosaic, site, period) for frame in (partner, raw)))
            for site in all_sites(raw.cfa)
        }
    for frame in (partner, raw):
        _add_means(result, frame, stack.defects, exposure_s, key)
    _add_pair(result, partner, raw, stack)


def _add_means(
    result: DarkMeasurement, raw: RawFrame, defects: dict[Site, Bool], exposure_s: float | None, key: Hashable
) -> None:
    result.frame_means.append(np.array([site_means(raw, plane, defects).mean() for plane in raw.cfa.plane_names]))
    result.exposures.append(exposure_s)
    result.groups.append(key)


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
            sites[site] = measure_site(a, b, black=black, clip=white, defects=stack.defects[site])
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


def _finish_group(result: DarkMeasurement, stack: FrameStack, exposure_s: float | None, key: Hashable) -> None:
    if stack.waiting is not None:
        _add_means(result, stack.waiting, stack.defects or result.defects, exposure_s, key)
        label = "the only dark" if stack.frames == 1 else "one dark too many"
        result.notes.append(
            f"A dark has no partner ({label} of group {key!s}): it counts for the means, not the noise."
        )
    if stack.frames < 2 or stack.frames <= result.pattern_frames:
        return
    period = result.cfa.period
    result.pattern_frames, result.main_group = stack.frames, key
    before = {plane: stack.plane_mean(plane, result.cfa, stack.defects) for plane in result.cfa.plane_names}
    for site in all_sites(result.cfa):
        mean = stack.site(site, period)
        result.patterns[site] = measure_pattern(mean, detrend=False, exclude=stack.defects[site])
        result.defects[site] = stack.defects[site] | beyond(mean, result.patterns[site].limit)
    result.black_shift = {
        plane: stack.plane_mean(plane, result.cfa, result.defects) - old for plane, old in before.items()
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
