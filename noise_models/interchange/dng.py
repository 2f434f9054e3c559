"""DNG NoiseProfile (tag 51041): variance(x) = S x + O per colour plane, x in 0..1.

Source: Digital Negative Specification 1.7, tag NoiseProfile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from noise_models.cfa import Cfa
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Estimate, PlaneNoise, SensorNoise

METHOD = "DNG NoiseProfile tag"
NOTE = "The file states shot and read noise only: row noise and hot pixels are not described."


def noise_from_tag(
    pairs: Sequence[tuple[float, float]],
    *,
    cfa: Cfa,
    black: NDArray[np.float64],
    white: NDArray[np.float64],
    iso: float | None,
) -> SensorNoise:
    """The noise that a DNG states, in DN.

    Args:
        pairs: (S, O) per colour R, G, B, or one pair for all.
        cfa: Of the frame.
        black: Black level per CFA site [DN], shape ``cfa.period``.
        white: White level per CFA site [DN], same shape.
        iso: As the file states it.

    Returns:
        Origin "nominal", no standard errors; S = K / (white - black), O = read variance with rounding in the same unit.
    """
    planes = {}
    for name in cfa.plane_names:
        colour = "RGB".find(name[0])
        slope, offset = pairs[colour] if len(pairs) == len("RGB") and colour >= 0 else pairs[0]
        i, j = cfa.sites(name)[0]
        scale = float(white[i, j] - black[i, j])
        read = math.sqrt(max(offset * scale**2 - QUANTISATION_VARIANCE_DN2, 0.0))
        planes[name] = PlaneNoise(
            gain=Estimate(value=slope * scale, method=METHOD),
            read_noise_dn=Estimate(value=read, method=METHOD),
            black_level_dn=Estimate(value=float(black[i, j]), method="file"),
        )
    return SensorNoise(
        iso=iso,
        planes=planes,
        row_noise_dn=Estimate(value=0.0, method="not stated by the file"),
        origin="nominal",
        notes=(NOTE,),
    )


def tag_from_noise(
    noise: SensorNoise, *, cfa: Cfa, black: NDArray[np.float64], white: NDArray[np.float64]
) -> tuple[tuple[float, float], ...]:
    """(S, O) per colour R, G, B (one pair for monochrome): the inverse of `noise_from_tag`."""
    return noise.affine(cfa, black, white).per_colour(cfa)
