"""The sum over electron counts behind the exact likelihood of a code, at every site of a picture.

A code says that the value before rounding lay between two edges; ``q(n)`` is the probability of that when n electrons
were counted. With N Poisson of mean m, ``p(m) = sum_n Poisson(n; m) q(n)``, and the derivatives of ``-log p`` are
moments of N given the code: ``1 - E[N] / m`` and ``(E[N] - Var[N]) / m^2``. For q log-concave, and a Gaussian between
two edges is, ``-log p`` is convex.

Source:
    E. Chouzenoux, A. Jezierska, J.-C. Pesquet, H. Talbot, A convex approach for image restoration with exact
    Poisson-Gaussian likelihood, SIAM J. Imaging Sci. 8(4), 2015 (convexity; the derivatives as such moments).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# The summand falls at least like a Gaussian around its peak; beyond so many sigma it holds less than 1e-15.
REACH_SIGMAS = 8.5
# The Poisson law's own tail is longer than a Gaussian's at few electrons: so many counts more.
POISSON_MARGIN = 20.0
# Counts may be skipped where the summand is smooth: a sum with this many nodes a sigma is off by exp(-2 pi^2 1.25^2),
# 4e-14, if the law is near enough to a Gaussian (from this many electrons on).
NODES_PER_SIGMA = 1.25
LEAST_SKIPPED = 40.0
# Steps to the most probable count; Newton's method on a concave function, from above.
PEAK_STEPS = 40
# Sites times counts that are held in memory at once: some 100 MB with all intermediates.
CHUNK = 2**20


@dataclass(frozen=True)
class Window:
    """What a code says of the value before rounding, in electrons, for every site of a flat list, float64.

    Attributes:
        lower: Lower edge; minus infinity for the lowest code.
        upper: Upper edge, above; infinity for the highest code.
        spread: Std of the Gaussian noise, positive.
    """

    lower: Tensor
    upper: Tensor
    spread: Tensor

    def __getitem__(self, sites: Tensor) -> Window:
        return Window(self.lower[sites], self.upper[sites], self.spread[sites])

    def log_prob(self, value: Tensor) -> Tensor:
        """Log of the Gaussian's mass between the edges around ``value`` (sites, counts)."""
        spread = self.spread[:, None]
        upper, lower = (self.upper[:, None] - value) / spread, (self.lower[:, None] - value) / spread
        # In the left tail, where the distribution function keeps its precision.
        mirrored = upper + lower > 0
        near, far = torch.where(mirrored, -lower, upper), torch.where(mirrored, -upper, lower)
        log_near = torch.special.log_ndtr(near)
        open_ended = torch.isinf(far)
        log_far = torch.special.log_ndtr(torch.where(open_ended, near - 1.0, far))
        return torch.where(open_ended, log_near, log_near + torch.log(-torch.expm1(log_far - log_near)))


@dataclass(frozen=True)
class Derivatives:
    """``-log p`` of every site and its first two derivatives in the mean count.

    Attributes:
        value: ``-log p``.
        first: Per electron.
        second: Per squared electron, not negative.
    """

    value: Tensor
    first: Tensor
    second: Tensor


def negative_log_likelihood(electrons: Tensor, window: Window) -> Derivatives:
    """``-log p`` and its derivatives.

    Args:
        electrons: Mean counts, flat, float64, positive.
        window: Of as many sites.
    """
    start, stride, length = _counts(electrons, window)
    parts = [torch.empty_like(electrons) for _ in range(3)]
    for sites in _groups(length):
        n = start[sites, None] + stride[sites, None] * torch.arange(
            int(length[sites].max()), dtype=torch.float64, device=electrons.device
        )
        for part, values in zip(parts, _moments(n, stride[sites], electrons[sites], window[sites]), strict=True):
            part[sites] = values
    return Derivatives(*parts)


def _groups(length: Tensor) -> Iterator[Tensor]:
    """Sites with sums of like length, as many at a time as fit in `CHUNK`: those of clipped codes can be very long."""
    octave = length.double().log2().ceil().long()
    for power in range(int(octave.max()) + 1):
        sites = (octave == power).nonzero()[:, 0]
        if sites.numel():
            yield from sites.tensor_split((sites.numel() << power) // CHUNK + 1)


def _moments(n: Tensor, stride: Tensor, electrons: Tensor, window: Window) -> tuple[Tensor, Tensor, Tensor]:
    """The three numbers of every site from its counts n (sites, counts)."""
    mean = electrons[:, None]
    log_poisson = n * mean.log() - mean - torch.lgamma(n + 1.0)
    terms = log_poisson + window.log_prob(n)
    total = torch.logsumexp(terms, dim=1)
    share = (terms - total[:, None]).exp()
    expected = (share * n).sum(dim=1)
    spread = (share * (n - expected[:, None]).square()).sum(dim=1)
    # E[N] - Var[N] = E[N]^2 - E[N (N - 1)]: the latter does not cancel where there is hardly an electron.
    few = expected.square() - (share * n * (n - 1.0)).sum(dim=1)
    second = torch.where(electrons < 1.0, few, expected - spread) / electrons.square()
    return -total - stride.log(), 1.0 - expected / electrons, second.clamp(min=0.0)


def _counts(electrons: Tensor, window: Window) -> tuple[Tensor, Tensor, Tensor]:
    """First count, stride, and number of counts that carry the sum, for every site."""
    low, high = torch.isinf(window.lower), torch.isinf(window.upper)
    inside = ~(low | high)
    middle = torch.where(low, window.upper, torch.where(high, window.lower, 0.5 * (window.lower + window.upper)))
    half_width = torch.where(inside, 0.5 * (window.upper - window.lower), 0.0)
    # A clipped code only pulls the count where the mean lies on the other side of its edge.
    target = torch.where(low, middle.minimum(electrons), torch.where(high, middle.maximum(electrons), middle))
    likely = _most_probable_count(electrons, target, window.spread)
    by_light = REACH_SIGMAS * likely.sqrt() + POISSON_MARGIN
    by_code = torch.where(inside, REACH_SIGMAS * window.spread, torch.inf)
    reach = torch.minimum(by_light, by_code) + half_width + 1.0
    scale = (1.0 / likely + 1.0 / window.spread.square()).rsqrt()
    stride = torch.where(likely < LEAST_SKIPPED, 1.0, (scale / NODES_PER_SIGMA).floor().clamp(min=1.0))
    start = (likely - reach).floor().clamp(min=0.0)
    return start, stride, ((likely + reach - start) / stride).ceil().long() + 1


def _most_probable_count(electrons: Tensor, target: Tensor, spread: Tensor) -> Tensor:
    """Where ``Poisson(n; electrons) exp(-(n - target)^2 / 2 spread^2)`` peaks.

    There ``ln(electrons / n) spread^2 = n - target``.
    """
    log_n = electrons.maximum(target).clamp(min=1.0).log()
    for _ in range(PEAK_STEPS):
        n = log_n.exp()
        step = (electrons.log() - log_n - (n - target) / spread.square()) / (1.0 + n / spread.square())
        log_n = log_n + step
        if bool((step.abs() < 1e-3).all()):
            break
    return log_n.exp()
