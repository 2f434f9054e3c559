"""How much noise the prior is told of, step by step, and how much the data count against it.

The schedule is locked to the data's own noise: ``noise_level_k = t_k noise``, with ``t_k`` falling from far above the
noise to it, equally spaced in the logarithm. With ``noise`` a map, dark and bright areas run the same schedule
relative to their own noise.

Sources: Zhang et al., "Plug-and-play image restoration with deep denoiser prior", IEEE TPAMI 44(10), 2022, section 4.2
(levels, weight 0.23); Le Pendu & Guillemot, "Preconditioned plug-and-play ADMM with locally adjustable denoiser",
SIAM J. Imaging Sci. 16(1), 2023 (the step as a map).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

# Std of the first level on a scale where white is 1, and weight of the prior: the values of DPIR.
FIRST_LEVEL = 49 / 255
PRIOR_WEIGHT = 0.23
# Data noisier than FIRST_LEVEL still begin this many times above their own noise.
LEAST_SPAN = 3.0


@dataclass(frozen=True)
class Level:
    """One entry of a schedule.

    Attributes:
        noise_level: Std for the prior, in the units of the image; broadcasts to it.
        gamma: Step of the data term's prox, ``noise_level^2 / weight``.
    """

    noise_level: Tensor
    gamma: Tensor


@dataclass(frozen=True)
class Schedule:
    """Levels ``t_k noise``; each is made when it is its turn, so that maps do not pile up.

    Attributes:
        noise: Std of the data's noise in the image, broadcasts to it.
        factors: t_k, all positive.
        weight: Of the prior against the negative log-likelihood: ``gamma = noise_level^2 / weight``.
    """

    noise: Tensor
    factors: tuple[float, ...]
    weight: float = PRIOR_WEIGHT

    def __post_init__(self) -> None:
        """Refuse levels that no prior and no prox could use."""
        lowest = min((float(self.noise.min()), *self.factors, self.weight))
        if not lowest > 0 or not math.isfinite(float(self.noise.max())):
            raise ValueError(
                f"A schedule needs finite positive noise, factors and weight, not noise {float(self.noise.min()):g} to "
                f"{float(self.noise.max()):g}, factors {self.factors}, weight {self.weight:g}. Noise-free data: give "
                "the smallest level at which the prior still works."
            )

    def __len__(self) -> int:
        return len(self.factors)

    def __iter__(self) -> Iterator[Level]:
        for factor in self.factors:
            level = factor * self.noise
            yield Level(level, level.square() / self.weight)


def noise_locked(
    noise: Tensor, *, steps: int, strength: float = 1.0, first: float = FIRST_LEVEL, weight: float = PRIOR_WEIGHT
) -> Schedule:
    """The schedule of data with this noise: from ``first`` on the average down to ``strength * noise``.

    Args:
        noise: Std in the units of the image (white is 1), positive, broadcasts to the image.
        steps: How many levels, at least 1.
        strength: Restore as if the noise were so many times larger: last level and weight of the data follow.
        first: Mean of the first level; raised to `LEAST_SPAN` times the last one where that is larger.
        weight: As in `Schedule`, at strength 1.

    Raises:
        ValueError: no steps, or anything that is not positive.

    >>> import torch
    >>> schedule = noise_locked(torch.tensor(0.01), steps=3)
    >>> [round(float(level.noise_level), 4) for level in schedule]
    [0.1922, 0.0438, 0.01]
    """
    if steps < 1 or not (strength > 0 and first > 0):
        raise ValueError(f"Needed: steps >= 1, strength > 0, first > 0; not {steps}, {strength}, {first}.")
    start = max(LEAST_SPAN * strength, first / float(noise.mean()))
    # From the end, so that a single step is the last one, at the noise of the data.
    ratio = (start / strength) ** (1 / max(steps - 1, 1))
    factors = tuple(strength * ratio**k for k in reversed(range(steps)))
    # Noise s times larger makes the likelihood s^2 times weaker: the prior gains as much.
    return Schedule(noise, factors, weight * strength**2)
