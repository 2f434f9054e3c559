"""Does the profile of one ISO describe its frames? Numbers that say so, from pieces of the frames that made it.

The pieces are not held out in the strict sense: their pixels are among those that made the profile. A fit of p
parameters to N pixels looks better on them by p / 2N nats a pixel, 10^-5 here, which is below every standard error.
The shape of the noise is judged on frames that it was not fitted to, where there are six or more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from noise_models.calibration.dark import DarkMeasurement
from noise_models.calibration.flat import FlatMeasurement
from noise_models.calibration.pairs import sublattice
from noise_models.calibration.shape.codes import CodeCounts
from noise_models.calibration.shape.goodness import (
    ChiSquare,
    GoodnessOfFit,
    chi_square,
    compare_darks,
    held_out_log_likelihood,
    stabilised_variance,
)
from noise_models.calibration.shape.pixel_spread import split_half_correlation
from noise_models.calibration.shape.tail_shapes import Shape, log_density
from noise_models.calibration.specimen import FEWEST_SITES, SHAPE_FRAMES, DarkSpecimen, shape_plane, window
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Estimate, SensorNoise
from noise_models.simulate import VirtualCamera

Bool = NDArray[np.bool_]
I64 = NDArray[np.int64]
Site = tuple[int, int]

# Below five electrons the stabilised variance is not one, whatever the profile (Makitalo and Foi 2013).
_FEWEST_ELECTRONS = 5.0
# Light that differs by more within a pair shifts the stabilised values against each other over an uneven frame.
_SAME_LIGHT = 1e-2
_FEWEST_FOR_HALVES = 4
# From here on a difference of codes has the density of the noise at whole numbers (`tail_shapes`).
_SMALLEST_STD_DN = 1.0
_SIMULATION_SEED = 20


@dataclass(frozen=True)
class Stabilised:
    """A pair of flats after the variance-stabilising transform.

    Attributes:
        mean_dn: Mean above black [DN].
        variance: 1 where K and read noise hold.
    """

    mean_dn: float
    variance: Estimate


@dataclass(frozen=True)
class CodeFitQuality:
    """Codes of a dark difference against the model of the profile.

    Attributes:
        log_likelihood: Mean per pixel [nats].
        attainable: The same of the histogram's own frequencies: no model can be better.
        gaussian: The same of a Gaussian with the profile's standard deviation.
        chi_square: Pearson's test of the counts.
        count: Pixels.
        unseen: Whether the shape was fitted to other frames.
    """

    log_likelihood: Estimate
    attainable: float
    gaussian: float
    chi_square: ChiSquare
    count: int
    unseen: bool


@dataclass(frozen=True)
class FitQuality:
    """One ISO.

    Attributes:
        stabilised: Per plane, one entry a level, by rising light.
        codes: None: darks too small, cut off, or with noise too small against the code step.
        darks: Real against simulated darks of one CFA site; None for the same reasons, or without a gain.
        split_half: Correlation over pixels of the variances of even and odd darks: 0 where all pixels are alike.
            None below four darks.
    """

    stabilised: dict[str, list[Stabilised]]
    codes: CodeFitQuality | None = None
    darks: GoodnessOfFit | None = None
    split_half: Estimate | None = None


def judge_fit(noise: SensorNoise, dark: DarkMeasurement, flat: FlatMeasurement | None) -> FitQuality:
    """Compare the profile of one ISO with pieces of its frames."""
    stabilised = {} if flat is None else {plane: _stabilised(noise, plane, dark, flat) for plane in noise.planes}
    specimen = dark.specimen
    plane = shape_plane(dark.cfa)
    usable = dark.clamp is None and len(specimen.frames) >= 2 and bool(specimen.defects)
    site = dark.cfa.sites(plane)[0]
    if not usable or specimen.defects[site].size < FEWEST_SITES:
        return FitQuality(stabilised)
    if noise.planes[plane].read_noise_dn.value < _SMALLEST_STD_DN:
        return FitQuality(stabilised)
    frames = specimen.stacked(site)
    halves = None
    if len(frames) >= _FEWEST_FOR_HALVES:
        halves = split_half_correlation(frames)
    known_gain = all(values.gain is not None for values in noise.planes.values())
    return FitQuality(
        stabilised=stabilised,
        codes=_codes(noise, plane, specimen, site),
        darks=compare_darks(frames, _simulated(noise, specimen, site)) if known_gain else None,
        split_half=halves,
    )


def _stabilised(noise: SensorNoise, plane: str, dark: DarkMeasurement, flat: FlatMeasurement) -> list[Stabilised]:
    """One entry for every level whose pair saw the same light, bright enough and below saturation."""
    values = noise.planes[plane]
    if values.gain is None:
        return []
    std = math.sqrt(values.read_noise_dn.value**2 + noise.line_variance() + QUANTISATION_VARIANCE_DN2)
    result = []
    for first, second in flat.pieces:
        a, b = (_sound(frame, plane, dark) - values.black_level_dn.value for frame in (first, second))
        mean = 0.5 * float(a.mean() + b.mean())
        bright = mean >= max(_FEWEST_ELECTRONS * values.gain.value, std)
        if not bright or abs(float(a.mean() / b.mean()) - 1.0) > _SAME_LIGHT:
            continue
        if max(float(a.max()), float(b.max())) + values.black_level_dn.value >= flat.clip[plane]:
            continue
        result.append(Stabilised(mean, stabilised_variance(a, b, gain=values.gain.value, noise_dn=std)))
    return sorted(result, key=lambda one: one.mean_dn)


def _sound(piece: RawFrame, plane: str, dark: DarkMeasurement) -> NDArray[np.float64]:
    """Codes of a plane's sites that are no defects [DN], in one row."""
    period = piece.cfa.period
    rows, columns = window(dark.shape, dark.cfa)
    parts = []
    for site in piece.cfa.sites(plane):
        mask = dark.defects[site][
            rows.start // period[0] : rows.stop // period[0], columns.start // period[1] : columns.stop // period[1]
        ]
        parts.append(sublattice(piece.mosaic, site, period)[~mask].astype(np.float64))
    return np.concatenate(parts)


def _codes(noise: SensorNoise, plane: str, specimen: DarkSpecimen, site: Site) -> CodeFitQuality | None:
    """The last pair of darks against the profile's shape, noise and line noise."""
    frames = specimen.stacked(site)
    sound = ~specimen.defects[site]
    if site in specimen.blinking:
        sound &= ~specimen.blinking[site].blinking
    difference = frames[-2][sound].astype(np.int64) - frames[-1][sound]
    counts = CodeCounts.of(difference)
    offset = float(difference.mean())  # jitter of the black level
    tail, std = noise.tail, noise.planes[plane].read_noise_dn.value
    blur = 2.0 * noise.line_variance()

    def log_probability(kind: Shape, shape: float) -> NDArray[np.float64]:
        return log_density(kind, counts.codes.astype(np.float64) - offset, std=std, shape=shape, blur=blur)

    model = log_probability(tail.kind, 0.0 if tail.shape is None else tail.shape.value)
    share = counts.counts[counts.counts > 0] / counts.total
    try:
        test = chi_square(counts, model, fitted=1)
    except CalibrationError:
        return None  # a single cell: nothing to test
    return CodeFitQuality(
        log_likelihood=held_out_log_likelihood(counts, model),
        attainable=float(share @ np.log(share)),
        gaussian=held_out_log_likelihood(counts, log_probability("gaussian", 0.0)).value,
        chi_square=test,
        count=counts.total,
        unseen=len(frames) >= SHAPE_FRAMES + 2,
    )


def _simulated(noise: SensorNoise, specimen: DarkSpecimen, site: Site) -> NDArray[np.uint16]:
    """As many darks of the profile as there are real ones, at one CFA site."""
    real = specimen.frames[0]
    camera = VirtualCamera(
        noise, cfa=real.cfa, shape=real.shape, white_level=float(real.white_level.max()), seed=_SIMULATION_SEED
    )
    generator = torch.Generator().manual_seed(_SIMULATION_SEED)
    return np.stack(
        [sublattice(camera.dark(generator=generator).mosaic, site, real.cfa.period) for _ in specimen.frames]
    )
