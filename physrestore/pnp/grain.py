"""What the restoration took away, put back in part: the dial of strength."""

from __future__ import annotations

import torch
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.frame import tile_to
from physrestore.demosaic import demosaic
from physrestore.working_space import COLOURS


def put_back(
    rgb: Tensor, source: Tensor, *, cfa: Cfa, balance: Tensor, share: float, known: Tensor, clipped: Tensor
) -> Tensor:
    """Add a share of the mosaic's residual, demosaicked; with the whole of it, measured sites keep their value.

    In linear light the residual of an unbiased restoration has mean zero, so no mean moves.

    Args:
        rgb: Restored, (3, H, W), linear.
        source: Measured mosaic, (H, W), linear.
        cfa: Of the mosaic.
        balance: White-balance gains of R, G, B, (3,): the demosaic compares colours.
        share: Of the residual, 0..1.
        known: (H, W) bool; a defect's residual is no grain.
        clipped: (H, W) bool; where light was lost, more than was measured is no residual.

    Returns:
        (3, H, W).
    """
    index = tile_to(torch.tensor([[COLOURS.index(letter) for letter in row] for row in cfa.rows]), *source.shape)
    residual = source - rgb.gather(0, index[None])[0]
    residual = residual.where(known, 0.0)
    residual = residual.where(~clipped, residual.clamp(min=0))
    grain = demosaic((residual * balance[index])[None, None], cfa)[0] / balance.reshape(3, 1, 1)
    return rgb + share * grain
