"""Priors made of priors: several at once, or one by a fraction. Each fits where a prior fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import lcm

import torch
from torch import Tensor

from physrestore.errors import PriorError
from physrestore.priors.base import Prior, PriorSpec


class Mixture:
    """The weighted mean of what several priors say: the consensus of agents of equal trust is equal weights.

    Source:
        Buzzard, Chan, Sreehari & Bouman, "Plug-and-play unplugged", SIAM J. Imaging Sci. 11(3), 2018.

    Attributes:
        priors: Of the same channels, or any.
        weights: Of each, not negative; made to sum to 1.

    Raises:
        PriorError: weights that cannot be normalised, or priors for different channels.
    """

    def __init__(self, priors: Sequence[Prior], weights: Sequence[float] | None = None) -> None:
        given = [1.0] * len(priors) if weights is None else list(weights)
        if len(given) != len(priors) or not priors or min(given) < 0 or sum(given) == 0:
            raise PriorError(f"Needed: a weight for each of {len(priors)} priors, not all zero; given: {weights}.")
        self.priors = tuple(priors)
        self.weights = tuple(weight / sum(given) for weight in given)
        self.spec = _common(self.priors)

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """See `physrestore.priors.base.Prior.denoise`."""
        parts = zip(self.weights, self.priors, strict=True)
        return torch.stack([weight * prior.denoise(x, sigma) for weight, prior in parts]).sum(0)


class Strength:
    """``x + strength (D(x) - x)``: 0 leaves the image, 1 is the prior.

    Attributes:
        prior: Of full strength.
        strength: A number, or a tensor that broadcasts to the image (a fraction per channel, or a map of trust).
    """

    def __init__(self, prior: Prior, strength: Tensor | float) -> None:
        if not bool(((torch.as_tensor(strength) >= 0) & (torch.as_tensor(strength) <= 1)).all()):
            raise PriorError(f"strength must lie between 0 and 1, not {strength}.")
        self.prior = prior
        self.strength = strength

    @property
    def spec(self) -> PriorSpec:
        """The inner prior's."""
        return self.prior.spec

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """See `physrestore.priors.base.Prior.denoise`."""
        strength = torch.as_tensor(self.strength, dtype=x.dtype, device=x.device)
        return x + strength * (self.prior.denoise(x, sigma) - x)


def _common(priors: tuple[Prior, ...]) -> PriorSpec:
    """What all of them can do, in units of the linear image."""
    specs = [prior.spec for prior in priors]
    channels = {spec.channels for spec in specs} - {None, 1}
    if len(channels) > 1:
        raise PriorError(f"Priors for {sorted(n for n in channels if n)} channels do not take the same image.")
    bound = [spec.sigma_limits for spec in specs if not spec.scale_equivariant]
    low, high = max((b[0] for b in bound), default=0.0), min((b[1] for b in bound), default=float("inf"))
    told = [spec.noise for spec in specs]
    return replace(
        specs[0],
        channels=next(iter(channels), specs[0].channels),
        noise="map" if "map" in told else "scalar" if "scalar" in told else "blind",
        sigma_range=(low, high),
        value_range=(0.0, 1.0),
        scale_equivariant=all(spec.scale_equivariant for spec in specs),
        halo=max(spec.halo for spec in specs),
        modulo=lcm(*(spec.modulo for spec in specs)),
        non_local=any(spec.non_local for spec in specs),
        differentiable=all(spec.differentiable for spec in specs),
        weights_licence=", ".join(sorted({spec.weights_licence for spec in specs if spec.weights_licence})) or None,
    )
