"""Noise2Void: predict sites that were hidden, with masks that know the colour filter array and row noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore.selfsup.losses.base import Estimate, Risk, SelfLoss, at_least, refuse_rows, site_weights
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from physrestore.selfsup.losses.sites import random_rows, random_sites, replaced


@dataclass(frozen=True)
class Noise2Void(SelfLoss):
    """``|f(y with J replaced) - y|^2`` at the hidden sites J, less the noise there.

    Hidden sites get the value of a visible site of the same colour. The noise of a hidden site is independent of all
    that f sees, so the loss is the squared error of f there, *when it is fed masked measurements*; fed the whole, f
    does better. As a score it compares networks without knowing the noise (the noise adds the same to all).

    Attributes:
        cfa: Of mosaics, from their top-left; None: every channel is a picture of its own.
        share: Of the sites or rows that are hidden.
        hide: "sites", or "rows": whole rows, for noise that rows share.

    Source:
        Krull, Buchholz & Jug, "Noise2Void", CVPR 2019; Batson & Royer, "Noise2Self", ICML 2019 (the law); Broaddus et
        al., "Structured Noise2Void", ISBI 2020 (rows).
    """

    cfa: Cfa | None = None
    share: float = 0.06
    hide: Literal["sites", "rows"] = "sites"

    def __post_init__(self) -> None:
        """Refuse shares that hide nothing or everything."""
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
        """As in `SelfLoss`; the weights of visible sites are 0.

        Raises:
            ValueError: as there; or single sites are hidden and rows share an offset.
        """
        if self.hide == "sites":
            refuse_rows(noise, "Noise2Void of single sites")
        mask = random_rows if self.hide == "rows" else random_sites
        hidden = mask(y, share=self.share, generator=generator)
        masked, filled = replaced(y, hidden, cfa=self.cfa, generator=generator)
        # Sites that found no donor are visible: they do not count.
        seen = estimate(masked, noise.std(masked))
        values = (seen - y).square() - noise.expected_variance(y)
        return Risk(values, site_weights(weights, y) * filled)
