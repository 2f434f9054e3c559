"""Per-pixel standard deviation of a restoration without samples."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from physrestore.solvers.iterate import Denoise

# Size of the probing step in units of the noise: small enough to be local, large enough for float32.
PROBE = 0.05
# Side of the window over which probes are averaged.
WINDOW = 9


def tweedie_std(
    denoise: Denoise,
    z: Tensor,
    noise_level: Tensor,
    *,
    generator: torch.Generator,
    probes: int = 4,
    window: int = WINDOW,
) -> Tensor:
    """Posterior std of x given ``z = x + noise``, from how the denoiser answers to random signs.

    ``Var[x | z] = noise^2 dD/dz``, exact for the posterior mean; its diagonal is estimated by ``b * (D(z + e b) -
    D(z)) / e`` with random signs b, averaged over probes and a window. For a restoration, ``z`` and ``noise_level``
    are those of the last iterate: an approximation that leaves out how the data step spread the noise; see
    `physrestore.solvers.coverage.calibrate_std`.

    Args:
        denoise: The prior.
        z: What it was given, (B, C, H, W).
        noise_level: Std of the noise in ``z``, positive, broadcasts to it.
        generator: Draws the signs, on the CPU.
        probes: Extra calls of the prior.
        window: Odd side of the averaging window; 1: none.

    Returns:
        (B, C, H, W), in the units of the image; zero where the answer is negative on the average.

    Raises:
        ValueError: no probe, or an even window.

    Source:
        Efron, "Tweedie's formula and selection bias", JASA 106, 2011, eq. (2.8); Ramani, Blu & Unser, IEEE TIP 17(9),
        2008 (random probes).
    """
    if probes < 1 or window < 1 or window % 2 == 0:
        raise ValueError(f"Needed: probes >= 1 and an odd window, not {probes} and {window}.")
    with torch.no_grad():
        clean, slope = denoise(z, noise_level), torch.zeros_like(z)
        for _ in range(probes):
            signs = (2 * torch.randint(0, 2, z.shape, generator=generator) - 1).to(z)
            moved = denoise(z + PROBE * noise_level * signs, noise_level)
            slope += signs * (moved - clean) / (PROBE * noise_level)
        variance = noise_level.square() * slope / probes
        variance = F.avg_pool2d(variance, window, 1, window // 2, count_include_pad=False)
        return variance.clamp(min=0.0).sqrt()
