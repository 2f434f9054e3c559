"""Whether a standard deviation can be believed: how often the truth lies where it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor


def coverage(error: Tensor, std: Tensor, *, level: float = 0.95) -> float:
    """Share of values whose error lies within the interval that ``std`` promises at this level, for normal errors."""
    inside = error.abs() <= NormalDist().inv_cdf((1 + level) / 2) * std
    return float(inside.double().mean())


@dataclass(frozen=True)
class StdCalibration:
    """By how much a kind of std is wrong, measured where the truth is known.

    Attributes:
        factor: To multiply stds by.
        level: Of the interval that it makes right.
        before: Coverage on the simulations as they were.
        after: Coverage with the factor, each image judged by the factor of the others.
        n_images: Simulations.
    """

    factor: float
    level: float
    before: float
    after: float
    n_images: int


def calibrate_std(errors: Sequence[Tensor], stds: Sequence[Tensor], *, level: float = 0.95) -> StdCalibration:
    """The factor that makes intervals of simulated restorations cover the truth as often as they say.

    Args:
        errors: Restored minus true, one tensor per simulated image, at least two.
        stds: Their stds, positive where the error is not zero.
        level: Coverage to reach.

    Raises:
        ValueError: fewer than two images, or lists of different length.
    """
    if len(errors) < 2 or len(errors) != len(stds):
        raise ValueError(f"Needed: at least two images and a std for each, not {len(errors)} and {len(stds)}.")
    width = NormalDist().inv_cdf((1 + level) / 2)
    # Every image has the same say, however large: errors inside one are not independent.
    factors = [_quantile(e.abs() / s, level) / width for e, s in zip(errors, stds, strict=True)]
    total, n = sum(factors), len(factors)
    pairs = list(zip(errors, stds, factors, strict=True))
    return StdCalibration(
        factor=total / n,
        level=level,
        before=sum(coverage(e, s, level=level) for e, s, _ in pairs) / n,
        after=sum(coverage(e, (total - f) / (n - 1) * s, level=level) for e, s, f in pairs) / n,
        n_images=n,
    )


def _quantile(ratio: Tensor, level: float) -> float:
    """Empirical quantile of any number of values (torch.quantile has a limit); 0/0, an error of none, counts as 0."""
    values = torch.where(ratio.isnan(), 0.0, ratio).flatten()
    return float(values.kthvalue(max(1, round(level * values.numel()))).values)
