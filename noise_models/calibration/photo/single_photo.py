"""The noise of a camera from one ordinary photograph: an estimate with an honest interval, or a reasoned refusal.

One noisy photo holds ``variance = K m + s^2 + texture``, and only smooth or defocused content tells the noise from the
texture. `envelope` finds that content and fits the law; this module adds what the masked pixels say, widens the errors
by what cannot be seen, and grades the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.photo.block_energies import BAND_SIZE, BLOCK, BlockEnergies, block_energies
from noise_models.calibration.photo.envelope import (
    MEDIAN_ERROR,
    MIN_BINS,
    SMOOTH_TOLERANCE,
    Bins,
    NoiseLaw,
    find_envelope,
    smoothest_bins,
)
from noise_models.calibration.photo.optical_black import OpticalBlack, measure_optical_black
from noise_models.calibration.photo.photo_evidence import (
    MASKED_VARIANCE_ERROR,
    UNSEEN_TEXTURE,
    Evidence,
    Trust,
    gather_evidence,
    grade,
    plane_gains,
    refusals_of,
    with_model_error,
)
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Estimate, PlaneNoise, SensorNoise

# Fewer unclipped blocks than this, all lattices together (0.1 MP), cannot be sorted into levels.
MIN_BLOCKS = 1600
# Image pixels quieter than masked ones by this many sigmas: the masked area is not a sample of the image's noise.
MASKED_CONFLICT_SIGMAS = 4.0
# Straight horizontal lines of the scene look like row noise: this share of the variance is granted to them.
SCENE_LINES = 0.01
# An upper bound is the lowest of many bins, each with its own scatter.
BOUND_SIGMAS = 3.0


class NotIdentifiable(CalibrationError):
    """The photo does not determine its noise.

    Attributes:
        reasons: Why, one sentence each.
        gain_upper: K is below this [DN/e-], for texture only adds variance. None: no unclipped signal at all.
        read_noise_upper_dn: The std in the dark is below this [DN]; None as before.
        optical_black: What the masked pixels say, or None.
    """

    def __init__(
        self,
        reasons: tuple[str, ...],
        *,
        gain_upper: float | None = None,
        read_noise_upper_dn: float | None = None,
        optical_black: OpticalBlack | None = None,
    ) -> None:
        self.reasons = reasons
        self.gain_upper = gain_upper
        self.read_noise_upper_dn = read_noise_upper_dn
        self.optical_black = optical_black
        bound = "" if gain_upper is None else f" K is below {gain_upper:.3g} DN/e-."
        super().__init__(
            f"This photo does not determine its noise: {' '.join(reasons)}{bound} Take a profile of this camera, or "
            "calibrate with a smooth or defocused photo at the same ISO."
        )


@dataclass(frozen=True)
class PhotoEstimate:
    """The noise told from one photo.

    Attributes:
        noise: K shared by all planes; origin "estimated", every value with its standard error.
        trust: "good": K within about 20 % with 95 % probability; "fair": within about 40 %; "poor": better than
            nothing.
        reasons: What limits the trust, one sentence each.
        evidence: For plots and reports.
    """

    noise: SensorNoise
    trust: Trust
    reasons: tuple[str, ...]
    evidence: Evidence


def estimate_from_frame(frame: RawFrame) -> PhotoEstimate:
    """Estimate gain, read noise, black level and row noise from a single photograph.

    Bayer and monochrome sensors are analysed on four sub-lattices, X-Trans on the 36 of its period (samples six pixels
    apart, so that it needs larger smooth areas). A DNG NoiseProfile is not consulted. K counts as common to all
    planes unless one of them clearly has its own.

    Args:
        frame: The photo.

    Returns:
        The estimate; its standard errors hold the fit's own error, the disagreement of frequency bands and an allowance
        for texture that looks like noise.

    Raises:
        NotIdentifiable: textured everywhere, too dark, clipped, or too small; carries an upper bound.
    """
    masked = measure_optical_black(frame)
    black = _black(frame, masked)
    blocks = block_energies(frame.mosaic, frame.cfa, black, frame.white_level)
    total = math.prod(blocks.shape)
    blocks = blocks.where(blocks.unclipped)
    count = math.prod(blocks.shape)
    if count < MIN_BLOCKS:
        reason = f"only {count} of its blocks keep clear of clipping at both ends, {MIN_BLOCKS} are needed."
        raise NotIdentifiable((reason,), **_upper_bounds(blocks), optical_black=masked)
    bins, law, dark = _fit(blocks, masked)
    if law is None or bins.smooth.sum() < MIN_BINS:
        reason = "it is textured everywhere: hardly a block shows noise alone."
        raise NotIdentifiable((reason,), **_upper_bounds(blocks), optical_black=masked)
    evidence = gather_evidence(bins, law, dark, masked, total)
    gain, read = with_model_error(evidence)
    refusals = refusals_of(evidence, gain)
    if refusals:
        raise NotIdentifiable(refusals, **_upper_bounds(blocks), optical_black=masked)
    own_gains = plane_gains(evidence, gain)
    trust, reasons = grade(evidence, gain, own_gains)
    noise = _sensor_noise(
        frame,
        evidence,
        gains=own_gains,
        gain=gain,
        read=read,
        row=_row_noise(blocks, law, masked),
        notes=reasons,
    )
    return PhotoEstimate(noise=noise, trust=trust, reasons=reasons, evidence=evidence)


def _black(frame: RawFrame, masked: OpticalBlack | None) -> NDArray[np.float64]:
    """Black per site [DN]: this shot's masked pixels, else the file's statement."""
    black = frame.black_level.astype(np.float64)
    if masked is not None:
        for i, row in enumerate(frame.cfa.plane_of_site):
            for j, name in enumerate(row):
                if name in masked.black_level_dn:
                    black[i, j] = masked.black_level_dn[name].value
    return black


def _fit(
    blocks: BlockEnergies, masked: OpticalBlack | None
) -> tuple[Bins, NoiseLaw | None, tuple[float, float] | None]:
    """Envelope and law, with the masked pixels' noise unless the image is quieter than they are."""
    bins, law = find_envelope(blocks, None)
    if masked is None or law is None:
        return bins, law, None
    variance = masked.read_noise_dn.value**2 + QUANTISATION_VARIANCE_DN2
    own_error = 2 * masked.read_noise_dn.value * (masked.read_noise_dn.standard_error or 0.0)
    dark = variance, math.hypot(own_error, MASKED_VARIANCE_ERROR * variance)
    seen_error = math.sqrt(law.covariance[0, 0])
    if bins.smooth.sum() >= MIN_BINS:
        quieter = (dark[0] - law.read_variance) / math.hypot(dark[1], seen_error, UNSEEN_TEXTURE * variance)
        if quieter > MASKED_CONFLICT_SIGMAS:
            return bins, law, None
    bins, law = find_envelope(blocks, dark)
    return bins, law, dark


def _row_noise(blocks: BlockEnergies, law: NoiseLaw, masked: OpticalBlack | None) -> Estimate:
    """Row noise [DN] from the masked pixels, else from what smooth blocks of one row of blocks have in common.

    An offset of std r that a row has in common puts the same waves, variance ``BLOCK r^2``, into all blocks beside each
    other; pixel noise and local texture differ between blocks, so products of different blocks hold row noise only.
    """
    if masked is not None and masked.row_noise_dn is not None:
        return masked.row_noise_dn
    expected = law.noise(blocks.mean)
    weight = np.where(blocks.total() < expected * (1 + SMOOTH_TOLERANCE), 1 / expected, 0.0)
    product, norm = np.zeros(blocks.block_row.max() + 1), np.zeros(blocks.block_row.max() + 1)
    for lattice_weight, waves in zip(weight, blocks.row_waves, strict=True):
        norm += waves.shape[1] * _pair_sum(lattice_weight, blocks.block_row)
        for wave in waves.T:
            product += _pair_sum(lattice_weight * wave, blocks.block_row)
    variance = float(product.sum() / norm.sum()) / BLOCK
    scatter = product / BLOCK - variance * norm
    lines = SCENE_LINES * float(np.median(expected[weight > 0])) / BLOCK
    error = math.hypot(math.sqrt(float(scatter @ scatter)) / float(norm.sum()), lines)
    value = math.sqrt(max(variance, 0.0))
    return Estimate(
        value=value,
        standard_error=error / (2 * value) if variance > error else math.sqrt(error),
        method="one photo: what smooth blocks of a row have in common",
    )


def _pair_sum(values: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of ``values[a] values[b]`` over all pairs a != b of a group."""
    return np.asarray(np.bincount(group, values) ** 2 - np.bincount(group, values**2))


def _sensor_noise(
    frame: RawFrame,
    evidence: Evidence,
    *,
    gains: Mapping[str, Estimate],
    gain: Estimate,
    read: Estimate,
    row: Estimate,
    notes: tuple[str, ...],
) -> SensorNoise:
    used = evidence.bins.mean[evidence.bins.smooth]
    masked = evidence.optical_black
    planes = {}
    for name in frame.cfa.plane_names:
        i, j = frame.cfa.sites(name)[0]
        stated = Estimate(value=float(frame.black_level[i, j]), method="stated by the file")
        planes[name] = PlaneNoise(
            gain=gains.get(name, gain),
            read_noise_dn=read,
            black_level_dn=stated if masked is None else masked.black_level_dn.get(name, stated),
            gain_read_covariance=float(evidence.law.covariance[0, 1]),
            chi2_dof=evidence.law.chi2_dof,
            fit_range_dn=(float(used.min()), float(used.max())),
        )
    return SensorNoise(iso=frame.shot.iso, planes=planes, row_noise_dn=row, origin="estimated", notes=notes)


def _upper_bounds(blocks: BlockEnergies) -> dict[str, float | None]:
    """Texture only adds variance, so each level bounds K and the read noise from above."""
    nothing: dict[str, float | None] = {"gain_upper": None, "read_noise_upper_dn": None}
    if blocks.shape[1] == 0:
        return nothing
    bins = smoothest_bins(blocks)
    lit = bins.mean > 1.0
    if not lit.any():
        return nothing
    error = MEDIAN_ERROR * np.sqrt(2 / (BAND_SIZE["high"] * bins.blocks))
    ceiling = bins.variance * (1 + BOUND_SIGMAS * error)
    return {
        "gain_upper": float(np.min(ceiling[lit] / bins.mean[lit])),
        "read_noise_upper_dn": float(math.sqrt(ceiling.min())),
    }
