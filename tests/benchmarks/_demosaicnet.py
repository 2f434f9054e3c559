"""A peer: the published joint demosaicking networks, rebuilt from their paper and the shapes of their weights.

Source:
    M. Gharbi, G. Chaurasia, S. Paris, F. Durand, Deep joint demosaicking and denoising, ACM Trans. Graph. 35(6), 2016,
    section 3; weights of github.com/mgharbi/demosaicnet (MIT), which were trained without noise. They expect
    white-balanced, display-coded values of 0..1.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.cfa import Cfa

# The arrays that the published weights were trained for, from the top-left of a picture.
BAYER = Cfa.parse("GRBG")
XTRANS = Cfa(("GBGGRG", "RGRBGB", "GBGGRG", "GRGGBG", "BGBRGR", "GRGGBG"))
# What the networks, which do not pad, take off every edge [sites].
BAYER_MARGIN, XTRANS_MARGIN = 31, 12
BAYER_DEPTH, XTRANS_DEPTH = 15, 11
WIDTH = 64


class DemosaicNet:
    """The published network of an array, as a function of sparse colour planes.

    Attributes:
        weights: Name -> tensor, of ``bayer.pth`` or ``xtrans.pth``.
        is_bayer: Which of the two.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights
        self.is_bayer = "upsampler.weight" in weights

    @classmethod
    def load(cls, folder: Path, cfa: Cfa) -> DemosaicNet:
        """From the folder of the published weights."""
        name = "bayer.pth" if cfa.is_bayer else "xtrans.pth"
        return cls(torch.load(folder / name, map_location="cpu", weights_only=True))

    @property
    def margin(self) -> int:
        """Sites without a result along every edge."""
        return BAYER_MARGIN if self.is_bayer else XTRANS_MARGIN

    @torch.no_grad()
    def __call__(self, planes: Tensor) -> Tensor:
        """Sparse planes (B, 3, H, W), zero where not measured, to (B, 3, H - 2 margin, W - 2 margin)."""
        detail = self._half_resolution(planes) if self.is_bayer else self._body(planes, XTRANS_DEPTH)
        cut = (planes.shape[-1] - detail.shape[-1]) // 2
        joined = torch.cat([planes[..., cut:-cut, cut:-cut], detail], dim=1)
        features = self._layer(joined, "fullres_processor.post_conv").relu()
        return self._layer(features, "fullres_processor.output")

    def _half_resolution(self, planes: Tensor) -> Tensor:
        """Bayer: the body sees packed sites; half of its last features gate the other half."""
        packed = self._layer(planes, "main_processor.pack_mosaic", stride=2)
        values, gates = self._body(packed, BAYER_DEPTH).split(WIDTH, dim=1)
        residual = self._layer(values * gates, "residual_predictor")
        weight, bias = self.weights["upsampler.weight"], self.weights["upsampler.bias"]
        return F.conv_transpose2d(residual, weight, bias, stride=2, groups=3)

    def _body(self, x: Tensor, depth: int) -> Tensor:
        for k in range(1, depth + 1):
            x = self._layer(x, f"main_processor.conv{k}").relu()
        return x

    def _layer(self, x: Tensor, name: str, *, stride: int = 1) -> Tensor:
        return F.conv2d(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], stride=stride)
