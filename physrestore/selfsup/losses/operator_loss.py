"""The contract of losses for reconstructions from any linear measurement: blurred, mosaicked, subsampled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from physrestore.selfsup.losses.pixel_noise import PixelNoise

# Measurement and the operator that made it, to an image; as deepinv calls a reconstruction.
Reconstruct = Callable[[Tensor, Any], Tensor]


class OperatorLoss(ABC):
    """A loss on measurements ``y = A x + noise`` alone, for a reconstruction ``x = f(y, A)``."""

    @abstractmethod
    def __call__(
        self,
        reconstruct: Reconstruct,
        y: Tensor,
        operator: Any,
        noise: PixelNoise,
        *,
        generator: torch.Generator,
        weights: Tensor | None = None,
        image: Tensor | None = None,
    ) -> Tensor:
        """The loss of every image, (B,).

        Args:
            reconstruct: The network, called with measurement and operator.
            y: Measurements (B, C, H, W).
            operator: A `physrestore.operators` operator or deepinv physics; only its ``A`` is used here.
            noise: Of ``y``.
            generator: Of everything that is drawn.
            weights: Of the measurements, as in `SelfLoss`.
            image: ``reconstruct(y, operator)`` where it was computed already.
        """
