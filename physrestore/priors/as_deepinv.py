"""The way back: a prior as a deepinv ``Denoiser``. Importing this module imports deepinv: do so on use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from physrestore.deepinv_host import load_deepinv
from physrestore.priors.base import Prior

Denoiser: Any = load_deepinv().models.Denoiser


class PriorDenoiser(Denoiser):  # type: ignore[misc]  # deepinv has no types
    """A prior for deepinv's ``PnP``, ``RED`` and ``ScorePrior``, and through them for its solvers.

    Attributes:
        prior: Called with what deepinv gives. Its ``module``, where it has one, is registered: ``.to()`` and
            ``.parameters()`` of this denoiser reach it.
    """

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior
        module = getattr(prior, "module", None)
        if isinstance(module, torch.nn.Module):
            self.module = module

    def forward(self, x: Tensor, sigma: Tensor | float, **_: Any) -> Tensor:
        """Denoise.

        Args:
            x: (B, C, H, W).
            sigma: A number, (B,), or a map that broadcasts to ``x``. deepinv's optimisers take a bare map for a list
                of levels by iteration: give them ``[map]``.
        """
        return self.prior.denoise(x, sigma)


def as_deepinv(prior: Prior) -> PriorDenoiser:
    """A deepinv denoiser that calls ``prior``."""
    return PriorDenoiser(prior)
