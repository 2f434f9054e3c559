"""From the measurements of one ISO to its `SensorNoise`: every quantity with its standard error."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from noise_models.calibration.dark import HISTOGRAM_EDGES, DarkMeasurement
from noise_models.calibration.evidence import IsoEvidence
from noise_models.calibration.fits import std_from_variance
from noise_models.calibration.flat import FlatMeasurement
from noise_models.calibration.photon_transfer import FIT_SHARE, TransferCurve, TransferPoints, fit_curve, join
from noise_models.calibration.quantised import CodeFit, fit_codes
from noise_models.calibration.reader import Camera
from noise_models.errors import CalibrationError
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Estimate, HotPixels, PlaneNoise, SensorNoise

F64 = NDArray[np.float64]

# A reduced chi^2 above this means that the line does not describe the data, not that the scatter was unlucky.
BAD_CHI2 = 3.0

_FEWEST_FOR_JITTER = 3
# Dark current needs exposures that differ by this much, three of them.
_EXPOSURE_SPAN = 4.0
_FEWEST_EXPOSURES = 3


def black_jitter(dark: DarkMeasurement) -> tuple[float, float]:
    """Variance of the black level between frames [DN^2] beyond what pixel and line noise give, and its error.

    Negative values are left as they come: unbiased estimates of zero.
    """
    means = np.array(dark.frame_means).mean(axis=1)
    groups = [means[[g == key for g in dark.groups]] for key in dict.fromkeys(dark.groups)]
    dof = sum(len(group) - 1 for group in groups)
    raw = float(sum(((group - group.mean()) ** 2).sum() for group in groups)) / max(dof, 1)
    height, width = dark.shape
    pixel = float(np.mean([dark.pixel_variance(plane) for plane in dark.cfa.plane_names])) + QUANTISATION_VARIANCE_DN2
    sampling = dark.rows.variance_of_mean(height) + dark.columns.variance_of_mean(width) + pixel / (height * width)
    return raw - sampling, (raw + sampling) * math.sqrt(2.0 / max(dof, 1))


def sensor_noise(
    iso: float, dark: DarkMeasurement, flat: FlatMeasurement | None, *, white_dn: dict[str, float]
) -> tuple[SensorNoise, dict[str, TransferCurve]]:
    """The profile entry of one ISO and the curves it rests on.

    Args:
        iso: As the frames state it.
        dark: Of this ISO.
        flat: Of this ISO; None: darks only, so no gain.
        white_dn: White level per plane [DN].

    Raises:
        CalibrationError: the frames do not determine gain or read noise.
    """
    curves: dict[str, TransferCurve] = {}
    planes: dict[str, PlaneNoise] = {}
    shortest = min((e for e in dark.exposures if e is not None), default=None)
    exposures = flat.exposures if flat is not None else {shortest}
    notes = [*dark.notes, *(flat.notes if flat is not None else ["No flats: the gain is unknown."])]
    for plane in dark.cfa.plane_names:
        codes = fit_codes(dark.codes[plane]) if plane in dark.codes else None
        if codes is not None:
            notes.append(f"Plane {plane}: read noise below half a code step, from maximum likelihood on dark codes.")
        black = _black_level(dark, plane, codes)
        darks = _dark_points(dark.zero_points(plane, exposures), codes)
        if flat is None:
            planes[plane] = _from_darks(dark, plane, darks, black, codes)
            continue
        curve = _curve(flat, plane, darks, black, white_dn[plane])
        curves[plane] = curve
        planes[plane] = _from_curve(dark, flat, plane, curve, black, codes)
        notes += _curve_notes(plane, curve, (flat.saturation.get(plane, white_dn[plane]) - black.value))
    jitter, jitter_error = black_jitter(dark)
    known = [e for e in dark.exposures if e is not None]
    noise = SensorNoise(
        iso=iso,
        planes=planes,
        row_noise_dn=dark.rows.estimate(),
        column_noise_dn=dark.columns.estimate(),
        tail=dark.tail,
        hot_pixels=_hot_pixels(dark),
        black_jitter_dn=std_from_variance(jitter, jitter_error, method="frame means of darks")
        if len(dark.frame_means) >= _FEWEST_FOR_JITTER
        else None,
        dark_shading_dn=_shading(dark),
        exposure_s=(min(known), max(known)) if known else None,
        notes=tuple(dict.fromkeys(notes)),
    )
    return noise, curves


def iso_evidence(dark: DarkMeasurement, flat: FlatMeasurement | None, curves: dict[str, TransferCurve]) -> IsoEvidence:
    """The arrays behind one ISO's numbers."""
    tiles = [pattern.tile_means - pattern.tile_means.mean() for pattern in dark.patterns.values()]
    smallest = (min(t.shape[0] for t in tiles), min(t.shape[1] for t in tiles))
    return IsoEvidence(
        transfer=curves,
        row_spectrum=dark.rows.spectrum(),
        column_spectrum=dark.columns.spectrum(),
        histogram_edges=HISTOGRAM_EDGES,
        histogram=dark.histogram,
        mean_dark_dn=np.mean([t[: smallest[0], : smallest[1]] for t in tiles], axis=0),
        frame_means_dn=np.array(dark.frame_means),
        light_ratios=tuple(flat.ratios) if flat is not None else (),
        dark_frames=len(dark.frame_means),
        flat_frames=flat.frames if flat is not None else 0,
        hot_pixels=sum(int((pattern.defects > 0).sum()) for pattern in dark.patterns.values()),
    )


def white_levels(camera: Camera, white: F64) -> dict[str, float]:
    """White level per plane [DN], the lowest of its sites."""
    return {plane: min(float(white[site]) for site in camera.cfa.sites(plane)) for plane in camera.cfa.plane_names}


def _black_level(dark: DarkMeasurement, plane: str, codes: CodeFit | None) -> Estimate:
    """Mean dark level of the largest group, with the frame jitter in its error."""
    index = dark.cfa.plane_names.index(plane)
    chosen = [g == dark.main_group for g in dark.groups]
    values = np.array(dark.frame_means)[chosen, index]
    height, width = dark.shape
    period = dark.cfa.period
    sites = dark.cfa.sites(plane)
    rows = height * len({site[0] for site in sites}) / period[0]
    columns = width * len({site[1] for site in sites}) / period[1]
    pixels = height * width * len(sites) / math.prod(period)
    pixel = (dark.pixel_variance(plane) + QUANTISATION_VARIANCE_DN2) / pixels
    line = dark.rows.variance_of_mean(1) / rows + dark.columns.variance_of_mean(1) / columns
    # So few frames say little about their own jitter: Student's t makes the 95 % interval as wide as it must be.
    student = float(stats.t.ppf(0.975, max(1, len(values) - 1)) / stats.norm.ppf(0.975))
    error = math.sqrt((student**2 * max(0.0, black_jitter(dark)[0]) + line + pixel) / len(values))
    value, method = float(values.mean()) + dark.black_shift[plane], f"mean of {len(values)} darks, defects excluded"
    if codes is not None:
        value, method = codes.black_dn, "maximum likelihood on dark codes"
    return Estimate(value=value, standard_error=error, method=method)


def _dark_points(pairs: list[TransferPoints], codes: CodeFit | None) -> TransferPoints:
    if codes is None:
        return join(pairs)
    variance = codes.read_noise_dn**2
    error = 2.0 * codes.read_noise_dn * codes.error_dn / (variance + QUANTISATION_VARIANCE_DN2)
    return TransferPoints(np.zeros(1), np.array([variance]), np.array([error]), np.zeros(1))


def _curve(flat: FlatMeasurement, plane: str, darks: TransferPoints, black: Estimate, white: float) -> TransferCurve:
    points = [part for part in flat.points.get(plane, []) if len(part.mean_dn)]
    if not points:
        raise CalibrationError(
            f"Plane {plane}: no pair of unclipped flats. Take 2 flats each at about 5, 10 and 25 % of saturation."
        )
    span = flat.saturation.get(plane, white) - black.value
    curve = fit_curve(join([darks, *points]), range_dn=span, offset_error=black.standard_error or 0.0)
    if curve.fit.slope <= 0.0:
        raise CalibrationError(
            f"Plane {plane}: noise does not grow with light (K = {curve.fit.slope:.3g}). "
            "Are these flats and darks of the same ISO, and raw data that the camera did not denoise?"
        )
    return curve


def _curve_notes(plane: str, curve: TransferCurve, span: float) -> list[str]:
    notes = []
    chi2 = curve.fit.chi2_dof
    if chi2 is not None and chi2 > BAD_CHI2:
        notes.append(
            f"Plane {plane}: the photon-transfer line does not fit (chi^2/dof = {chi2:.1f}); standard errors are "
            "inflated. Likely: a bent response, processed raw data, or flats and darks of different settings."
        )
    if chi2 is None:
        notes.append(f"Plane {plane}: two points only, so nothing tests the line. Add flats at other levels.")
    top = float(curve.points.mean_dn[curve.used].max())
    if top > FIT_SHARE * span:
        notes.append(f"Plane {plane}: no flat below 30 % of saturation; the fit reaches to {100 * top / span:.0f} %.")
    return notes


def _from_darks(
    dark: DarkMeasurement, plane: str, darks: TransferPoints, black: Estimate, codes: CodeFit | None
) -> PlaneNoise:
    weights = darks.error_dn2**-2.0
    variance = float(np.average(darks.variance_dn2, weights=weights))
    error = math.sqrt(1.0 / float(weights.sum()))
    return PlaneNoise(
        read_noise_dn=std_from_variance(variance, error, method="dark pair differences"),
        black_level_dn=black,
        dsnu_dn=_dsnu(dark, plane, codes),
    )


def _from_curve(
    dark: DarkMeasurement,
    flat: FlatMeasurement,
    plane: str,
    curve: TransferCurve,
    black: Estimate,
    codes: CodeFit | None,
) -> PlaneNoise:
    fit = curve.fit
    gain = Estimate(
        value=fit.slope,
        standard_error=math.sqrt(fit.covariance[0, 0]),
        method=f"photon transfer, {int(curve.used.sum())} points below {curve.limit_dn:.0f} DN",
    )
    read = std_from_variance(fit.intercept, math.sqrt(fit.covariance[1, 1]), method="photon transfer with darks")
    saturation = flat.saturation.get(plane)
    used = curve.points.mean_dn[curve.used]
    return PlaneNoise(
        gain=gain,
        read_noise_dn=read,
        black_level_dn=black,
        saturation_dn=None if saturation is None else Estimate(value=saturation, method="flats reach it"),
        prnu=_prnu(flat, plane),
        dsnu_dn=_dsnu(dark, plane, codes),
        dark_current=_dark_current(dark, plane, gain),
        gain_read_covariance=float(fit.covariance[0, 1]),
        chi2_dof=fit.chi2_dof,
        fit_range_dn=(float(used.min()), float(used.max())),
    )


def _dsnu(dark: DarkMeasurement, plane: str, codes: CodeFit | None) -> Estimate:
    if codes is not None:
        return Estimate(value=codes.pattern_dn, method="maximum likelihood on dark codes")
    method = f"mean of {dark.pattern_frames} darks, within tiles, defects excluded"
    return std_from_variance(*dark.dsnu_variance(plane), method=method)


def _prnu(flat: FlatMeasurement, plane: str) -> Estimate | None:
    """From the level that determines it best."""
    candidates = flat.prnu.get(plane)
    if not candidates:
        return None
    best = min(candidates, key=lambda candidate: candidate.error)
    method = f"mean of {best.frames} flats at {best.mean_dn:.0f} DN, within tiles, defects excluded"
    return std_from_variance(best.variance, best.error, method=method)


def _dark_current(dark: DarkMeasurement, plane: str, gain: Estimate) -> Estimate | None:
    index = dark.cfa.plane_names.index(plane)
    known = [(e, m[index]) for e, m in zip(dark.exposures, dark.frame_means, strict=True) if e is not None]
    exposures = np.array([e for e, _ in known])
    if len(set(exposures.tolist())) < _FEWEST_EXPOSURES or exposures.max() < _EXPOSURE_SPAN * exposures.min():
        return None
    coefficients, covariance = np.polyfit(exposures, np.array([m for _, m in known]), 1, cov=True)
    slope, slope_error = float(coefficients[0]), math.sqrt(float(covariance[0, 0]))
    error = math.hypot(slope_error, slope * (gain.standard_error or 0.0) / gain.value) / gain.value
    return Estimate(value=slope / gain.value, standard_error=error, method="slope of the mean dark over exposure")


def _hot_pixels(dark: DarkMeasurement) -> HotPixels:
    sites = sum(pattern.count for pattern in dark.patterns.values())
    excess = np.concatenate([pattern.defects[pattern.defects > 0] for pattern in dark.patterns.values()])
    count, method = len(excess), "mean dark, 6 robust standard deviations above its tile"
    mean = float(excess.mean()) if count else 0.0
    spread = float(excess.std(ddof=1)) / math.sqrt(count) if count > 1 else None
    return HotPixels(
        fraction=Estimate(value=count / sites, standard_error=math.sqrt(max(count, 1)) / sites, method=method),
        excess_dn=Estimate(value=mean, standard_error=spread, method=method),
    )


def _shading(dark: DarkMeasurement) -> Estimate | None:
    """Rms of tile means of the mean dark beyond noise and pixel pattern; None where the frame has too few tiles."""
    variances, errors = [], []
    for site, pattern in dark.patterns.items():
        if pattern.tile_means.size < 2:
            return None
        plane = dark.cfa.plane_of_site[site[0]][site[1]]
        side = math.sqrt(pattern.pixels_per_tile)
        temporal = dark.pixel_variance(plane) + QUANTISATION_VARIANCE_DN2
        within = temporal / dark.pattern_frames + max(dark.dsnu_variance(plane)[0], 0.0)
        line = dark.line_variance() / (dark.pattern_frames * side)
        variances.append(pattern.tile_variance - within / pattern.pixels_per_tile - line)
        errors.append(pattern.tile_variance * math.sqrt(2.0 / (pattern.tile_means.size - 1)))
    error = math.sqrt(sum(e**2 for e in errors)) / len(errors)
    return std_from_variance(float(np.mean(variances)), error, method="tile means of the mean dark")
