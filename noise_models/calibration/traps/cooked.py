"""In-camera noise reduction: noise that neighbours share.

Photons, read-out and quantisation make noise that is independent from site to site; a filter does not. In the
difference of two frames of the same light everything fixed cancels; row and column means of small tiles take row
noise, column noise, banding and flicker with them. What correlation is left was put there by a filter.

Source: the test is that of a white sequence's sample autocorrelation (Box & Jenkins, Time Series Analysis), with the
error of a sum of products of unequal variances; raw noise reduction is seen this way in Kasson's and Claff's work.
"""

from __future__ import annotations

import numpy as np

from noise_models.calibration.traps.finding import Finding, normal_limit, unjudged
from noise_models.calibration.traps.tiles import F32, SIDE, differences, robust_std, without_lines
from noise_models.frame import RawFrame

TRAP = "cooked"

# Row and column steps between the neighbours that are compared, in sites of one colour.
LAGS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))

# A correlation of 2 % changes the noise of a mean of 2 x 2 sites by 3 %, about what electronics with a finite
# settling time leave; filters start at 5 %.
SMALLEST_CORRELATION = 0.02

# Below this noise a code step hides the neighbours' correlation.
_SMALLEST_STD_DN = 0.7
# Needed tiles of one CFA site: 16,384 sites know a correlation to 0.008.
_FEWEST_TILES = 16


def find_cooked(first: RawFrame, second: RawFrame) -> Finding:
    """Look for in-camera noise reduction in two frames of the same light, darks or flats.

    Args:
        first: One frame.
        second: Another with the same settings.

    Returns:
        The largest correlation of neighbouring sites of one colour, over planes and lags.

    Raises:
        CalibrationError: frames that differ in size or CFA, or are too small.
    """
    pooled: dict[str, list[F32]] = {}
    for plane, tiles in differences(first, second):
        if len(tiles) >= _FEWEST_TILES and robust_std(without_lines(tiles)) >= _SMALLEST_STD_DN:
            pooled.setdefault(plane, []).append(tiles)
    tests = max(1, len(pooled) * len(LAGS))
    limit = normal_limit(tests)
    if not pooled:
        return unjudged(
            TRAP,
            SMALLEST_CORRELATION,
            f"Correlation of neighbours not measurable: fewer than {_FEWEST_TILES} unclipped tiles, or noise of the "
            f"difference below {_SMALLEST_STD_DN} DN.",
            "Use whole frames, a higher ISO, or flats below saturation.",
        )
    excess, correlation, plane, lag = max(
        _strongest(np.concatenate(tiles), name, limit) for name, tiles in pooled.items()
    )
    threshold = correlation - excess
    found = excess > 0.0
    return Finding(
        trap=TRAP,
        found=found,
        statistic=correlation,
        threshold=threshold,
        evidence=f"Noise of {plane} sites {lag} apart (rows, columns) correlates by {correlation:.4f}; independent "
        f"noise stays below {threshold:.4f}.",
        advice="The raw data were filtered in the camera: noise measured from them is too low and correlated. Switch "
        "noise reduction off, use a lower ISO or a shorter exposure; a profile of these frames holds only for "
        "frames cooked alike."
        if found
        else "",
    )


def correlations(tiles: F32) -> list[tuple[float, float]]:
    """Correlation of a difference's sites at each of `LAGS`, and its standard error under independence.

    Removing row and column means of a tile of n x n sites leaves independent noise with correlation -1/(n-1) along
    a row or column and 1/(n-1)^2 elsewhere; this is added back.

    Args:
        tiles: Difference of two frames, (tiles, SIDE, SIDE) [DN].
    """
    residual = without_lines(tiles)
    power = float(np.einsum("tij,tij->", residual, residual, dtype=np.float64)) / residual.size
    along = -1.0 / (SIDE - 1)
    results = []
    for dy, dx in LAGS:
        left = residual[:, : SIDE - dy, max(0, -dx) : SIDE - max(0, dx)]
        right = residual[:, dy:, max(0, dx) : SIDE - max(0, -dx)]
        product = (left * right).ravel()
        expected = along if 0 in (dy, dx) else along**2
        value = float(product.mean(dtype=np.float64)) / power - expected
        error = float(np.sqrt(np.dot(product, product))) / product.size / power
        results.append((value, error))
    return results


def _strongest(tiles: F32, plane: str, limit: float) -> tuple[float, float, str, tuple[int, int]]:
    """(excess over the threshold, correlation, plane, lag) of the lag that exceeds its threshold most."""
    return max(
        (abs(value) - max(SMALLEST_CORRELATION, limit * error), abs(value), plane, lag)
        for (value, error), lag in zip(correlations(tiles), LAGS, strict=True)
    )
