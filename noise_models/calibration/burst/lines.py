"""Row and column noise of a burst, from tiles that stand still."""

from __future__ import annotations

import numpy as np
from scipy import stats

from noise_models.calibration.burst.law import Selection
from noise_models.calibration.burst.tiles import SIDE, BurstTiles
from noise_models.calibration.fits import std_from_variance
from noise_models.errors import CalibrationError
from noise_models.sensor import Estimate


def line_noise(tiles: BurstTiles, selection: Selection, *, along_rows: bool) -> Estimate:
    """Std of what the tiles beside (or above) each other have in common; products of different tiles hold no other.

    Args:
        tiles: Of all pairs.
        selection: The ones to use.
        along_rows: Row noise; else column noise.

    Raises:
        CalibrationError: no two used tiles lie beside (or above) each other.
    """
    offsets = tiles.row_offsets if along_rows else tiles.column_offsets
    line = tiles.tile_row if along_rows else tiles.tile_column
    phase = tiles.phase[:, 0 if along_rows else 1]
    groups = np.unique(phase).size
    # All lattices of one row of sites share its offset: they count as one set of tiles.
    total = np.zeros(((int(line.max()) + 1) * groups, SIDE))
    own, weights, squares = np.zeros_like(total), np.zeros(len(total)), np.zeros(len(total))
    for lattice, lattice_phase in enumerate(phase):
        weight = np.where(selection.used[lattice], 1.0 / selection.expected[lattice], 0.0)
        index = line * groups + int(lattice_phase)
        weighted = weight[:, None] * offsets[lattice]
        np.add.at(total, index, weighted)
        np.add.at(own, index, weighted**2)
        weights += np.bincount(index, weight, minlength=len(total))
        squares += np.bincount(index, weight**2, minlength=len(total))
    product = (total**2 - own).sum(axis=1)
    # The tile's own mean was removed: of SIDE offsets SIDE - 1 are left.
    norm = (SIDE - 1) * (weights**2 - squares)
    kind = "rows" if along_rows else "columns"
    if norm.sum() <= 0:
        raise CalibrationError(f"No {kind} of the burst have two areas that stand still.")
    share = norm / norm.sum()
    variance = float(product.sum() / norm.sum())
    # A group that makes most of the mean lies near it (leverage), and few groups know little of their own scatter.
    scatter = (product - variance * norm) / np.maximum(1.0 - share, 0.5)
    groups_in_effect = 1.0 / float(np.sum(share**2))
    student = float(stats.t.ppf(0.975, max(groups_in_effect - 1.0, 1.0)) / stats.norm.ppf(0.975))
    error = student * float(np.sqrt(np.sum(scatter**2)) / norm.sum())
    return std_from_variance(variance, error, method=f"what tiles of the same {kind} have in common")
