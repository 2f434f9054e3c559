"""How probable an integer code is, given the mean: exactly, and by the Gaussian approximation.

The code is ``clip(round(K N + black + r), low, high)`` with N ~ Poisson(mean / K) and Gaussian r. Rounding and clipping
are part of the probability: a code is the interval of one DN around it, the lowest and the highest code are half-lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from noise_models.errors import ProfileError
from noise_models.sensor import SensorNoise

# The sum over electron counts runs over ten sigma of what contributes (relative remainder below 1e-20) and a margin
# that covers the skewed Poisson law at small means.
SUM_SIGMAS = 10.0
SUM_MARGIN = 20.0
# Counts may be skipped up to half a sigma of a smooth summand: the error of such a sum is exp(-8 pi^2) (Poisson's
# summation formula).
NODES_PER_SIGMA = 2.0
# Newton steps to the most probable count; they converge from above, one unit of log count a step at worst.
NEWTON_STEPS = 40
# A mean of zero electrons would have the log-likelihood's slope divide by zero.
MIN_ELECTRONS = 1e-12


@dataclass(frozen=True)
class CodeLikelihood:
    """Probabilities of the codes of one site.

    Attributes:
        gain: System gain K [DN/e-].
        noise_dn: Gaussian noise before rounding, std [DN]; of a single site also row and column noise.
        black_level_dn: Mean code without light [DN].
        low: Lowest code that the camera writes.
        high: Highest code.

    Raises:
        ValueError: gain or noise not positive, or codes that do not rise.

    >>> law = CodeLikelihood(gain=1.0, noise_dn=2.0, black_level_dn=100.0, low=0, high=16383)
    >>> round(float(law.log_prob(torch.tensor(150), torch.tensor(50.0))), 3)
    -2.915
    """

    gain: float
    noise_dn: float
    black_level_dn: float
    low: int
    high: int

    def __post_init__(self) -> None:
        """Check the numbers once."""
        if not (self.gain > 0 and self.noise_dn > 0 and self.low < self.high):
            raise ValueError(
                f"A code needs a positive gain and noise and rising limits, not K {self.gain:g}, noise "
                f"{self.noise_dn:g} DN, codes {self.low}..{self.high}."
            )

    @classmethod
    def of(cls, noise: SensorNoise, plane: str, *, high: int, low: int = 0) -> Self:
        """The law of one site of a plane; row and column noise count as its own.

        Raises:
            ProfileError: the gain is not known.
        """
        values = noise.planes[plane]
        if values.gain is None:
            raise ProfileError(f"The likelihood of {plane} needs its gain K, which is unknown. Calibrate with flats.")
        std = math.sqrt(values.read_noise_dn.value**2 + noise.line_variance())
        return cls(values.gain.value, std, values.black_level_dn.value, low, high)

    def log_prob(self, codes: Tensor, mean_dn: Tensor) -> Tensor:
        """Exact log probability, by summing over electron counts; differentiable in the mean.

        About 50 counts are summed for a code inside the scale, up to some thousands for a clipped one: evaluate
        histograms, not whole frames.

        Args:
            codes: Whole numbers within ``low..high``.
            mean_dn: Mean above black [DN]; broadcasts with ``codes``. Negative means count as zero.

        Returns:
            Float64, of the broadcast shape.

        Raises:
            ValueError: codes outside ``low..high``.
        """
        codes, mean_dn = self._checked(codes, mean_dn)
        flat_codes, electrons = codes.flatten(), (mean_dn.flatten() / self.gain).clamp(min=MIN_ELECTRONS)
        clipped = (flat_codes == self.low) | (flat_codes == self.high)
        result = electrons.new_zeros(electrons.shape)
        for group in (clipped, ~clipped):  # the sums differ much in length
            if group.any():
                result = result.masked_scatter(group, self._sum(flat_codes[group], electrons[group]))
        return result.reshape(codes.shape)

    def gaussian_log_prob(self, codes: Tensor, mean_dn: Tensor) -> Tensor:
        """`log_prob` with the shot noise taken as Gaussian of variance ``K mean``; good for many electrons."""
        codes, mean_dn = self._checked(codes, mean_dn)
        std = (self.gain * mean_dn.clamp(min=0.0) + self.noise_dn**2).sqrt()
        return self._log_window(codes, mean_dn, std)

    def _checked(self, codes: Tensor, mean_dn: Tensor) -> tuple[Tensor, Tensor]:
        shape = np.broadcast_shapes(codes.shape, mean_dn.shape)
        codes, mean_dn = codes.double().expand(shape), mean_dn.double().expand(shape)
        if codes.numel() and bool(((codes < self.low) | (codes > self.high) | (codes != codes.round())).any()):
            raise ValueError(
                f"Codes must be whole numbers within {self.low}..{self.high}; they run from {float(codes.min()):g} to "
                f"{float(codes.max()):g}. Pass the mosaic as stored."
            )
        return codes, mean_dn

    def _sum(self, codes: Tensor, electrons: Tensor) -> Tensor:
        """Log of the sum over counts n of Poisson(n) P(code | n)."""
        start, stride, length = self._counts(codes, electrons.detach())
        n = start[:, None] + stride[:, None] * torch.arange(length, dtype=torch.float64, device=codes.device)
        log_poisson = torch.xlogy(n, electrons[:, None]) - electrons[:, None] - torch.lgamma(n.clamp(min=0.0) + 1.0)
        log_code = self._log_window(codes[:, None], self.gain * n, torch.full_like(n, self.noise_dn))
        terms = (log_poisson + log_code).masked_fill(n < 0, -torch.inf)
        return torch.logsumexp(terms, dim=1) + stride.log()

    def _counts(self, codes: Tensor, electrons: Tensor) -> tuple[Tensor, Tensor, int]:
        """First count, stride and number of counts that carry the sum, for every code."""
        low, high = codes == self.low, codes == self.high
        edge = (codes - self.black_level_dn + 0.5 * low.double() - 0.5 * high.double()) / self.gain
        # A clipped code only pulls the count towards it when the mean lies on the other side of its edge.
        target = torch.where(low, edge.minimum(electrons), torch.where(high, edge.maximum(electrons), edge))
        spread = self.noise_dn / self.gain
        likely = _most_probable_count(electrons, target, spread)
        scale = (1.0 / likely + 1.0 / spread**2).rsqrt()
        reach = torch.where(low | high, likely.sqrt(), scale) * SUM_SIGMAS + 0.5 / self.gain + SUM_MARGIN
        stride = (scale / NODES_PER_SIGMA).floor().clamp(min=1.0)
        start = (likely - reach).floor()
        return start, stride, int((2.0 * reach / stride).max()) + 2

    def _log_window(self, codes: Tensor, mean_dn: Tensor, std: Tensor) -> Tensor:
        """Log probability that a Gaussian value is rounded and clipped to the code."""
        middle = codes - self.black_level_dn - mean_dn
        upper = torch.where(codes == self.high, torch.inf, (middle + 0.5) / std)
        lower = torch.where(codes == self.low, -torch.inf, (middle - 0.5) / std)
        # In the left tail, where Phi keeps its precision.
        mirrored = middle > 0
        near, far = torch.where(mirrored, -lower, upper), torch.where(mirrored, -upper, lower)
        log_near = torch.special.log_ndtr(near)
        open_ended = torch.isinf(far)
        log_far = torch.special.log_ndtr(torch.where(open_ended, near - 1.0, far))
        closed = log_near + torch.log(-torch.expm1(log_far - log_near))
        return torch.where(open_ended, log_near, closed)


def _most_probable_count(electrons: Tensor, target: Tensor, spread: float) -> Tensor:
    """Where Poisson(n; electrons) exp(-(n - target)^2 / 2 spread^2) peaks.

    There ln(electrons / n) = (n - target) / spread^2.
    """
    log_n = electrons.maximum(target).clamp(min=1.0).log()
    for _ in range(NEWTON_STEPS):
        n = log_n.exp()
        log_n = log_n + (electrons.log() - log_n - (n - target) / spread**2) / (1.0 + n / spread**2)
    return log_n.exp()
