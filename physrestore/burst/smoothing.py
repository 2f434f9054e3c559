"""The filters of alignment, and what they do to white noise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# A binomial of std 1: planes of cells are undersampled, and what lies near their Nyquist limit misleads an alignment.
SMOOTH = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
# Variance of white noise after smoothing along one axis.
SMOOTH_ENERGY = sum(tap**2 for tap in SMOOTH)
# ... after smoothing along both, and of a central difference of that.
NOISE_KEPT = SMOOTH_ENERGY**2
_SLOPE_TAPS = tuple(
    0.5 * (after - before) for before, after in zip((*SMOOTH, 0.0, 0.0), (0.0, 0.0, *SMOOTH), strict=True)
)
GRADIENT_NOISE = sum(tap**2 for tap in _SLOPE_TAPS) * SMOOTH_ENERGY


def smooth(planes: Tensor, *, outside: str = "replicate") -> Tensor:
    """(..., h, w) filtered along both axes; ``outside`` is "replicate", or "constant" for zeros."""
    flat = planes.reshape(-1, 1, *planes.shape[-2:])
    taps = flat.new_tensor(SMOOTH)
    reach = len(SMOOTH) // 2
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode=outside), taps.reshape(1, 1, 1, -1))
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode=outside), taps.reshape(1, 1, -1, 1))
    return flat.reshape(planes.shape)


def gradient(plane: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along rows (down) and columns (right) of (h, w); zero at the border."""
    down, right = torch.zeros_like(plane), torch.zeros_like(plane)
    down[1:-1] = (plane[2:] - plane[:-2]) / 2
    right[:, 1:-1] = (plane[:, 2:] - plane[:, :-2]) / 2
    return down, right
