"""LIDIA: patches and their nearest neighbours at two scales, denoised by small matrices instead of convolutions.

Every patch is put into a matrix together with its most similar patches of the surroundings, once from the picture
itself and once from a smoothed one of which every other pixel is taken. The rows are weighted by how far they are from
the patch; separable layers (`lidia_layers`) mix rows and columns; the noise of the patch comes out. On the way, first
estimates of all patches are averaged into a picture and taken apart again, so that a patch learns from those that
overlap it.

Source:
    Vaksman, Elad, Milanfar, "LIDIA: Lightweight learned image denoising with instance adaptation", NTIRE 2020.
    Parameters: 61,598 (gray), 40,235 (gray, small), 94,076 (colour).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from physrestore.errors import PriorError
from physrestore.networks.borders import pad_mirrored, require_pictures
from physrestore.networks.lidia_layers import RowWeights, SeparableBlock, SeparableLayer
from physrestore.networks.lidia_patches import PatchMatrices, add_dilated, coverage, smooth, take_dilated
from physrestore.networks.non_local import nearest_offsets

INITIAL_SEED = 0
# Pixels between the samples of a patch at the second scale.
COARSE = 2
# What lies around the mirrored picture: darker than most of it, so that windows that reach there find nothing alike.
OUTSIDE = -1.0
# Luma of ITU-R BT.601, by which colour patches are compared.
LUMA = (0.2989, 0.5870, 0.1140)
# Patches that go through the layers at a time: their features stay in a second-level cache of 1 MiB.
BLOCK = 128
# Patches whose surroundings are taken apart at a time.
STRIPE = 4096


@dataclass(frozen=True)
class LIDIAConfig:
    """Sizes of a LIDIA; the defaults are those of the paper for gray pictures.

    Attributes:
        channels: Of the picture: 1, or 3 to be compared by luma.
        patch: Side of a patch, odd.
        features: Columns inside the network.
        neighbours: Rows: the patch and its nearest ones.
        radius: Neighbours are sought up to that many samples away, along both axes.
        deep: Whether blocks have two layers; without, it is the paper's small network.
        scaled: Divide pictures by their noise, so that one network serves all levels. The published networks do not.
        level: Std of the noise that it is made for, in the picture's unit; with ``scaled`` the level to which pictures
            are brought.
    """

    channels: int = 1
    patch: int = 7
    features: int = 64
    neighbours: int = 14
    radius: int = 14
    deep: bool = True
    scaled: bool = False
    level: float = 25 / 255

    @classmethod
    def published(cls, *, channels: int = 1, small: bool = False, level: float = 25 / 255) -> LIDIAConfig:
        """The paper's gray, small gray, and colour networks."""
        patch, features = (7, 64) if channels == 1 else (5, 80)
        return cls(channels=channels, patch=patch, features=features, deep=not small, level=level)


@dataclass(frozen=True)
class _Features:
    """Some patches on their way through the network: n patches, k rows, d = C patch^2 pixels, f features.

    Attributes:
        noisy: (n, d), the patches themselves.
        fine: (k, n, f), of the first scale.
        coarse: (k, n, f), of the second.
        weight: (n, 1), of the patch itself at the second scale.
    """

    noisy: Tensor
    fine: Tensor
    coarse: Tensor
    weight: Tensor


class LIDIA(nn.Module):
    """Non-local denoiser of a few ten thousand parameters.

    Memory: 28 int16 a pixel for what is similar to what, 14 float32 a pixel and channel for sums, and about 100 MB that
    do not depend on the picture. While training, all features of a batch are kept: about 100 kB a pixel.

    Args:
        config: Sizes.
    """

    def __init__(self, config: LIDIAConfig) -> None:
        super().__init__()
        self.config = config
        k, f, d = config.neighbours, config.features, config.channels * config.patch**2
        self.fine_weights, self.coarse_weights = RowWeights(k), RowWeights(k)
        self.fine, self.coarse = (SeparableBlock((k, k), (d, f), norm=False, deep=config.deep) for _ in range(2))
        self.fine_estimate, self.coarse_estimate = (SeparableLayer((k, 1), (f, d)) for _ in range(2))
        self.fine_return, self.coarse_return = (SeparableLayer((1, k), (d, f), rectify=True) for _ in range(2))
        self.joint = SeparableBlock((4 * k, 4 * k), (f, f), norm=True, deep=config.deep)
        self.noise = SeparableLayer((4 * k, 1), (f, d))
        # How fast the weight of a patch in the average of all falls with its variance.
        self.flatness = nn.Parameter(torch.full((1,), 0.5))
        self.reset(torch.Generator().manual_seed(INITIAL_SEED))

    @property
    def reach(self) -> int:
        """Pixels by which an output can depend on its surroundings, the mean of the whole picture aside."""
        half = (self.config.patch - 1) // 2
        averaging = half + 2 * COARSE * half + 1
        return averaging + COARSE * half + COARSE * self.config.radius + COARSE * half + 1

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights, on the CPU."""
        for layer in self.modules():
            if isinstance(layer, SeparableLayer | RowWeights):
                layer.reset(generator)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise.

        Args:
            x: (B, C, H, W).
            sigma: Std of the noise, one value a picture, broadcasts to (B, 1, 1, 1); not used unless
                `LIDIAConfig.scaled`.

        Raises:
            PriorError: ``x`` has another shape, or the noise differs inside a picture where pictures are scaled by it.
        """
        require_pictures(x, channels=self.config.channels, network="LIDIA")
        # The paper's pictures reach from -1 to 1.
        gain = 2.0 * (self._scale(sigma) if self.config.scaled else torch.ones_like(x[:1, :1, :1, :1]))
        mean = x.mean((-2, -1), keepdim=True)
        centred = (x - mean) * gain
        if self.training:
            return mean + self._denoise(centred) / gain
        return mean + torch.cat([self._denoise(one) for one in centred.split(1)]) / gain

    def _scale(self, sigma: Tensor) -> Tensor:
        if sigma.dim() > 1 and sigma.shape[-2:] != (1, 1):
            raise PriorError(
                f"LIDIA takes one noise level a picture, not a map of shape {tuple(sigma.shape)}: give its root mean "
                "square, or stabilise the noise first."
            )
        return self.config.level / sigma.reshape(-1, 1, 1, 1)

    def _denoise(self, x: Tensor) -> Tensor:
        """Denoise pictures without mean, (B, C, H, W)."""
        patch, images, channels = self.config.patch, *x.shape[:2]
        fine, coarse = self._fine_matrices(x), self._coarse_matrices(x)
        height, width = fine.offsets.shape[1:3]
        stripe = height if self.training else max(1, STRIPE // width)
        stripes = [(top, min(stripe, height - top)) for top in range(0, height, stripe)]
        # While training there is one stripe, whose features are kept; otherwise they are computed twice.
        kept = list(self._features(fine, coarse, *stripes[0])) if self.training else None

        first, second = (PatchSum(x, (images, channels, height, width), patch=patch, step=k) for k in (1, COARSE))
        for top, rows in stripes:
            estimates = map(self._first_estimates, kept or self._features(fine, coarse, top, rows))
            for pictures, patches in zip((first, second), zip(*estimates, strict=True), strict=True):
                pictures.add(top, torch.cat(patches).view(images, rows, width, -1))
        first_mean = first.mean()
        second_mean = smooth(pad_mirrored(second.mean(), left=1, right=1, top=1, bottom=1))

        clean, weight = (PatchSum(x, (images, c, height, width), patch=patch, step=1) for c in (channels, 1))
        for top, rows in stripes:
            returned = zip(
                take_dilated(first_mean[:, :, top : top + rows + patch - 1], patch, 1).flatten(0, 2).split(self._block),
                take_dilated(second_mean[:, :, top : top + rows + COARSE * (patch - 1)], patch, COARSE)
                .flatten(0, 2)
                .split(self._block),
                strict=True,
            )
            parts = zip(kept or self._features(fine, coarse, top, rows), returned, strict=True)
            denoised = [self._last_estimate(part, *back) for part, back in parts]
            for pictures, patches in zip((clean, weight), zip(*denoised, strict=True), strict=True):
                pictures.add(top, torch.cat(patches).view(images, rows, width, -1))
        inside = (..., slice(patch - 1, -(patch - 1)), slice(patch - 1, -(patch - 1)))
        return clean.total[inside] / weight.total[inside]
