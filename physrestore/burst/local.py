"""What one homography does not explain: an offset per square, as far as noise lets it be told from none.

Every square measures its offset with a covariance from the noise. How much offsets really vary (parallax, a rolling
shutter) shows in all of them together; each estimate is then shrunk towards none by what it is worth (empirical Bayes).
A burst that one homography explains keeps it, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from physrestore.burst.cells import Grey
from physrestore.burst.lucas_kanade import KNEE, LEAST_SIGNAL
from physrestore.burst.smoothing import GRADIENT_NOISE, NOISE_KEPT, gradient, smooth
from physrestore.burst.warping import apply, grid, sample

# Cells along a square: 64 sites of Bayer hold enough texture for a tenth of a site in most photos.
PITCH = 32
STEPS = 4
# Cells; larger offsets are other objects, which the weights of agreement leave to the reference.
LARGEST = 3.0
# Of squared lengths of two Gaussian components of variance 1.
MEDIAN_SQUARED_LENGTH = 1.3863
# Std of the error that undersampling brings into a square's offset, beyond the noise [cells]; measured on Kodak24 crops
# that were only turned and shifted.
UNDERSAMPLING = 0.1
# Offsets must vary by so many standard errors of that variation to count.
SIGNIFICANT = 3.0


@dataclass(frozen=True, eq=False)
class _Sums:
    """Normal equations of every square: (m, n, 2, 2) and (m, n, 2), axes down and right."""

    energy: Tensor
    noise: Tensor
    score: Tensor
    slope: Tensor


def local_offsets(reference: Grey, frame: Grey, matrix: Tensor) -> Tensor:
    """Offsets beyond a homography.

    Args:
        reference: At the resolution of cells.
        frame: The same.
        matrix: (3, 3) float64, from the reference to the frame in cells.

    Returns:
        (2, m, n) float64 [cells], down and right, for squares of `PITCH` cells; zero where not determined.
    """
    template, moving = smooth(reference.values), smooth(frame.values)
    planes = torch.stack([moving, frame.variance, frame.good.float()])
    row, column = apply(matrix, *grid(*template.shape))
    count = tuple(-(-size // PITCH) for size in template.shape)
    offsets = torch.zeros(2, *count, dtype=torch.float64)
    sums = None
    for _ in range(STEPS):
        down, right = _spread(offsets, template.shape)
        compared = sample(planes, row + down, column + right)
        sums = _sums(reference, template, *compared)
        step = torch.linalg.solve(_regular(sums.energy - sums.noise), sums.slope[..., None])[..., 0]
        offsets = (offsets - step.permute(2, 0, 1)).clamp(-LARGEST, LARGEST)
        offsets = offsets * _is_determined(sums)
    assert sums is not None
    return _shrunk(offsets, sums)


def _sums(reference: Grey, template: Tensor, moved: Tensor, inside: Tensor) -> _Sums:
    """Robustly weighted sums over every square."""
    values, variance, good = moved
    slopes = torch.stack(gradient(template))
    difference = values - template
    total = reference.variance + variance
    explained = NOISE_KEPT * total
    robust = (1.0 + difference.square() / (KNEE**2 * (explained + slopes.square().sum(0)))).square().reciprocal()
    weight = robust * (inside & reference.good & (good > 1 - 1e-3)) / explained
    spread = smooth(slopes * weight, outside="constant")
    return _Sums(
        energy=_outer(slopes, slopes, weight),
        noise=_in_squares(GRADIENT_NOISE * weight * reference.variance)[..., None, None]
        * torch.eye(2, dtype=torch.float64),
        score=_outer(spread, spread, total),
        slope=torch.stack([_in_squares(one * weight * difference) for one in slopes], dim=-1),
    )


def _outer(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    rows = [torch.stack([_in_squares(one * other * weight) for other in b], dim=-1) for one in a]
    return torch.stack(rows, dim=-2)


def _in_squares(plane: Tensor) -> Tensor:
    """Sums over squares, those at the far borders incomplete, (m, n) float64."""
    height, width = plane.shape
    padded = F.pad(plane[None, None].double(), (0, -width % PITCH, 0, -height % PITCH))
    return F.avg_pool2d(padded, PITCH)[0, 0] * PITCH**2


def _spread(offsets: Tensor, shape: torch.Size) -> Tensor:
    """Offsets of every cell, linear between the middles of squares, (2, h, w)."""
    row, column = grid(*shape)
    middle = (PITCH - 1) / 2
    height, width = offsets.shape[-2:]
    values, _ = sample(
        offsets, ((row - middle) / PITCH).clamp(0, height - 1), ((column - middle) / PITCH).clamp(0, width - 1)
    )
    return values


def _regular(matrix: Tensor) -> Tensor:
    """Made invertible: a direction without signal gets a step of nearly none."""
    values, vectors = torch.linalg.eigh(matrix)
    least = (LEAST_SIGNAL * values[..., -1:]).clamp(min=1.0)
    regular: Tensor = (vectors * torch.maximum(values, least)[..., None, :]) @ vectors.mT
    return regular


def _is_determined(sums: _Sums) -> Tensor:
    """(m, n) bool: along both axes the scene's gradient stands out of the noise."""
    weakest = torch.linalg.eigvalsh(sums.energy - sums.noise)[..., 0]
    whole = torch.linalg.eigvalsh(sums.energy)[..., 0].clamp(min=1.0)
    determined: Tensor = weakest > LEAST_SIGNAL * whole
    return determined


def _shrunk(offsets: Tensor, sums: _Sums) -> Tensor:
    """Posterior means under a normal prior whose variance is found from all squares."""
    known = _is_determined(sums)
    inverse = torch.linalg.inv(_regular(sums.energy - sums.noise))
    covariance = inverse @ sums.score @ inverse.mT + UNDERSAMPLING**2 * torch.eye(2, dtype=torch.float64)
    if int(known.sum()) == 0:
        return torch.zeros_like(offsets)
    own = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[known]
    lengths = offsets.square().sum(0)[known]
    spread = float((lengths / MEDIAN_SQUARED_LENGTH - own).median())
    # The median of n squared lengths of variance v has about this standard error.
    error = 1.5 * float(own.median()) / own.numel() ** 0.5
    if spread < SIGNIFICANT * error:
        return torch.zeros_like(offsets)
    gain = spread * torch.linalg.inv(covariance + spread * torch.eye(2, dtype=torch.float64))
    shrunk = (gain @ offsets.permute(1, 2, 0)[..., None])[..., 0].permute(2, 0, 1)
    return torch.where(known, shrunk, 0.0)
