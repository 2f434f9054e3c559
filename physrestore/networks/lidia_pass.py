"""A picture through the network of LIDIA, some rows of patches at a time: memory does not grow with the features."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from physrestore.networks.borders import pad_mirrored
from physrestore.networks.lidia_net import Features, PatchNet
from physrestore.networks.lidia_patches import PatchMatrices, PatchSum, smooth, take_dilated

# Patches that go through the layers at a time: their features stay in a second-level cache of 1 MiB.
BLOCK = 128
# Patches whose surroundings are taken apart at a time.
STRIPE = 4096
# Patches from which the statistics of a picture are measured, about, and rows from which they are taken: 64 columns of
# each patch count, and rows far apart show all of the picture.
SAMPLE, SAMPLE_ROWS = 2048, 64

# Of the first and the second scale.
ScalePair = tuple[PatchMatrices, PatchMatrices]


class Stripes:
    """The first half of the network, stripe by stripe; it can be gone through again.

    Args:
        net: The network.
        scales: The picture's patches.
        whole: One stripe and one block of all patches, whose features are kept: for training, where normalisation sees
            the whole batch. Otherwise they are computed anew each time: they are 100 times the picture.
    """

    def __init__(self, net: PatchNet, scales: ScalePair, *, whole: bool) -> None:
        self.net, self.scales = net, scales
        self.images, self.height, self.width = scales[0].offsets.shape[:3]
        self.block = sys.maxsize if whole else BLOCK
        self._tall = self.height if whole else max(1, STRIPE // self.width)
        self._kept: list[Features] | None = list(self._features(0, self.height)) if whole else None

    def __iter__(self) -> Iterator[tuple[int, int, Iterable[Features]]]:
        """First row of patches, number of rows, features of their patches by blocks."""
        for top in range(0, self.height, self._tall):
            rows = min(self._tall, self.height - top)
            yield top, rows, self._features(top, rows) if self._kept is None else self._kept

    def _features(self, top: int, rows: int) -> Iterator[Features]:
        near, far = (scale.blocks(top, rows, self.block) for scale in self.scales)
        return map(self.net.features, near, far)


def first_means(stripes: Stripes) -> tuple[Tensor, Tensor]:
    """First estimates of all patches, averaged into one picture a scale."""
    sums = tuple(_empty_sum(stripes, scale, scale.padded.shape[1]) for scale in stripes.scales)
    for top, rows, parts in stripes:
        _add(sums, top, rows, map(stripes.net.first_estimates, parts))
    fine, coarse = (picture.mean() for picture in sums)
    return fine, smooth(pad_mirrored(coarse, left=1, right=1, top=1, bottom=1))


def last_mean(stripes: Stripes, means: tuple[Tensor, Tensor]) -> Tensor:
    """Denoised patches, averaged with their weights.

    Args:
        stripes: The picture.
        means: Of the first estimates.

    Returns:
        (B, C, H, W).
    """
    fine = stripes.scales[0]
    sums = tuple(_empty_sum(stripes, fine, channels) for channels in (fine.padded.shape[1], 1))
    for top, rows, parts in stripes:
        returned = (torch.split(p, stripes.block) for p in patches_of(means, stripes.scales, top, rows))
        _add(sums, top, rows, map(stripes.net.last_estimates, parts, zip(*returned, strict=True)))
    border = fine.patch - 1
    inside = (..., slice(border, -border), slice(border, -border))
    return sums[0].total[inside] / sums[1].total[inside]


def patches_of(means: tuple[Tensor, Tensor], scales: ScalePair, top: int, rows: int) -> tuple[Tensor, ...]:
    """The patches (n, d) of the averaged pictures in some rows."""
    reaches = (scale.step * (scale.patch - 1) for scale in scales)
    return tuple(
        take_dilated(mean[:, :, top : top + rows + reach], scale.patch, scale.step).flatten(0, 2)
        for mean, scale, reach in zip(means, scales, reaches, strict=True)
    )


def denoise_by_own_statistics(net: PatchNet, scales: ScalePair) -> Tensor:
    """Denoise with normalisation by the picture's own statistics, measured in evenly spaced patches.

    Args:
        net: The network, which stays as it is.
        scales: The patches of one picture.

    Returns:
        (1, C, H, W).
    """
    height, width = scales[0].offsets.shape[1:3]
    count = min(height, SAMPLE_ROWS)
    rows = [(2 * k + 1) * height // (2 * count) for k in range(count)]
    some = slice(None, None, max(1, count * width // SAMPLE))
    near, far = (torch.cat([next(s.blocks(row, 1, sys.maxsize))[:, some] for row in rows], dim=1) for s in scales)
    own = net.measuring_copy()
    sample = own.train().features(near, far)
    stripes = Stripes(own.eval(), scales, whole=False)
    means = first_means(stripes)
    returned = ([patches[some] for patches in patches_of(means, scales, row, 1)] for row in rows)
    fine, coarse = (torch.cat(parts) for parts in zip(*returned, strict=True))
    own.train().last_estimates(sample, (fine, coarse))
    own.eval()
    return last_mean(stripes, means)


def _empty_sum(stripes: Stripes, scale: PatchMatrices, channels: int) -> PatchSum:
    shape = (stripes.images, channels, stripes.height, stripes.width)
    return PatchSum(scale.padded, shape, patch=scale.patch, step=scale.step)


def _add(sums: tuple[PatchSum, ...], top: int, rows: int, blocks: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Add blocks of pairs of patches to a pair of sums."""
    for picture, patches in zip(sums, zip(*blocks, strict=True), strict=True):
        joined = torch.cat(patches)
        picture.add(top, joined.view(picture.total.shape[0], rows, -1, joined.shape[1]))
