"""The offset that each row of one exposure carries, estimated without eating what is horizontal in the picture.

Two witnesses are combined. Covered pixels beside the picture (optical black) see the offset alone. In the picture, the
second difference to the rows of the same colours above and below shows offsets and little of the scene; where the
scene disagrees along the row or shows more than row noise can, the row's evidence is discounted or dropped. The
calibrated row noise is the prior: the estimate is the posterior mean, so weak evidence moves nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from torch import Tensor

from noise_models.frame import RawFrame, tile_to
from noise_models.sensor import SensorNoise

# Variance of y_i - (y_above + y_below) / 2 in units of a pixel's variance.
DIFFERENCE_VARIANCE = 1.5
# Pixels further off than this are texture, not noise; the bulk within serves for the mean.
INLIER_DEVIATIONS = 2.5
INLIER_PASSES = 3
# The row is cut into this many pieces; how far they disagree shows what scene leaks into the estimate.
SEGMENTS = 16
# A row that stands out by more than row noise explains belongs to the scene (a horizon, a window frame).
SCENE_DEVIATIONS = 3.5
# Rows processed at once: bounds the memory.
BAND = 256


def row_offsets(frame: RawFrame, noise: SensorNoise) -> NDArray[np.float64] | None:
    """Temporal offset of each row.

    Args:
        frame: Bayer or monochrome.
        noise: Its noise; ``row_noise_dn`` is the prior's width.

    Returns:
        (H,) [DN], or None where row noise is calibrated as smaller than what averaging a row of pixels leaves of the
        pixel noise: then it is invisible and cannot be measured from the row either.
    """
    row_noise = noise.row_noise_dn.value
    pixel_variance = min(float(plane.variance(0.0)) for plane in noise.planes.values())
    height, width = frame.shape
    step = frame.cfa.period[0]
    if row_noise**2 <= pixel_variance / width or height < 3 * step:
        return None
    difference, variance = _row_differences(frame, noise, step)
    scene = difference**2 > SCENE_DEVIATIONS**2 * (DIFFERENCE_VARIANCE * row_noise**2 + variance)
    weight = np.where(scene, 0.0, 1.0 / variance)
    covered, covered_weight = _covered_rows(frame, noise)
    offsets = np.empty(height)
    for first in range(step):
        chain = slice(first, height, step)
        inner = slice(first + step, height - step, step)
        offsets[chain] = _posterior_mean(
            difference[inner],
            weight[inner],
            covered[chain],
            covered_weight[chain],
            precision=1.0 / row_noise**2,
        )
    return offsets


def _row_differences(frame: RawFrame, noise: SensorNoise, step: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean second difference of each row [DN] and its variance [DN^2]; infinite where a row has no evidence."""
    height = frame.shape[0]
    slope, dark = _variance_law(frame, noise)
    mean, variance = np.zeros(height), np.full(height, np.inf)
    for start in range(step, height - step, BAND):
        stop = min(start + BAND, height - step)
        y = torch.from_numpy(frame.mosaic[start - step : stop + step].astype(np.float32))
        phase = (start - step) % frame.cfa.period[0]
        black, white, a, b = (
            tile_to(torch.from_numpy(np.roll(level, -phase, axis=0)).float(), *y.shape)
            for level in (frame.black_level, frame.white_level, slope, dark)
        )
        usable = y < white
        usable = usable[step:-step] & usable[: -2 * step] & usable[2 * step :]
        signal = y - black
        above, here, below = signal[: -2 * step], signal[step:-step], signal[2 * step :]
        local = ((above + here + below) / 3).clamp_(min=0)
        spread = DIFFERENCE_VARIANCE * (a[step:-step] * local + b[step:-step])
        mean[start:stop], variance[start:stop] = _robust_rows(here - (above + below) / 2, spread, usable)
    return mean, variance


def _robust_rows(
    difference: Tensor, variance: Tensor, usable: Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted mean of the bulk of each row and its variance, by theory or by disagreement, whichever is larger."""
    precision = usable / variance
    reach = INLIER_DEVIATIONS * variance.sqrt()
    centre = torch.zeros(difference.shape[0], 1)
    inliers = precision
    for _ in range(INLIER_PASSES):
        inliers = precision * ((difference - centre).abs() < reach)
        total = inliers.sum(1, keepdim=True)
        centre = (inliers * difference).sum(1, keepdim=True) / total.clamp(min=torch.finfo(total.dtype).tiny)
    pieces = torch.stack([p.sum(1) for p in inliers.chunk(SEGMENTS, dim=1)], 1).double()
    sums = torch.stack([p.sum(1) for p in (inliers * (difference - centre)).chunk(SEGMENTS, dim=1)], 1).double()
    total64 = pieces.sum(1)
    deviation = sums / pieces.clamp(min=1e-300)
    scatter = (pieces * deviation**2).sum(1) / ((pieces.shape[1] - 1) * total64)
    spread = torch.maximum(1.0 / total64, scatter)
    return centre[:, 0].double().numpy(), torch.where(total64 > 0, spread, torch.inf).numpy()


def _covered_rows(frame: RawFrame, noise: SensorNoise) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offset seen by covered pixels at the left and right of each row [DN], and its weight [1/DN^2]."""
    height = frame.shape[0]
    step = frame.cfa.period[0]
    dark = max(float(plane.variance(0.0)) for plane in noise.planes.values())
    total, weight = np.zeros(height), np.zeros(height)
    for area in frame.masked:
        if area.side not in ("left", "right") or area.pixels.shape[0] != height or area.pixels.size == 0:
            continue
        pixels = area.pixels.astype(np.float64)
        for row in range(step):  # each CFA site has its own black level
            for column in range(step):
                site = pixels[row::step, column::step]
                site -= np.median(site) if site.size else 0.0
        # Beyond this a covered pixel is hot or a light leak.
        limit = 2.0 * INLIER_DEVIATIONS * np.sqrt(dark)
        good = np.abs(pixels) < limit
        total += np.where(good, pixels, 0.0).sum(1) / dark
        weight += good.sum(1) / dark
    return np.divide(total, weight, out=np.zeros(height), where=weight > 0), weight


def _posterior_mean(
    difference: NDArray[np.float64],
    weight: NDArray[np.float64],
    covered: NDArray[np.float64],
    covered_weight: NDArray[np.float64],
    *,
    precision: float,
) -> NDArray[np.float64]:
    """Minimise ``sum w (d - B o)^2 + sum v (c - o)^2 + precision |o|^2``, B the second difference; one banded solve."""
    size = covered.size
    stencil = (-0.5, 1.0, -0.5)
    bands = np.zeros((3, size))
    bands[2] = precision + covered_weight
    right = covered_weight * covered
    inner = np.arange(1, size - 1)
    for p, value in enumerate(stencil):
        right[inner - 1 + p] += weight * value * difference
        for q in range(p, 3):
            # Upper form of LAPACK: entry (i, j), j >= i, is stored at row 2 - (j - i), column j.
            bands[2 - (q - p), inner - 1 + q] += weight * value * stencil[q]
    return np.asarray(solveh_banded(bands, right))


def _variance_law(frame: RawFrame, noise: SensorNoise) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance of a pixel is ``slope * signal + dark`` [DN^2], per CFA site."""
    dark = np.array([[float(noise.planes[name].variance(0.0)) for name in row] for row in frame.cfa.plane_of_site])
    one = np.array([[float(noise.planes[name].variance(1.0)) for name in row] for row in frame.cfa.plane_of_site])
    return one - dark, dark
