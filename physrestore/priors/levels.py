"""Noise levels on their way to a prior: is it made for them, and the one number that stands for a map."""

from __future__ import annotations

import math

from torch import Tensor

from physrestore.errors import NoiseOutOfRange
from physrestore.priors.base import PriorSpec

# How far beyond its range [octaves] a prior is still used. A DnCNN for 25/255 on noise of 5/255 (four pictures, noisy
# 34.2 dB): 29.7 to 33.4 dB as it is, 24.7 to 25.3 dB when the image is scaled to its level: both harm.
TOLERANCE_OCTAVES = 0.25


def check_level(spec: PriorSpec, sigma: Tensor) -> None:
    """Refuse a noise level, or a map with a place, that lies outside the prior's range.

    Args:
        spec: Of the prior.
        sigma: In the units of the linear image.

    Raises:
        NoiseOutOfRange: more than `TOLERANCE_OCTAVES` below or above ``spec.sigma_limits``.
    """
    if spec.scale_equivariant:
        return
    low, high = spec.sigma_limits
    least, most = float(sigma.min()), float(sigma.max())
    if least >= low * 2**-TOLERANCE_OCTAVES and most <= high * 2**TOLERANCE_OCTAVES:
        return
    given = f"{least:.3g}" if least == most else f"{least:.3g} to {most:.3g}"
    if spec.noise == "fixed":
        octaves = max((math.log2(level / low) for level in (least, most)), key=abs)
        raise NoiseOutOfRange(
            f"This prior was made for noise of standard deviation {low:.3g} (white is 1) and no other; given is "
            f"{given}, {abs(octaves):.2f} octaves {'above' if octaves > 0 else 'below'}, at most {TOLERANCE_OCTAVES} "
            "are allowed. Elsewhere such a network does more harm than noise: take a prior that is told the level."
        )
    raise NoiseOutOfRange(
        f"This prior was made for noise of standard deviation {low:.3g} to {high:.3g} (white is 1); given is {given}. "
        "Take a prior made for that level."
    )


def root_mean_square(sigma: Tensor, dims: tuple[int, ...]) -> Tensor:
    """One level for all values along ``dims``: that with the same noise power, kept as axes of length 1.

    Args:
        sigma: (B|1, C|1, H|1, W|1); axes of length 1 weigh as the constants that they are.
        dims: Axes to reduce.
    """
    return sigma.square().mean(dim=dims, keepdim=True).sqrt() if dims else sigma
