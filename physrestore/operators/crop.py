"""A window of a larger picture."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from physrestore.operators.base import LinearOperator


class Crop(LinearOperator):
    """A window of an image; what lies outside was not observed.

    Attributes:
        size: (H, W) of the image.
        top: First row of the window.
        left: First column.
        window: (height, width) of the window.

    Raises:
        ValueError: a window that is empty or leaves the image.

    >>> Crop((4, 5), top=1, left=2, height=2, width=3).A(Tensor([[range(5)] * 4])[None])[0, 0, 0].tolist()
    [2.0, 3.0, 4.0]
    """

    def __init__(self, size: tuple[int, int], *, top: int, left: int, height: int, width: int, **parts: Any) -> None:
        """``parts`` are those of `LinearOperator`."""
        super().__init__(**parts)
        inside = 0 <= top < top + height <= size[0] and 0 <= left < left + width <= size[1]
        if not inside:
            raise ValueError(f"A window of {height}x{width} at ({top}, {left}) is not inside an image of {size}.")
        self.size, self.top, self.left, self.window = size, top, left, (height, width)

    def A(self, x: Tensor, **_: Any) -> Tensor:
        """(B, C, H, W) to (B, C, height, width).

        Raises:
            ValueError: an image of another size.
        """
        if tuple(x.shape[-2:]) != self.size:
            raise ValueError(f"This crop is of images of {self.size}, not {tuple(x.shape[-2:])}.")
        height, width = self.window
        return x[..., self.top : self.top + height, self.left : self.left + width]

    def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
        """(B, C, height, width) to (B, C, H, W), zero around the window.

        Raises:
            ValueError: a window of another size.
        """
        if tuple(y.shape[-2:]) != self.window:
            raise ValueError(f"This crop makes windows of {self.window}, not {tuple(y.shape[-2:])}.")
        (height, width), (full_height, full_width) = self.window, self.size
        margins = (self.left, full_width - self.left - width, self.top, full_height - self.top - height)
        return F.pad(y, margins)

    def gram_diagonal(self, weights: Tensor, y: Tensor) -> Tensor:
        """The weights inside the window, zero outside."""
        return self.A_adjoint(weights.expand(y.shape))
