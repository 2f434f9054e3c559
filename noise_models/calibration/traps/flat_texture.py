"""Flats that show something: texture of the screen, or a scene.

Pixel non-uniformity and noise are independent from site to site; what correlates between neighbours of a single flat
is a picture. Pair differences are immune to it, PRNU and shading are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from noise_models.calibration.traps.cooked import LAGS, correlations
from noise_models.calibration.traps.finding import Finding, normal_limit, unjudged
from noise_models.calibration.traps.masked_rows import light
from noise_models.calibration.traps.tiles import F64, robust_std, site_tiles, without_lines
from noise_models.frame import RawFrame

TRAP = "flat_texture"

# Contrast of a picture, as a ratio of the light, beyond which a PRNU of 0.3-1 % is not measured but guessed.
LARGEST_CONTRAST = 0.02

# Side of the blocks [pixels] whose means are compared with a smooth surface: a multiple of every CFA period.
BLOCK = 48
# Vignetting (cos^4 and lens shading) is a polynomial of this degree in x and y to a fraction of a per cent.
SURFACE_DEGREE = 4
_FEWEST_BLOCKS = 40
_SMALLEST_SNR = 2.0
_FEWEST_TILES = 8
# Asymptotic relative standard error of a scaled median magnitude, times the root of the number of values.
_MAD_ERROR = 1.17


def find_flat_texture(flat: RawFrame) -> Finding:
    """Look for a picture in one flat.

    Args:
        flat: Below saturation; vignetting does no harm.

    Returns:
        The contrast of the picture as a ratio of the light: the larger of that between neighbouring sites and that of
        blocks about a smooth surface.

    Raises:
        CalibrationError: the frame is too small.
    """
    fine = _fine_contrasts(flat)
    if not fine:
        return unjudged(
            TRAP,
            LARGEST_CONTRAST,
            "Too dark or clipped: too few tiles with more light than noise.",
            "Give a flat between 5 and 80 % of saturation.",
        )
    strongest = max(fine, key=lambda one: one.contrast / one.threshold)
    candidates = [("between neighbouring sites", strongest.contrast, strongest.threshold)]
    coarse = _coarse_contrast(flat, relative_noise=max(one.relative_noise for one in fine))
    if coarse is not None:
        candidates.append((f"between blocks of {BLOCK} pixels", *coarse))
    scale, contrast, threshold = max(candidates, key=lambda item: item[1] / item[2])
    found = contrast > threshold
    return Finding(
        trap=TRAP,
        found=found,
        statistic=contrast,
        threshold=threshold,
        evidence=f"Contrast of {contrast:.2%} {scale}; a smooth flat stays below {threshold:.2%}.",
        advice="Defocus, put a diffuser on the lens or take it off; use these frames for pair differences only, not "
        "for PRNU or shading."
        if found
        else "",
    )


@dataclass(frozen=True)
class _FineContrast:
    """What neighbours of one CFA site share; ``relative_noise`` is the pixel noise over the light."""

    contrast: float
    threshold: float
    relative_noise: float


def _fine_contrasts(flat: RawFrame) -> list[_FineContrast]:
    """Of every CFA site with enough light."""
    results = []
    sites = site_tiles(flat)
    limit = normal_limit(len(LAGS) * len(sites))
    for tiles in sites:
        level = float(np.median(tiles.codes)) - tiles.black
        values = tiles.codes[tiles.codes.max(axis=(1, 2)) < tiles.white].astype(np.float32)
        if len(values) < _FEWEST_TILES:
            continue
        std = robust_std(without_lines(values))
        if std == 0.0 or level < _SMALLEST_SNR * std:
            continue
        worst = max(correlations(values), key=lambda pair: pair[0] - limit * pair[1])
        noise = std / level
        results.append(
            _FineContrast(
                contrast=noise * math.sqrt(max(worst[0], 0.0)),
                threshold=max(LARGEST_CONTRAST, noise * math.sqrt(limit * worst[1])),
                relative_noise=noise,
            )
        )
    return results


def _coarse_contrast(flat: RawFrame, *, relative_noise: float) -> tuple[float, float] | None:
    """Robust relative scatter of block means about a smooth surface, and its threshold; None: too few blocks."""
    signal = light(flat)
    rows, columns = signal.shape[0] // BLOCK, signal.shape[1] // BLOCK
    if rows * columns < _FEWEST_BLOCKS or min(rows, columns) <= SURFACE_DEGREE:
        return None
    grid = signal[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    means: F64 = grid.mean(axis=(1, 3), dtype=np.float64)
    if means.min() <= 0.0:
        return None
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    powers = [(i, j) for i in range(SURFACE_DEGREE + 1) for j in range(SURFACE_DEGREE + 1 - i)]
    basis = np.stack([(x**i * y**j).ravel() for i, j in powers], axis=1)
    target = np.log(means).ravel()
    residual = target - basis @ np.linalg.lstsq(basis, target, rcond=None)[0]
    # The relative error of a robust spread of n values is 1.17 / sqrt(n); noise of blocks adds in squares.
    spread = 1.0 + normal_limit(1) * _MAD_ERROR / math.sqrt(len(target))
    noise = spread * relative_noise / BLOCK
    return robust_std(residual.astype(np.float32)), math.hypot(LARGEST_CONTRAST, noise)
