"""Darks with light in them: a leaking cap, an eyepiece, a glowing amplifier.

Optical black, or the declared black level where there is none, says where a dark must lie; some part of the frame that
lies above it by more than shading and noise got light or dark current.
"""

from __future__ import annotations

import numpy as np

from noise_models.calibration.traps.finding import Finding, normal_limit
from noise_models.calibration.traps.tiles import F64, SIDE, U16, robust_std, site_tiles, without_lines
from noise_models.frame import RawFrame

TRAP = "lit_dark"

# Dark shading and the error of a declared black level: up to 2 DN at low ISO, and less than the pixel noise at high.
SHADING_DN = 2.0
SHADING_SIGMA = 1.0
# The brightest part of a frame that counts: one tile in a hundred.
BRIGHT_QUANTILE = 0.99

# Share of a tile's or an area's sites left out on either side: hot sites.
TRIM = 0.02


def find_lit_dark(dark: RawFrame) -> Finding:
    """Look for light in one dark.

    Args:
        dark: A dark frame.

    Returns:
        How far the brightest hundredth of the frame lies above black [DN]; the plane that exceeds its threshold most.

    Raises:
        CalibrationError: the frame is too small.
    """
    sites = site_tiles(dark)
    shift = _optical_black_shift(dark)
    limit = normal_limit(len(sites))
    results = []
    for tiles in sites:
        bright = float(np.quantile(_trimmed_means(tiles.codes), BRIGHT_QUANTILE)) - tiles.black - shift
        noise = robust_std(without_lines(tiles.codes.astype(np.float32)))
        # So far the highest of many tile means lies above their mean by chance.
        error = (limit + normal_limit(1)) * noise / SIDE
        results.append((bright, max(SHADING_DN, SHADING_SIGMA * noise) + error, tiles.plane))
    bright, threshold, plane = max(results, key=lambda item: item[0] - item[1])
    found = bright > threshold
    return Finding(
        trap=TRAP,
        found=found,
        statistic=bright,
        threshold=threshold,
        evidence=f"The brightest hundredth of the {plane} plane lies {bright:+.2f} DN from "
        f"{'optical black' if dark.masked else 'the declared black level'} (threshold {threshold:.2f} DN).",
        advice="Light, glow or dark current reached this dark: cover lens and eyepiece, take it in the dark, and "
        "shorten the exposure."
        if found
        else "",
    )


def _optical_black_shift(frame: RawFrame) -> float:
    """Mean of the optical black less the declared black level [DN]; 0 without optical black."""
    shifts = []
    for area in frame.masked:
        ph, pw = area.cfa.period
        for i in range(ph):
            for j in range(pw):
                site = area.pixels[i::ph, j::pw]
                if site.size:
                    shifts.append(float(_trimmed_means(site.reshape(1, *site.shape))[0]))
    return float(np.mean(shifts) - frame.black_level.mean()) if shifts else 0.0


def _trimmed_means(tiles: U16) -> F64:
    """Mean of every tile (n, h, w) without the hottest and coldest sites; a median would be a whole code."""
    ordered = np.sort(tiles.reshape(len(tiles), -1), axis=1)
    cut = int(TRIM * ordered.shape[1])
    return np.asarray(ordered[:, cut : ordered.shape[1] - cut].mean(axis=1, dtype=np.float64))
