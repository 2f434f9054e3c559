"""The things in the procedural scene: each one is a painter of colour and coverage on a patch of the canvas.

Positions and sizes are canvas units (the scene is 3 wide and 2 high), y downwards; colours are linear light.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from noise_models.scene.glyphs import GLYPH_HEIGHT, text_bitmap

Rgb = tuple[float, float, float]
# Columns x (1, w), rows y (h, 1), pixel size -> colour (3, h, w) or broadcastable, coverage (h, w) or broadcastable.
Painter = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]

EVERYWHERE = 1e6
# Direction to the lamp: left, above, in front.
LAMP = (-0.46, -0.60, 0.65)
LAMP_HIGHLIGHT = 3.0  # times the white level: a reflection of the lamp clips
PAPER_BLACK, PAPER_WHITE = 0.03, 0.68  # ends of printed texture


@dataclass(frozen=True)
class Layer:
    """A painter and the box outside of which it paints nothing."""

    left: float
    top: float
    right: float
    bottom: float
    paint: Painter


def backdrop(*, table_top: float, rng: np.random.Generator) -> Layer:
    """A wall with a pool of light, and below ``table_top`` a wooden table."""
    waves = [(rng.uniform(-1, 1), rng.uniform(-math.pi, math.pi)) for _ in range(6)]

    def paint(x: Tensor, y: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
        lamp = torch.exp(-((x - 1.0) ** 2) / 3.2 - (y - 0.5) ** 2 / 1.6)
        wall = _rgb((0.13, 0.155, 0.17)) * (0.25 + 0.95 * lamp)
        warp = sum(a * torch.sin(2.0 ** (0.6 * k) * (1.7 * x + 0.9 * y) + p) for k, (a, p) in enumerate(waves))
        depth = (y - table_top).clamp(min=0.0)
        across = 9.0 / (0.35 + depth)  # the grain runs away from the viewer
        rings = torch.sin((x - 1.5) * across * 3.0 + 1.6 * warp + 5.0 * depth)
        fine = torch.sin((x - 1.5) * across * 17.0 + 5.0 * warp)
        shine = 0.45 + 0.85 * torch.exp(-((x - 0.9) ** 2) / 1.4 - (depth - 0.25) ** 2 / 0.25)
        wood = _rgb((0.155, 0.082, 0.040)) * (1.0 + 0.22 * rings + 0.10 * fine) * shine
        on_table = _cover(table_top - y, 2.0 * pixel)
        return wall + on_table * (wood - wall), torch.ones(1, 1)

    return Layer(-EVERYWHERE, -EVERYWHERE, EVERYWHERE, EVERYWHERE, paint)


def rectangle(
    left: float, top: float, right: float, bottom: float, colour: Rgb, *, soft: float = 0.0, opacity: float = 1.0
) -> Layer:
    """A rectangle of one colour; ``soft`` is the width of its edge, for shadows."""

    def paint(x: Tensor, y: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
        outside = torch.maximum(torch.maximum(left - x, x - right), torch.maximum(top - y, y - bottom))
        return _rgb(colour), opacity * _smooth(_cover(outside, max(soft, pixel)))

    return _around(left, top, right, bottom, soft, paint)


def text(x0: float, y0: float, width: float, words: str, colour: Rgb) -> Layer:
    """A line of text; (x0, y0) is its top left."""
    ink = text_bitmap(words)
    cell = width / ink.shape[1]

    def paint(x: Tensor, y: Tensor, pixel: float) -> tuple[Tensor, Tensor]:  # noqa: ARG001 (sharp, then supersampled)
        columns = ((x[0] - x0) / cell).floor().long()
        rows = ((y[:, 0] - y0) / cell).floor().long()
        inside = ((columns >= 0) & (columns < ink.shape[1])) & ((rows >= 0) & (rows < GLYPH_HEIGHT))[:, None]
        cover = ink[rows.clamp(0, GLYPH_HEIGHT - 1)][:, columns.clamp(0, ink.shape[1] - 1)]
        return _rgb(colour), cover * inside

    return _around(x0, y0, x0 + width, y0 + cell * GLYPH_HEIGHT, 0.0, paint)


def zone_plate(x0: float, y0: float, radius: float, pixel_size: float, *, highest: float = 0.3) -> Layer:
    """Rings whose frequency grows from the centre to ``highest`` cycles a pixel at the rim."""
    curvature = math.pi * highest / (pixel_size * radius)

    def paint(x: Tensor, y: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
        squared = (x - x0) ** 2 + (y - y0) ** 2
        return _printed(0.5 + 0.5 * torch.cos(curvature * squared)), _cover(squared.sqrt() - radius, pixel)

    return _around(x0 - radius, y0 - radius, x0 + radius, y0 + radius, 0.0, paint)


def star(x0: float, y0: float, radius: float, *, spokes: int) -> Layer:
    """A Siemens star; spokes narrower than a pixel fade to grey."""

    def paint(x: Tensor, y: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
        r = ((x - x0) ** 2 + (y - y0) ** 2).sqrt()
        edge = torch.sin(spokes * torch.atan2(y - y0, x - x0)) * r / (spokes * pixel)
        return _printed((0.5 + edge).clamp(0.0, 1.0)), _cover(r - radius, pixel)

    return _around(x0 - radius, y0 - radius, x0 + radius, y0 + radius, 0.0, paint)


def grating(
    left: float, top: float, width: float, height: float, period: float, *, vertical: bool, scale: float = 1.0
) -> Layer:
    """Sinusoidal lines of a period; ``scale`` dims the patch."""

    def paint(x: Tensor, y: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
        phase = 2.0 * math.pi / period * ((x - left) + 0.0 * y if vertical else 0.0 * x + (y - top))
        outside = torch.maximum((x - left - width / 2).abs() - width / 2, (y - top - height / 2).abs() - height / 2)
        return _printed(0.5 + 0.5 * torch.cos(phase)) * scale, _cover(outside, pixel)

    return _around(left, top, left + width, top + height, 0.0, paint)


def gradient(left: float, top: float, right: float, bottom: float, *, hues: bool) -> Layer:
    """A smooth strip from black to white, or through all hues."""

    def paint(x: Tensor, y: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
        along = ((x - left) / (right - left)).clamp(0.0, 1.0)
        outside = torch.maximum(torch.maximum(left - x, x - right), torch.maximum(top - y, y - bottom))
        if not hues:
            return (0.9 * along**2.2).expand(3, 1, -1), _cover(outside, pixel)
        phases = torch.tensor([0.0, 1 / 3, 2 / 3])[:, None, None]
        wheel = (0.5 + 0.5 * torch.cos(2.0 * math.pi * (along - phases))) ** 2.2
        fade = ((y - top) / (bottom - top)).clamp(0.0, 1.0)  # towards grey at the lower edge
        return 0.75 * wheel * (1.0 - 0.8 * fade) + 0.16 * fade, _cover(outside, pixel)

    return _around(left, top, right, bottom, 0.0, paint)


def shadow(x0: float, y0: float, half_width: float, half_height: float) -> Layer:
    """The soft shadow of a thing that stands on the table."""

    def paint(x: Tensor, y: Tensor, pixel: float) -> tuple[Tensor, Tensor]:  # noqa: ARG001 (softer than any pixel)
        distance = ((x - x0) / half_width) ** 2 + ((y - y0) / half_height) ** 2
        return torch.full((3, 1, 1), 0.006), 0.85 * torch.exp(-1.6 * distance)

    return _around(x0 - half_width, y0 - half_height, x0 + half_width, y0 + half_height, half_width, paint)


def ball(x0: float, y0: float, radius: float, colour: Rgb, *, gloss: float = 1.0) -> Layer:
    """A glossy ball with the reflection of the lamp."""

    def paint(x: Tensor, y: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
        nx, ny = (x - x0) / radius, (y - y0) / radius
        squared = nx**2 + ny**2
        nz = (1.0 - squared).clamp(min=0.0).sqrt()
        facing = (nx * LAMP[0] + ny * LAMP[1] + nz * LAMP[2]).clamp(min=0.0)
        halfway = math.sqrt(2.0 * (1.0 + LAMP[2]))
        mirror = ((nx * LAMP[0] + ny * LAMP[1] + nz * (LAMP[2] + 1.0)) / halfway).clamp(min=0.0) ** 220
        rim = (1.0 - nz) ** 4 * (0.4 + 0.6 * ny.clamp(min=0.0))  # the table, mirrored at grazing angles
        body = _rgb(colour) * (0.10 + 0.95 * facing)
        glossy = _rgb((1.0, 0.97, 0.9)) * (LAMP_HIGHLIGHT * mirror) + _rgb((0.10, 0.055, 0.03)) * rim
        return body + gloss * glossy, _cover((squared.sqrt() - 1.0) * radius, pixel)

    return _around(x0 - radius, y0 - radius, x0 + radius, y0 + radius, 0.0, paint)


def leaf(x0: float, y0: float, length: float, angle: float, colour: Rgb) -> Layer:
    """A lens-shaped leaf with veins, lit from one side; (x0, y0) is its middle, ``length`` from tip to stalk."""
    half, cosine, sine = length / 2, math.cos(angle), math.sin(angle)

    def paint(x: Tensor, y: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
        along = ((x - x0) * cosine + (y - y0) * sine) / half
        across = ((y - y0) * cosine - (x - x0) * sine) / half
        width = 0.42 * (1.0 - along**2) * (1.0 - 0.25 * along)
        slope = torch.sqrt(1.0 + (0.84 * along) ** 2)
        outside = (across.abs() - width) * half / slope
        veins = 0.10 * torch.cos(26.0 * (along - across.abs())) - 0.35 * torch.exp(-((across / 0.03) ** 2))
        side = 1.0 + 0.28 * torch.tanh(12.0 * across * (1.0 if cosine < 0 else -1.0))
        rib = 1.0 + veins * min(1.0, half / (30.0 * pixel))  # veins finer than a pixel fade
        edge = 1.0 - 0.45 * torch.exp(outside.clamp(max=0.0) / (0.10 * half))
        return _rgb(colour) * (side * rib * edge), _cover(outside, pixel)

    return _around(x0 - half, y0 - half, x0 + half, y0 + half, 0.0, paint)


def polygon(corners: tuple[tuple[float, float], ...], colour: Rgb, *, gloss: float) -> Layer:
    """A convex polygon (corners clockwise), shaded like an upright cylinder with a highlight of the given strength."""
    xs, ys = [c[0] for c in corners], [c[1] for c in corners]
    left, right = min(xs), max(xs)

    def paint(x: Tensor, y: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
        sides = zip(corners, corners[1:] + corners[:1], strict=True)
        distances = [
            ((y1 - y0) * (x - x0) - (x1 - x0) * (y - y0)) / math.dist((x0, y0), (x1, y1))
            for (x0, y0), (x1, y1) in sides
        ]
        round_ = 2.0 * (x - left) / (right - left) - 1.0
        light = 0.12 + 0.95 * torch.exp(-((round_ + 0.35) ** 2) / 0.35)
        highlight = gloss * torch.exp(-(((round_ + 0.42) / 0.06) ** 2)) + 0.0 * y
        return _rgb(colour) * light + 0.35 * highlight, _cover(torch.stack(distances).amax(dim=0), pixel)

    return _around(left, min(ys), right, max(ys), 0.0, paint)


def _around(left: float, top: float, right: float, bottom: float, margin: float, paint: Painter) -> Layer:
    """The layer with room for soft edges: ``margin`` and a little more."""
    room = margin + 0.01
    return Layer(left - room, top - room, right + room, bottom + room, paint)


def _rgb(colour: Rgb) -> Tensor:
    return torch.tensor(colour)[:, None, None]


def _printed(ink: Tensor) -> Tensor:
    """Grey of a printed texture from 0 (black) to 1 (white)."""
    return (PAPER_BLACK + (PAPER_WHITE - PAPER_BLACK) * ink)[None].expand(3, -1, -1)


def _cover(outside: Tensor, softness: float) -> Tensor:
    """Coverage from the signed distance to an edge, negative inside."""
    return (0.5 - outside / softness).clamp(0.0, 1.0)


def _smooth(cover: Tensor) -> Tensor:
    """The ramp of an edge without corners."""
    return cover**2 * (3.0 - 2.0 * cover)
