"""Binomial thinning: the electrons of one exposure shared out between two, for noise dominated by photons."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physrestore.selfsup.losses.base import Estimate, Risk, SelfLoss, at_least, refuse_rows, site_weights
from physrestore.selfsup.losses.pixel_noise import PixelNoise

# Variance of rounding a smooth density to whole electrons.
ROUNDING_VARIANCE = 1.0 / 12.0


@dataclass(frozen=True)
class Thinned(SelfLoss):
    """``|f(y_1) - y_2|^2`` of two exposures made of one, less the noise of ``y_2``.

    With ``z = (y + sigma^2 / gain) / gain`` electrons, whose mean equals its variance, ``z_2`` is drawn binomially with
    the share p and ``z_1`` is what remains: independent where z is Poisson. The loss then is the squared error of f at
    ``1 - p`` of the exposure. Exact for pure photon noise (whole electrons). Read noise makes z a number that is not
    whole: it is rounded, the variance of rounding counted as read noise, and the two parts stay uncorrelated; the third
    moment of the read noise is that of photons then, which matters below some ten electrons.

    Attributes:
        share: p, of the electrons that make the target.

    Source:
        Monroy, Bacca & Tachella, "Generalized Recorrupted-to-Recorrupted", CVPR 2025 (Poisson); the shift by
        ``sigma^2 / gain`` after Snyder et al., JOSA A 10(5), 1993.
    """

    share: float = 0.2

    def __post_init__(self) -> None:
        """Refuse a share that leaves one exposure without electrons."""
        at_least(self.share, 0.0, "share", below=1.0)

    def risk(
        self,
        estimate: Estimate,
        y: Tensor,
        noise: PixelNoise,
        *,
        generator: torch.Generator,
        weights: Tensor | None = None,
    ) -> Risk:
        """As in `SelfLoss`.

        Raises:
            ValueError: as there; the gain is 0 somewhere, or rows share an offset.
        """
        refuse_rows(noise, "Thinned")
        law = noise.fitted(y)
        if not bool((law.gain > 0).all()):
            raise ValueError("Thinning counts electrons, but the gain is 0 somewhere. Use Recorrupted for such noise.")
        offset = _offset(law)
        electrons = ((y.detach() + offset) / law.gain).round().clamp(min=0.0)
        given = _binomial(electrons, self.share, generator)
        first = law.gain * (electrons - given) / (1.0 - self.share) - offset
        second = law.gain * given / self.share - offset
        # gain^2 z_2 / p^2 has the mean of the variance of y_2.
        own = law.gain**2 * given / self.share**2
        std = (noise.variance(first) / (1.0 - self.share)).sqrt()
        return Risk((estimate(first, std) - second).square() - own, site_weights(weights, y))


def _offset(law: PixelNoise) -> Tensor:
    """Signal that would have the signal-independent variance as photon noise, rounding of read noise included."""
    rounding = torch.where(law.sigma > 0, ROUNDING_VARIANCE * law.gain, 0.0)
    return law.sigma**2 / law.gain + rounding


def _binomial(count: Tensor, share: float, generator: torch.Generator) -> Tensor:
    where = count.to(generator.device)
    return torch.binomial(where, torch.full_like(where, share), generator=generator).to(count.device)
