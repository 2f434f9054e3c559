"""Back to whole DN without moving the mean.

The noise of a raw dithers its quantisation: the mean of many values of 128 and 129 can be 128.4. Take the noise away,
round, and the whole area becomes 128: darker, and posterised. So an ordered dither takes the noise's place.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The additive sequence of the plastic number in two dimensions (M. Roberts, "The unreasonable effectiveness of
# quasirandom sequences", 2018): evenly spread over every small neighbourhood, no low frequencies, no period.
PLASTIC_NUMBER = 1.324717957244746
STEPS = (1.0 / PLASTIC_NUMBER, 1.0 / PLASTIC_NUMBER**2)
# Noise of half a step or more hides the quantisation completely (bias below 1 % of a step); less hides less.
FULL_DITHER_NOISE_DN = 0.5
# Dithered rounding adds f (1 - f) for a fraction f: 1/6 on average [DN^2].
DITHER_VARIANCE_DN2 = 1.0 / 6.0


def round_dithered(values: Tensor, noise_dn: Tensor) -> Tensor:
    """Round so that local means survive, with as much dither as the noise had given.

    Args:
        values: (H, W) [DN].
        noise_dn: Std of the noise that the values once had, quantisation excluded [DN]; broadcasts.

    Returns:
        Whole numbers, same dtype; the same input always gives the same output.
    """
    rows, columns = (torch.arange(size, dtype=torch.float64, device=values.device) for size in values.shape)
    phase = torch.frac(rows[:, None] * STEPS[0] + (columns * STEPS[1])[None]).to(values)
    width = (noise_dn / FULL_DITHER_NOISE_DN).clamp(max=1.0)
    return torch.floor(values + 0.5 + (phase - 0.5) * width)
