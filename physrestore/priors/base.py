"""The protocol of a prior, and the three operations of solvers that follow from it.

A prior is a denoiser: it takes an image with Gaussian noise and the standard deviation of that noise, both in the same
units, and returns its estimate of the clean image. Images are linear, black at 0 and white at 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from physrestore.errors import PriorError

NoiseKind = Literal["map", "scalar", "fixed", "blind"]


@dataclass(frozen=True, kw_only=True)
class PriorSpec:
    """What a prior can do, so that callers need not try.

    Attributes:
        channels: Channels that it takes; 1 is applied to every channel on its own, None takes any number at once.
        noise: How it knows the noise: "map" (a standard deviation per pixel), "scalar" (one per image), "fixed" (made
            for one level), "blind" (finds the level itself).
        sigma_range: Lowest and highest noise level that it was made for, in its own units, those of ``value_range``.
        value_range: The values it expects for black and white: (0, 255) for a network of 8-bit pictures.
        scale_equivariant: ``D(c x, c sigma) = c D(x, sigma)`` for every c > 0: then ``sigma_range`` does not bind.
        halo: How far, in pixels, an output value can depend on the input.
        modulo: Image sides must be multiples of it, and tiles must start at multiples of it.
        non_local: Every output value may depend on the whole image: tiles would change the result.
        differentiable: Gradients flow from the output to the input.
        weights_licence: SPDX identifier, or a name, of the licence of learned weights; None: there are none, or it is
            not known.

    Raises:
        PriorError: numbers that cannot be.
    """

    channels: int | None
    noise: NoiseKind
    sigma_range: tuple[float, float]
    value_range: tuple[float, float] = (0.0, 1.0)
    scale_equivariant: bool = False
    halo: int = 0
    modulo: int = 1
    non_local: bool = False
    differentiable: bool = True
    weights_licence: str | None = None

    def __post_init__(self) -> None:
        """Refuse impossible declarations where they are made."""
        low, high = self.sigma_range
        if self.noise not in get_args(NoiseKind):
            raise PriorError(f"noise must be one of {', '.join(get_args(NoiseKind))}, not {self.noise!r}.")
        if not 0 <= low <= high or high == 0:
            raise PriorError(f"sigma_range must be two rising levels, the higher one positive, not {self.sigma_range}.")
        if self.noise == "fixed" and low != high:
            raise PriorError(f"A fixed noise level is one number given twice, not {self.sigma_range}.")
        if not self.unit > 0 or not math.isfinite(self.unit):
            raise PriorError(f"value_range must be black and white, rising, not {self.value_range}.")
        if self.halo < 0 or self.modulo < 1 or (self.channels is not None and self.channels < 1):
            raise PriorError(f"halo >= 0, modulo >= 1 and channels >= 1 are needed, not {self}.")

    @property
    def unit(self) -> float:
        """The prior's own units per unit of the linear image."""
        return self.value_range[1] - self.value_range[0]

    @property
    def sigma_limits(self) -> tuple[float, float]:
        """``sigma_range`` in units of the linear image."""
        return self.sigma_range[0] / self.unit, self.sigma_range[1] / self.unit


class Prior(Protocol):
    """Anything with a ``spec`` and a ``denoise``."""

    @property
    def spec(self) -> PriorSpec:
        """What this prior can do."""

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """The estimate of the clean image.

        Args:
            x: (B, C, H, W), linear, black 0 and white 1.
            sigma: Standard deviation of the noise in the units of ``x``, positive: a number, or a tensor of shape (),
                (B,), (B, C), (B|1, C|1, 1, 1) or (B|1, C|1, H, W).

        Returns:
            Shape, dtype and device of ``x``.

        Raises:
            NoiseOutOfRange: a level that the prior was not made for.
            PriorError: shapes that do not fit.
        """


def prox(prior: Prior, x: Tensor, gamma: Tensor | float) -> Tensor:
    """``argmin_u g(u) + |u - x|^2 / (2 gamma)``, which for a denoiser is ``D(x, sqrt(gamma))``.

    Args:
        prior: Stands for ``exp(-g)``.
        x: (B, C, H, W).
        gamma: Variance in the units of ``x`` squared, positive; a number or a tensor as ``sigma`` of `Prior.denoise`.

    Source:
        Venkatakrishnan, Bouman & Wohlberg, "Plug-and-play priors for model based reconstruction", GlobalSIP 2013.
    """
    return prior.denoise(x, torch.as_tensor(gamma, dtype=x.dtype, device=x.device).sqrt())


def red_gradient(prior: Prior, x: Tensor, sigma: Tensor | float) -> Tensor:
    """``x - D(x, sigma)``, the gradient of regularisation by denoising where D has a symmetric Jacobian.

    Source:
        Romano, Elad & Milanfar, "The little engine that could", SIAM J. Imaging Sci. 10(4), 2017, equation 13.
    """
    return x - prior.denoise(x, sigma)


def score(prior: Prior, x: Tensor, sigma: Tensor | float) -> Tensor:
    """``grad log p_sigma(x) = (D(x, sigma) - x) / sigma^2``, for a D that estimates the posterior mean.

    Source:
        Tweedie's formula, in Efron, "Tweedie's formula and selection bias", JASA 106, 2011.
    """
    return (prior.denoise(x, sigma) - x) / shaped_like(sigma, x) ** 2


def shaped_like(sigma: Tensor | float, x: Tensor) -> Tensor:
    """A noise level as a tensor of four axes that broadcasts to ``x``, on its device and in its dtype.

    Raises:
        PriorError: a shape that does not broadcast, or values that are not finite and positive.

    >>> shaped_like(torch.tensor([0.1, 0.2]), torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 1, 1, 1])
    """
    level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    if x.dim() != 4 or not x.is_floating_point():
        raise PriorError(f"Needed: a floating-point image (B, C, H, W); given: {x.dtype} of shape {tuple(x.shape)}.")
    shaped = level[(..., *(None,) * (4 - level.dim()))]
    if shaped.dim() != 4 or any(n not in (1, m) for n, m in zip(shaped.shape, x.shape, strict=True)):
        raise PriorError(
            f"sigma of shape {tuple(level.shape)} does not fit an image of shape {tuple(x.shape)}. Needed: a number, "
            "(B,), (B, C), (B|1, C|1, 1, 1) or (B|1, C|1, H, W)."
        )
    if not bool((torch.isfinite(shaped) & (shaped > 0)).all()):
        raise PriorError(
            f"sigma must be finite and positive everywhere; it spans {float(level.min())} to {float(level.max())}. "
            "Give the floor of your noise, not zero."
        )
    return shaped
