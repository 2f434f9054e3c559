"""Which strength restores the photo best when its own half-size copy is photographed again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from physrestore.solvers.choice import Choice, choose
from physrestore.solvers.noise_level import Operator


def choose_by_half_scale(
    image: Tensor,
    *,
    operator: Operator,
    variance: Callable[[Tensor], Tensor],
    restore: Callable[[Tensor, float], Tensor],
    candidates: Sequence[float],
    generator: torch.Generator,
) -> Choice:
    """Simulate the photo at half its size, where the scene is known, and score who finds it again.

    Halving a restored photo takes away most of what is wrong with it: what is left of the noise, and what was guessed
    between the sites. The copy is a scene like the photo's (natural pictures look alike at all scales), known in all
    colours. It is sent through the operator and the noise, and every strength restores it. Unlike held-out photosites
    it judges all colours of every pixel, and hides nothing that a restoration could have used.

    Args:
        image: A restoration of the photo, (B, C, H, W), both sides 2 at least.
        operator: Forward operator; it must take pictures of any size.
        variance: Mean of the data -> variance of its noise, positive, same shape.
        restore: Data, strength -> image.
        candidates: Strengths to try.
        generator: Of the noise, on the CPU.

    Raises:
        ValueError: no candidate, or an image too small.
    """
    if min(image.shape[-2:]) < 2:
        raise ValueError(f"Half of {image.shape[-2]}x{image.shape[-1]} pixels is no picture: give a larger one.")
    scene = F.avg_pool2d(image, 2).clamp(min=0.0)
    mean = operator.A(scene)
    noise = variance(mean)
    y = mean + noise.sqrt() * torch.randn(mean.shape, generator=generator, dtype=mean.dtype).to(mean.device)
    scores = [(restore(y, strength) - scene).square().flatten().double() / noise.mean() for strength in candidates]
    return choose(scores, candidates, method=f"the photo simulated at half its size, {scene.numel()} values")
