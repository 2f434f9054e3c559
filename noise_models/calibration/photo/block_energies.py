"""Local spectra of a mosaic: mean and high-frequency energies of small blocks of every same-colour sub-lattice.

Each site of the CFA's period is a sub-lattice of its own (Bayer 4, X-Trans 36; a monochrome sensor is cut into four as
well), so all lattices see the same scene with independent noise: texture shows in all of them, noise only in one.
A block is 8x8 samples of one lattice. Its DCT coefficients are orthonormal, so white noise has the same variance in
every one of them, while the energy of a scene falls with frequency.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from noise_models.cfa import Cfa

BLOCK = 8
# Sites that are analysed at most: 8 million give K to a fraction of a per cent; more cost time and tell nothing.
MAX_SITES = 8_000_000

_FREQUENCY = np.add.outer(np.arange(BLOCK), np.arange(BLOCK))
# Frequency 0 along either axis is left out: noise that a whole row or column shares would count as pixel noise.
_OFF_AXIS = np.outer(np.arange(BLOCK) > 0, np.arange(BLOCK) > 0)
# Sums of the two indices that make a band. Below 3 is shading and gradients, harmless and plentiful in smooth areas.
BANDS = {"low": (3, 6), "middle": (7, 8), "high": (9, 14)}
_MASKS = {name: _OFF_AXIS & (first <= _FREQUENCY) & (last >= _FREQUENCY) for name, (first, last) in BANDS.items()}
# Coefficients in a band: the degrees of freedom of its energy.
BAND_SIZE = {name: int(mask.sum()) for name, mask in _MASKS.items()}
# Axis coefficients that show row noise: the upper half, above the scene's own lines.
AXIS_FIRST = BLOCK // 2
# Clipped tails beyond this many standard deviations change a variance by less than 0.1 %.
CLIP_SIGMAS = 4.0
# EMVA 1288 fits the photon transfer up to 70 % of saturation. Some cameras saturate well under the stated white (Canon
# D30 at 91 %), and saturated pixels have little noise.
MAX_LEVEL = 0.7


@dataclass(frozen=True)
class BlockEnergies:
    """Blocks of a frame; L lattices, N blocks each, the same places in all lattices.

    Attributes:
        plane: Plane name of each lattice, length L.
        mean: Block mean above black [DN], (L, N).
        low: Mean squared coefficient [DN^2] of the low band, (L, N).
        middle: The same of the middle band.
        high: The same of the high band.
        row_waves: The coefficients that row noise enters, constant along rows and changing fast from row to row [DN],
            (L, N, 4). A row's offset puts the same wave into all blocks of a row of blocks, times sqrt(8).
        block_row: Which row of blocks each block is of, (N,).
        linear: Mean no higher than `MAX_LEVEL` of the way from black to white, (L, N).
        unclipped: In all lattices, no sample of the block is at the white level or at code 0 and neither end is within
            four standard deviations of its mean, (N,).
    """

    plane: tuple[str, ...]
    mean: NDArray[np.float32]
    low: NDArray[np.float32]
    middle: NDArray[np.float32]
    high: NDArray[np.float32]
    row_waves: NDArray[np.float32]
    block_row: NDArray[np.int64]
    linear: NDArray[np.bool_]
    unclipped: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int]:
        """Lattices and blocks."""
        lattices, blocks = self.mean.shape
        return lattices, blocks

    def total(self) -> NDArray[np.float32]:
        """Energy of all three bands together, per coefficient [DN^2], (L, N)."""
        size = BAND_SIZE
        energy = size["low"] * self.low + size["middle"] * self.middle + size["high"] * self.high
        return np.asarray(energy / sum(size.values()))

    def where(self, keep: NDArray[np.bool_]) -> BlockEnergies:
        """Only some blocks; ``keep`` is (N,)."""
        return BlockEnergies(
            plane=self.plane,
            mean=self.mean[:, keep],
            low=self.low[:, keep],
            middle=self.middle[:, keep],
            high=self.high[:, keep],
            row_waves=self.row_waves[:, keep],
            block_row=self.block_row[keep],
            linear=self.linear[:, keep],
            unclipped=self.unclipped[keep],
        )


def block_energies(
    mosaic: NDArray[np.uint16], cfa: Cfa, black: NDArray[np.float64], white: NDArray[np.float64]
) -> BlockEnergies:
    """Means and band energies of the blocks of a mosaic, strip by strip in bounded memory.

    Large frames are thinned evenly to `MAX_SITES` sites.

    Args:
        mosaic: (H, W) [DN].
        cfa: Of the mosaic.
        black: Black level per site [DN], shape ``cfa.period``.
        white: Level at which a site counts as clipped [DN], shape ``cfa.period``.

    Returns:
        The blocks; none if the mosaic is smaller than one block.
    """
    step = (2, 2) if cfa.is_mono else cfa.period
    tall, wide = BLOCK * step[0], BLOCK * step[1]
    rows, columns = mosaic.shape[0] // tall, mosaic.shape[1] // wide
    stride = max(1, math.ceil(mosaic.size / MAX_SITES))
    names = tuple(
        cfa.plane_of_site[i % cfa.period[0]][j % cfa.period[1]] for i in range(step[0]) for j in range(step[1])
    )
    black, white = np.resize(black, step), np.resize(white, step)
    strips = [_strip_energies(np.zeros((tall, 0, wide), np.uint16), step, black, white)]
    taken = [np.arange(row % stride, columns, stride) for row in range(rows)]
    for row, chosen in enumerate(taken):
        strip = mosaic[row * tall : (row + 1) * tall, : columns * wide].reshape(tall, columns, wide)[:, chosen]
        strips.append(_strip_energies(strip, step, black, white))
    mean, low, middle, high, waves = (
        np.concatenate([getattr(strip, name) for strip in strips], axis=1)
        for name in ("mean", "low", "middle", "high", "row_waves")
    )
    unclipped = np.concatenate([strip.unclipped for strip in strips])
    block_row = np.repeat(np.arange(rows), [chosen.size for chosen in taken])
    linear = mean < MAX_LEVEL * (white - black).reshape(-1, 1)
    return BlockEnergies(names, mean, low, middle, high, waves, block_row, linear, unclipped)


class _Strip(NamedTuple):
    """The arrays of `BlockEnergies` for one row of blocks."""

    mean: NDArray[np.float32]
    low: NDArray[np.float32]
    middle: NDArray[np.float32]
    high: NDArray[np.float32]
    row_waves: NDArray[np.float32]
    unclipped: NDArray[np.bool_]


_DCT = fft.dct(np.eye(BLOCK), axis=0, norm="ortho").astype(np.float32)


def _strip_energies(
    strip: NDArray[np.uint16], step: tuple[int, int], black: NDArray[np.float64], white: NDArray[np.float64]
) -> _Strip:
    """Analyse one row of n blocks, (8 ph, n, 8 pw)."""
    # (8, ph, n, 8, pw) -> (ph, pw, n, 8, 8)
    samples = strip.reshape(BLOCK, step[0], strip.shape[1], BLOCK, step[1]).transpose(1, 4, 2, 0, 3)
    inside = ((samples < white[:, :, None, None, None]) & (samples > 0)).all(axis=(0, 1, 3, 4))
    above = (
        (samples - black[:, :, None, None, None])
        .astype(np.float32)
        .reshape(step[0] * step[1], strip.shape[1], BLOCK, BLOCK)
    )
    waves = _DCT @ above @ _DCT.T
    energy = np.square(waves)
    low, middle, high = (energy[..., mask].mean(axis=-1) for mask in _MASKS.values())
    mean = above.mean(axis=(2, 3))
    margin = CLIP_SIGMAS * np.sqrt(high.max(axis=0))
    top, bottom = (white - black).reshape(-1, 1), -black.reshape(-1, 1)
    unclipped = inside & ((mean + margin < top) & (mean - margin > bottom)).all(axis=0)
    return _Strip(mean, low, middle, high, waves[..., AXIS_FIRST:, 0], unclipped)
