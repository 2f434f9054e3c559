"""Defect correction in the camera: a long dark exposure without a single hot site.

A sensor exposed for a second or more at room temperature has hot sites, at the very least one in 100,000; a dark
frame that is large enough and has none was corrected. The noise of corrected sites is their neighbours' noise.
"""

from __future__ import annotations

import math

import numpy as np

from noise_models.calibration.traps.finding import FALSE_ALARM, Finding, unjudged
from noise_models.calibration.traps.tiles import MAD_TO_STD
from noise_models.frame import RawFrame

TRAP = "defect_correction"

# Exposure from which hot sites are expected [s], and their least share (published maps: 0.01-1 %).
LONG_EXPOSURE_S = 1.0
LEAST_HOT_SHARE = 1e-5

# Excess over the median of a plane that makes a hot site; 24 million normal sites have none.
HOT_SIGMA = 8.0


def find_defect_correction(dark: RawFrame) -> Finding:
    """Look for corrected hot sites in one dark of a second or more.

    Args:
        dark: Its exposure time must be known.

    Returns:
        The number of hot sites, with the number that an uncorrected sensor has with certainty `FALSE_ALARM`.
    """
    exposure = dark.shot.exposure_s
    sites = dark.mosaic.size
    fewest_sites = -math.log(FALSE_ALARM) / LEAST_HOT_SHARE
    if exposure is None or exposure < LONG_EXPOSURE_S or sites < fewest_sites:
        return unjudged(
            TRAP,
            1.0,
            f"A dark of at least {LONG_EXPOSURE_S:g} s and {fewest_sites / 1e6:.1f} megapixels is needed; this one has "
            f"{'an unknown exposure' if exposure is None else f'{exposure:g} s'} and {sites / 1e6:.2f} megapixels.",
            "Take one dark of a few seconds.",
        )
    hot = count_hot(dark)
    found = hot == 0
    return Finding(
        trap=TRAP,
        found=found,
        statistic=float(hot),
        threshold=1.0,
        evidence=f"{hot} of {sites} sites stand {HOT_SIGMA:g} sigma above their plane after {exposure:g} s; an "
        f"uncorrected sensor has at least {LEAST_HOT_SHARE * sites:.0f}.",
        advice="Hot sites were replaced in the camera: a hot-pixel map of these frames is empty although the sensor "
        "has some. Switch long-exposure noise reduction and defect correction off."
        if found
        else "",
    )


def count_hot(dark: RawFrame) -> int:
    """Sites that exceed the median of their CFA site by `HOT_SIGMA` robust standard deviations."""
    ph, pw = dark.cfa.period
    hot = 0
    for i in range(ph):
        for j in range(pw):
            image = dark.mosaic[i::ph, j::pw]
            sample = image[:: max(1, image.shape[0] // 256)].astype(np.float32)
            median = float(np.median(sample))
            # One code step is the least spread that whole numbers can show.
            spread = max(MAD_TO_STD * float(np.median(np.abs(sample - median))), 1.0)
            hot += int(np.count_nonzero(image > median + HOT_SIGMA * spread))
    return hot
