"""How one frame lies on another: Gauss-Newton on the difference of both, weighted by their noise.

The gradient is the reference's (inverse composition), so at the solution it is multiplied with a difference whose mean
is zero, and the noise of the gradient costs no bias: a central difference is antisymmetric, so its noise is
uncorrelated with the reference's own noise in the difference. The noise's share of the gradient's energy is known and
taken off, which makes steps as long as they should be and the covariance honest.

Sources: Lucas & Kanade, IJCAI 1981; Baker & Matthews, "Lucas-Kanade 20 years on", IJCV 56(3), 2004 (inverse
composition); Robinson & Milanfar, "Fundamental performance limits in image registration", IEEE TIP 13(9), 2004
(the Cramer-Rao bound from the gradient's energy).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from physrestore.burst.cells import Grey
from physrestore.burst.smoothing import GRADIENT_NOISE, NOISE_KEPT, gradient, smooth
from physrestore.burst.warping import apply, grid, sample

MAX_STEPS = 12
# Cells; a twentieth of what the best alignments reach.
CONVERGED = 1e-3
# Differences beyond so many stds count less: the knee of Geman and McClure's weights.
KNEE = 3.0
# While a solution is still off by this many cells, the slope explains a difference; it falls with every step.
FIRST_ERROR, LAST_ERROR = 1.0, 0.05
# Standard errors that a motion must exceed somewhere to be one.
STILL_STDS = 4.0
# A direction in which less than this share of the gradient's energy is the scene's is not determined.
LEAST_SIGNAL = 0.1


class Model(IntEnum):
    """What a motion may be; the value is its number of parameters."""

    TRANSLATION = 2
    AFFINE = 6
    HOMOGRAPHY = 8


@dataclass(frozen=True, eq=False)
class Fit:
    """A motion and how well it is known.

    Attributes:
        matrix: (3, 3) float64, from the reference's pixels (column, row, 1) to the frame's.
        covariance: Of the parameters of `field`, (n, n) float64, n that of ``model``; infinite on the diagonal: not
            determined.
        model: What was fitted.
        shape: (h, w) of the planes, which sets the units of the parameters.
    """

    matrix: Tensor
    covariance: Tensor
    model: Model
    shape: tuple[int, int]

    def std_at(self, row: Tensor, column: Tensor) -> Tensor:
        """Std of the displacement of points of the reference, the larger axis of its ellipse, [pixels]."""
        down, right = field(self.model, row, column, self.shape)
        basis = torch.stack([down, right])  # (2, n, points)
        if not bool(self.covariance.isfinite().all()):
            return torch.full_like(basis[0, 0], torch.inf)
        spread = torch.einsum("ikp,kl,jlp->pij", basis, self.covariance, basis)
        longest: Tensor = torch.linalg.eigvalsh(spread)[:, -1]
        return longest.clamp(min=0).sqrt()

    def is_still(self) -> bool:
        """The middle and every corner lie where they would without motion, within what noise explains."""
        height, width = self.shape
        rows = torch.tensor([0, 0, height - 1, height - 1, (height - 1) / 2])
        columns = torch.tensor([0, width - 1, 0, width - 1, (width - 1) / 2])
        row, column = apply(self.matrix, rows, columns)
        moved = torch.hypot(row - rows, column - columns)
        return bool((moved <= STILL_STDS * self.std_at(rows, columns)).all())

    def worst_std(self) -> float:
        """The largest `std_at` in the picture, which is at a corner."""
        height, width = self.shape
        rows, columns = torch.tensor([0, 0, height - 1, height - 1]), torch.tensor([0, width - 1, 0, width - 1])
        return float(self.std_at(rows, columns).max())


def field(model: Model, row: Tensor, column: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Displacement down and right [pixels] per unit of every parameter, each (n, ...) float64.

    Points are taken relative to the middle in units of half the longer side, so that a parameter of 1 moves the
    farthest points by about one pixel.
    """
    half = max(shape) / 2
    y, x = (row.double() - (shape[0] - 1) / 2) / half, (column.double() - (shape[1] - 1) / 2) / half
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    right = [one, zero, x, y, zero, zero, x * x, x * y]
    down = [zero, one, zero, zero, x, y, x * y, y * y]
    return torch.stack(down[:model]), torch.stack(right[:model])


def fit(reference: Grey, frame: Grey, start: Tensor, model: Model) -> Fit:
    """Refine a motion.

    Args:
        reference: In pixels of some size.
        frame: The same size.
        start: (3, 3) float64, from the reference to the frame in these pixels; right within about a pixel.
        model: What may change; the rest of ``start`` stays.
    """
    system = _System(reference, frame, model)
    matrix, error = start, FIRST_ERROR
    for _ in range(MAX_STEPS):
        step = system.step(matrix, error=error)
        matrix = matrix @ torch.linalg.inv(increment(step, model, reference.values.shape))
        matrix = matrix / matrix[2, 2]
        if error == LAST_ERROR and float(step.abs().max()) < CONVERGED:
            break
        error = max(error / 4, LAST_ERROR)
    shape = (int(reference.values.shape[0]), int(reference.values.shape[1]))
    return Fit(matrix, system.covariance(matrix), model, shape)


class _System:
    """The normal equations of one pair of planes."""

    def __init__(self, reference: Grey, frame: Grey, model: Model) -> None:
        self.template, self.moving = smooth(reference.values), smooth(frame.values)
        self.variance = reference.variance
        self.frame = torch.stack([self.moving, frame.variance, frame.good.float()])
        self.good = reference.good.clone()
        self.good[[0, -1]] = False  # no gradient there
        self.good[:, [0, -1]] = False
        self.down, self.right = gradient(self.template)
        self.row, self.column = grid(*self.template.shape)
        down, right = field(model, self.row, self.column, (self.template.shape[0], self.template.shape[1]))
        self.basis = torch.stack([down, right]).float()  # (2, n, h, w)
        self.descent = self.basis[0] * self.down + self.basis[1] * self.right

    def step(self, matrix: Tensor, *, error: float) -> Tensor:
        """The parameters of the increment, (n,) float64."""
        difference, weight, _ = self._compare(matrix, error=error)
        energy, noise = self._energy(weight)
        slope = torch.einsum("khw,hw->k", self.descent, weight * difference).double()
        return _determined(energy, noise) @ slope

    def covariance(self, matrix: Tensor) -> Tensor:
        """Of the parameters at the solution: the sandwich of the weighted equations."""
        _, weight, variance = self._compare(matrix, error=LAST_ERROR)
        energy, noise = self._energy(weight)
        if float(_directions(energy, noise)[0].min()) < LEAST_SIGNAL:
            return torch.full_like(energy, torch.inf)
        # What multiplies the white noise of both planes: the descent, smoothed once more.
        spread = smooth(self.descent * weight, outside="constant").flatten(1)
        score = ((spread * variance.flatten()) @ spread.T).double()
        inverse = torch.linalg.inv(energy - noise)
        sandwich: Tensor = inverse @ score @ inverse.T
        return sandwich

    def _compare(self, matrix: Tensor, *, error: float) -> tuple[Tensor, Tensor, Tensor]:
        """Frame minus reference, its weight, and the variance of white noise in both together."""
        row, column = apply(matrix, self.row, self.column)
        (moved, variance, good), inside = sample(self.frame, row, column)
        difference = moved - self.template
        total = self.variance + variance
        explained = NOISE_KEPT * total
        tolerated = explained + error**2 * (self.down.square() + self.right.square())
        robust = (1.0 + difference.square() / (KNEE**2 * tolerated)).square().reciprocal()
        return difference, robust * (inside & self.good & (good > 0.99)) / explained, total

    def _energy(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Gauss-Newton matrix, and what the gradient's noise adds to it on the average, (n, n) float64."""
        flat = self.descent.flatten(1)
        energy = ((flat * weight.flatten()) @ flat.T).double()
        noise = torch.zeros_like(energy)
        by_noise = (GRADIENT_NOISE * weight * self.variance).flatten()
        for axis in self.basis.flatten(2):
            noise += ((axis * by_noise) @ axis.T).double()
        return energy, noise


def _directions(energy: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the scene in the gradient's energy, (n,), rising, and the directions (columns) that have them."""
    floor = torch.finfo(torch.float32).eps * energy.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    values, vectors = torch.linalg.eigh(energy)
    whiten = vectors / values.clamp(min=floor).sqrt()
    shares, axes = torch.linalg.eigh(whiten.T @ (energy - noise) @ whiten)
    return shares, whiten @ axes


def _determined(energy: Tensor, noise: Tensor) -> Tensor:
    """Inverse of ``energy - noise``; along directions that are not determined, only a shorter step's."""
    shares, directions = _directions(energy, noise)
    inverse: Tensor = (directions / shares.clamp(min=LEAST_SIGNAL)) @ directions.T
    return inverse


def increment(step: Tensor, model: Model, shape: tuple[int, ...]) -> Tensor:
    """The homography of small parameters, (3, 3), in pixels."""
    p = torch.zeros(int(Model.HOMOGRAPHY), dtype=torch.float64)
    p[:model] = step
    half = max(shape) / 2
    p = p / half  # parameters are pixels at the end of the longer side
    to_unit = torch.tensor(
        [[1 / half, 0, -(shape[1] - 1) / 2 / half], [0, 1 / half, -(shape[0] - 1) / 2 / half], [0, 0, 1]],
        dtype=torch.float64,
    )
    small = torch.eye(3, dtype=torch.float64)
    small = small + torch.stack(
        [torch.stack([p[2], p[3], p[0]]), torch.stack([p[4], p[5], p[1]]), torch.stack([-p[6], -p[7], p.new_zeros(())])]
    )
    in_pixels: Tensor = torch.linalg.inv(to_unit) @ small @ to_unit
    return in_pixels
