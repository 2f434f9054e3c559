"""Geometry: a picture seen from elsewhere, by homography or translation, with sub-pixel accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from physrestore.operators.base import LinearOperator
from physrestore.operators.kernels import keys_cubic

Interpolation = Literal["bilinear", "bicubic"]
# Taps of an interpolation along a line, relative to the pixel at or before the place.
TAPS: dict[str, tuple[int, ...]] = {"bilinear": (0, 1), "bicubic": (-1, 0, 1, 2)}


class Warp(LinearOperator):
    """``y(p) = x(H p)``: every pixel looks up its place in the scene; pixels of y and x are on grids of equal size.

    Places are computed in double precision, so whole-pixel shifts are exact (and then the prox is a closed form). A
    pixel that would need values from outside the scene is not observed: its row of A is zero, and `observed` says so;
    give it the weight zero. The adjoint adds every value to the pixels it was looked up from, with the same weights.

    Attributes:
        matrix: (3, 3) or (1|B, 3, 3), H in pixels, acting on (column, row, 1). Buffer, double precision.
        interpolation: "bilinear", or "bicubic" (Keys), which keeps fine detail.

    Raises:
        ValueError: a matrix of another shape, not finite or singular, or an unknown interpolation.

    >>> half = torch.tensor([[1.0, 0, 0.5], [0, 1, 0], [0, 0, 1]])
    >>> Warp(half).A(torch.tensor([[[[1.0, 3.0, 7.0]]]])).tolist()
    [[[[2.0, 5.0, 0.0]]]]
    """

    matrix: Tensor
    parameter_names: ClassVar[tuple[str, ...]] = ("matrix",)

    def __init__(self, matrix: Tensor, *, interpolation: Interpolation = "bilinear", **parts: Any) -> None:
        """``parts`` are those of `LinearOperator`."""
        super().__init__(**parts)
        if interpolation not in TAPS:
            raise ValueError(f"Interpolation is one of {', '.join(TAPS)}, not {interpolation!r}.")
        self.interpolation = interpolation
        self._register(matrix)
        self._check_parameters()

    def A(self, x: Tensor, **params: Any) -> Tensor:
        """(B, C, H, W) to the same shape."""
        self.update_parameters(**params)
        flat = x.flatten(-2)
        out = torch.zeros_like(flat)
        for index, weight in self._taps(x):
            out = out + weight * flat.gather(-1, index.expand(flat.shape))
        return out.reshape(x.shape)

    def A_adjoint(self, y: Tensor, **params: Any) -> Tensor:
        """Transpose of `A`."""
        self.update_parameters(**params)
        flat = y.flatten(-2)
        out = torch.zeros_like(flat)
        for index, weight in self._taps(y):
            out = out.scatter_add(-1, index.expand(flat.shape), weight * flat)
        return out.reshape(y.shape)

    def observed(self, like: Tensor) -> Tensor:
        """Pixels whose value is known, (1|B, 1, H, W) bool, for images of the shape of ``like``."""
        (_, row_inside), (_, column_inside) = self._lines(like)
        return (row_inside & column_inside).reshape(-1, 1, *like.shape[-2:])

    def gram_diagonal(self, weights: Tensor, y: Tensor) -> Tensor | None:
        """The weights moved back, for whole-pixel shifts; None for others."""
        return self.A_adjoint(weights.expand(y.shape)) if self._is_whole_pixel() else None

    def homography(self) -> Tensor:
        """(1|B, 3, 3)."""
        return self.matrix if self.matrix.dim() == 3 else self.matrix[None]

    def _register(self, matrix: Tensor) -> None:
        self.register_buffer("matrix", matrix.double())

    def _check_parameters(self) -> None:
        matrix = self.matrix
        if matrix.dim() not in (2, 3) or matrix.shape[-2:] != (3, 3) or not bool(matrix.isfinite().all()):
            raise ValueError(f"A homography is finite, (3, 3) or (1|B, 3, 3); given was {tuple(matrix.shape)}.")
        if not bool((torch.linalg.det(matrix.detach()) != 0).all()):
            raise ValueError("A homography must be invertible; the determinant of this one is zero.")

    def _is_whole_pixel(self) -> bool:
        matrix = self.homography().detach()
        shift = matrix[:, :2, 2]
        moved = matrix.clone()
        moved[:, :2, 2] = 0.0
        return bool((moved == torch.eye(3).to(matrix)).all() & (shift == shift.round()).all())

    def _places(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column in x of every pixel of y, (1|B, H W) float64; far outside where H has no finite place."""
        height, width = like.shape[-2:]
        if self.homography().shape[0] not in (1, like.shape[0]):
            raise ValueError(f"{self.homography().shape[0]} homographies do not fit {like.shape[0]} images.")
        matrix = self.homography().to(device=like.device, dtype=torch.float64)
        row = torch.arange(height, dtype=torch.float64, device=like.device).repeat_interleave(width)
        column = torch.arange(width, dtype=torch.float64, device=like.device).repeat(height)
        u, v, depth = (
            matrix[:, k, 0, None] * column + matrix[:, k, 1, None] * row + matrix[:, k, 2, None] for k in range(3)
        )
        ahead = depth > 0
        depth = torch.where(ahead, depth, 1.0)
        # One picture beyond its edge is as unobserved as infinity, and fits an index.
        return (
            torch.where(ahead, v / depth, -2.0 * height).clamp(-2.0 * height, 2.0 * height),
            torch.where(ahead, u / depth, -2.0 * width).clamp(-2.0 * width, 2.0 * width),
        )

    def _lines(self, like: Tensor) -> tuple[tuple[list[tuple[Tensor, Tensor]], Tensor], ...]:
        """For rows, then columns: (index, weight) of every tap, and where no tap with weight lies outside."""
        lines = []
        for place, size in zip(self._places(like), like.shape[-2:], strict=True):
            first = place.detach().floor()
            inside = torch.ones_like(place, dtype=torch.bool)
            taps = []
            for offset in TAPS[self.interpolation]:
                index = (first + offset).long()
                weight = self._weight((place - first - offset).abs())
                inside &= (weight == 0) | ((index >= 0) & (index < size))
                taps.append((index.clamp(0, size - 1), weight))
            lines.append((taps, inside))
        return tuple(lines)

    def _weight(self, distance: Tensor) -> Tensor:
        return keys_cubic(distance) if self.interpolation == "bicubic" else 1.0 - distance

    def _taps(self, like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Index into the flat image and weight of every tap, (1|B, 1, H W) each."""
        (rows, row_inside), (columns, column_inside) = self._lines(like)
        inside = row_inside & column_inside
        for row, row_weight in rows:
            for column, column_weight in columns:
                weight = torch.where(inside, row_weight * column_weight, 0.0).to(like.dtype)
                yield (row * like.shape[-1] + column)[:, None], weight[:, None]


class Translation(Warp):
    """A picture whose content is moved: ``y(r, c) = x(r - dy, c - dx)``.

    Attributes:
        shift: (2,) or (1|B, 2): (dy, dx) [pixels], down and to the right. Buffer, double precision.
        interpolation: As in `Warp`.

    Raises:
        ValueError: another shape, or shifts that are not finite.

    >>> Translation(torch.tensor([0.0, 1.0])).A(torch.tensor([[[[1.0, 3.0, 7.0]]]])).tolist()
    [[[[0.0, 1.0, 3.0]]]]
    """

    shift: Tensor
    parameter_names: ClassVar[tuple[str, ...]] = ("shift",)

    def homography(self) -> Tensor:
        """(1|B, 3, 3)."""
        shift = self.shift if self.shift.dim() == 2 else self.shift[None]
        matrix = torch.eye(3, dtype=shift.dtype, device=shift.device).repeat(shift.shape[0], 1, 1)
        matrix[:, 0, 2], matrix[:, 1, 2] = -shift[:, 1], -shift[:, 0]
        return matrix

    def _register(self, matrix: Tensor) -> None:
        self.register_buffer("shift", matrix.double())

    def _check_parameters(self) -> None:
        shift = self.shift
        if shift.dim() not in (1, 2) or shift.shape[-1] != 2 or not bool(shift.isfinite().all()):
            raise ValueError(f"A shift is finite, (2,) or (1|B, 2); given was {tuple(shift.shape)}.")
