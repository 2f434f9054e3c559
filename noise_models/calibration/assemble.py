"""From the measurements of one ISO to its `SensorNoise`: every quantity with its standard error."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.dark import DarkMeasurement
from noise_models.calibration.dark_quantities import (
    black_jitter,
    black_level,
    dark_current,
    dsnu,
    hot_pixels,
    shading,
)
from noise_models.calibration.evidence import IsoEvidence
from noise_models.calibration.fits import std_from_variance
from noise_models.calibration.flat import FlatMeasurement
from noise_models.calibration.linearity import Linearity, fit_linearity
from noise_models.calibration.photon_transfer import (
    FIT_SHARE,
    TransferCurve,
    TransferPoints,
    fit_curve,
    join,
    select,
    variance_peak,
)
from noise_models.calibration.reader import Camera
from noise_models.calibration.shape.fit_quality import judge_fit
from noise_models.calibration.specimen import window
from noise_models.errors import CalibrationError
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Estimate, PlaneNoise, SensorNoise

F64 = NDArray[np.float64]

# A reduced chi^2 above this means that the line does not describe the data, not that the scatter was unlucky.
BAD_CHI2 = 3.0

_FEWEST_FOR_JITTER = 3
# A few among a million sites are found by chance.
_BLINKING_SHARE = 1e-4
MOST_PLACES = 5000  # dots that a picture still shows apart
# A clamp this many standard deviations below the mean takes 10^-4 off the noise.
CLAMP_DISTANCE = 4.0


def sensor_noise(
    iso: float, dark: DarkMeasurement, flat: FlatMeasurement | None, *, white_dn: dict[str, float]
) -> tuple[SensorNoise, dict[str, TransferCurve], dict[str, Linearity]]:
    """The profile entry of one ISO, and the photon-transfer curves and responses it rests on.

    Args:
        iso: As the frames state it.
        dark: Of this ISO.
        flat: Of this ISO; None: darks only, so no gain.
        white_dn: White level per plane [DN].

    Raises:
        CalibrationError: the frames do not determine gain or read noise.
    """
    curves: dict[str, TransferCurve] = {}
    response: dict[str, Linearity | None] = {}
    planes: dict[str, PlaneNoise] = {}
    shortest = min((e for e in dark.exposures if e is not None), default=None)
    exposures = flat.exposures if flat is not None else {shortest}
    notes = [
        *dark.notes,
        *_shape_notes(dark),
        *(flat.notes if flat is not None else ["No flats: the gain is unknown."]),
    ]
    for plane in dark.cfa.plane_names:
        black = black_level(dark, plane)
        darks = _dark_points(dark, plane, exposures)
        if flat is None:
            planes[plane] = _from_darks(dark, plane, darks, black)
            continue
        top = _saturation(flat, plane)
        span = (white_dn[plane] if top is None else top.value) - black.value
        curve = _curve(dark, flat, plane, darks, black, span)
        curves[plane] = curve
        response[plane] = fit_linearity(flat.levels.get(plane, []), range_dn=span)
        planes[plane], note = _from_curve(dark, flat, plane, curve, black, top, response[plane])
        notes += [*_curve_notes(plane, curve, span), *([note] if note else [])]
    jitter, jitter_error = black_jitter(dark)
    known = [e for e in dark.exposures if e is not None]
    noise = SensorNoise(
        iso=iso,
        planes=planes,
        row_noise_dn=dark.rows.estimate(),
        column_noise_dn=dark.columns.estimate(),
        tail=dark.specimen.tail,
        hot_pixels=hot_pixels(dark),
        black_jitter_dn=std_from_variance(jitter, jitter_error, method="frame means of darks")
        if len(dark.frame_means) >= _FEWEST_FOR_JITTER
        else None,
        dark_shading_dn=shading(dark),
        exposure_s=(min(known), max(known)) if known else None,
        notes=tuple(dict.fromkeys(notes)),
    )
    return noise, curves, {plane: line for plane, line in response.items() if line is not None}


def iso_evidence(
    noise: SensorNoise,
    dark: DarkMeasurement,
    flat: FlatMeasurement | None,
    curves: dict[str, TransferCurve],
    response: dict[str, Linearity],
) -> IsoEvidence:
    """The arrays behind one ISO's numbers."""
    tiles = [pattern.tile_means - pattern.tile_means.mean() for pattern in dark.patterns.values()]
    smallest = (min(t.shape[0] for t in tiles), min(t.shape[1] for t in tiles))
    return IsoEvidence(
        transfer=curves,
        linearity=response,
        tail_fit=dark.specimen.tail_fit,
        row_spectrum=dark.rows.spectrum(),
        column_spectrum=dark.columns.spectrum(),
        histogram=dark.histogram,
        mean_dark_dn=np.mean([t[: smallest[0], : smallest[1]] for t in tiles], axis=0),
        frame_means_dn=np.array(dark.frame_means),
        light_ratios=tuple(flat.ratios) if flat is not None else (),
        dark_frames=len(dark.frame_means),
        flat_frames=flat.frames if flat is not None else 0,
        frame_shape=dark.shape,
        defect_places=_places(dark),
        quality=judge_fit(noise, dark, flat),
        hot_pixels=sum(int((pattern.defects > 0).sum()) for pattern in dark.patterns.values()),
    )


def _places(dark: DarkMeasurement) -> dict[str, NDArray[np.int64]]:
    """Row and column on the sensor of defective and of blinking sites, evenly thinned for a picture."""
    period = dark.cfa.period
    top, left = (part.start for part in window(dark.shape, dark.cfa))
    hot = [_on_sensor(mask, site, period) for site, mask in dark.defects.items()]
    blinking = [
        _on_sensor(dark.specimen.blinks(site), (site[0] + top, site[1] + left), period)
        for site in dark.specimen.blinking
    ]
    joined = {"defective": np.concatenate(hot)}
    if blinking:
        joined["blinking"] = np.concatenate(blinking)
    return {name: places[:: max(1, len(places) // MOST_PLACES)] for name, places in joined.items()}


def _on_sensor(mask: NDArray[np.bool_], site: tuple[int, int], period: tuple[int, int]) -> NDArray[np.int64]:
    places: NDArray[np.int64] = np.argwhere(mask) * np.array(period) + np.array(site)
    return places


def white_levels(camera: Camera, white: F64) -> dict[str, float]:
    """White level per plane [DN], the lowest of its sites."""
    return {plane: min(float(white[site]) for site in camera.cfa.sites(plane)) for plane in camera.cfa.plane_names}


def _shape_notes(dark: DarkMeasurement) -> list[str]:
    notes = []
    if dark.clamp is None:
        notes += [
            f"Plane {plane}: read noise below half a code step, from maximum likelihood on dark codes."
            for plane in dark.code_fits
        ]
    share = dark.specimen.blinking_share()
    if share > _BLINKING_SHARE:
        notes.append(
            f"{share:.2%} of the sites blink (random telegraph noise, or particle hits). They are left out of the read "
            "noise."
        )
    return notes


def _dark_points(dark: DarkMeasurement, plane: str, exposures: Iterable[float | None]) -> TransferPoints:
    fit = dark.code_fits.get(plane)
    if fit is None:
        return join(dark.zero_points(plane, exposures))
    variance = dark.pixel_variance(plane) if dark.clamp is not None else fit.read_noise_dn**2
    error = 2.0 * fit.read_noise_dn * fit.error_dn / (variance + QUANTISATION_VARIANCE_DN2)
    return TransferPoints(np.zeros(1), np.array([variance]), np.array([error]), np.zeros(1))


def _saturation(flat: FlatMeasurement, plane: str) -> Estimate | None:
    """Where codes pile up, or where the variance begins to fall; None where no flat reaches either."""
    piled = flat.saturation.get(plane)
    if piled is not None:
        return Estimate(value=piled, method="flats reach it")
    points = [part for part in flat.points.get(plane, []) if len(part.mean_dn)]
    peak = variance_peak(join(points)) if points else None
    if peak is None:
        return None
    return Estimate(value=peak + flat.black_dn[plane], method="maximum of the variance over the mean")


def _curve(
    dark: DarkMeasurement, flat: FlatMeasurement, plane: str, darks: TransferPoints, black: Estimate, span: float
) -> TransferCurve:
    lowest = -math.inf if dark.clamp is None else dark.clamp - black.value
    points = [_above(part, lowest) for part in flat.points.get(plane, [])]
    points = [part for part in points if len(part.mean_dn)]
    if not points:
        raise CalibrationError(
            f"Plane {plane}: no pair of unclipped flats. Take 2 flats each at about 5, 10 and 25 % of saturation."
        )
    curve = fit_curve(join([darks, *points]), range_dn=span, offset_error=black.standard_error or 0.0)
    if curve.fit.slope <= 0.0:
        raise CalibrationError(
            f"Plane {plane}: noise does not grow with light (K = {curve.fit.slope:.3g}). "
            "Are these flats and darks of the same ISO, and raw data that the camera did not denoise?"
        )
    return curve


def _above(points: TransferPoints, lowest_dn: float) -> TransferPoints:
    """The points whose noise does not reach down to the clamp."""
    total = np.sqrt(np.maximum(points.variance_dn2, 0.0) + QUANTISATION_VARIANCE_DN2)
    return select(points, points.mean_dn - CLAMP_DISTANCE * total > lowest_dn)


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


def _from_darks(dark: DarkMeasurement, plane: str, darks: TransferPoints, black: Estimate) -> PlaneNoise:
    weights = darks.error_dn2**-2.0
    variance = float(np.average(darks.variance_dn2, weights=weights))
    error = math.sqrt(1.0 / float(weights.sum()))
    return PlaneNoise(
        read_noise_dn=_read_noise(dark, plane, variance, error, method="dark pair differences"),
        black_level_dn=black,
        dsnu_dn=dsnu(dark, plane),
    )


def _from_curve(
    dark: DarkMeasurement,
    flat: FlatMeasurement,
    plane: str,
    curve: TransferCurve,
    black: Estimate,
    saturation: Estimate | None,
    response: Linearity | None,
) -> tuple[PlaneNoise, str | None]:
    fit = curve.fit
    gain = Estimate(
        value=fit.slope,
        standard_error=math.sqrt(fit.covariance[0, 0]),
        method=f"photon transfer, {int(curve.used.sum())} points below {curve.limit_dn:.0f} DN",
    )
    error = math.sqrt(fit.covariance[1, 1])
    used = curve.points.mean_dn[curve.used]
    current, note = dark_current(dark, plane, gain)
    return PlaneNoise(
        gain=gain,
        read_noise_dn=_read_noise(dark, plane, fit.intercept, error, method="photon transfer with darks"),
        black_level_dn=black,
        saturation_dn=saturation,
        prnu=_prnu(flat, plane),
        dsnu_dn=dsnu(dark, plane),
        dark_current=current,
        linearity_error=None if response is None else response.error,
        gain_read_covariance=float(fit.covariance[0, 1]),
        chi2_dof=fit.chi2_dof,
        fit_range_dn=(float(used.min()), float(used.max())),
    ), note


def _read_noise(dark: DarkMeasurement, plane: str, variance: float, error: float, *, method: str) -> Estimate:
    """Read noise without what blinks: telegraph noise adds to flats and darks alike, so it sits in the intercept."""
    blinking, blinking_error = dark.specimen.blinking_variance(dark.cfa.sites(plane))
    return std_from_variance(variance - blinking, math.hypot(error, blinking_error), method=method)


def _prnu(flat: FlatMeasurement, plane: str) -> Estimate | None:
    """From the level that determines it best."""
    candidates = flat.prnu.get(plane)
    if not candidates:
        return None
    best = min(candidates, key=lambda candidate: candidate.error)
    method = f"mean of {best.frames} flats at {best.mean_dn:.0f} DN, within tiles, defects excluded"
    return std_from_variance(best.variance, best.error, method=method)
