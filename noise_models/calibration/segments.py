"""Conversion-gain segments: runs of ISO settings in which one gain path of the pixel is in use."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from noise_models.sensor import Estimate

# Inside a segment sigma^2 = s1^2 + (K s0)^2 can only rise with K, so input-referred noise falls at most as 1/K. A fall
# by this factor more than that, beyond three standard errors, is a step of the conversion gain.
STEP_RATIO = 0.95
STEP_SIGMA = 3.0


def segment_ids(read_noise_dn: Sequence[Estimate]) -> list[int]:
    """Segment of each ISO, counted from the lowest.

    Args:
        read_noise_dn: One value an ISO [DN], in the order of ISO, with standard errors.

    Returns:
        Non-decreasing ids from 0.

    >>> noise = [Estimate(value=v, standard_error=0.01) for v in (2.0, 6.3, 2.6)]
    >>> segment_ids(noise)
    [0, 0, 1]
    """
    ids = [0] * min(1, len(read_noise_dn))
    for before, after in pairwise(read_noise_dn):
        error = ((before.standard_error or 0.0) ** 2 + (after.standard_error or 0.0) ** 2) ** 0.5
        step = after.value < STEP_RATIO * before.value and before.value - after.value > STEP_SIGMA * error
        ids.append(ids[-1] + int(step))
    return ids
