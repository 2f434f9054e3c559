"""Quantities that the darks of one ISO determine, each with its standard error."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from noise_models.calibration.dark import DarkMeasurement
from noise_models.calibration.fits import std_from_variance
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Estimate, HotPixels

F64 = NDArray[np.float64]

# Dark current needs exposures that differ by this much.
_EXPOSURE_SPAN = 4.0
_FEWEST_FOR_SLOPE = 4  # frames: two unknowns, and two more for their error
# Mean and variance of a dark signal must agree; two slopes differ by more than this share and 3 standard errors
# where the camera subtracts a dark or moves its black level with the exposure.
_SLOPE_SHARE = 0.2
_SLOPE_SIGMA = 3.0


def black_jitter(dark: DarkMeasurement) -> tuple[float, float]:
    """Variance of the black level between frames [DN^2] beyond what pixel and line noise give, and its error.

    Negative values are left as they come: unbiased estimates of zero.
    """
    means = np.array(dark.frame_means).mean(axis=1)
    groups = [means[[g == key for g in dark.groups]] for key in dict.fromkeys(dark.groups)]
    dof = sum(len(group) - 1 for group in groups)
    raw = float(sum(((group - group.mean()) ** 2).sum() for group in groups)) / max(dof, 1)
    height, width = dark.shape
    # Where a clamp holds part of the sites, a frame's mean moves by that share less.
    raw /= dark.rows.response**2
    pixel = float(np.mean([dark.pixel_variance(plane) for plane in dark.cfa.plane_names])) + QUANTISATION_VARIANCE_DN2
    sampling = dark.rows.variance_of_mean(height) + dark.columns.variance_of_mean(width) + pixel / (height * width)
    return raw - sampling, (raw + sampling) * math.sqrt(2.0 / max(dof, 1))


def black_level(dark: DarkMeasurement, plane: str) -> Estimate:
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
    shared = (student**2 * max(0.0, black_jitter(dark)[0]) + line) / len(values)
    value = float(values.mean()) + dark.black_shift[plane]
    codes = dark.code_fits.get(plane)
    if codes is None:
        error, method = math.sqrt(shared + pixel / len(values)), f"mean of {len(values)} darks, defects excluded"
    else:
        error, method = math.hypot(math.sqrt(shared), codes.black_error_dn), "maximum likelihood on dark codes"
    return Estimate(value=value, standard_error=error, method=method)


def dsnu(dark: DarkMeasurement, plane: str) -> Estimate:
    """Pixel-to-pixel std of the fixed pattern [DN]."""
    codes = dark.code_fits.get(plane)
    if codes is not None:
        return Estimate(
            value=codes.pattern_dn, standard_error=codes.pattern_error_dn, method="maximum likelihood on dark codes"
        )
    method = f"mean of {dark.pattern_frames} darks, within tiles, defects excluded"
    return std_from_variance(*dark.dsnu_variance(plane), method=method)


def dark_current(dark: DarkMeasurement, plane: str, gain: Estimate) -> tuple[Estimate | None, str | None]:
    """Mean dark signal [e-/s] from the mean over exposure, and a note where the variance contradicts it.

    Source: EMVA Standard 1288 Release 4.0 Linear, dark current: slope of the mean over K, or of the variance over K^2.
    """
    index = dark.cfa.plane_names.index(plane)
    known = [(e, m[index]) for e, m in zip(dark.exposures, dark.frame_means, strict=True) if e is not None]
    exposures = np.array([e for e, _ in known])
    if len(known) < _FEWEST_FOR_SLOPE or exposures.max() < _EXPOSURE_SPAN * exposures.min():
        return None, None
    slope, slope_error = _slope(exposures, np.array([m for _, m in known]))
    error = math.hypot(slope_error, slope * (gain.standard_error or 0.0) / gain.value) / gain.value
    estimate = Estimate(value=slope / gain.value, standard_error=error, method="slope of the mean dark over exposure")
    pairs = [(e, p.variance_dn2[0]) for p, (_, e) in zip(dark.points[plane], dark.pair_groups, strict=True) if e]
    if len(pairs) < _FEWEST_FOR_SLOPE:
        return estimate, None
    slope, slope_error = _slope(np.array([e for e, _ in pairs]), np.array([v for _, v in pairs]))
    other, other_error = slope / gain.value**2, slope_error / gain.value**2
    apart = abs(other - estimate.value)
    if apart > _SLOPE_SIGMA * math.hypot(error, other_error) and apart > _SLOPE_SHARE * max(abs(other), estimate.value):
        return estimate, (
            f"Plane {plane}: the mean of darks grows by {estimate.value:.3g} e-/s, their variance by {other:.3g} e-/s: "
            "the camera subtracts a dark frame or moves its black level with the exposure."
        )
    return estimate, None


def _slope(x: F64, y: F64) -> tuple[float, float]:
    """Slope of a line and its standard error, as wide as so few points ask for (Student's t)."""
    coefficients, covariance = np.polyfit(x, y, 1, cov=True)
    student = float(stats.t.ppf(0.975, len(x) - 2) / stats.norm.ppf(0.975))
    return float(coefficients[0]), student * math.sqrt(float(covariance[0, 0]))


def hot_pixels(dark: DarkMeasurement) -> HotPixels | None:
    """Sites far above their neighbourhood, as a population; None where a clamp skews the mean dark."""
    if dark.clamp is not None:
        return None
    sites = sum(pattern.count for pattern in dark.patterns.values())
    excess = np.concatenate([pattern.defects[pattern.defects > 0] for pattern in dark.patterns.values()])
    count, method = len(excess), "mean dark, 6 robust standard deviations above its tile"
    mean = float(excess.mean()) if count else 0.0
    spread = float(excess.std(ddof=1)) / math.sqrt(count) if count > 1 else None
    return HotPixels(
        fraction=Estimate(value=count / sites, standard_error=math.sqrt(max(count, 1)) / sites, method=method),
        excess_dn=Estimate(value=mean, standard_error=spread, method=method),
    )


def shading(dark: DarkMeasurement) -> Estimate | None:
    """Rms of tile means of the mean dark beyond noise and pixel pattern; None: too few tiles, or cut off by a clamp."""
    if dark.clamp is not None:
        return None
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
