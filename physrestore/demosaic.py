"""Three colours at every site from a mosaic, by fixed linear filters.

Good enough to look at a picture and to fill a linear DNG or TIFF; joint demosaicking with a prior is the solvers' work.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.cfa import Cfa, plane_mask

# Malvar, He, Cutler, "High-quality linear interpolation for demosaicing of Bayer-patterned color images", ICASSP 2004,
# figure 2; every filter is divided by 8 and sums to one.
_GREEN_AT_COLOUR = (
    (0, 0, -1, 0, 0),
    (0, 0, 2, 0, 0),
    (-1, 2, 4, 2, -1),
    (0, 0, 2, 0, 0),
    (0, 0, -1, 0, 0),
)
_COLOUR_IN_GREEN_ROW = (  # red (blue) at a green site whose row holds red (blue)
    (0, 0, 0.5, 0, 0),
    (0, -1, 0, -1, 0),
    (-1, 4, 5, 4, -1),
    (0, -1, 0, -1, 0),
    (0, 0, 0.5, 0, 0),
)
_COLOUR_AT_OPPOSITE = (  # red at blue, blue at red
    (0, 0, -1.5, 0, 0),
    (0, 2, 0, 2, 0),
    (-1.5, 0, 6, 0, -1.5),
    (0, 2, 0, 2, 0),
    (0, 0, -1.5, 0, 0),
)

# Radius of the tent for arrays without a published fixed filter: X-Trans and quad-Bayer have every colour within 2
# sites of any site.
_TENT_RADIUS = 2


def demosaic(mosaic: Tensor, cfa: Cfa) -> Tensor:
    """Camera RGB from a mosaic by fixed linear interpolation.

    Bayer: Malvar-He-Cutler's gradient-corrected filters. X-Trans and quad-Bayer: tent-weighted mean of the sites of
    each colour.
    Monochrome: the one plane three times. A measured site keeps its own value in every case.

    Args:
        mosaic: (B, 1, H, W), linear, any scale with black at zero.
        cfa: Of the mosaic.

    Returns:
        (B, 3, H, W) in the order R, G, B, same dtype and device.

    Source:
        Malvar, He, Cutler, ICASSP 2004.

    >>> demosaic(torch.full((1, 1, 8, 8), 0.25), Cfa.parse("GRBG")).unique().tolist()
    [0.25]
    """
    if cfa.is_mono:
        return mosaic.expand(-1, 3, -1, -1).clone()
    return _malvar(mosaic, cfa) if cfa.is_bayer else _tent(mosaic, cfa)


def _malvar(mosaic: Tensor, cfa: Cfa) -> Tensor:
    kernels = torch.tensor(
        [
            _GREEN_AT_COLOUR,
            _COLOUR_IN_GREEN_ROW,
            tuple(zip(*_COLOUR_IN_GREEN_ROW, strict=True)),
            _COLOUR_AT_OPPOSITE,
        ],
        dtype=mosaic.dtype,
        device=mosaic.device,
    )
    padded = F.pad(mosaic, (2, 2, 2, 2), mode="reflect")  # even reflection keeps the phase of the array
    filtered = F.conv2d(padded, kernels[:, None] / 8)
    green, along_row, along_column, opposite = (filtered[:, k : k + 1] for k in range(4))
    site = {name: plane_mask(cfa, name, mosaic) for name in cfa.plane_names}
    is_green = site["G1"] | site["G2"]
    red = mosaic.where(site["R"], along_row.where(site["G1"], along_column.where(site["G2"], opposite)))
    blue = mosaic.where(site["B"], along_row.where(site["G2"], along_column.where(site["G1"], opposite)))
    return torch.cat([red, mosaic.where(is_green, green), blue], dim=1)


def _tent(mosaic: Tensor, cfa: Cfa) -> Tensor:
    side = 1 + _TENT_RADIUS - torch.arange(-_TENT_RADIUS, _TENT_RADIUS + 1).abs()
    kernel = torch.outer(side, side).to(mosaic)[None, None]
    pad = (_TENT_RADIUS,) * 4
    planes = []
    for colour in ("R", "G", "B"):
        # The greens of quad-Bayer are two planes of one colour.
        names = [name for name in cfa.plane_names if name.startswith(colour)]
        mask = torch.stack([plane_mask(cfa, name, mosaic) for name in names]).any(dim=0)
        weight = F.conv2d(F.pad(mask.to(mosaic.dtype), pad), kernel)
        filled = F.conv2d(F.pad(mosaic * mask, pad), kernel) / weight
        planes.append(mosaic.where(mask, filled))
    return torch.cat(planes, dim=1)
