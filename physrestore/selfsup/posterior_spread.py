"""The predicted variance, corrected on the frame at hand by pixels that the prediction never saw.

A network learns its own error slowly where the noise hides it, and another folder is not this frame. With the noise law
known, unseen pixels tell: ``v' = v exp(c . f)`` with a few features f of a site, and c by maximum likelihood of
``y - mu ~ N(0, v' + n)``. Few numbers from many pixels: the fit cannot follow the noise of single sites.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# More sites tell nothing new of four numbers.
MOST_SITES = 100_000
# An error beyond this many of its predicted sigmas counts as one of so many: a missed edge must not widen all.
CLIP_SIGMAS = 4.0
# The correction stays within this factor both ways.
LARGEST_FACTOR = 10.0
# Weak pull towards no correction, in nats: a frame that says nothing changes nothing.
PULL = 10.0
STEPS = 40


@dataclass(frozen=True)
class SpreadCorrection:
    """How to change predicted variances.

    Attributes:
        coefficients: Of 1, log(v / n), log(n / darkest n) and the square of log(v / n), (4,).
        darkest: The lowest n of the frame.
    """

    coefficients: Tensor
    darkest: float

    @classmethod
    def fit(cls, error: Tensor, variance: Tensor, noise: Tensor, sites: Tensor) -> SpreadCorrection:
        """Maximum likelihood over unseen sites; all of one shape.

        Args:
            error: y - mu, the row's offset taken out.
            variance: v.
            noise: n.
            sites: Those to be used, bool.

        Raises:
            ValueError: no sites.
        """
        if not bool(sites.any()):
            raise ValueError("No site is left to correct the spread by: all are clipped or defective.")
        e, v, n = (x[sites].double() for x in (error, variance, noise))
        step = max(1, e.numel() // MOST_SITES)
        e, v, n = e[::step], v[::step], n[::step]
        darkest = float(noise[sites].min())
        squares = torch.minimum(e.square(), CLIP_SIGMAS**2 * (v + n))
        design = _features(v, n, darkest)
        coefficients = torch.zeros(design.shape[0], dtype=torch.float64, device=e.device, requires_grad=True)
        search = torch.optim.LBFGS([coefficients], max_iter=STEPS, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            search.zero_grad()
            total = v * _factor(coefficients, design) + n
            value = 0.5 * (squares / total + total.log()).sum() / e.numel()
            value = value + PULL * coefficients.square().sum() / e.numel()
            value.backward()  # type: ignore[no-untyped-call]  # torch types it not
            return value

        with torch.enable_grad():
            search.step(loss)  # type: ignore[no-untyped-call]
        return cls(coefficients.detach(), darkest)

    def apply(self, variance: Tensor, noise: Tensor) -> Tensor:
        """The corrected variance, dtype and shape of the given one."""
        v, n = variance.double(), noise.double()
        return (v * _factor(self.coefficients, _features(v, n, self.darkest))).to(variance)


def _features(variance: Tensor, noise: Tensor, darkest: float) -> Tensor:
    """(4, ...): constant, roughness, brightness, roughness squared; each of order one."""
    roughness = (variance / noise).log() / 4.0
    brightness = (noise / darkest).log() / 4.0
    return torch.stack([torch.ones_like(roughness), roughness, brightness, roughness.square()])


def _factor(coefficients: Tensor, features: Tensor) -> Tensor:
    exponent = torch.tensordot(coefficients, features, dims=1)
    limit = torch.tensor(LARGEST_FACTOR, dtype=exponent.dtype).log().to(exponent.device)
    return (limit * torch.tanh(exponent / limit)).exp()
