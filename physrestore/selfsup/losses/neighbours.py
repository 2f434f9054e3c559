"""Neighbor2Neighbor on sites of the same colour: one picture makes two of half its size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore.selfsup.losses.base import Estimate, Risk, SelfLoss, refuse_rows, site_weights
from physrestore.selfsup.losses.pixel_noise import PixelNoise

# The eight ordered pairs of adjacent members of a square, numbered row by row.
PAIRS = ((0, 1), (0, 2), (1, 3), (2, 3), (1, 0), (2, 0), (3, 1), (3, 2))


@dataclass(frozen=True)
class Neighbours(SelfLoss):
    """``|f(g_1 y) - g_2 y|^2 + consistency |f(g_1 y) - g_2 y - (g_1 - g_2) f(y)|^2``, less the noise of ``g_2 y``.

    g_1 and g_2 take adjacent members of every square of four equal sites. Equal sites of a mosaic are one period of the
    colour filter array apart (2 sites for Bayer, 6 for X-Trans), so that both halves are mosaics of the same phase.
    Without the second term the loss is the squared error of f at half size where neighbours have the same light; the
    second term makes up for their difference, and is then zero for a perfect f. It learns fixed pattern as signal:
    correct that first. On X-Trans the pairs lie far apart: `Recorrupted` or `Noise2Void` serve better there.

    Attributes:
        cfa: Of mosaics, from their top-left; None: every channel is a picture of its own.
        consistency: Weight of the second term.

    Raises:
        ValueError: a negative weight.

    Source:
        Huang et al., "Neighbor2Neighbor", CVPR 2021.
    """

    cfa: Cfa | None = None
    consistency: float = 2.0

    def __post_init__(self) -> None:
        """Refuse a negative weight."""
        if not self.consistency >= 0:
            raise ValueError(f"consistency must not be negative, not {self.consistency:g}.")

    def risk(
        self,
        estimate: Estimate,
        y: Tensor,
        noise: PixelNoise,
        *,
        generator: torch.Generator,
        weights: Tensor | None = None,
    ) -> Risk:
        """As in `SelfLoss`, at half its size; a border that fills no square of periods is left out.

        Raises:
            ValueError: as there; the image has no square of periods, or rows share an offset.
        """
        refuse_rows(noise, "Neighbor2Neighbor")
        period = (1, 1) if self.cfa is None else self.cfa.period
        split = _Split.draw(y, period, generator)
        std, variance, counted = noise.std(y), noise.expected_variance(y), site_weights(weights, y)
        (first, second), (std_first, _) = split.apply(y), split.apply(std)
        difference = estimate(first, std_first) - second
        values = difference.square() - split.apply(variance)[1]
        if self.consistency > 0:
            with torch.no_grad():
                whole_first, whole_second = split.apply(estimate(y, std))
            values = values + self.consistency * (difference - (whole_first - whole_second)).square()
        weight_first, weight_second = split.apply(counted)
        return Risk(values, weight_first * weight_second)


@dataclass(frozen=True, eq=False)
class _Split:
    """Which members of every square the two halves take.

    Attributes:
        period: Rows and columns between equal sites.
        members: (2, B, C, h, w) int64 0..3, h and w those of the halves.
    """

    period: tuple[int, int]
    members: Tensor

    @classmethod
    def draw(cls, y: Tensor, period: tuple[int, int], generator: torch.Generator) -> _Split:
        height, width = (n // (2 * p) * p for n, p in zip(y.shape[-2:], period, strict=True))
        if not (height and width):
            raise ValueError(
                f"Images of {tuple(y.shape[-2:])} hold no two periods of {period} sites each way. Use larger ones."
            )
        shape = (*y.shape[:2], height, width)
        chosen = torch.randint(0, len(PAIRS), shape, generator=generator, device=generator.device)
        return cls(period, torch.tensor(PAIRS)[chosen.cpu()].movedim(-1, 0).to(y.device))

    def apply(self, values: Tensor) -> tuple[Tensor, Tensor]:
        (ph, pw), (height, width) = self.period, self.members.shape[-2:]
        inside = values[..., : 2 * height, : 2 * width]
        # Axes: rows of squares, row in the square, row in the period; the same for columns.
        shape = (*inside.shape[:2], height // ph, 2, ph, width // pw, 2, pw)
        cells = inside.reshape(shape)
        members = cells.movedim((-5, -2), (-2, -1)).flatten(-2).flatten(-3, -2).flatten(-4, -3)
        first, second = (members.gather(-1, one[..., None])[..., 0] for one in self.members)
        return first, second
