"""Whether a residual is white: how each colour resembles its nearest neighbours of the same colour, on any array."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from physrestore.compare.lattice import Lattice, Place

Lag = tuple[int, int]  # rows, columns


@dataclass(frozen=True)
class Whiteness:
    """Correlation of a plane's residual with its nearest neighbours of the same colour; 0 for white noise.

    Attributes:
        horizontal: In a row.
        vertical: In a column.
        diagonal: Along both diagonals together.
        standard_error: Of each value, if the residual is white.
    """

    horizontal: float
    vertical: float
    diagonal: float
    standard_error: float


def plane_whiteness(residual: Tensor, inside: Tensor, lattice: Lattice, index: int) -> Whiteness | None:
    """How one plane of a residual resembles itself at the nearest neighbours; its mean is removed.

    For a Bayer plane these are two sites away, and the values are those of `quality.residual_correlation`.

    Args:
        residual: (C, H, W), divided by the std of the noise where that varies.
        inside: (C, H, W) bool; only pairs inside count.
        lattice: Of the residual.
        index: Of the plane.

    Returns:
        None where there are no pairs to correlate, or where nothing varies.
    """
    chosen = lattice.plane(residual, index)[lattice.plane(inside, index)].double()
    if chosen.numel() < 2 or not bool(chosen.var() > 0):
        return None
    centred = [
        (place, lattice.view(residual, place).double() - chosen.mean(), lattice.view(inside, place))
        for place in lattice.places[index]
    ]
    variance = float((chosen - chosen.mean()).square().mean())
    values, counts = [], []
    for direction in (((0, 1),), ((1, 0),), ((1, 1), (1, -1))):
        product, count = _nearest(centred, lattice.period, direction)
        if count == 0:
            return None
        values.append(product / count / variance)
        counts.append(count)
    return Whiteness(values[0], values[1], values[2], 1.0 / math.sqrt(min(counts)))


def _nearest(
    centred: list[tuple[Place, Tensor, Tensor]], period: tuple[int, int], directions: tuple[Lag, ...]
) -> tuple[float, int]:
    """Sum of products and number of pairs at the shortest lag along ``directions`` at which the plane has sites."""
    for distance in range(1, max(period) + 1):
        lags = [(distance * down, distance * right) for down, right in directions]
        pairs = [pair for lag in lags for pair in _pairs(centred, period, lag)]
        if pairs:
            return sum(float(product.sum()) for product in pairs), sum(product.numel() for product in pairs)
    return 0.0, 0


def _pairs(centred: list[tuple[Place, Tensor, Tensor]], period: tuple[int, int], lag: Lag) -> Iterator[Tensor]:
    """Products of the values inside at every pair of sites a lag apart."""
    of_place = {place: (values, inside) for place, values, inside in centred}
    for (channel, row, column), values, inside in centred:
        (down, other_row), (right, other_column) = (
            divmod(at + step, length) for at, step, length in zip((row, column), lag, period, strict=True)
        )
        if (channel, other_row, other_column) not in of_place:
            continue
        other, other_inside = of_place[channel, other_row, other_column]
        height, width = values.shape
        first = (slice(0, max(0, height - down)), slice(max(-right, 0), max(0, width - max(right, 0))))
        second = (slice(down, height), slice(max(right, 0), max(0, width + min(right, 0))))
        both = torch.logical_and(inside[first], other_inside[second])
        yield (values[first] * other[second])[both]
