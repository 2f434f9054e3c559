"""Few electrons and heavy tails: the posterior by quadrature over the prior, with the exact probability of the code.

With few electrons shot noise is a skewed Poisson law, and real read noise has tails; the closed forms know neither.
Here ``p(code | light)`` is tabulated once for every colour plane, counts summed over, rounding and tail included. The
integrals over the light are trapezoidal sums around the Gaussian answer, on nodes that are dense there and reach out to
the prior: for smooth integrands that fall off at both ends their error falls exponentially with the number of nodes.
Light below zero, which the Gaussian prior allows, counts as no light.

Source: Trefethen, Weideman, The exponentially convergent trapezoidal rule, SIAM Review 56(3), 2014.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special, stats
from torch import Tensor

from noise_models.errors import ProfileError
from noise_models.sensor import SensorNoise, Tail
from physrestore.selfsup.posterior import LOG_2PI, Posterior

# Nodes of the integral over the light. Near the Gaussian answer they are usually 0.4 of its std apart; where a vague
# prior and a sharp measurement disagree badly 1.4, and there the rule's error is 2 exp(-2 pi^2 / 1.4^2) = 8e-5.
NODES = 48
# Nodes are evenly spaced for this many stds around the answer, and ever wider beyond.
EVEN_REACH = 11.0
# They reach the prediction and this many of its stds further.
PRIOR_REACH = 6.0
# Sites at once: bounds the memory to about 50 MB a temporary.
SITES = 1 << 17
# Steps of the table along the root of the light, in stds of shot noise there: a linear rule for log p then errs by
# at most 1e-3 nats.
ROOT_STEP = 0.1
# Steps along the codes, in stds of the read noise, where these are more than one code: errs by 5e-3 nats at most.
CODE_STEP = 0.2
# The table holds codes up to this many stds from the means it holds; less probable ones take its edge.
CODE_SIGMAS = 12.0
# Nodes of the mixture over a lognormal law's width.
MIXTURE_NODES = 24
# Quantiles of a tail that are tabulated: steps of 0.005 in log p.
QUANTILE_NODES = 1 << 17
# Log probabilities end here; heavy tails stay far above.
FLOOR = 1e-300


@dataclass(frozen=True, eq=False)
class CodeTable:
    """``log p(code | mean)`` of one colour plane.

    Attributes:
        log_prob: (means, codes) float64; means are equally spaced in their root.
        first_code: Code above black of the first column [DN], a whole number.
        step: Between rows, in the root of the mean [DN^1/2].
        stride: Between columns [DN], a whole number.

    Raises:
        ProfileError: the gain is not known.
    """

    log_prob: Tensor
    first_code: int
    step: float
    stride: int

    @classmethod
    def of(cls, noise: SensorNoise, plane: str, *, highest_mean_dn: float) -> Self:
        """Tabulate means above black from 0 to the highest; the black level counts as a whole code."""
        own = noise.planes[plane]
        if own.gain is None:
            raise ProfileError(f"The likelihood of {plane} needs its gain K, which is unknown. Calibrate with flats.")
        gain = own.gain.value
        column = 0.0 if noise.column_noise_dn is None else noise.column_noise_dn.value
        std = math.hypot(own.read_noise_dn.value, column)
        step = ROOT_STEP * math.sqrt(gain) / 2.0
        roots = np.arange(math.ceil(math.sqrt(highest_mean_dn) / step) + 2) * step
        reach = CODE_SIGMAS * math.sqrt(float(own.variance(roots[-1] ** 2)))
        first = math.floor(-CODE_SIGMAS * std) - 1
        stride = max(1, int(CODE_STEP * std))
        codes = np.arange(first, math.ceil(roots[-1] ** 2 + reach) + stride + 1, stride)
        highest_count = (roots[-1] ** 2 + CODE_SIGMAS * math.sqrt(gain) * roots[-1]) / gain + CODE_SIGMAS**2
        counts = np.arange(math.ceil(highest_count) + 1)
        poisson = stats.poisson.pmf(counts, (roots**2 / gain)[:, None])
        table = poisson @ _windows(codes - gain * counts[:, None], std, noise.tail)
        return cls(torch.from_numpy(np.log(np.maximum(table, FLOOR))), first, step, stride)

    def log_likelihood(self, code_dn: Tensor, mean_dn: Tensor) -> Tensor:
        """Log probabilities, linear between the table's entries; both [DN] above black, broadcasting."""
        rows, columns = self.log_prob.shape
        across = ((code_dn - self.first_code) / self.stride).clamp(0, columns - 1).double()
        down = (mean_dn.clamp(min=0.0).sqrt() / self.step).clamp(max=rows - 1).double()
        j, i = across.floor().clamp(max=columns - 2).long(), down.floor().clamp(max=rows - 2).long()
        flat = self.log_prob.flatten().to(code_dn.device)
        index = i * columns + j
        u, t = across - j, down - i
        upper = torch.lerp(flat[index], flat[index + 1], u.expand(index.shape))
        lower = torch.lerp(flat[index + columns], flat[index + columns + 1], u.expand(index.shape))
        return torch.lerp(upper, lower, t.expand(index.shape))


def integrate(
    mean: Tensor,
    variance: Tensor,
    noise: Tensor,
    light: Tensor,
    log_likelihood: Callable[[Tensor], Tensor],
    *,
    nodes: int = NODES,
) -> tuple[Tensor, Posterior]:
    """Marginal likelihood and posterior of Gaussian priors under any likelihood.

    Args:
        mean: mu of the prior, (N,).
        variance: v, (N,).
        noise: Variance of the Gaussian law nearest to the likelihood, (N,); only places the nodes.
        light: What that law says was measured, (N,); only places the nodes.
        log_likelihood: Of light values, (N, nodes) to (N, nodes).
        nodes: How many.

    Returns:
        log p(y), (N,), and the posterior, (N,) each.
    """
    mean, variance, noise, light = (x.double()[:, None] for x in (mean, variance, noise, light))
    total = variance + noise
    centre, std = mean + variance / total * (light - mean), (variance * noise / total).sqrt()
    reach = (centre - mean).abs() / std + PRIOR_REACH * (total / noise).sqrt()
    half = EVEN_REACH * torch.asinh(reach / EVEN_REACH)
    # x(u) = centre + std A sinh(u / A), u evenly spaced.
    u = half * torch.linspace(-1.0, 1.0, nodes, dtype=half.dtype, device=half.device) / EVEN_REACH
    x = centre + std * EVEN_REACH * torch.sinh(u)
    width = std * torch.cosh(u) * (2.0 * half / (nodes - 1))
    prior = -0.5 * ((x - mean).square() / variance + variance.log() + LOG_2PI)
    terms = prior + width.log() + log_likelihood(x)
    log_marginal = torch.logsumexp(terms, dim=1)
    share = (terms - log_marginal[:, None]).exp()
    expected = (share * x).sum(1)
    return log_marginal, Posterior(expected, (share * (x - expected[:, None]).square()).sum(1))


def exact_posterior(
    mean: Tensor, variance: Tensor, noise: Tensor, light: Tensor, *, table: CodeTable, span_dn: float
) -> Posterior:
    """The posterior of sites of one plane under its table; (N,) each, linear light, dtype of the input.

    Args:
        mean: mu of the prediction.
        variance: v.
        noise: n, the Gaussian law's variance.
        light: y, the row's offset subtracted.
        table: Of the plane.
        span_dn: White minus black [DN].
    """
    parts = []
    for low in range(0, mean.numel(), SITES):
        m, v, n, y = (x[low : low + SITES] for x in (mean, variance, noise, light))
        code = (y.double() * span_dn)[:, None]
        _, part = integrate(m, v, n, y, lambda x, code=code: table.log_likelihood(code, x * span_dn))  # type: ignore[misc]
        parts.append(part)
    if not parts:
        return Posterior(mean, variance)
    return Posterior(torch.cat([p.mean for p in parts]).to(mean), torch.cat([p.variance for p in parts]).to(mean))


def _windows(distance: NDArray[np.float64], std: float, tail: Tail) -> NDArray[np.float64]:
    """Probability that read noise, rounded, lands a distance [DN] from its mean."""
    if tail.kind == "gaussian":
        return _between(distance, std, special.ndtr)
    assert tail.shape is not None
    shape = tail.shape.value
    if tail.kind == "tukey":
        unit = math.sqrt(float(stats.tukeylambda.var(shape)))
        return _between(distance * unit, std, _tukey_cdf(shape), window=unit)
    # Lognormal widths whose mean square is the declared variance: a mixture of Gaussian laws.
    nodes, weights = np.polynomial.hermite_e.hermegauss(MIXTURE_NODES)
    widths = std * np.exp(shape * nodes - shape**2)
    shares = weights / weights.sum()
    return np.asarray(sum(w * _between(distance, s, special.ndtr) for w, s in zip(shares, widths, strict=True)))


def _between(
    distance: NDArray[np.float64],
    std: float,
    cdf: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    window: float = 1.0,
) -> NDArray[np.float64]:
    """Probability of a window around a distance, for symmetric laws: in the lower tail, where precision is kept."""
    mirrored = -np.abs(distance)
    return np.asarray(cdf((mirrored + 0.5 * window) / std) - cdf((mirrored - 0.5 * window) / std))


def _tukey_cdf(shape: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Distribution function of a Tukey-lambda law, interpolated in its quantiles: scipy's takes minutes for a table."""
    if shape == 0.0:
        return special.expit  # type: ignore[no-any-return]
    log_p = np.linspace(math.log(FLOOR), math.log(0.5), QUANTILE_NODES)
    quantiles = (np.expm1(shape * log_p) - np.expm1(shape * np.log1p(-np.exp(log_p)))) / shape

    def lower(z: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.exp(np.interp(z, quantiles, log_p, left=-np.inf)))

    return lambda z: np.where(z <= 0.0, lower(np.minimum(z, 0.0)), 1.0 - lower(-np.maximum(z, 0.0)))
