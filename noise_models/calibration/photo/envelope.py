"""The lower envelope of variance over mean in one photograph, and the noise law under it.

Scene texture only ever adds variance. So: find the blocks whose energy, *in the other lattices*, is what noise alone
would give; take the median of their own high-frequency energy in bins of level; fit

    v(m) = s^2 + K m + c m^2,      s^2, K, c >= 0

to the bins. The last term is what remains of texture (and of PRNU): a surface of given relative contrast has a variance
proportional to the square of its brightness. How large c may be is told by the low band, where texture is stronger
than in the high band by a factor that depends on the scene's spectrum.

Selecting blocks by other lattices' noise cannot bias a block's own variance; that is the point of the design.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from noise_models.calibration.photo.block_energies import BAND_SIZE, BlockEnergies

Array = NDArray[np.floating[Any]]

LEVEL_BINS = 16
# A bin with fewer blocks says too little: the median of 40 blocks is good to 6 %.
MIN_BLOCKS_PER_BIN = 40
# The law has three unknowns.
MIN_BINS = 3
# Excess of a block's energy in the other lattices, as a ratio to noise, up to which it counts as smooth. One standard
# deviation of that ratio for Bayer: sqrt(2 / (3 lattices x 48 coefficients)).
SMOOTH_TOLERANCE = 0.12
# Own low band over own high band in a smooth bin: above this the scene, not the noise, makes the energy.
MAX_SPECTRAL_EXCESS = 1.0
# Before the law is known: the smoothest share of every bin.
FIRST_SHARE = 0.02
ITERATIONS = 8
# A median is less efficient than a mean: its variance is pi/2 times as large.
MEDIAN_ERROR = math.sqrt(math.pi / 2)
# Residuals above this many sigmas are texture and lose weight; residuals below the law keep theirs.
TEXTURE_SIGMAS = 2.5
# Noise under half a code is not sigma^2 + 1/12 any more (notes of `optical_black.coarse_code_error`).
MIN_VARIANCE_DN2 = 0.25 + 1 / 12
# Photo-response non-uniformity is 0.3 to 1 % and inseparable from texture in one frame.
TYPICAL_PRNU = 0.005
# Points per axis of the grid on which the posterior is cut to values that are not negative.
GRID = 81


@dataclass(frozen=True)
class Bins:
    """Bins of level, one row each, length B.

    Attributes:
        plane: Name of the plane.
        mean: Mean above black [DN].
        variance: From the high band [DN^2].
        middle: From the middle band [DN^2].
        low: From the low band [DN^2].
        blocks: Blocks selected.
        smooth: The bin's selected blocks show noise only, as far as the other lattices and the low band can tell.
    """

    plane: NDArray[np.str_]
    mean: Array
    variance: Array
    middle: Array
    low: Array
    blocks: Array
    smooth: NDArray[np.bool_]

    def where(self, keep: NDArray[np.bool_]) -> Bins:
        """Some of the bins."""
        return Bins(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class NoiseLaw:
    """``v(m) = read_variance + gain m + texture m^2`` with errors.

    Attributes:
        gain: K [DN/e-].
        read_variance: s^2, 1/12 included [DN^2].
        texture: c, as a ratio squared.
        covariance: Of (read_variance, gain), (2, 2), inflated by chi^2.
        chi2_dof: Reduced chi^2 of the bins.
    """

    gain: float
    read_variance: float
    texture: float
    covariance: Array
    chi2_dof: float

    @property
    def gain_error(self) -> float:
        """One sigma of the gain [DN/e-]."""
        return math.sqrt(self.covariance[1, 1])

    def noise(self, mean: Array) -> Array:
        """Variance of the noise alone at a mean above black [DN^2]."""
        return np.asarray(self.read_variance + self.gain * np.maximum(mean, 0.0))


def find_envelope(blocks: BlockEnergies, dark: tuple[float, float] | None) -> tuple[Bins, NoiseLaw | None]:
    """Select smooth blocks and fit the law in turns until both agree.

    Args:
        blocks: Unclipped blocks only.
        dark: Variance in the dark [DN^2], 1/12 included, and its standard error; None: not known.

    Returns:
        The bins of the last turn and the law; None if there are fewer than `MIN_BINS` bins.
    """
    level = _level_bins(blocks.mean)
    total = blocks.total()
    bins = smoothest_bins(blocks)
    if bins.mean.size < MIN_BINS:
        return bins, None
    # Start under everything: growing from below finds the envelope, shrinking from above stops at texture.
    start = float(np.min(bins.variance / np.maximum(bins.mean, 1.0)))
    read = max(0.1, 0.0 if dark is None else dark[0])
    law = NoiseLaw(max(start, 1e-6), read, 0.0, np.zeros((2, 2)), 1.0)
    for _ in range(ITERATIONS):
        expected = np.maximum(law.noise(blocks.mean), 1e-6)
        bins = _fill_bins(blocks, level, _others(total / expected), law)
        used = _bins_to_fit(bins)
        law = fit_law(bins.where(used), "high", law.noise(bins.mean[used]), dark)
    return bins, law


def smoothest_bins(blocks: BlockEnergies) -> Bins:
    """Bins of the smoothest blocks of each level, without knowing the law: an upper bound of the noise."""
    score = _others(blocks.total() / np.maximum(blocks.mean, 1.0))
    return _fill_bins(blocks, _level_bins(blocks.mean), score, None)


def _bins_to_fit(bins: Bins) -> NDArray[np.bool_]:
    """The smooth ones; too few of them: those nearest to smooth, so that the next turn has something to start from."""
    if bins.smooth.sum() >= MIN_BINS:
        return bins.smooth
    nearest = np.argsort(bins.low / bins.variance)[:6]
    return np.isin(np.arange(bins.mean.size), nearest)


def _level_bins(mean: Array) -> NDArray[np.int64]:
    """Bin of every block, equal steps of the square root of the level."""
    root = np.sqrt(np.maximum(mean, 0.0))
    edges = np.linspace(0.0, float(root.max(initial=1e-3)), LEVEL_BINS + 1)[1:-1]
    return np.digitize(root, edges)


def _others(ratio: Array) -> Array:
    """Mean of every block's energy ratio over all lattices but its own."""
    return np.asarray((ratio.sum(axis=0) - ratio) / (ratio.shape[0] - 1))


def _fill_bins(blocks: BlockEnergies, level: NDArray[np.int64], score: Array, law: NoiseLaw | None) -> Bins:
    rows = []
    lattice_plane = np.array(blocks.plane)
    for name in dict.fromkeys(blocks.plane):
        own = lattice_plane == name
        mean, own_score, own_level = blocks.mean[own], score[own], level[own]
        energies = {band: getattr(blocks, band)[own] for band in BAND_SIZE}
        for index in range(LEVEL_BINS):
            inside = np.flatnonzero((own_level == index) & blocks.linear[own])
            if inside.size < MIN_BLOCKS_PER_BIN:
                continue
            order = inside[np.argsort(own_score.flat[inside])]
            scores = own_score.flat[order]
            wanted = inside.size * FIRST_SHARE if law is None else (scores < 1 + SMOOTH_TOLERANCE).sum()
            chosen = order[: max(int(wanted), MIN_BLOCKS_PER_BIN)]
            typical = float(np.median(scores[: chosen.size]))
            rows.append((name, *_bin_values(mean.flat[chosen], energies, chosen, law), chosen.size, typical))
    plane = np.array([row[0] for row in rows], dtype=np.str_)
    mean_, high, middle, low, count, typical_ = np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, 6).T
    smooth = (typical_ < 1 + SMOOTH_TOLERANCE) & (low < (1 + MAX_SPECTRAL_EXCESS) * high) & (high > MIN_VARIANCE_DN2)
    return Bins(plane, mean_, high, middle, low, count, smooth)


def _bin_values(
    mean: Array,
    energies: dict[str, Array],
    chosen: NDArray[np.int64],
    law: NoiseLaw | None,
) -> tuple[float, float, float, float]:
    """Mean and the three bands' variances; blocks are brought to the bin's mean by the law before the median."""
    centre = float(mean.mean())
    shape = np.maximum(mean, 1.0) if law is None else np.maximum(law.noise(mean), 1e-6)
    at_centre = max(centre, 1.0) if law is None else float(law.noise(np.array(centre)))
    values = {
        band: float(np.median(energy.flat[chosen] / shape)) * at_centre / median_of_mean_square(BAND_SIZE[band])
        for band, energy in energies.items()
    }
    return centre, values["high"], values["middle"], values["low"]


def median_of_mean_square(count: int) -> float:
    """Median of the mean of ``count`` squared standard normals, by which a median becomes a variance.

    >>> round(median_of_mean_square(21), 3)
    0.968
    """
    return float(stats.chi2.ppf(0.5, count)) / count


def fit_law(bins: Bins, band: str, expected: Array, dark: tuple[float, float] | None) -> NoiseLaw:
    """Fit the law to the bins of one band; texture above the law loses weight.

    Args:
        bins: The bins to fit.
        band: "high" or "middle".
        expected: Variance [DN^2] by which the bins are weighted.
        dark: As in `find_envelope`.

    Returns:
        The mean and covariance of the posterior within s^2, K, c >= 0.
    """
    measured = bins.variance if band == "high" else bins.middle
    error = expected * MEDIAN_ERROR * np.sqrt(2 / (BAND_SIZE[band] * bins.blocks))
    prior = _texture_prior(bins, expected)
    weight = np.ones_like(measured)
    inflation = 1.0
    for _ in range(20):
        scaled = error * inflation / np.sqrt(weight)
        design, target = _whitened(bins.mean, measured, scaled, prior, dark)
        solution, _ = optimize.nnls(design, target)
        residual = (measured - _law_values(solution, bins.mean)) / error
        weight = np.where(residual > TEXTURE_SIGMAS, (TEXTURE_SIGMAS / np.maximum(residual, TEXTURE_SIGMAS)) ** 2, 1.0)
        chi2 = float(np.sum(weight * residual**2) / max(weight.sum() - 2, 1.0))
        inflation = math.sqrt(max(chi2, 1.0))
    centre, covariance = _inside_physics(design, target, solution)
    return NoiseLaw(float(centre[1]), float(centre[0]), float(centre[2]), covariance, chi2)


def _law_values(solution: Array, mean: Array) -> Array:
    return np.asarray(solution[0] + solution[1] * mean + solution[2] * mean**2)


def _texture_prior(bins: Bins, expected: Array) -> float:
    """Scale of c: PRNU, or the texture that the low band shows beyond the high band where that is more."""
    excess = (bins.low - bins.variance) / expected
    square = bins.mean**2 / expected
    seen = float(np.sum(bins.blocks * excess * square) / max(float(np.sum(bins.blocks * square**2)), 1e-12))
    return max(seen, TYPICAL_PRNU**2)


def _whitened(
    mean: Array, measured: Array, error: Array, prior: float, dark: tuple[float, float] | None
) -> tuple[Array, Array]:
    design = np.stack([np.ones_like(mean), mean, mean**2], axis=1) / error[:, None]
    target = measured / error
    rows, values = [[0.0, 0.0, 1 / prior]], [0.0]
    if dark is not None:
        rows.append([1 / dark[1], 0.0, 0.0])
        values.append(dark[0] / dark[1])
    return np.vstack([design, rows]), np.append(target, values)


def _inside_physics(design: Array, target: Array, start: Array) -> tuple[Array, Array]:
    """Mean of (s^2, K, c) and covariance of (s^2, K) of the Gaussian posterior cut to values that are not negative.

    Given the other two, K is a Gaussian cut at zero, whose moments are known; the two are summed over a grid around
    the best solution inside.
    """
    scale = np.linalg.norm(design, axis=0)  # the columns differ by orders of magnitude
    information = (design / scale).T @ (design / scale)
    covariance = np.linalg.pinv(information, hermitian=True) / np.outer(scale, scale)
    centre = covariance @ (design.T @ target)
    axes = []
    for index in (0, 2):
        reach = 5 * math.sqrt(max(covariance[index, index], 1e-30))
        axes.append(np.linspace(max(0.0, start[index] - reach), start[index] + reach, GRID))
    read, texture = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    offset = np.stack([read - centre[0], texture - centre[2]])
    inverse = np.linalg.pinv(covariance[np.ix_([0, 2], [0, 2])], hermitian=True)
    slope = covariance[1, [0, 2]] @ inverse
    rest = math.sqrt(max(float(covariance[1, 1] - slope @ covariance[[0, 2], 1]), 1e-30))
    standard = (centre[1] + slope @ offset) / rest
    log_weight = -0.5 * np.einsum("in,ij,jn->n", offset, inverse, offset) + special.log_ndtr(standard)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    # Mills ratio: mean and variance of a normal cut at zero.
    mills = np.exp(-0.5 * standard**2 - 0.5 * math.log(2 * math.pi) - special.log_ndtr(standard))
    gain = rest * (standard + mills)
    gain_variance = rest**2 * float(weight @ np.clip(1 - standard * mills - mills**2, 0.0, 1.0))
    within = np.cov(np.stack([read, gain]), aweights=weight, ddof=0) + np.diag([0.0, gain_variance])
    return np.array([weight @ read, weight @ gain, weight @ texture]), np.asarray(within)
