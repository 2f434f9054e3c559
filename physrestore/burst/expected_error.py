"""How wrong a merged and cleaned picture is expected to be, read off the picture itself.

As for one frame (`physrestore.pnp.expected_error`), but the noise is that of all frames together, pixel by pixel, and a
colour is guessed only where no frame's site fell near.
"""

from __future__ import annotations

import torch
from torch import Tensor

from physrestore.burst.merge import Merged
from physrestore.burst.root import Root
from physrestore.pnp.expected_error import detail_energy

# Variances, in the order of the weights: of the noise; of detail that is as small as the noise; of detail; and, as far
# as no site was near, of detail as small as the noise once more, and of detail in colour differences.
FEATURES = (
    "noise",
    "detail within noise",
    "detail",
    "detail within noise between sites",
    "colour detail between sites",
)
# Fitted to bursts of four pictures of CBSD432, so that intervals of 90 % hold 90 % of the errors; on Kodak24 they hold
# 83 to 92 % (`python -m tests.benchmarks burst_uncertainty` fits and judges).
WEIGHTS = (0.186, 0.797, 0.016, 1.086, 2.155)


def causes(light: Tensor, merged: Merged, variety: Tensor, root: Root) -> Tensor:
    """The causes of error, in the space of the root.

    Args:
        light: The result, linear, (3, H, W).
        merged: What it was cleaned from.
        variety: How far all colours were measured at every pixel, (H, W), 0..1.
        root: Of the reference.

    Returns:
        (5, 3, H, W): variances, in the order of `FEATURES`.
    """
    v = root.value(light)
    noise = root.scale.square() * merged.share
    detail, colour = (detail_energy(planes).expand_as(v) for planes in (v, v - v.mean(0, keepdim=True)))
    small, between = detail * noise / (detail + noise), 1.0 - variety
    return torch.stack([noise, small, detail, small * between, colour * between])


def error_variance(light: Tensor, merged: Merged, variety: Tensor, root: Root) -> Tensor:
    """Expected squared error of every value in linear light, (3, H, W); arguments as of `causes`."""
    of_root = torch.einsum("f,fchw->chw", light.new_tensor(WEIGHTS), causes(light, merged, variety, root))
    return of_root * root.slope(root.value(light)).square()
