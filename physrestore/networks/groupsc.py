"""GroupSC: sparse coding in which similar patches share their atoms; denoises, and demosaicks by a mask.

Patches of a block are coded by an unfolded iteration, as in LISTA, with one difference: the shrinkage looks at the
codes of all similar patches (`group_threshold`). Who is similar to whom is measured anew every few unfoldings, in what
has been restored so far. Where pixels were not measured, as in a mosaic, the residual is masked: they do not pull at
the codes, which fill them in.

Source:
    Lecouat, Ponce, Mairal, "Fully trainable and interpretable non-local sparse models for image restoration", ECCV
    2020. Parameters: 119,188 (colour), 68,434 (gray). Two things are ours: windows are symmetric (the authors' reach
    one patch less to the right and below), and the mean of a patch is that of its measured values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from physrestore.errors import PriorError
from physrestore.networks.borders import pad_mirrored, require_pictures
from physrestore.networks.group_threshold import group_threshold, soft_similarity, window_of
from physrestore.networks.patches import add_patches, take_patches

INITIAL_SEED = 0
# Thresholds and the logit of the weight of a new similarity at the start; the authors' values.
INITIAL_THRESHOLD, INITIAL_MIX = 0.02, 1.0


@dataclass(frozen=True)
class GroupSCConfig:
    """Sizes of a GroupSC; the defaults are those of the paper for colour pictures.

    Attributes:
        channels: Of the picture.
        patch: Side of a patch.
        atoms: Of the dictionary.
        unfoldings: Thresholdings.
        refresh: Unfoldings between two measurements of similarity; 6 denoising, 8 demosaicking.
        block: Side of the blocks in which patches are compared.
        stride: Between blocks, at most ``block - patch + 1`` so that every patch is in one. Smaller strides average
            more estimates at proportionally more cost; the authors publish results with 10 to 14.
        level: Std of the noise that it is made for, in the picture's unit.

    Raises:
        ValueError: blocks that leave gaps.
    """

    channels: int = 3
    patch: int = 7
    atoms: int = 256
    unfoldings: int = 24
    refresh: int = 6
    block: int = 56
    stride: int = 48
    level: float = 25 / 255

    def __post_init__(self) -> None:
        """Refuse blocks that leave gaps."""
        if not 1 <= self.stride <= self.block - self.patch + 1:
            raise ValueError(
                f"stride must be 1 to block - patch + 1 = {self.block - self.patch + 1}, not {self.stride}: patches "
                "between two blocks would be in neither."
            )

    @classmethod
    def published(cls, *, channels: int = 3, mosaic: bool = False, level: float = 25 / 255) -> GroupSCConfig:
        """The paper's colour, gray and demosaicking networks."""
        return cls(channels=channels, patch=7 if channels > 1 else 9, refresh=8 if mosaic else 6, level=level)


class GroupSC(nn.Module):
    """Non-local sparse coding.

    Memory: about 5 (block - patch + 1)^4 float32 whatever the picture: 125 MB in the paper's sizes. While training, 12
    times that for every picture of a batch.

    Args:
        config: Sizes.
    """

    def __init__(self, config: GroupSCConfig) -> None:
        super().__init__()
        self.config = config
        values = config.channels * config.patch**2
        self.analysis = nn.Parameter(torch.empty(config.atoms, values))
        self.synthesis = nn.Parameter(torch.empty(values, config.atoms))
        self.output = nn.Parameter(torch.empty(values, config.atoms))
        self.threshold = nn.Parameter(torch.empty(config.unfoldings, config.atoms))
        self.metric = nn.Parameter(torch.empty(values))
        self.mix = nn.Parameter(torch.empty(1))
        self.reset(torch.Generator().manual_seed(INITIAL_SEED))

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights, on the CPU: one random dictionary for all three, of spectral norm 1 as iterations want."""
        self.synthesis.normal_(generator=generator)
        self.synthesis.div_(torch.linalg.matrix_norm(self.synthesis, ord=2))
        self.analysis.copy_(self.synthesis.t())
        self.output.copy_(self.synthesis)
        self.threshold.fill_(INITIAL_THRESHOLD)
        self.metric.fill_(1.0)
        self.mix.fill_(INITIAL_MIX)

    @torch.no_grad()
    def project(self) -> None:
        """Put thresholds back to what they can be, after a step of an optimiser: not negative."""
        self.threshold.clamp_(min=0.0)

    def forward(self, x: Tensor, sigma: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002 (the contract)
        """Restore.

        Args:
            x: (B, C, H, W).
            sigma: Not used: the level is `GroupSCConfig.level`.
            mask: 1 where a value was measured, 0 where not, broadcasts to ``x``; None: everywhere. What ``x`` holds
                where nothing was measured does not matter.

        Raises:
            PriorError: ``x`` or the mask has another shape.
        """
        require_pictures(x, channels=self.config.channels, network="GroupSC")
        if mask is not None:
            try:
                mask = mask.to(x).expand_as(x)
            except RuntimeError as error:
                raise PriorError(f"A mask of shape {tuple(mask.shape)} does not fit {tuple(x.shape)}.") from error
            x = x * mask
        # With so much border every pixel is in as many patches as any other.
        border = self.config.patch - 1
        x, known = (
            pad_mirrored(part, left=border, right=border, top=border, bottom=border)
            for part in (x, torch.ones_like(x) if mask is None else mask)
        )
        total, count = torch.zeros_like(x), x.new_zeros(x.shape[-2:])
        for rows, columns in self._blocks(*x.shape[-2:]):
            patches = self._restore(x[..., rows, columns], known[..., rows, columns], mosaic=mask is not None)
            size = (rows.stop - rows.start, columns.stop - columns.start)
            total[..., rows, columns] += add_patches(patches, size, self.config.patch)
            ones = torch.ones_like(patches[:1, :, : self.config.patch**2])
            count[rows, columns] += add_patches(ones, size, self.config.patch)[0, 0]
        inside = (..., slice(border, -border or None), slice(border, -border or None))
        return total[inside] / count[inside]

    def _blocks(self, height: int, width: int) -> Iterator[tuple[slice, slice]]:
        """Blocks that cover a picture; the last of a line ends with it."""
        starts = []
        for size in (height, width):
            last = max(size - self.config.block, 0)
            starts.append(sorted({*range(0, last, self.config.stride), last}))
        for top in starts[0]:
            for left in starts[1]:
                yield (
                    slice(top, min(top + self.config.block, height)),
                    slice(left, min(left + self.config.block, width)),
                )

    def _restore(self, x: Tensor, mask: Tensor, *, mosaic: bool) -> Tensor:
        """Restored patches (B, n, values) of a block (B, C, h, w).

        Args:
            x: The block.
            mask: Of its shape.
            mosaic: Compare patches by what was measured, whatever its colour, until there are colours.
        """
        size, side = (x.shape[-2], x.shape[-1]), self.config.patch
        patches, known = take_patches(x, side), take_patches(mask, side)
        mean = patches.sum(2, keepdim=True) / known.sum(2, keepdim=True).clamp(min=1.0)
        patches = (patches - mean) * known
        rows, columns = (length - side + 1 for length in size)
        window = window_of(rows, columns, min(rows, columns) // 2).to(x.device)
        count = take_patches(add_patches(torch.ones_like(patches[:1]), size, side), side)

        similarity = soft_similarity(self._compared(patches * self.metric, mosaic=mosaic), window)
        codes = group_threshold(patches @ self.analysis.t(), similarity, self.threshold[0])
        for k in range(1, self.config.unfoldings):
            if k > 1 and (k - 1) % self.config.refresh == 0:
                estimate = add_patches(codes @ self.output.t() + mean, size, side)
                # Patches as they overlap in the picture, not as each was coded for itself.
                seen = take_patches(estimate, side) / count - mean
                share = torch.sigmoid(self.mix)
                similarity = torch.lerp(similarity, soft_similarity(seen * self.metric, window), share)
            residual = (patches - codes @ self.synthesis.t()) * known
            codes = group_threshold(codes + residual @ self.analysis.t(), similarity, self.threshold[k])
        return codes @ self.output.t() + mean

    def _compared(self, patches: Tensor, *, mosaic: bool) -> Tensor:
        """What patches are compared by at the start: a mosaic's values whatever their colour, else all."""
        return patches.view(*patches.shape[:2], self.config.channels, -1).sum(2) if mosaic else patches
