"""Several operators that look at one image: a burst, several exposures, several channels of one scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from physrestore.operators.base import LinearOperator


class Stacked(LinearOperator):
    """``A x = [A_1 x; ...; A_n x]``, the measurements one after the other along the channels.

    The adjoint is the sum of the adjoints, ``A^T W A`` the sum of the parts' ``A_i^T W_i A_i``. Where all of those are
    diagonal (frames of a burst moved by whole pixels, pixel shift, exposures), so is their sum, and the prox is a
    closed form; otherwise conjugate gradients, preconditioned by the row sums. All measurements have one shape. Noise
    and sensor are one for all; parts with their own are simulated one by one.

    Attributes:
        parts: The operators, in the order of the measurements.

    Raises:
        ValueError: no operator.

    >>> from physrestore.operators.exposure import Exposure
    >>> Stacked([Exposure(1.0), Exposure(0.5)]).A(torch.ones(1, 1, 1, 2)).tolist()
    [[[[1.0, 1.0]], [[0.5, 0.5]]]]
    """

    def __init__(self, parts: Sequence[LinearOperator], **common: Any) -> None:
        """``common`` are the parts of `LinearOperator`: noise, sensor, limits of conjugate gradients."""
        super().__init__(**common)
        if not parts:
            raise ValueError("A stack needs at least one operator; none was given.")
        self.parts: Any = torch.nn.ModuleList(parts)

    def A(self, x: Tensor, **params: Any) -> Tensor:
        """(B, C, H, W) to (B, n D, h, w), where every part makes (B, D, h, w).

        Raises:
            ValueError: parts whose measurements differ in shape.
        """
        measured = [part.A(x, **params) for part in self.parts]
        shapes = {tuple(y.shape) for y in measured}
        if len(shapes) > 1:
            raise ValueError(f"Stacked operators must measure one shape; these make {sorted(shapes)}.")
        return torch.cat(measured, dim=1)

    def A_adjoint(self, y: Tensor, **params: Any) -> Tensor:
        """Sum of the adjoints of every part's own measurement.

        Raises:
            ValueError: channels that are no multiple of the number of parts.
        """
        first, *others = (part.A_adjoint(own, **params) for part, own in zip(self.parts, self.split(y), strict=True))
        total: Tensor = first
        for other in others:
            total = total + other
        return total

    def gram_diagonal(self, weights: Tensor, y: Tensor) -> Tensor | None:
        """Sum of the parts' diagonals; None as soon as one has none."""
        total: Tensor | None = None
        for part, weight, own in zip(self.parts, self.split(weights.expand(y.shape)), self.split(y), strict=True):
            diagonal = part.gram_diagonal(weight, own)
            if diagonal is None:
                return None
            total = diagonal if total is None else total + diagonal
        return total

    def update_parameters(self, **params: Any) -> None:
        """Of every part."""
        for part in self.parts:
            part.update_parameters(**params)

    def split(self, y: Tensor) -> tuple[Tensor, ...]:
        """The measurement of every part, as views.

        Raises:
            ValueError: channels that are no multiple of the number of parts.
        """
        if y.shape[1] % len(self.parts):
            raise ValueError(
                f"A measurement of {len(self.parts)} stacked operators has a multiple of as many channels, not "
                f"{y.shape[1]}."
            )
        return y.chunk(len(self.parts), dim=1)
