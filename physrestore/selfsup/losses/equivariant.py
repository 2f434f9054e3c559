"""Equivariant imaging: a shifted scene is a scene too, and another part of it is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physrestore.selfsup.losses.operator_loss import OperatorLoss, Reconstruct
from physrestore.selfsup.losses.pixel_noise import PixelNoise

# Image (B, C, H, W) to a transformed image, drawn with a generator.
Transform = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Shifts:
    """Cyclic shifts by any number of sites up to ``reach``, none by zero.

    Odd shifts change the phase of a colour filter array under the image: a site that was red is green now. That is what
    makes colours learnable which were never measured together; shifts by whole periods say nothing new.

    Attributes:
        reach: Largest shift along rows and columns, at least 1.
        multiple: Shifts are multiples of it; 1 but for showing what the others do.
    """

    reach: int = 7
    multiple: int = 1

    def __post_init__(self) -> None:
        """Refuse shifts that go nowhere."""
        if not 1 <= self.multiple <= self.reach:
            raise ValueError(f"Shifts need 1 <= multiple <= reach, not multiple {self.multiple}, reach {self.reach}.")

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Shift all images of a batch alike."""
        steps = self.reach // self.multiple
        down = right = 0
        while down == right == 0:
            drawn = torch.randint(-steps, steps + 1, (2,), generator=generator, device=generator.device)
            down, right = (int(n) * self.multiple for n in drawn)
        return image.roll((down, right), dims=(-2, -1))


@dataclass(frozen=True)
class Equivariant(OperatorLoss):
    """``|f(A T x + noise, A) - T x|^2`` with ``x = f(y, A)`` and a random transform T.

    It is no estimate of the error and says nothing of ``A x``: add it to a loss that does (`Splitting`, or `Stein` and
    `Recorrupted` on ``A f``). A constant image would please it best.

    Attributes:
        transform: Of images; scenes must be as likely before as after.
        noisy: Whether the second measurement has noise, as the first has.
        through: Whether the gradient also flows through the first reconstruction.

    Source:
        Chen, Tachella & Davies, "Equivariant Imaging", ICCV 2021; "Robust Equivariant Imaging", CVPR 2022 (noise).
    """

    transform: Transform = Shifts()
    noisy: bool = True
    through: bool = True

    def __call__(
        self,
        reconstruct: Reconstruct,
        y: Tensor,
        operator: Any,
        noise: PixelNoise,
        *,
        generator: torch.Generator,
        weights: Tensor | None = None,  # noqa: ARG002 (of measurements; this loss compares images)
        image: Tensor | None = None,
    ) -> Tensor:
        """As in `OperatorLoss`; the noise map stays where it is, only the image moves."""
        image = reconstruct(y, operator) if image is None else image
        moved = self.transform(image, generator)
        moved = moved if self.through else moved.detach()
        measured = operator.A(moved)
        if self.noisy:
            measured = measured + noise.draw(measured, generator=generator)
        return (reconstruct(measured, operator) - moved).square().flatten(1).mean(1)
