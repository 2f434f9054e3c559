"""The motion of a whole frame, from coarse to fine."""

from __future__ import annotations

from dataclasses import replace

import torch

from physrestore.burst.cells import Grey
from physrestore.burst.coarse import shift_between
from physrestore.burst.lucas_kanade import Fit, Model, fit
from physrestore.burst.warping import in_coarser_pixels

# The coarsest plane has a shorter side of at least this.
COARSEST = 24
# Planes above it are only halved: the motion of a whole frame is known to a hundredth of a pixel from far fewer.
LARGEST = 1 << 21
# A richer model is kept if it is known this well [pixels of its plane] in the worst corner.
CERTAIN = 0.25


def motion_between(reference: Grey, frame: Grey) -> Fit | None:
    """Translation, affine map or homography: the richest that the noise lets be known.

    Args:
        reference: At the resolution of cells.
        frame: The same.

    Returns:
        In pixels of the planes given; None where not even a shift is determined, which no picture without texture
        lets be.
    """
    pairs = [(reference, frame)]
    while min(pairs[-1][0].values.shape) >= 2 * COARSEST:
        pairs.append((pairs[-1][0].halved(), pairs[-1][1].halved()))
    down, right = shift_between(*pairs[-1])
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[0, 2], matrix[1, 2] = right, down
    factor = 2.0 ** (len(pairs) - 1)
    best: Fit | None = None
    for level in reversed(range(len(pairs))):
        if best is not None and pairs[level][0].values.numel() > LARGEST:
            break
        # Half as coarse as the plane before; the coarsest is where the shift was found.
        matrix = in_coarser_pixels(matrix, 2.0**level / factor)
        best = None if best is None else _in_finer_pixels(best, factor / 2.0**level, pairs[level][0])
        factor = 2.0**level
        found = _richest(*pairs[level], matrix)
        best = best if found is None else found
        matrix = matrix if best is None else best.matrix
    if best is None:
        return None
    if best.is_still():  # on a tripod: exactly none, so that sites fall on sites
        best = replace(best, matrix=torch.eye(3, dtype=torch.float64))
    return _in_finer_pixels(best, factor, reference)


def _richest(reference: Grey, frame: Grey, start: torch.Tensor) -> Fit | None:
    """Richer and richer models, each from the one before, as long as the noise allows."""
    best: Fit | None = None
    for model in Model:
        found = fit(reference, frame, start if best is None else best.matrix, model)
        if found.worst_std() > CERTAIN:
            break
        best = found
    return best


def _in_finer_pixels(found: Fit, factor: float, finest: Grey) -> Fit:
    """A fit on planes that are ``factor`` coarser, in pixels of the finest; parameters are pixels, so they scale."""
    height, width = finest.values.shape
    return Fit(
        matrix=in_coarser_pixels(found.matrix, 1 / factor),
        covariance=found.covariance * factor**2,
        model=found.model,
        shape=(int(height), int(width)),
    )
