"""One number a picture: how wrong a restoration expects itself to be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

# Share of the values beyond which the expected error is told as the tail.
TAIL_SHARE = 0.05
# A quantile of so many values is as good as one of all of a large picture, without a sorted copy of it.
ENOUGH_VALUES = 4_000_000


@dataclass(frozen=True)
class Confidence:
    """What a map of standard deviations says about the picture as a whole.

    Attributes:
        expected_error_dn: Root mean square of the stds: the error [DN] that the picture is expected to have.
        tail_error_dn: One value in twenty is expected to be off by more than this (one std) [DN].
    """

    expected_error_dn: float
    tail_error_dn: float

    @classmethod
    def of(cls, std: Tensor, *, span_dn: float) -> Confidence | None:
        """Sum up a map; None where nothing of it is known.

        Args:
            std: (C, H, W), linear, white is 1; NaN where it is not known.
            span_dn: White minus black level [DN].

        >>> import torch
        >>> print(Confidence.of(torch.full((3, 4, 4), 0.001), span_dn=4000.0))
        expected error 4.0 DN; 5 % of pixels above 4.0 DN
        """
        step = math.ceil(std.numel() / ENOUGH_VALUES)
        squares, count, thinned = 0.0, 0, []
        for plane in std.detach().numpy():  # one by one, and in numpy, whose masks need no index: maps are large
            values = plane[np.isfinite(plane)]
            squares += float(values @ values)
            count += values.size
            thinned.append(values[::step])
        if not count:
            return None
        tail = float(np.quantile(np.concatenate(thinned), 1.0 - TAIL_SHARE))
        return cls(expected_error_dn=span_dn * math.sqrt(squares / count), tail_error_dn=span_dn * tail)

    def __str__(self) -> str:
        return (
            f"expected error {_shown(self.expected_error_dn)} DN; {TAIL_SHARE:.0%} of pixels above ".replace("%", " %")
            + f"{_shown(self.tail_error_dn)} DN"
        )


def _shown(value: float) -> str:
    """Two significant digits, at least the tenths: 0.83, 4.0, 21.4."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}"
