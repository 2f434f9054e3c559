"""What the readout does to a signal after its noise: black level, clipping, whole codes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noise_models.frame import tile_to

Gradient = Literal["clipped", "straight-through"]


class SensorReadout(torch.nn.Module):
    """Linear values to what is stored of them: ``code = clip(round(black + (white - black) x))``, back in linear units.

    The slot ``sensor_model`` of an operator takes it. Values stay linear (white is 1), but are those that a file can
    hold. Rounding has no useful derivative; its own is replaced by one.

    Attributes:
        black: Black level per CFA site [DN], shape (ph, pw). Buffer.
        white: White level per CFA site [DN], same shape. Buffer.
        low: Lowest code that is written [DN].
        high: Highest code that is written [DN]; None: each site's white level.
        quantise: Whether codes are whole numbers.
        gradient: "clipped": the derivative is one inside the range of codes, zero outside; "straight-through": one
            everywhere, which keeps a signal for training where pixels are clipped.

    Raises:
        ValueError: levels that do not rise or differ in shape, or an unknown gradient.

    >>> readout = SensorReadout(black=np.full((1, 1), 64.0), white=np.full((1, 1), 264.0))
    >>> readout(torch.tensor([[[[-1.0, 0.0021, 0.5, 1.5]]]])).tolist()
    [[[[-0.3199999928474426, 0.0, 0.5, 1.0]]]]
    """

    black: Tensor
    white: Tensor

    def __init__(
        self,
        *,
        black: NDArray[np.float64],
        white: NDArray[np.float64],
        low: float = 0.0,
        high: float | None = None,
        quantise: bool = True,
        gradient: Gradient = "clipped",
    ) -> None:
        """Check the levels once."""
        super().__init__()
        if black.ndim != 2 or black.shape != white.shape or not bool((white > black).all()):
            raise ValueError(
                f"Black and white level need one value per CFA site, white above black; given were {black.tolist()} "
                f"and {white.tolist()}."
            )
        if gradient not in ("clipped", "straight-through"):
            raise ValueError(f"The gradient is 'clipped' or 'straight-through', not {gradient!r}.")
        top = float(white.min()) if high is None else high
        if not low < top:
            raise ValueError(f"The codes must rise: the lowest is {low:g}, the highest {top:g}.")
        self.register_buffer("black", torch.from_numpy(black.copy()))
        self.register_buffer("white", torch.from_numpy(white.copy()))
        self.low, self.high, self.quantise, self.gradient = low, high, quantise, gradient

    def forward(self, x: Tensor) -> Tensor:
        """Linear mosaic (B, 1, H, W) or, with levels of shape (1, 1), any image; the same shape."""
        black, scale, high = self._maps(x)
        codes = black + scale * x
        if self.quantise:
            codes = codes + (codes.round() - codes).detach()
        stored = codes.clamp(min=self.low).minimum(high)
        if self.gradient == "straight-through":
            stored = codes + (stored - codes).detach()
        return (stored - black) / scale

    def codes(self, x: Tensor) -> Tensor:
        """The codes themselves [DN], as they would be stored."""
        black, scale, _ = self._maps(x)
        stored: Tensor = self(x) * scale + black
        return stored

    def _maps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.black.shape != (1, 1) and x.shape[-3] != 1:
            raise ValueError(f"Levels per CFA site belong to a mosaic (B, 1, H, W), not to {tuple(x.shape)}.")
        black, white = (tile_to(level, *x.shape[-2:]).to(x) for level in (self.black, self.white))
        high = white if self.high is None else torch.full_like(white, self.high)
        return black, white - black, high
