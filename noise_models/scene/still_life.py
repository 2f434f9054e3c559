"""The scene of the demo: a test chart, a plant and glossy balls on a table, in linear light, made by code alone.

It holds what a restoration can get wrong: edges, fine and low-contrast texture, text, smooth gradients, saturated
colours, highlights beyond the white level, and a dark corner with detail. The canvas is 3 wide and 2 high; other
aspects see more wall or table. Texture frequencies are bound to the pixel (at most 0.3 cycles a pixel), everything else
to the canvas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from noise_models.scene.objects import (
    Layer,
    backdrop,
    ball,
    gradient,
    grating,
    leaf,
    polygon,
    rectangle,
    shadow,
    star,
    text,
    zone_plate,
)

CANVAS_WIDTH, CANVAS_HEIGHT = 3.0, 2.0
SUPERSAMPLING = 3
# Samples of a band of rows: bounds the memory at about 100 MB beside the scene itself.
SAMPLES_PER_BAND = 1 << 20
# Lens blur at pixel scale, [e, 1 - 2 e, e] along both axes: a standard deviation of half a pixel.
LENS_EDGE = 0.125

INK, PAPER = (0.02, 0.02, 0.022), (0.72, 0.71, 0.68)
# Colours of the chart in linear light: saturated, then natural ones.
PATCHES = (
    ((0.70, 0.02, 0.02), (0.75, 0.20, 0.01), (0.80, 0.60, 0.01), (0.25, 0.55, 0.02), (0.01, 0.40, 0.06)),
    ((0.01, 0.40, 0.45), (0.01, 0.12, 0.60), (0.10, 0.02, 0.45), (0.45, 0.02, 0.40), (0.75, 0.06, 0.22)),
    ((0.17, 0.08, 0.05), (0.54, 0.30, 0.22), (0.11, 0.19, 0.33), (0.10, 0.15, 0.05), (0.36, 0.34, 0.62)),
)
GREYS = (0.90, 0.59, 0.36, 0.20, 0.09, 0.03)
FINE_PRINT = "THE REST IS ROUNDING."  # dots of a pixel in a scene 900 pixels wide
LEAVES = 560
# Periods of the line pairs [pixels].
LINE_PERIODS = (12.0, 8.0, 6.0, 5.0, 4.0)


def procedural_scene(height: int, width: int, *, seed: int = 0) -> Tensor:
    """The demo scene in linear light.

    Args:
        height: Rows, at least 1.
        width: Columns, at least 1.
        seed: Of leaves and wood grain; the arrangement stays.

    Returns:
        (3, H, W) float32, linear light in red, green and blue: 0 to about 1, highlights up to about 3.

    Raises:
        ValueError: no pixels.

    >>> scene = procedural_scene(20, 30)
    >>> scene.shape, bool(scene.min() >= 0)
    (torch.Size([3, 20, 30]), True)
    """
    if min(height, width) < 1:
        raise ValueError(f"A scene of {height} x {width} pixels has none; give at least 1 x 1.")
    unit = min(width / CANVAS_WIDTH, height / CANVAS_HEIGHT)  # pixels
    left, top = (CANVAS_WIDTH - width / unit) / 2, (CANVAS_HEIGHT - height / unit) / 2
    layers = list(_still_life(1.0 / unit, seed))
    scene = torch.empty(3, height, width)
    x = left + (torch.arange(width * SUPERSAMPLING, dtype=torch.float64) + 0.5) / (unit * SUPERSAMPLING)
    band_rows = max(1, SAMPLES_PER_BAND // (width * SUPERSAMPLING**2))
    for first in range(0, height, band_rows):
        last = min(first + band_rows, height)
        rows = torch.arange(first * SUPERSAMPLING, last * SUPERSAMPLING, dtype=torch.float64)
        y = top + (rows + 0.5) / (unit * SUPERSAMPLING)
        band = _render(layers, x.float(), y.float(), 1.0 / (unit * SUPERSAMPLING))
        scene[:, first:last] = F.avg_pool2d(band, SUPERSAMPLING)
    for plane in scene:
        _blur_rows(plane)
        _blur_rows(plane.T)
    return scene


def _render(layers: list[Layer], x: Tensor, y: Tensor, pixel: float) -> Tensor:
    """Paint the layers, from back to front, on a band with the given column and row positions."""
    band = torch.zeros(3, y.numel(), x.numel())
    columns_at, rows_at = x.numpy().searchsorted, y.numpy().searchsorted
    for layer in layers:
        columns = slice(int(columns_at(layer.left)), int(columns_at(layer.right)))
        rows = slice(int(rows_at(layer.top)), int(rows_at(layer.bottom)))
        if columns.start < columns.stop and rows.start < rows.stop:
            colour, cover = layer.paint(x[None, columns], y[rows, None], pixel)
            band[:, rows, columns].lerp_(colour.expand_as(band[:, rows, columns]), cover)
    return band


def _blur_rows(plane: Tensor) -> None:
    """Blur of the lens down the columns of a plane, in place, borders repeated."""
    above = torch.cat([plane[:1], plane[:-1]])
    below = torch.cat([plane[1:], plane[-1:]])
    plane.mul_(1.0 - 2.0 * LENS_EDGE).add_(above.add_(below), alpha=LENS_EDGE)


def _still_life(pixel: float, seed: int) -> Iterator[Layer]:
    """All layers from back to front; ``pixel`` is its size on the canvas."""
    rng = np.random.default_rng(seed)
    yield backdrop(table_top=1.34, rng=rng)
    yield from _chart(pixel)
    yield from _plant(rng)
    yield from _dark_corner(pixel)
    for x, y, radius, colour in (
        (0.42, 1.60, 0.21, (0.55, 0.012, 0.015)),
        (0.94, 1.66, 0.16, (0.75, 0.42, 0.01)),
        (1.36, 1.55, 0.13, (0.02, 0.30, 0.26)),
        (1.22, 1.81, 0.09, (0.62, 0.62, 0.64)),
        (0.70, 1.87, 0.07, (0.05, 0.04, 0.35)),
    ):
        yield shadow(x + 0.55 * radius, y + 0.86 * radius, 1.35 * radius, 0.34 * radius)
        yield ball(x, y, radius, colour)


def _chart(pixel: float) -> Iterator[Layer]:
    """A sheet of paper on the wall: title, zone plate, star, line pairs, colours, greys, text."""
    yield rectangle(0.16, 0.17, 1.66, 1.27, (0.02, 0.02, 0.02), soft=0.10, opacity=0.7)
    yield rectangle(0.12, 0.12, 1.62, 1.22, PAPER)
    yield text(0.19, 0.19, 0.85, "PHYSRESTORE", INK)
    yield text(1.10, 0.19, 0.466, "LINEAR LIGHT", INK)
    yield text(1.10, 0.25, 0.466, "K S R B 0123456789", INK)
    yield zone_plate(0.39, 0.58, 0.20, pixel)
    yield star(0.84, 0.58, 0.20, spokes=36)
    for k, period in enumerate(LINE_PERIODS):
        yield grating(1.10 + 0.096 * k, 0.38, 0.086, 0.19, period * pixel, vertical=True)
        yield grating(1.10 + 0.096 * k, 0.59, 0.086, 0.19, period * pixel, vertical=False)
    for row, colours in enumerate(PATCHES):
        for column, colour in enumerate(colours):
            x, y = 0.19 + 0.104 * column, 0.84 + 0.104 * row
            yield rectangle(x, y, x + 0.094, y + 0.094, colour)
    for column, grey in enumerate(GREYS):
        yield rectangle(0.74 + 0.0633 * column, 0.84, 0.74 + 0.0633 * (column + 1), 0.934, (grey, grey, grey))
    yield gradient(0.74, 0.955, 1.12, 1.035, hues=False)
    yield gradient(0.74, 1.055, 1.12, 1.142, hues=True)
    for y, line in (
        (0.84, "PHOTONS COME"),
        (0.93, "ONE BY ONE, ROWS"),
        (1.01, "SHARE AN OFFSET, AND"),
        (1.08, FINE_PRINT),
    ):
        yield text(1.16, y, 0.406, line, INK)


def _plant(rng: np.random.Generator) -> Iterator[Layer]:
    """Leaves of all sizes, the large ones behind, over a pot."""
    yield shadow(2.42, 1.44, 0.36, 0.07)
    yield polygon(((2.02, 1.02), (2.58, 1.02), (2.50, 1.46), (2.10, 1.46)), (0.015, 0.055, 0.33), gloss=1.6)
    yield polygon(((1.99, 0.97), (2.61, 0.97), (2.61, 1.06), (1.99, 1.06)), (0.02, 0.07, 0.40), gloss=1.3)
    for foot, top, width in ((2.30, 2.30, 0.030), (2.27, 2.10, 0.018), (2.33, 2.52, 0.018)):
        yield polygon(
            ((top, 0.55), (top + width, 0.55), (foot + width, 0.99), (foot, 0.99)), (0.09, 0.05, 0.02), gloss=0.0
        )
    for k in range(LEAVES):
        depth = k / LEAVES
        angle, reach = rng.uniform(-math.pi, math.pi), math.sqrt(rng.uniform()) * (1.0 - 0.25 * depth)
        x, y = 2.30 + 0.52 * reach * math.cos(angle), 0.60 + 0.44 * reach * math.sin(angle)
        length = 0.19 * (1.0 - 0.75 * depth) * rng.uniform(0.6, 1.2)
        light = (0.35 + 0.65 * depth) * rng.uniform(0.6, 1.2) * (1.1 - 0.3 * (x - 1.8) - 0.35 * (y - 0.2))
        autumn = rng.uniform() < 0.14
        base = (0.50, 0.13, 0.02) if autumn else (0.09 + 0.13 * rng.uniform(), 0.30, 0.02 + 0.05 * rng.uniform())
        colour = (base[0] * light, base[1] * light, base[2] * light)
        yield leaf(x, y, length, angle + rng.normal(0.0, 0.6), colour)


def _dark_corner(pixel: float) -> Iterator[Layer]:
    """An open box whose inside is two to six stops above the noise of a camera at night."""
    yield shadow(2.40, 1.93, 0.62, 0.07)
    yield rectangle(1.82, 1.47, 2.90, 1.94, (0.10, 0.055, 0.03))
    yield rectangle(1.86, 1.51, 2.86, 1.90, (0.0035, 0.0035, 0.004))
    yield text(1.92, 1.57, 0.58, "IN THE DARK", (0.022, 0.020, 0.018))
    yield text(1.92, 1.67, 0.58, "FOUR STOPS DOWN", (0.010, 0.010, 0.011))
    for k, period in enumerate(LINE_PERIODS[:4]):
        yield grating(1.92 + 0.15 * k, 1.745, 0.13, 0.11, period * pixel, vertical=True, scale=0.022)
    yield ball(2.68, 1.74, 0.13, (0.020, 0.004, 0.003), gloss=0.05)
