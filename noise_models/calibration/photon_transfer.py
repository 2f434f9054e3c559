"""The photon-transfer curve of one colour plane: variance over mean, and the line K through its lower part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.fits import AffineFit, fit_affine_variance, variance_error
from noise_models.calibration.pairs import SitePair, resolved
from noise_models.errors import CalibrationError
from noise_models.sensor import QUANTISATION_VARIANCE_DN2

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

# Share of the range that the line is fitted to. Above it the response bends: on EMVA's reference set 003 the fit
# gives K -0.3 % at 30 %, -0.6 % at 50 %, -1.3 % at 70 % of saturation.
FIT_SHARE = 0.3
# Where no level lies below that, the lowest ones up to here are used and the result says so.
FALLBACK_SHARE = 0.7
# A tile with more clipped sites than this is not measured at all; fewer are single hot pixels, which are masked.
CLIPPED_SHARE = 0.002

# One pair of an uneven flat is a whole curve: it is cut into this many points where its light spans this ratio.
_BINS = 8
_SPAN = 1.1
_TILES_PER_BIN = 4


@dataclass(frozen=True)
class TransferPoints:
    """Points of a photon-transfer curve, (n,) each.

    Attributes:
        mean_dn: Above black [DN]; exactly 0 for a dark.
        variance_dn2: Temporal variance of one pixel [DN^2]; line noise and rounding excluded.
        relative_error: Standard error of (variance + 1/12), divided by it.
        mean_error_dn: Standard error of the mean [DN].
    """

    mean_dn: F64
    variance_dn2: F64
    relative_error: F64
    mean_error_dn: F64

    @property
    def error_dn2(self) -> F64:
        """Standard error of the variance [DN^2]."""
        result: F64 = (self.variance_dn2 + QUANTISATION_VARIANCE_DN2) * self.relative_error
        return result


@dataclass(frozen=True)
class TransferCurve:
    """All points of one plane and the line fitted to some of them.

    Attributes:
        points: Flats and darks.
        used: Which points the fit used.
        fit: Slope K [DN/e-] and intercept, the read variance [DN^2].
        limit_dn: Mean above black [DN] up to which points were used.
    """

    points: TransferPoints
    used: Bool
    fit: AffineFit
    limit_dn: float


def join(parts: Sequence[TransferPoints]) -> TransferPoints:
    """Several sets of points as one."""
    return TransferPoints(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("mean_dn", "variance_dn2", "relative_error", "mean_error_dn")
        )
    )


def select(points: TransferPoints, chosen: Bool) -> TransferPoints:
    """Some of the points."""
    return TransferPoints(
        points.mean_dn[chosen],
        points.variance_dn2[chosen],
        points.relative_error[chosen],
        points.mean_error_dn[chosen],
    )


def dark_points(sites: Sequence[SitePair]) -> TransferPoints:
    """One point at mean zero from a pair of darks.

    Args:
        sites: The pair at every CFA site of one plane.
    """
    tiles = _Tiles.of(sites)
    return tiles.point(np.ones(len(tiles.mean), dtype=bool), line_mean_error=0.0, mean=0.0)


def flat_points(
    sites: Sequence[SitePair], *, range_dn: float, offset_dn: float = 0.0, line_mean_error: float = 0.0
) -> TransferPoints:
    """Points from a pair of flats: one for even light, up to eight below the fit limit for uneven light.

    Light may be uneven without harm: the law is affine, so mean variance at mean light lies on it. Cutting makes a
    curve out of a gradient. Tiles with clipped sites are left out.

    Args:
        sites: The pair at every CFA site of one plane.
        range_dn: Saturation minus black [DN].
        offset_dn: Added to the means [DN] (dark signal at this exposure).
        line_mean_error: Standard error of the mean [DN] that row noise and black jitter cause.

    Returns:
        Possibly no points: every tile is clipped.
    """
    tiles = _Tiles.of(sites, offset=offset_dn)
    good = tiles.clipped <= CLIPPED_SHARE
    points = []
    for share in (tiles.mean <= FIT_SHARE * range_dn, tiles.mean > FIT_SHARE * range_dn):
        chosen = good & share
        points += [tiles.point(part, line_mean_error=line_mean_error) for part in _bins(tiles.mean, chosen)]
    return join(points) if points else TransferPoints(*(np.empty(0) for _ in range(4)))


def fit_curve(points: TransferPoints, *, range_dn: float, offset_error: float) -> TransferCurve:
    """Fit ``variance = K mean + read^2`` to darks and to flats up to 30 % of saturation.

    Args:
        points: Darks (mean 0) and flats.
        range_dn: Saturation minus black [DN].
        offset_error: Standard error of the black level [DN].

    Raises:
        CalibrationError: no usable flat level.
    """
    coarse = np.array([not resolved(v + QUANTISATION_VARIANCE_DN2) for v in points.variance_dn2], dtype=bool)
    lit = (points.mean_dn > 0) & ~coarse
    for share in (FIT_SHARE, FALLBACK_SHARE):
        limit = share * range_dn
        flats = lit & (points.mean_dn <= limit)
        if flats.any():
            break
    else:
        raise CalibrationError(
            f"No flat can be used: needed are means between 0 and {FALLBACK_SHARE * range_dn:.0f} DN above black, "
            "unclipped. Take two flats each at about 5, 10 and 25 % of saturation."
        )
    used = flats | (points.mean_dn == 0)
    total = points.variance_dn2[used] + QUANTISATION_VARIANCE_DN2
    fit = fit_affine_variance(
        points.mean_dn[used],
        total,
        relative_error=points.relative_error[used],
        mean_error=points.mean_error_dn[used],
        offset_error=offset_error,
    )
    without_rounding = AffineFit(
        fit.slope, fit.intercept - QUANTISATION_VARIANCE_DN2, fit.covariance, fit.chi2, fit.dof
    )
    return TransferCurve(points, used, without_rounding, limit)


def variance_peak(points: TransferPoints) -> float | None:
    """Mean above black [DN] from which the variance falls although the light grows; None where it never does.

    Full pixels no longer follow the light: EMVA 1288 calls the maximum of the variance curve the saturation point.
    """
    lit = points.mean_dn > 0.0
    if lit.sum() < _FEWEST_FOR_PEAK:
        return None
    mean, variance, error = points.mean_dn[lit], points.variance_dn2[lit], points.error_dn2[lit]
    top = int(np.argmax(variance))
    fallen = (mean > mean[top]) & (variance < _PEAK_SHARE * variance[top])
    fallen &= variance[top] - variance > _PEAK_SIGMA * np.hypot(error, error[top])
    return float(mean[top]) if fallen.any() else None


# Two levels rise or fall; a peak needs a third.
_FEWEST_FOR_PEAK = 3
# A fall of a tenth, and beyond chance: scatter of the highest points is no saturation.
_PEAK_SHARE = 0.9
_PEAK_SIGMA = 5.0


@dataclass(frozen=True)
class _Tiles:
    """Tiles of all sites of one plane in one row."""

    mean: F64
    variance: F64
    fourth: F64
    count: F64
    clipped: F64
    dof_share: float

    @classmethod
    def of(cls, sites: Sequence[SitePair], *, offset: float = 0.0) -> _Tiles:
        def flat(name: str) -> F64:
            return np.concatenate([getattr(site, name).ravel() for site in sites])

        share = float(np.mean([site.dof_share for site in sites]))
        return cls(flat("mean") + offset, flat("variance"), flat("fourth"), flat("count"), flat("clipped"), share)

    def point(self, chosen: Bool, *, line_mean_error: float, mean: float | None = None) -> TransferPoints:
        """The pixel-weighted mean of some tiles as one point."""
        count = self.count[chosen]
        total = float(count.sum())
        variance = float(count @ self.variance[chosen]) / total
        kurtosis = float(count @ self.fourth[chosen]) / total / max(variance, 1e-12) ** 2 - 3.0
        dof = np.array([total * self.dof_share])
        level = float(count @ self.mean[chosen]) / total if mean is None else mean
        error = variance_error(np.array([variance]), dof, np.array([max(kurtosis, -1.0)]))
        return TransferPoints(
            mean_dn=np.array([level]),
            variance_dn2=np.array([variance - QUANTISATION_VARIANCE_DN2]),
            relative_error=error / max(variance, 1e-12),
            mean_error_dn=np.array(
                [0.0 if mean is not None else math.hypot(math.sqrt(variance / (2.0 * total)), line_mean_error)]
            ),
        )


def _bins(mean: F64, chosen: Bool) -> list[Bool]:
    """Masks that part the chosen tiles by light where their light differs, else one mask."""
    count = int(chosen.sum())
    if count == 0:
        return []
    levels = mean[chosen]
    low, high = np.quantile(levels, [0.05, 0.95])
    bins = min(_BINS, count // _TILES_PER_BIN)
    if bins < 2 or high <= _SPAN * max(low, 0.0):
        return [chosen]
    edges = np.quantile(levels, np.linspace(0.0, 1.0, bins + 1)[1:-1])
    index = np.digitize(mean, edges)
    masks = [chosen & (index == k) for k in range(bins)]
    return [mask for mask in masks if mask.any()]
