"""What a pixel is, given what its neighbours predict and what it measured: Gaussian closed forms.

The prediction of a pixel that looked away from it is a prior, ``x ~ N(mu, v)``; the calibrated noise is the likelihood,
``y | x ~ N(x, n)`` with ``n = a max(mu, 0) + b``. With ``D = v + n`` and ``e = y - mu``

    log p(y) = -1/2 (e^2 / D + log D + log 2 pi)        x | y ~ N(mu + v / D e, v n / D)

A site that measured nothing (a defect) keeps the prediction. A clipped one says only that its value reached the end of
the scale: it is *censored*, its likelihood is a half-line, and the moments follow from the truncated normal law.

Over several colours at one place the prior has a covariance S. With ``W = diag(known / n)`` and
``M = 1 + W^1/2 S W^1/2`` all is written in M, whose eigenvalues are at least 1: the Cholesky factor needs no jitter,
and unknown colours drop out exactly.

Source: Laine et al., NeurIPS 2019, section 3 (Gaussian prior and likelihood); Tobin, Econometrica 26(1), 1958
(censored normal law); Johnson, Kotz, Balakrishnan, Continuous univariate distributions 1, 1994, section 13.10.1
(moments of the truncated normal law).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LOG_2PI = math.log(2.0 * math.pi)
# Beyond this many sigmas on the wrong side of a clipping level the ratio of density to tail is its asymptote.
FAR_TAIL = 8.0


@dataclass(frozen=True)
class Posterior:
    """Mean and variance of the light.

    Attributes:
        mean: (B, C, H, W), linear light.
        variance: Same shape, its square.
    """

    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class Evidence:
    """What a measurement says about the light under a prediction; all (B, C, H, W) and of one shape.

    Attributes:
        light: y.
        noise: n, the variance of y given the light.
        known: False at defects.
        censored: 1 where the light's measurement reached at least y, -1 where it reached at most y, else 0.
    """

    light: Tensor
    noise: Tensor
    known: Tensor
    censored: Tensor


def nll(mean: Tensor, variance: Tensor, evidence: Evidence) -> Tensor:
    """Negative log marginal likelihood of every site, 0 at unknown ones.

    Args:
        mean: mu of the prediction, (B, C, H, W).
        variance: v, same shape.
        evidence: Of the same shape.
    """
    total = variance + evidence.noise
    error = evidence.light - mean
    gaussian = 0.5 * (error.square() / total + total.log() + LOG_2PI)
    tail = -torch.special.log_ndtr(-evidence.censored * error / total.sqrt())
    each = torch.where(evidence.censored == 0, gaussian, tail)
    return torch.where(evidence.known, each, torch.zeros_like(each))


def posterior(mean: Tensor, variance: Tensor, evidence: Evidence) -> Posterior:
    """Mean and variance of the light given prediction and measurement.

    Args:
        mean: mu of the prediction, (B, C, H, W).
        variance: v, same shape.
        evidence: Of the same shape.
    """
    total = variance + evidence.noise
    weight = variance / total
    residual = variance * evidence.noise / total
    error = evidence.light - mean
    # Censored: the measurement is averaged over all it may have been.
    side = evidence.censored
    deviation = total.sqrt()
    shift, spread = _truncated(side * error / deviation)
    error = torch.where(side == 0, error, side * deviation * shift)
    unseen = torch.where(side == 0, torch.zeros_like(total), total * spread)
    return Posterior(
        mean=torch.where(evidence.known, mean + weight * error, mean),
        variance=torch.where(evidence.known, residual + weight.square() * unseen, variance),
    )


def colour_nll(mean: Tensor, covariance: Tensor, evidence: Evidence) -> Tensor:
    """Negative log marginal likelihood of every place over its known colours, (B, 1, H, W).

    Args:
        mean: (B, C, H, W).
        covariance: S of the prior, (B, C, C, H, W).
        evidence: (B, C, H, W); censored sites count as unknown.
    """
    weights, root, factor = _whitened(covariance, evidence)
    scaled = root * torch.where(weights > 0, _last(evidence.light - mean), torch.zeros_like(weights))
    solved = torch.linalg.solve_triangular(factor, scaled[..., None], upper=False)[..., 0]
    log_det = 2.0 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log_noise = torch.where(weights > 0, _last(evidence.noise).log() + LOG_2PI, torch.zeros_like(weights)).sum(-1)
    each: Tensor = 0.5 * (solved.square().sum(-1) + log_det + log_noise)
    return each[:, None]


def colour_posterior(mean: Tensor, covariance: Tensor, evidence: Evidence) -> Posterior:
    """Mean and variance of every colour's light given all colours measured at its place.

    Args:
        mean: (B, C, H, W).
        covariance: S of the prior, (B, C, C, H, W).
        evidence: (B, C, H, W); censored sites count as unknown.
    """
    weights, root, factor = _whitened(covariance, evidence)
    prior = _last_two(covariance)
    gain = torch.linalg.solve_triangular(factor, root[..., None] * prior, upper=False)  # L^-1 W^1/2 S
    scaled = root * torch.where(weights > 0, _last(evidence.light - mean), torch.zeros_like(weights))
    solved = torch.linalg.solve_triangular(factor, scaled[..., None], upper=False)
    shift = (gain.transpose(-1, -2) @ solved)[..., 0]
    variance = prior.diagonal(dim1=-2, dim2=-1) - gain.square().sum(-2)
    return Posterior(mean=mean + shift.movedim(-1, 1), variance=variance.clamp(min=0.0).movedim(-1, 1))


def _whitened(covariance: Tensor, evidence: Evidence) -> tuple[Tensor, Tensor, Tensor]:
    """W, its root, (B, H, W, C), and the Cholesky factor of M."""
    measured = evidence.known & (evidence.censored == 0)
    weights = _last(torch.where(measured, 1.0 / evidence.noise, torch.zeros_like(evidence.noise)))
    root = weights.sqrt()
    matrix = root[..., :, None] * _last_two(covariance) * root[..., None, :]
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return weights, root, torch.linalg.cholesky(matrix + identity)


def _last(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H, W, C)."""
    return x.movedim(1, -1)


def _last_two(x: Tensor) -> Tensor:
    """(B, C, C, H, W) to (B, H, W, C, C)."""
    return x.permute(0, 3, 4, 1, 2)


def _truncated(start: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of a standard normal value known to be at least ``start``."""
    near = start.clamp(max=FAR_TAIL)
    hazard = torch.exp(-0.5 * near.square() - 0.5 * LOG_2PI - torch.special.log_ndtr(-near))
    variance = 1.0 + near * hazard - hazard.square()
    # Far out there is nothing left to subtract from: the asymptotic series of both (Abramowitz, Stegun 26.2.12).
    far = start.clamp(min=FAR_TAIL)
    mean = torch.where(start > FAR_TAIL, far + 1.0 / far - 2.0 / far**3, hazard)
    return mean, torch.where(start > FAR_TAIL, far**-2 - 6.0 * far**-4, variance.clamp(min=0.0))
