"""Priors for white noise, used on the noise of a sensor through its variance-stabilising transform."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from noise_models.stabilise import Anscombe
from physrestore.priors.base import Prior, PriorSpec, shaped_like


class StabilisedPrior:
    """A prior for white noise between the generalised Anscombe transform and its exact unbiased inverse.

    The noise has the law ``variance = t^2 (gain x + read_noise^2)``: that of the sensor times a factor per image, which
    is 1 for the sensor's own noise and whatever a solver's schedule asks for elsewhere. The factor follows from the
    ``sigma`` given to `denoise`: the mean of ``sigma^2`` over that of the law at ``x``. The transformed image has noise
    of variance 1 and is scaled so that white is the prior's white; the prior itself refuses levels it was not made for.

    Attributes:
        prior: For white noise.
        gain: Variance per signal (white is 1), positive, as the buffer of that name of a calibrated noise model.
        read_noise: Std of the signal-independent noise (white is 1); like ``gain`` a number, or a tensor of shape (),
            (B,), (B, C), (B|1, C|1, 1, 1) or (B|1, C|1, H, W).

    Source:
        Mäkitalo & Foi, IEEE TIP 22(1), 2013, by `noise_models.stabilise`.
    """

    def __init__(self, prior: Prior, *, gain: Tensor | float, read_noise: Tensor | float) -> None:
        self.prior = prior
        self.gain = gain
        self.read_noise = read_noise

    @property
    def spec(self) -> PriorSpec:
        """The inner prior's with one level per image, whose factor depends on the whole of it: tiles would differ."""
        return replace(
            self.prior.spec,
            noise="scalar",
            sigma_range=(0.0, math.inf),
            value_range=(0.0, 1.0),
            scale_equivariant=False,
            non_local=True,
            differentiable=False,
        )

    @torch.no_grad()
    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """See `physrestore.priors.base.Prior.denoise`; ``sigma`` sets the factor per image."""
        level = shaped_like(sigma, x)
        gain = shaped_like(self.gain, x)
        read_noise = shaped_like(self.read_noise, x)
        dark = _mean(read_noise**2, x)
        # Negative values count: clamping them one by one would make dark areas brighter than they are.
        law = torch.maximum(_mean(gain * x, x) + dark, dark)
        factor = (_mean(level**2, x) / law).sqrt()
        transform = Anscombe(factor**2 * gain, factor * read_noise)
        white = transform.forward(torch.ones_like(x)).amax((1, 2, 3), keepdim=True)
        clean = self.prior.denoise(transform.forward(x) / white, 1 / white)
        return transform.inverse(clean * white)


def _mean(values: Tensor, x: Tensor) -> Tensor:
    """Per image, (B, 1, 1, 1), of values that broadcast to ``x``."""
    return values.expand_as(x).mean((1, 2, 3), keepdim=True)
