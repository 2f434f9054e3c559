"""LIDIA: patches and their nearest neighbours at two scales, denoised by small matrices instead of convolutions.

Every patch is put into a matrix together with its most similar patches of the surroundings, once from the picture
itself and once from a smoothed one of which every other pixel is taken. The rows are weighted by how far they are from
the patch; separable layers (`lidia_layers`) mix rows and columns; the noise of the patch comes out. On the way, first
estimates of all patches are averaged into a picture and taken apart again, so that a patch learns from those that
overlap it.

Source:
    Vaksman, Elad, Milanfar, "LIDIA: Lightweight learned image denoising with instance adaptation", NTIRE 2020. What the
    paper leaves open (borders, the unit of distances, normalisation) is as in the authors' published networks.
    Parameters: 61,589 (gray), 40,226 (gray, small), 94,067 (colour). The authors count 9 more, a constant filter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from physrestore.errors import PriorError
from physrestore.networks.borders import pad_mirrored, require_pictures
from physrestore.networks.lidia_net import PatchNet
from physrestore.networks.lidia_pass import Stripes, denoise_by_own_statistics, first_means, last_mean
from physrestore.networks.lidia_patches import PatchMatrices, smooth
from physrestore.networks.non_local import nearest_offsets

INITIAL_SEED = 0
# Pixels between the samples of a patch at the second scale.
COARSE = 2
# What lies around the mirrored picture: darker than most of it, so that windows that reach there find nothing alike.
OUTSIDE = -1.0


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
        picture_statistics: Normalise by the statistics of the picture at hand, as while training, instead of those
            remembered from training. The published networks were tested so.
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
    picture_statistics: bool = False
    scaled: bool = False
    level: float = 25 / 255

    @classmethod
    def published(cls, *, channels: int = 1, small: bool = False, level: float = 25 / 255) -> LIDIAConfig:
        """The paper's gray, small gray, and colour networks."""
        patch, features = (7, 64) if channels == 1 else (5, 80)
        return cls(
            channels=channels, patch=patch, features=features, deep=not small, picture_statistics=True, level=level
        )


class LIDIA(nn.Module):
    """Non-local denoiser of a few ten thousand parameters.

    Memory: 56 bytes a pixel for what is similar to what, 16 bytes a pixel and channel for sums, and about 300 MB that
    do not depend on the picture. While training, all features of a batch are kept: about 100 kB a pixel.

    Args:
        config: Sizes.
    """

    def __init__(self, config: LIDIAConfig) -> None:
        super().__init__()
        self.config = config
        self.net = PatchNet(
            channels=config.channels,
            patch=config.patch,
            rows=config.neighbours,
            features=config.features,
            deep=config.deep,
        )
        self.reset(torch.Generator().manual_seed(INITIAL_SEED))

    @property
    def reach(self) -> int:
        """Pixels by which an output can depend on its surroundings, statistics of the whole picture aside."""
        half = (self.config.patch - 1) // 2
        # Patches that cover the pixel; the averaged pictures under such a patch; the patches which those come from.
        averaging = half + (COARSE * half + 1) + COARSE * half
        return averaging + COARSE * self.config.radius + COARSE * half + 1

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights, on the CPU."""
        self.net.reset(generator)

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
        gain = 2.0 * (self._scale(sigma) if self.config.scaled else x.new_ones(1, 1, 1, 1))
        mean = x.mean((-2, -1), keepdim=True)
        centred = (x - mean) * gain
        if self.training:
            return mean + self._denoise(centred) / gain
        return mean + torch.cat([self._denoise(one) for one in torch.split(centred, 1)]) / gain

    def _scale(self, sigma: Tensor) -> Tensor:
        if sigma.dim() > 1 and sigma.shape[-2:] != (1, 1):
            raise PriorError(
                f"LIDIA takes one noise level a picture, not a map of shape {tuple(sigma.shape)}: stabilise the noise, "
                "or give its root mean square."
            )
        return self.config.level / sigma.reshape(-1, 1, 1, 1)

    def _denoise(self, x: Tensor) -> Tensor:
        """Denoise pictures without mean, (B, C, H, W)."""
        border = self.config.patch - 1
        fine = pad_mirrored(x, left=border, right=border, top=border, bottom=border)
        # Patches of the second scale have their middle where those of the first have it; smoothing takes one pixel.
        border = border // 2 + COARSE * border // 2 + 1
        coarse = smooth(pad_mirrored(x, left=border, right=border, top=border, bottom=border))
        scales = self._matrices(fine, 1), self._matrices(coarse, COARSE)
        if self.config.picture_statistics and not self.training:
            return denoise_by_own_statistics(self.net, scales)
        stripes = Stripes(self.net, scales, whole=self.training)
        return last_mean(stripes, first_means(stripes))

    def _matrices(self, x: Tensor, step: int) -> PatchMatrices:
        """All patches of a picture and their nearest ones; windows may reach out of it."""
        radius = self.config.radius
        padded = F.pad(x, [radius * step] * 4, value=OUTSIDE)
        offsets = nearest_offsets(
            self.net.gray(padded), patch=self.config.patch, radius=radius, count=self.config.neighbours, step=step
        )
        return PatchMatrices(padded, offsets, patch=self.config.patch, radius=radius, step=step)
