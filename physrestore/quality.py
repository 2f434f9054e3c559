"""Numbers that say how good a restoration is, with and without the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Side of the squares in which a plane counts as smooth or not; small enough for sky between branches, large enough
# (256 values) that the std of white noise inside is known within 4.4 %.
SMOOTH_BLOCK = 16
# A square is smooth if its estimate, means of 4x4 values, varies by less than this share of the noise's std. Those
# means of pure noise would vary by 1/4; a denoised estimate by less.
SMOOTH_VARIATION = 0.25


@dataclass(frozen=True)
class Correlation:
    """How a residual resembles itself one site away; 0 for white noise.

    Attributes:
        horizontal: Of neighbours in a row, one value per plane.
        vertical: Of neighbours in a column.
        diagonal: Of diagonal neighbours, both directions averaged.
        standard_error: Of each value, if the residual is white.
    """

    horizontal: tuple[float, ...]
    vertical: tuple[float, ...]
    diagonal: tuple[float, ...]
    standard_error: float


def psnr(estimate: Tensor, truth: Tensor, *, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio [dB]; infinite where both are equal.

    Raises:
        ValueError: shapes differ, or the peak is not positive.
    """
    if estimate.shape != truth.shape or not peak > 0:
        raise ValueError(
            f"psnr needs equal shapes and a positive peak, not {tuple(estimate.shape)}, {tuple(truth.shape)}, {peak}."
        )
    error = float((estimate.double() - truth.double()).square().mean())
    return math.inf if error == 0 else 10.0 * math.log10(peak**2 / error)


def smooth_areas(estimate: Tensor, noise_std: Tensor, *, block: int = SMOOTH_BLOCK) -> Tensor:
    """Squares in which a denoised picture hardly varies compared with the noise that was removed.

    Args:
        estimate: (C, H, W), denoised.
        noise_std: Std of the noise of the source, same unit, broadcasts against ``estimate``.
        block: Side of the squares, a multiple of 4.

    Returns:
        (H, W) bool, true where all planes are smooth; what does not fill a square is false.
    """
    _, height, width = estimate.shape
    scaled = F.avg_pool2d((estimate / noise_std)[None], 4)[0]
    side = block // 4
    rows, columns = height // block, width // block
    cells = scaled[:, : rows * side, : columns * side].reshape(-1, rows, side, columns, side)
    smooth = (cells.std(dim=(2, 4)) < SMOOTH_VARIATION).all(0)
    mask = torch.zeros(height, width, dtype=torch.bool, device=estimate.device)
    mask[: rows * block, : columns * block] = smooth.repeat_interleave(block, 0).repeat_interleave(block, 1)
    return mask


def residual_correlation(residual: Tensor, mask: Tensor | None = None) -> Correlation:
    """Correlation of neighbours in what was removed: signal that was taken for noise is not white.

    Args:
        residual: (C, H, W), source minus result, divided by the noise's std where that varies.
        mask: (H, W) bool; only pairs inside count.

    Raises:
        ValueError: no pair of neighbours is left.
    """
    inside = torch.ones(residual.shape[-2:], dtype=torch.bool) if mask is None else mask
    if not bool((inside[:, 1:] & inside[:, :-1]).any() and (inside[1:] & inside[:-1]).any()):
        raise ValueError("No neighbouring sites to correlate: the mask is empty. Give a larger or smoother area.")
    lags = {lag: _lagged(residual.double(), inside, lag) for lag in ((0, 1), (1, 0), (1, 1), (1, -1))}
    diagonal = tuple((a + b) / 2 for a, b in zip(lags[1, 1], lags[1, -1], strict=True))
    return Correlation(
        horizontal=lags[0, 1],
        vertical=lags[1, 0],
        diagonal=diagonal,
        standard_error=1.0 / math.sqrt(int(inside.sum())),
    )


def noise_reduction(source: Tensor, result: Tensor, mask: Tensor, *, block: int = SMOOTH_BLOCK) -> tuple[float, ...]:
    """Std of the noise in smooth areas before over after, one factor per plane.

    The std is taken about a straight line in each square, so that a gradient does not count as noise.

    Args:
        source: (C, H, W).
        result: Same shape.
        mask: From `smooth_areas`, with the same ``block``.
        block: Side of the squares.

    Raises:
        ValueError: the mask holds no whole square.
    """
    return tuple(
        (_variance_in_squares(source, mask, block) / _variance_in_squares(result, mask, block)).sqrt().tolist()
    )


def residual_chi2(residual: Tensor, variance: Tensor, mask: Tensor | None = None) -> tuple[float, ...]:
    """Mean of residual^2 / variance per plane: 1 if exactly the noise was removed, less what remains in the result.

    Args:
        residual: (C, H, W), source minus result.
        variance: Of the noise by the model, broadcasts.
        mask: (H, W) bool; only sites inside count.
    """
    ratio = residual.double().square() / variance.double()
    inside = torch.ones(residual.shape[-2:], dtype=torch.bool) if mask is None else mask
    return tuple(ratio[:, inside].mean(1).tolist())


def _lagged(residual: Tensor, inside: Tensor, lag: tuple[int, int]) -> tuple[float, ...]:
    """Correlation coefficient at a lag, pairs inside the mask only; the mean of each plane is removed."""
    down, right = lag
    height, width = inside.shape
    first = (slice(0, height - down), slice(max(-right, 0), width - max(right, 0)))
    second = (slice(down, height), slice(max(right, 0), width + min(right, 0)))
    pairs = inside[first] & inside[second]
    values = []
    for plane in residual:
        centred = plane - plane[inside].mean()
        product = (centred[first] * centred[second])[pairs].mean()
        values.append(float(product / centred[inside].square().mean()))
    return tuple(values)


def _variance_in_squares(planes: Tensor, mask: Tensor, block: int) -> Tensor:
    """Mean variance about a fitted plane over the squares of the mask, (C,)."""
    channels, height, width = planes.shape
    rows, columns = height // block, width // block
    area = (slice(0, rows * block), slice(0, columns * block))
    whole = mask[area].reshape(rows, block, columns, block).all(dim=3).all(dim=1)
    if not bool(whole.any()):
        raise ValueError(
            f"The mask holds no whole square of {block}x{block} sites: no smooth area to measure noise in."
        )
    squares = planes[(slice(None), *area)].double().reshape(channels, rows, block, columns, block)
    squares = squares.permute(0, 1, 3, 2, 4)[:, whole].reshape(channels, -1, block * block)
    axis = torch.linspace(-1, 1, block, dtype=torch.float64)
    fit = torch.stack(
        [torch.ones(block * block, dtype=torch.float64), axis.repeat_interleave(block), axis.repeat(block)]
    )
    orthonormal = fit / fit.norm(dim=1, keepdim=True)
    power = squares.square().sum(2) - (squares @ orthonormal.T).square().sum(2)
    variance: Tensor = power / (block * block - len(fit))
    return variance.mean(1)
