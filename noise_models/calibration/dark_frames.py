"""Dark frames of one ISO, measured as they stream by: in memory are one pair, the running sum, and statistics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration import watch
from noise_models.calibration.dark import BINS_PER_STD, HISTOGRAM_REACH, DarkMeasurement, Histogram
from noise_models.calibration.defects import beyond, pair_defects
from noise_models.calibration.frames import CalibrationFrame
from noise_models.calibration.maps import MapBuilder
from noise_models.calibration.pairs import SitePair, all_sites, measure_site, resolved, site_means, sublattice
from noise_models.calibration.photon_transfer import TransferPoints, dark_points
from noise_models.calibration.reader import FrameReader
from noise_models.calibration.shape.quantised import count_codes, fit_codes
from noise_models.calibration.spatial import measure_pattern
from noise_models.calibration.specimen import DarkSpecimen, shape_plane
from noise_models.calibration.stack import FrameStack
from noise_models.calibration.traps import find_black_clamp
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame
from noise_models.sensor import QUANTISATION_VARIANCE_DN2

Bool = NDArray[np.bool_]
F64 = NDArray[np.float64]
Site = tuple[int, int]

# A clamp that matters lies at most this many standard deviations below the median.
_CLAMP_REACH = 4.0


def measure_darks(frames: Sequence[CalibrationFrame], reader: FrameReader, *, maps: bool = False) -> DarkMeasurement:
    """Measure all darks of one ISO.

    Args:
        frames: Darks of one ISO; those that share a level key form pairs in their order.
        reader: Loads them.
        maps: Also collect maps.

    Raises:
        CalibrationError: no pair among them, or the black level cuts the noise off.
    """
    groups: dict[Hashable, list[CalibrationFrame]] = {}
    for frame in frames:
        groups.setdefault(frame.level_key, []).append(frame)
    largest = max(groups, key=lambda key: len(groups[key]), default=None)
    result: DarkMeasurement | None = None
    for key, group in groups.items():
        stack = FrameStack()
        for raw in reader.load(group):
            if result is None:
                specimen = DarkSpecimen(len(groups[largest]), raw.shape)
                builder = MapBuilder(raw.cfa, raw.shape) if maps else None
                result = DarkMeasurement(raw.cfa, raw.shape, specimen=specimen, maps=builder)
            if key == largest:
                result.specimen.add(raw)
                if result.maps is not None:
                    result.maps.add_dark(raw)
            _add_frame(result, raw, stack, group[0].exposure_s, key, main=largest)
        if result is not None and stack.frames:
            _finish_group(result, stack, group[0].exposure_s, key)
    if result is None or not result.points:
        raise CalibrationError(
            f"Needed are at least 2 darks at one ISO and exposure; there are {len(frames)} dark(s) and no pair. "
            "Take 8 with the lens cap on, at the exposure of the flats."
        )
    _fit_codes(result)
    if result.specimen.frames and result.clamp is None:
        plane = shape_plane(result.cfa)
        std = math.sqrt(max(0.0, result.pixel_variance(plane)))
        result.specimen.finish(result.defects, result.pair_defects, pixel_std_dn=std)
    return result


def _add_frame(
    result: DarkMeasurement,
    raw: RawFrame,
    stack: FrameStack,
    exposure_s: float | None,
    key: Hashable,
    *,
    main: Hashable,
) -> None:
    if not result.groups and stack.waiting is None:
        result.clamp = _clamp(raw)
    partner = stack.add(raw)
    if partner is None:
        return  # its mean waits for the defects, which a pair shows
    period = raw.cfa.period
    if not stack.defects:
        stack.defects = {
            site: pair_defects(
                *(sublattice(frame.mosaic, site, period) for frame in (partner, raw)), clamp=result.clamp
            )
            for site in all_sites(raw.cfa)
        }
        if key == main:
            result.findings += watch.of_darks(partner, raw)
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
    result.pair_groups.append((result.groups[-1], result.exposures[-1]))
    sites: dict[Site, SitePair] = {}
    for plane in first.cfa.plane_names:
        for site in first.cfa.sites(plane):
            a, b = (sublattice(frame.mosaic, site, period) for frame in (first, second))
            black, white = float(first.black_level[site]), float(first.white_level[site])
            sites[site] = measure_site(a, b, black=black, clip=white, defects=stack.defects[site])
        pairs = [sites[site] for site in first.cfa.sites(plane)]
        point = dark_points(pairs)
        result.points.setdefault(plane, []).append(point)
        _add_codes(result, plane, point, (first, second), stack.defects)
        if plane not in result.histogram:
            result.histogram[plane] = _histogram(pairs)
    _add_lines(result, sites, period)


def _add_lines(result: DarkMeasurement, sites: dict[Site, SitePair], period: tuple[int, int]) -> None:
    """Line means of the whole mosaic from those of its sites: a row of the mosaic holds several colours."""
    height, width = result.shape
    rows, columns = np.empty(height), np.empty(width)
    for i in range(period[0]):
        line = [sites[i, j] for j in range(period[1])]
        weights = np.array([pair.residual.shape[1] for pair in line], dtype=np.float64)
        rows[i :: period[0]] = np.average([p.row_means - p.row_means.mean() for p in line], axis=0, weights=weights)
        variance = float(np.mean([_site_variance(pair) for pair in line]))
        result.rows.add(rows[i :: period[0]], width * _kept_share(line), variance)
    for j in range(period[1]):
        line = [sites[i, j] for i in range(period[0])]
        weights = np.array([pair.residual.shape[0] for pair in line], dtype=np.float64)
        columns[j :: period[1]] = np.average(
            [p.column_means - p.column_means.mean() for p in line], axis=0, weights=weights
        )
        variance = float(np.mean([_site_variance(pair) for pair in line]))
        result.columns.add(columns[j :: period[1]], height * _kept_share(line), variance)
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
        # The mean of clamped noise is skewed: it has bright sites that are no defects.
        faint = beyond(mean, result.patterns[site].limit) if result.clamp is None else stack.defects[site]
        result.defects[site] = stack.defects[site] | faint
    result.pair_defects = stack.defects
    if result.maps is not None:
        result.maps.finish_darks(stack, result.defects)
    result.black_shift = {
        plane: stack.plane_mean(plane, result.cfa, result.defects) - old for plane, old in before.items()
    }


def _add_codes(
    result: DarkMeasurement,
    plane: str,
    point: TransferPoints,
    frames: tuple[RawFrame, RawFrame],
    defects: dict[Site, Bool],
) -> None:
    first, second = frames
    if result.clamp is None and resolved(float(point.variance_dn2[0]) + QUANTISATION_VARIANCE_DN2):
        return
    counter = result.codes.setdefault(plane, Counter())
    for site in first.cfa.sites(plane):
        pair = (sublattice(frame.mosaic, site, first.cfa.period) for frame in (first, second))
        counter.update(count_codes(*pair, defects=defects[site]))


def _fit_codes(result: DarkMeasurement) -> None:
    """Maximum likelihood for planes whose moments are wrong; it moves the black level and the scale of line means."""
    for plane, counter in result.codes.items():
        # No file holds a code below zero, whether the camera clamps or not.
        low = 0 if result.clamp is None and any(0 in pair for pair in counter) else result.clamp
        fit = fit_codes(counter, low=low)
        index = result.cfa.plane_names.index(plane)
        means = [m[index] for m, g in zip(result.frame_means, result.groups, strict=True) if g == result.main_group]
        result.code_fits[plane] = fit
        result.black_shift[plane] = fit.black_dn - float(np.mean(means))
    if result.clamp is not None:
        share = float(np.mean([fit.visible for fit in result.code_fits.values()]))
        result.rows.response = result.columns.response = share
        result.notes.append(
            f"The camera cuts dark noise off at code {result.clamp} and shows {share:.0%} of it: black level, noise "
            "and pattern come from a likelihood that models the cut."
        )


def _kept_share(pairs: Sequence[SitePair]) -> float:
    """Share of the sites that were measured."""
    return float(sum(pair.count.sum() for pair in pairs)) / sum(pair.residual.size for pair in pairs)


def _site_variance(pair: SitePair) -> float:
    return float(np.average(pair.variance, weights=pair.count))


def _histogram(pairs: Sequence[SitePair]) -> Histogram:
    """Counts of a difference in bins of whole codes: others would beat against the codes and look like a comb."""
    spread = float(np.mean([pair.residual.std() for pair in pairs])) or 1.0
    width = max(1, round(spread / BINS_PER_STD))
    reach = math.ceil(HISTOGRAM_REACH * spread / width)
    edges: F64 = width * (np.arange(-reach, reach + 2, dtype=np.float64) - 0.5)
    counts = sum(np.histogram(pair.residual, edges)[0] for pair in pairs)
    return Histogram(edges / spread, np.asarray(counts, dtype=np.int64))


def _clamp(dark: RawFrame) -> int | None:
    """The lowest code where noise is cut off there; dead pixels far below the noise are no clamp."""
    if not watch.can_be_examined(dark) or not find_black_clamp(dark).found:
        return None
    lowest = int(dark.mosaic.min())
    low, centre, high = np.quantile(dark.mosaic, [0.16, 0.5, 0.84])
    reach = _CLAMP_REACH * max(float(high - centre), float(centre - low), 1.0)
    return lowest if centre - lowest <= reach else None
