"""Which tiles of a burst show noise alone, and the line through them.

A tile of a pair of photos has the variance ``s^2 + K m + c G``: noise, and what the scene's gradients G make of a shift
between the two frames (c is a quarter of the squared shift). Tiles are chosen by what the *other* lattices of the same
place show, so that choosing cannot bias a tile's own variance; c then says how much of G the remaining ones can bear.
Where all of a frame moves farther than its details are wide, no law tells texture from noise. But noise is independent
from lattice to lattice and the scene is not: what their differences have in common is motion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from noise_models.calibration.burst.tiles import CLIP_SIGMAS, TILE_DOF, BurstTiles
from noise_models.calibration.fits import variance_error
from noise_models.calibration.photon_transfer import TransferPoints
from noise_models.sensor import QUANTISATION_VARIANCE_DN2

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

# Excess of the other lattices' variance, in its standard deviations, from which a tile counts as moving.
QUIET_SIGMAS = 2.5
# Motion may add this share of the noise to a tile that is used.
BEARABLE = 0.02
# A shift along the gradient makes twice the energy of the average over directions.
_ORIENTATION = 2.0
# Scatter of that energy from tile to tile, as a ratio: uniform directions give sqrt(1/2).
_MOTION_SCATTER = 0.7
# Residuals beyond this many sigmas weigh less (Huber).
_HUBER = 2.0
_ROBUST_STEPS = 8
# Tiles above this quantile of relative gradient energy are the textured ones: most of them show the frame's motion.
_TEXTURED_QUANTILE = 0.7
_ROUNDS = 5
# Neighbouring lattices share at least this much of what moves: scenes are smooth from one site to the next.
_COHERENCE = 0.5
# The first law goes through this low quantile of every level: right as long as that share of each level stands still.
_FIRST_QUANTILE = 0.25
_FIRST_BINS = 8
# Points of the photon-transfer curve, and tiles in each at least (the variance of eight is good to 3 %).
_BINS = 12
_TILES_PER_BIN = 8


@dataclass(frozen=True)
class PlaneLaw:
    """``variance(m) = read + gain m + motion G`` of one plane.

    Attributes:
        read: Variance in the dark [DN^2], rounding included.
        gain: K [DN/e-].
        motion: c, the energy that motion makes of a gradient energy of one, a ratio.
        motion_error: Its standard error; infinite where nothing tells motion from noise.
    """

    read: float
    gain: float
    motion: float = 0.0
    motion_error: float = math.inf

    def noise(self, mean: F64) -> F64:
        """Variance without motion [DN^2]."""
        return np.asarray(np.maximum(self.read, QUANTISATION_VARIANCE_DN2) + self.gain * np.maximum(mean, 0.0))


@dataclass(frozen=True)
class Selection:
    """Tiles that show noise alone.

    Attributes:
        used: (L, N).
        laws: Per plane.
        expected: Variance of the noise of every tile [DN^2], (L, N).
        moving_share: Tiles in which something moved, as a share of the usable ones.
        textured_excess: Variance over the law's in the most textured tenth of the usable tiles, as a ratio: 1 where
            nothing moved.
        coherent_share: What neighbouring lattices have in common in the used tiles, as a share of the noise, and its
            standard error: 0 for noise.
        motion_share: What motion may still add to the used tiles, as a share of their noise, one sigma; per plane.
    """

    used: Bool
    laws: dict[str, PlaneLaw]
    expected: F64
    moving_share: float
    textured_excess: float
    coherent_share: tuple[float, float]
    motion_share: dict[str, float]


def select_still(tiles: BurstTiles) -> Selection:
    """Choose tiles and fit the law in turns until both agree."""
    planes = np.array(tiles.plane)
    gradient = _gradient_of_others(tiles)
    laws = {name: _first_law(tiles, planes == name) for name in dict.fromkeys(tiles.plane)}
    limit = 1.0 + QUIET_SIGMAS * math.sqrt(2.0 / (TILE_DOF * (len(planes) - 1)))
    for _ in range(_ROUNDS):
        expected = _expected(tiles, laws)
        clear = tiles.usable & (tiles.room > CLIP_SIGMAS * np.sqrt(expected)).all(axis=0)
        quiet = clear & (_others(tiles.variance / expected) < limit)
        used = np.zeros_like(quiet)
        for name in laws:
            own = planes == name
            law = _with_motion(tiles, own, gradient, laws[name])
            ceiling = _ORIENTATION * law.motion + 2.0 * law.motion_error
            used[own] = quiet[own] & (ceiling * gradient[own] < BEARABLE * expected[own])
            laws[name] = _refit(tiles, own, used[own], law)
    expected = _expected(tiles, laws)
    coherent = _coherent_share(tiles, used, expected)
    shares = {}
    for name, law in laws.items():
        left = (gradient / expected)[planes == name][used[planes == name]]
        sigma = math.hypot(law.motion, law.motion_error)
        predicted = float(sigma * max(left.mean(), 0.0)) if left.size else 0.0
        shares[name] = math.hypot(predicted, max(coherent[0], 0.0) / _COHERENCE)
    usable = len(planes) * max(int(clear.sum()), 1)
    return Selection(
        used=used,
        laws=laws,
        expected=expected,
        moving_share=1.0 - float(quiet.sum()) / usable,
        textured_excess=_textured_excess(tiles, gradient, expected),
        coherent_share=coherent,
        motion_share=shares,
    )


def transfer_points(tiles: BurstTiles, used: Bool, plane: str) -> TransferPoints | None:
    """The used tiles of one plane as points of its photon-transfer curve; None if they are too few for three."""
    own = np.array(tiles.plane) == plane
    chosen = used[own]
    mean, variance, fourth = (array[own][chosen] for array in (tiles.mean, tiles.variance, tiles.fourth))
    bins = min(_BINS, mean.size // _TILES_PER_BIN)
    if bins < 3:
        return None
    groups = np.array_split(np.argsort(mean), bins)
    level, spread = (np.array([values[group].mean() for group in groups]) for values in (mean, variance))
    kurtosis = np.array([fourth[group].mean() for group in groups]) / spread**2 - 3.0
    count = np.array([group.size for group in groups], dtype=np.float64)
    error = variance_error(spread, count * TILE_DOF, np.maximum(kurtosis, -1.0))
    return TransferPoints(
        mean_dn=level,
        variance_dn2=spread - QUANTISATION_VARIANCE_DN2,
        relative_error=error / np.maximum(spread, 1e-12),
        mean_error_dn=np.sqrt(spread / (2.0 * count * (TILE_DOF + 1))),
    )


def _expected(tiles: BurstTiles, laws: dict[str, PlaneLaw]) -> F64:
    return np.stack([laws[name].noise(mean) for name, mean in zip(tiles.plane, tiles.mean, strict=True)])


def _others(values: F64) -> F64:
    """Mean over all lattices but the own one."""
    return np.asarray((values.sum(axis=0) - values) / (len(values) - 1))


def _gradient_of_others(tiles: BurstTiles) -> F64:
    """Gradient energy of each tile as the other lattices see it, brought to the own level: contrast is alike."""
    level = np.maximum(tiles.mean, 1.0) ** 2
    return np.asarray(level * _others(tiles.gradient) / _others(level))


def _first_law(tiles: BurstTiles, own: Bool) -> PlaneLaw:
    mean, variance = tiles.mean[own][:, tiles.usable].ravel(), tiles.variance[own][:, tiles.usable].ravel()
    if mean.size < _FIRST_BINS:
        return PlaneLaw(read=1.0, gain=1.0)
    groups = np.array_split(np.argsort(mean), _FIRST_BINS)
    below = float(stats.chi2.ppf(_FIRST_QUANTILE, TILE_DOF)) / TILE_DOF
    low = np.array([np.quantile(variance[group], _FIRST_QUANTILE) for group in groups]) / below
    level = np.array([max(float(mean[group].mean()), 0.0) for group in groups])
    design = np.stack([np.ones_like(level), level], axis=1) / np.maximum(low, 1e-9)[:, None]
    (read, gain), _ = optimize.nnls(design, np.ones_like(low))
    return PlaneLaw(read=float(read), gain=float(gain))


def _with_motion(tiles: BurstTiles, own: Bool, gradient: F64, law: PlaneLaw) -> PlaneLaw:
    """The law and the motion of the whole frame, from all usable tiles; what moves by itself loses its weight."""
    mean, variance, slope = (array[own][:, tiles.usable].ravel() for array in (tiles.mean, tiles.variance, gradient))
    slope = np.maximum(slope, 0.0)
    if mean.size < 3 * _TILES_PER_BIN:
        return law
    design = np.stack([np.ones_like(mean), mean, slope], axis=1)
    textured = slope / law.noise(mean) >= np.quantile(slope / law.noise(mean), _TEXTURED_QUANTILE)
    excess = (variance - law.noise(mean))[textured] / np.maximum(slope[textured], 1e-9)
    # The start decides which of two worlds the robust fit finds: the frame moved, or parts of it did.
    solution = np.array([law.read, law.gain, max(float(np.median(excess)), 0.0)])
    for _ in range(_ROBUST_STEPS):
        current = PlaneLaw(*solution)
        noise = current.noise(mean)
        sigma = np.hypot(noise * math.sqrt(2.0 / TILE_DOF), _MOTION_SCATTER * current.motion * slope)
        residual = np.abs(variance - noise - current.motion * slope) / sigma
        weight = np.minimum(1.0, _HUBER / np.maximum(residual, _HUBER)) / sigma
        solution, _ = optimize.nnls(design * weight[:, None], variance * weight)
    scaled = design * weight[:, None]
    norm = np.maximum(np.linalg.norm(scaled, axis=0), 1e-30)
    covariance = np.linalg.pinv((scaled / norm).T @ (scaled / norm), hermitian=True) / np.outer(norm, norm)
    chi2 = float(np.mean((weight * (variance - design @ solution)) ** 2))
    read, gain, motion = (float(value) for value in solution)
    return PlaneLaw(read, gain, motion, math.sqrt(max(float(covariance[2, 2]), 0.0) * max(chi2, 1.0)))


def _refit(tiles: BurstTiles, own: Bool, used: Bool, law: PlaneLaw) -> PlaneLaw:
    """The law through the used tiles alone, where they are enough."""
    mean, variance = tiles.mean[own][used], tiles.variance[own][used]
    if mean.size < 3 * _TILES_PER_BIN:
        return law
    weight = 1.0 / law.noise(mean)
    design = np.stack([weight, mean * weight], axis=1)
    (read, gain), _ = optimize.nnls(design, variance * weight)
    return replace(law, read=float(read), gain=float(gain))


def _coherent_share(tiles: BurstTiles, used: Bool, expected: F64) -> tuple[float, float]:
    both = used[1:] & used[:-1]
    count = int(both.sum())
    if count == 0:
        return 0.0, math.inf
    share = tiles.coherent / np.sqrt(expected[1:] * expected[:-1])
    return float(share[both].mean()), 1.0 / math.sqrt(count * TILE_DOF)


def _textured_excess(tiles: BurstTiles, gradient: F64, expected: F64) -> float:
    relative = (gradient / expected)[:, tiles.usable]
    if relative.size == 0:
        return 1.0
    ratio = (tiles.variance / expected)[:, tiles.usable]
    return float(np.median(ratio[relative >= np.quantile(relative, 0.9)]))
