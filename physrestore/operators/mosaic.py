"""What a colour filter array does: of three colours at every site, one is measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noise_models.cfa import Cfa, pack, unpack
from noise_models.errors import CfaError
from noise_models.frame import tile_to
from physrestore.operators.base import LinearOperator

COLOURS = "RGB"


class Mosaic(LinearOperator):
    """RGB image (B, 3, H, W) to the mosaic (B, 1, H, W) of any colour filter array: Bayer, quad-Bayer, X-Trans.

    ``A^T W A`` is diagonal: prox and pseudo-inverse are exact. The pseudo-inverse is the mosaic in three sparse planes.

    Attributes:
        cfa: Of the mosaic, from its top-left.

    Raises:
        CfaError: a monochrome array, which has no colours to choose from.

    >>> rgb = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    >>> Mosaic(Cfa.parse("GRBG")).A(rgb)[0, 0].tolist()
    [[2.0, 1.0], [3.0, 2.0]]
    """

    def __init__(self, cfa: Cfa, **parts: Any) -> None:
        """``parts`` are those of `LinearOperator`."""
        if cfa.is_mono:
            raise CfaError("A monochrome sensor measures its one plane at every site: there is no mosaic to apply.")
        super().__init__(**parts)
        self.cfa = cfa

    def A(self, x: Tensor, **_: Any) -> Tensor:
        """(B, 3, H, W) to (B, 1, H, W).

        Raises:
            ValueError: not three channels.
        """
        if x.shape[-3] != len(COLOURS):
            raise ValueError(f"A mosaic is taken of three colours (B, 3, H, W), not of {tuple(x.shape)}.")
        return x.gather(-3, self._colour_index(x).expand(x.shape[0], 1, -1, -1))

    def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
        """(B, 1, H, W) to (B, 3, H, W): every value in the plane of its colour, zero elsewhere.

        Raises:
            ValueError: not one channel.
        """
        if y.shape[-3] != 1:
            raise ValueError(f"A mosaic has the shape (B, 1, H, W), not {tuple(y.shape)}.")
        index = self._colour_index(y).expand(y.shape[0], 1, -1, -1)
        return y.new_zeros(y.shape[0], len(COLOURS), *y.shape[-2:]).scatter(-3, index, y)

    def gram_diagonal(self, weights: Tensor, y: Tensor) -> Tensor:
        """The weights in the plane of the colour they belong to."""
        return self.A_adjoint(weights.expand(y.shape))

    def _colour_index(self, like: Tensor) -> Tensor:
        """Which of R, G, B every site measures: (1, 1, H, W) int64."""
        period = torch.tensor([[COLOURS.index(letter) for letter in row] for row in self.cfa.rows], device=like.device)
        return tile_to(period, *like.shape[-2:])[None, None]


class PackedMosaic(Mosaic):
    """RGB image (B, 3, H, W) to the packed Bayer planes R, G1, G2, B: (B, 4, H/2, W/2), H and W even.

    Raises:
        CfaError: not a Bayer array.

    >>> rgb = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    >>> PackedMosaic(Cfa.parse("BGGR")).A(rgb).flatten().tolist()
    [1.0, 2.0, 2.0, 3.0]
    """

    def __init__(self, cfa: Cfa, **parts: Any) -> None:
        """``parts`` are those of `LinearOperator`."""
        if not cfa.is_bayer:
            raise CfaError(f"Only Bayer mosaics have four packed planes; this one is {cfa.name!r}. Use Mosaic.")
        super().__init__(cfa, **parts)

    def A(self, x: Tensor, **_: Any) -> Tensor:
        """(B, 3, H, W) to (B, 4, H/2, W/2)."""
        return pack(super().A(x), self.cfa)

    def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
        """(B, 4, h, w) to (B, 3, 2h, 2w)."""
        return super().A_adjoint(unpack(y, self.cfa))

    def gram_diagonal(self, weights: Tensor, y: Tensor) -> Tensor:
        """The weights in the plane of the colour they belong to."""
        return self.A_adjoint(weights.expand(y.shape))
