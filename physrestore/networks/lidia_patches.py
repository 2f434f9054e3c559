"""Pictures to matrices of similar patches and back: what LIDIA does between its layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PatchMatrices:
    """All patches of a padded picture, each with its most similar ones.

    Attributes:
        padded: (B, C, H, W): the picture with what the windows of the outermost patches reach.
        offsets: (B, h, w, k) from `non_local.nearest_offsets`.
        patch: Samples of a patch along a side.
        radius: Of the window, in samples.
        step: Pixels between samples.
    """

    padded: Tensor
    offsets: Tensor
    patch: int
    radius: int
    step: int

    def blocks(self, top: int, rows: int, size: int) -> Iterator[Tensor]:
        """Matrices (k, n, C patch^2) of the patches in some rows, at most ``size`` patches at a time."""
        reach = 2 * self.radius * self.step
        stripe = self.padded[:, :, top : top + rows + reach + self.step * (self.patch - 1)]
        table = take_dilated(stripe, self.patch, self.step)
        images, height, width = table.shape[:3]
        table = table.flatten(0, 2)
        offsets = self.offsets[:, top : top + rows].long()
        window = 2 * self.radius + 1
        line = torch.arange(images, device=table.device)[:, None] * height + torch.arange(rows, device=table.device)
        line = line[:, :, None, None] + self.step * (offsets // window)
        column = torch.arange(offsets.shape[2], device=table.device)[:, None] + self.step * (offsets % window)
        index = (line * width + column).flatten(0, 2).t()
        for start in range(0, index.shape[1], size):
            part = index[:, start : start + size]
            yield table.index_select(0, part.flatten()).view(*part.shape, -1)


def take_dilated(x: Tensor, patch: int, step: int) -> Tensor:
    """All patches whose samples are ``step`` pixels apart.

    Args:
        x: (B, C, H, W).
        patch: Samples along a side.
        step: Pixels between samples.

    Returns:
        (B, h, w, C patch^2) with h = H - step (patch - 1).
    """
    span = step * (patch - 1) + 1
    windows = x.unfold(2, span, 1).unfold(3, span, 1)[..., ::step, ::step]
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(3)


def add_dilated(patches: Tensor, patch: int, step: int) -> Tensor:
    """Sum patches at their places: the adjoint of `take_dilated`.

    Args:
        patches: (B, h, w, C patch^2).
        patch: Samples along a side.
        step: Pixels between samples.

    Returns:
        (B, C, h + step (patch - 1), w + step (patch - 1)).
    """
    images, height, width, _ = patches.shape
    reach = step * (patch - 1)
    columns = patches.flatten(1, 2).transpose(1, 2)
    return F.fold(columns, (height + reach, width + reach), patch, dilation=step).view(
        images, -1, height + reach, width + reach
    )


class PatchSum:
    """Patches added to a picture stripe by stripe.

    Attributes:
        total: (B, C, h + step (patch - 1), w + step (patch - 1)), the sum so far.

    Args:
        like: Gives dtype and device.
        shape: (B, C, h, w), of which h x w patches.
        patch: Samples of a patch along a side.
        step: Pixels between samples.
    """

    def __init__(self, like: Tensor, shape: tuple[int, int, int, int], *, patch: int, step: int) -> None:
        images, channels, height, width = shape
        reach = step * (patch - 1)
        self.total = like.new_zeros(images, channels, height + reach, width + reach)
        self._patch, self._step = patch, step

    def add(self, top: int, patches: Tensor) -> None:
        """Add rows of patches, (B, rows, w, C patch^2), of which ``top`` is the first."""
        stripe = add_dilated(patches, self._patch, self._step)
        self.total[:, :, top : top + stripe.shape[2]] += stripe

    def mean(self) -> Tensor:
        """The sum over the number of patches that cover a pixel, once all have been added."""
        reach = self._step * (self._patch - 1)
        height, width = (size - reach for size in self.total.shape[-2:])
        return self.total / coverage(height, width, self._patch, self._step).to(self.total)


def coverage(height: int, width: int, patch: int, step: int) -> Tensor:
    """How many of h x w patches cover each pixel, (h + step (patch - 1), w + step (patch - 1)) float32."""
    along = []
    for size in (height, width):
        count = torch.zeros(size + step * (patch - 1))
        for k in range(patch):
            count[k * step : k * step + size] += 1
        along.append(count)
    return along[0][:, None] * along[1]


def smooth(x: Tensor) -> Tensor:
    """Binomial filter [1 2 1] / 4 along both axes, where it fits: (..., H, W) to (..., H - 2, W - 2)."""
    x = (x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]) / 4
    return (x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]) / 4
