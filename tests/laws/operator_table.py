"""Every operator once per kind, phase and boundary, on small odd sizes where it has them: the table of all laws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from noise_models.cfa import BAYER_PHASES, QUAD_BAYER_ROWS, XTRANS_ROWS, Cfa
from physrestore.operators.base import LinearOperator
from physrestore.operators.blur import Blur, SeparableBlur
from physrestore.operators.crop import Crop
from physrestore.operators.downsample import Downsample
from physrestore.operators.exposure import Exposure
from physrestore.operators.mosaic import Mosaic, PackedMosaic
from physrestore.operators.shading import Shading
from physrestore.operators.varying import VaryingBlur
from physrestore.operators.warp import Translation, Warp

ODD = (2, 3, 13, 17)  # two images, three colours, no size a multiple of any period


@dataclass(frozen=True)
class Case:
    """An operator to be made, and an image it takes.

    Attributes:
        name: For the test's id.
        make: Makes it anew.
        shape: (B, C, H, W) of images.
        closed: Its prox is a closed form for any weights.
    """

    name: str
    make: Callable[[], LinearOperator]
    shape: tuple[int, int, int, int] = ODD
    closed: bool = False


def random(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def uniform(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def skew_kernel(height: int = 3, width: int = 5) -> Tensor:
    """No symmetry that could hide an adjoint without its reversal."""
    kernel = uniform((height, width), 7)
    return kernel / kernel.sum()


def turn(degrees: float = 4.0) -> Tensor:
    """A small rotation with a shift and a little perspective."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[c, -s, 0.7], [s, c, -0.4], [1e-3, -5e-4, 1.0]], dtype=torch.float64)


def shading_map(height: int, width: int) -> Tensor:
    return 0.5 + 0.5 * uniform((1, 1, height, width), 3)


def varying(boundary: str, height: int = 13, width: int = 17) -> LinearOperator:
    kernels = torch.stack([skew_kernel(3, 3), skew_kernel(3, 3).flip(0)])[None, None]
    ramp = torch.linspace(0, 1, width, dtype=torch.float64).expand(height, width)
    return VaryingBlur(kernels, torch.stack([ramp, 1 - ramp])[None, None], boundary=boundary)


XTRANS = Cfa(XTRANS_ROWS)
QUAD = Cfa(QUAD_BAYER_ROWS)
RGGB = Cfa.parse("RGGB")

MOSAICS = (
    *(Case(f"mosaic-{name}", lambda name=name: Mosaic(Cfa.parse(name)), closed=True) for name in BAYER_PHASES),
    *(
        Case(f"xtrans-{i}{j}", lambda i=i, j=j: Mosaic(XTRANS.shifted(i, j)), closed=True)
        for i, j in ((0, 0), (1, 2), (3, 5), (5, 4))
    ),
    *(
        Case(f"quad-{i}{j}", lambda i=i, j=j: Mosaic(QUAD.shifted(i, j)), closed=True)
        for i, j in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 3))
    ),
    *(
        Case(f"packed-{name}", lambda name=name: PackedMosaic(Cfa.parse(name)), (2, 3, 10, 14), closed=True)
        for name in BAYER_PHASES
    ),
)

BLURS = (
    *(
        Case(f"blur-{boundary}", lambda boundary=boundary: Blur(skew_kernel(), boundary=boundary))
        for boundary in ("circular", "reflect", "unobserved")
    ),
    Case("blur-symmetric", lambda: Blur(skew_kernel(), boundary="symmetric")),
    Case("blur-symmetric-filter", lambda: Blur.gaussian(0.7, boundary="symmetric")),
    Case("blur-even-kernel", lambda: Blur(skew_kernel(4, 2), boundary="reflect")),
    Case("blur-per-image-and-colour", lambda: Blur(uniform((2, 3, 3, 3), 5) / 9, boundary="circular")),
    Case("blur-larger-than-image", lambda: Blur(skew_kernel(9, 7)), (1, 1, 5, 6)),
    *(
        Case(
            f"separable-{boundary}",
            lambda boundary=boundary: SeparableBlur(skew_kernel(1, 5)[0], skew_kernel(1, 4)[0], boundary=boundary),
        )
        for boundary in ("circular", "reflect", "unobserved")
    ),
    *(
        Case(f"varying-{boundary}", lambda boundary=boundary: varying(boundary))
        for boundary in ("circular", "reflect", "unobserved")
    ),
)

REDUCTIONS = (
    Case("down2-bicubic", lambda: Downsample(2), (2, 3, 10, 14)),
    Case("down3-area", lambda: Downsample(3, filter="area"), (2, 3, 9, 15)),
    Case("down3-skew", lambda: Downsample(3, filter=skew_kernel()), (2, 3, 9, 15)),
    Case("down2-reflect", lambda: Downsample(2, filter=skew_kernel(4, 4), boundary="reflect"), (2, 3, 10, 14)),
)

WARPS = (
    Case("warp-bilinear", lambda: Warp(turn())),
    Case("warp-bicubic", lambda: Warp(torch.stack([turn(), turn(-7.0)]), interpolation="bicubic"), (2, 1, 9, 11)),
    Case("shift-whole", lambda: Translation(torch.tensor([2.0, -3.0])), closed=True),
    Case("shift-per-image", lambda: Translation(torch.tensor([[0.25, -1.5], [1.0, 0.6]]))),
    Case("shift-bicubic", lambda: Translation(torch.tensor([0.5, 0.25]), interpolation="bicubic"), (1, 2, 9, 11)),
)

DIAGONALS = (
    Case("exposure", lambda: Exposure(0.25), closed=True),
    Case("exposure-per-colour", lambda: Exposure(torch.tensor([[1.9, 1.0, 1.4]])), closed=True),
    Case("shading", lambda: Shading(shading_map(13, 17)), closed=True),
    Case("crop", lambda: Crop((13, 17), top=2, left=3, height=7, width=9), closed=True),
)

COMPOSED = (
    Case("mosaic-of-shading", lambda: Mosaic(RGGB) * Shading(shading_map(13, 17)), closed=True),
    Case("shading-of-mosaic", lambda: Shading(shading_map(13, 17)) * Mosaic(XTRANS), closed=True),
    Case("exposure-of-blur", lambda: Exposure(0.3) * Blur(skew_kernel())),
    Case("blur-of-exposure", lambda: Blur(skew_kernel()) * Exposure(torch.tensor([[2.0, 1.0, 1.5]]))),
    Case("mosaic-of-blur", lambda: Mosaic(XTRANS) * Blur(skew_kernel())),
    Case("mosaic-of-unobserved-blur", lambda: Mosaic(RGGB) * Blur(skew_kernel(), boundary="unobserved")),
    Case("mosaic-of-shift", lambda: Mosaic(RGGB) * Translation(torch.tensor([1.0, 0.0])), closed=True),
    Case("burst-frame", lambda: Mosaic(RGGB) * (Blur(skew_kernel(), boundary="reflect") * Warp(turn()))),
    Case("blur-of-blur", lambda: Blur(skew_kernel()) * Blur(skew_kernel(5, 3))),
    Case("crop-of-blur", lambda: Crop((13, 17), top=1, left=2, height=11, width=13) * Blur(skew_kernel())),
)

OPERATORS = MOSAICS + BLURS + REDUCTIONS + WARPS + DIAGONALS + COMPOSED
