"""Ordinary pictures as scenes: decoded once, cut at random, and turned into what a sensor sees of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from physrestore.errors import TrainingError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")


class Pictures:
    """sRGB pictures in memory, 8 bits a sample.

    Attributes:
        images: Each (3, H, W) uint8.
        names: Of the files, in the same order.
    """

    def __init__(self, images: Sequence[Tensor], names: Sequence[str] | None = None) -> None:
        self.images = list(images)
        self.names = [str(k) for k in range(len(self.images))] if names is None else list(names)
        # Every pixel is equally likely to be in a crop, whatever the size of its picture.
        self._weights = torch.tensor([float(i.shape[-2] * i.shape[-1]) for i in self.images])

    @classmethod
    def read(cls, folders: Iterable[Path], *, smallest_side: int) -> Pictures:
        """All pictures under some folders, in the order of their names; smaller ones are left out.

        Args:
            folders: Searched with all that is inside them.
            smallest_side: Pixels.

        Raises:
            TrainingError: a damaged picture, or none that is large enough.
        """
        from PIL import Image

        found = sorted({p for folder in folders for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES})
        images, names = [], []
        for path in found:
            try:
                with Image.open(path) as image:
                    large = min(image.size) >= smallest_side
                    pixels = np.array(image.convert("RGB")) if large else None  # a copy: torch wants writable memory
            except OSError as error:  # Pillow's own errors are of this kind
                raise TrainingError(f"{path} cannot be read as a picture: {error}. Repair or remove it.") from error
            if pixels is not None:
                images.append(torch.from_numpy(pixels).movedim(-1, 0).contiguous())
                names.append(path.name)
        if not images:
            raise TrainingError(
                f"{len(found)} pictures were found, none with sides of {smallest_side} pixels or more. Name folders of "
                f"pictures ({', '.join(SUFFIXES)}), or train on smaller patches."
            )
        return cls(images, names)

    def crops(self, count: int, side: int, *, generator: torch.Generator, shrink: float = 0.5) -> Tensor:
        """Random crops, flipped and turned at random, in display values 0..1.

        Args:
            count: Number of crops.
            side: Of each.
            generator: Of the draws.
            shrink: Share of crops that are cut at twice the side and reduced twofold: reduction takes away
                compression's traces and the demosaicking of the camera that took the picture.

        Returns:
            (count, 3, side, side) float32.
        """
        chosen = torch.multinomial(self._weights, count, replacement=True, generator=generator)
        crops = []
        for index in chosen.tolist():
            image = self.images[index]
            small = min(image.shape[-2:]) < 2 * side
            double = not small and _uniform(generator) < shrink
            size = 2 * side if double else side
            top, left = (int(_uniform(generator) * (s - size + 1)) for s in image.shape[-2:])
            crop = image[:, top : top + size, left : left + size].float().div_(255.0)
            crop = F.avg_pool2d(crop, 2) if double else crop
            crop = torch.rot90(crop, int(_uniform(generator) * 4), dims=(-2, -1))
            crops.append(crop.flip(-1) if _uniform(generator) < 0.5 else crop)
        return torch.stack(crops)


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
