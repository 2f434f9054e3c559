"""The checker of self-supervised losses: their mean over the noise against the true squared error, by Monte-Carlo."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from physrestore.selfsup.losses.base import Estimate, SelfLoss
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from tests.moments import assert_moments

SIDE = 24


class Recorder:
    """An estimate that remembers the first thing it returned in a call of the loss."""

    def __init__(self, estimate: Estimate) -> None:
        self.estimate, self.first = estimate, torch.empty(0)

    def __call__(self, y: Tensor, std: Tensor) -> Tensor:
        result = self.estimate(y, std)
        if not self.first.numel():
            self.first = result.detach()
        return result


def scene(side: int = SIDE) -> Tensor:
    """A smooth picture with an edge, (1, 1, side, side) float64, 0.2 to 0.8."""
    ramp = torch.linspace(0, 1, side, dtype=torch.float64)
    x = 0.25 + 0.3 * ramp[:, None] * ramp + 0.25 * (ramp > 0.5)
    return x[None, None]


def std_map(side: int = SIDE) -> Tensor:
    """Noise that is four times as strong at the right as at the left, (1, 1, side, side)."""
    return torch.linspace(0.03, 0.12, side, dtype=torch.float64).expand(1, 1, side, side)


def smoother(y: Tensor, std: Tensor) -> Tensor:
    """A fixed linear smoother, the stronger the noisier the side (by place, not by ``std``)."""
    kernel = torch.tensor([[1.0, 2, 1], [2, 3, 2], [1, 2, 1]], dtype=y.dtype)
    kernel = (kernel / kernel.sum()).expand(y.shape[1], 1, 3, 3)
    soft = F.conv2d(F.pad(y, (1, 1, 1, 1), mode="circular"), kernel, groups=y.shape[1])
    share = torch.linspace(0.1, 1.0, y.shape[-1], dtype=y.dtype)
    return (1 - share) * y + share * soft


def bent(y: Tensor, std: Tensor) -> Tensor:
    """A smoother that is not linear."""
    return smoother(y, std) + 0.3 * torch.sin(8 * y)


def gaussian(x: Tensor, noise: PixelNoise, draws: int, *, seed: int = 0) -> Tensor:
    """Measurements (draws, C, H, W) with exactly the covariance of ``noise`` around ``x``."""
    mean = x.expand(draws, *x.shape[1:])
    return mean + noise.draw(mean, generator=torch.Generator().manual_seed(seed))


def photons(x: Tensor, noise: PixelNoise, draws: int, *, seed: int = 0) -> Tensor:
    """Measurements (draws, C, H, W) with Poisson and normal noise."""
    generator = torch.Generator().manual_seed(seed)
    law = noise.fitted(x)
    mean = (x / law.gain).expand(draws, *x.shape[1:])
    counts = torch.poisson(mean, generator=generator)
    return law.gain * counts + law.sigma * torch.randn(mean.shape, generator=generator, dtype=x.dtype)


def excess(
    loss: SelfLoss,
    estimate: Estimate,
    y: Tensor,
    x: Tensor,
    noise: PixelNoise,
    *,
    weights: Tensor | None = None,
    seed: int = 1,
) -> Tensor:
    """What the loss says of every image minus the squared error of what the estimate returned, (B,)."""
    recorder = Recorder(estimate)
    risk = loss.risk(recorder, y, noise, generator=torch.Generator().manual_seed(seed), weights=weights)
    truth = (recorder.first - x).square()
    return ((risk.values - truth) * risk.weights).flatten(1).sum(1) / risk.weights.flatten(1).sum(1)


def assert_unbiased(samples: Tensor) -> None:
    """The mean of independent differences is 0 within five of its standard errors."""
    assert_moments(samples.detach().numpy(), mean=0.0)
