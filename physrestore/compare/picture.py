"""A picture to compare: a mosaic, or colours at every pixel; both in linear light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.frame import Colour, RawFrame

_WHITE_16_BIT = 65535
# Values within half a 16-bit step of white are white.
_CLIPPED = 1.0 - 0.5 / _WHITE_16_BIT
_COLOURS = "RGB"


@dataclass(frozen=True, eq=False, kw_only=True)
class Picture:
    """One file to compare.

    Attributes:
        name: For messages and labels.
        frame: The mosaic, as recorded or restored; None for a picture that has colours at every pixel.
        rgb: (3, H, W) linear light, 0 black, 1 white; None where there is a frame.
        colour: How to develop it for a look.
        orientation: EXIF orientation 1..8.
        record: How physrestore made it; None for a file that it did not make.
    """

    name: str
    frame: RawFrame | None = None
    rgb: Tensor | None = None
    colour: Colour = field(default_factory=Colour)
    orientation: int = 1
    record: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """A frame or colours, not both."""
        if (self.frame is None) == (self.rgb is None):
            raise ValueError(f"{self.name!r} needs either a frame or rgb.")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        if self.frame is not None:
            return self.frame.shape
        height, width = self._colours.shape[-2:]
        return height, width

    def exposed(self, factor: float) -> Picture:
        """The same picture in ``factor`` times the light, ended at white.

        Raises:
            ValueError: of a mosaic, whose light is what the sensor recorded.
        """
        if self.frame is not None:
            raise ValueError(f"{self.name!r} is a mosaic; only a picture with colours at every pixel can be exposed.")
        return replace(self, rgb=(self._colours * factor).clamp(max=1.0))

    def values(self, cfa: Cfa | None) -> Tensor:
        """Linear light: (1, H, W) at the sites of ``cfa``, or with None (3, H, W), which a mosaic does not have."""
        if self.frame is not None:
            assert cfa == self.frame.cfa
            return self.frame.linear()[0]
        return self._colours if cfa is None else _sampled(self._colours, cfa)

    def clipped(self, cfa: Cfa | None) -> Tensor:
        """Where the values of `values` are at white: bool, same shape."""
        return self.values(cfa) >= _CLIPPED if self.frame is None else self.frame.clipped()[0]

    def as_frame(self) -> RawFrame:
        """The frame, or the mean of the colours as a monochrome one, for what only works on frames."""
        if self.frame is not None:
            return self.frame
        grey = self._colours.mean(0).clamp(0, 1).mul(_WHITE_16_BIT).round().numpy().astype(np.uint16)
        levels = np.zeros((1, 1))
        return RawFrame(grey, Cfa.parse("M"), levels, levels + _WHITE_16_BIT, orientation=self.orientation)

    @property
    def _colours(self) -> Tensor:
        assert self.rgb is not None
        return self.rgb


def _sampled(rgb: Tensor, cfa: Cfa) -> Tensor:
    """What a sensor with this array keeps of (3, H, W): (1, H, W); monochrome ones the mean of the colours."""
    if cfa.is_mono:
        return rgb.mean(0, keepdim=True)
    mosaic = rgb.new_empty(1, *rgb.shape[-2:])
    ph, pw = cfa.period
    for i, row in enumerate(cfa.rows):
        for j, letter in enumerate(row):
            mosaic[0, i::ph, j::pw] = rgb[_COLOURS.index(letter), i::ph, j::pw]
    return mosaic


def grey_as_rgb(values: Tensor) -> Tensor:
    """(1, H, W) or (3, H, W) to (3, H, W).

    >>> import torch
    >>> grey_as_rgb(torch.zeros(1, 2, 2)).shape
    torch.Size([3, 2, 2])
    """
    return values.expand(3, -1, -1)
