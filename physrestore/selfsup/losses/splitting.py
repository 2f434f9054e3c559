"""Measurement splitting: reconstruct from some measurements, judge by the others; through any operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore.operators.adapt import as_operator
from physrestore.operators.base import LinearOperator
from physrestore.selfsup.losses.base import Risk, at_least, refuse_rows, site_weights
from physrestore.selfsup.losses.operator_loss import OperatorLoss, Reconstruct
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from physrestore.selfsup.losses.sites import random_sites, replaced


class Masked(LinearOperator):
    """``mask * A``: the measurements of another operator that were kept, zero elsewhere.

    Attributes:
        inner: The operator A.
        mask: 0 or 1, (B|1, C|1, H, W) of the measurement.
    """

    def __init__(self, inner: Any, mask: Tensor) -> None:
        """Noise and sensor model are those of ``inner``."""
        operator = as_operator(inner)
        super().__init__(noise_model=operator.noise_model, sensor_model=operator.sensor_model)
        self.inner, self.mask = operator, mask

    def A(self, x: Tensor, **params: Any) -> Tensor:  # noqa: N802 (deepinv's name)
        """Image to the measurements that were kept."""
        kept: Tensor = self.mask * self.inner.A(x, **params)
        return kept

    def A_adjoint(self, y: Tensor, **params: Any) -> Tensor:  # noqa: N802 (the same)
        """Measurements to image; those that were not kept do not count."""
        return self.inner.A_adjoint(self.mask * y, **params)

    def gram_diagonal(self, weights: Tensor, y: Tensor) -> Tensor | None:
        """That of ``inner`` with weight 0 at what was not kept."""
        return self.inner.gram_diagonal(self.mask.square() * weights, y)


@dataclass(frozen=True)
class Splitting(OperatorLoss):
    """``|M_2 (A f(M_1 y) - y)|^2`` for random complementary masks, less the noise of the judging measurements.

    The noise of what judges is independent of what was seen: the loss is the squared error of ``A f`` at the
    measurements that f did not see. With a mosaic for A it is demosaicking without ground truth: hidden sites are
    hidden colours.

    Attributes:
        share: Of the measurements that judge.
        fill: What f is given at hidden sites: "zero", with the operator ``M_1 A``; or "neighbours", a visible
            measurement of the same colour, with A itself: for networks that take a whole mosaic.
        cfa: For "neighbours" of a mosaic.

    Source:
        Yaman et al., "SSDU", MRM 84(6), 2020; Batson & Royer, "Noise2Self", ICML 2019.
    """

    share: float = 0.1
    fill: Literal["zero", "neighbours"] = "zero"
    cfa: Cfa | None = None

    def __post_init__(self) -> None:
        """Refuse shares that hide nothing or everything."""
        at_least(self.share, 0.0, "share", below=1.0)

    def __call__(
        self,
        reconstruct: Reconstruct,
        y: Tensor,
        operator: Any,
        noise: PixelNoise,
        *,
        generator: torch.Generator,
        weights: Tensor | None = None,
        image: Tensor | None = None,  # noqa: ARG002 (made of all measurements: of no use here)
    ) -> Tensor:
        """As in `OperatorLoss`.

        Raises:
            ValueError: as in `SelfLoss`, or rows share an offset.
        """
        hidden = random_sites(y, share=self.share, generator=generator)
        return self.of_mask(reconstruct, y, operator, noise, hidden, generator=generator, weights=weights)

    def of_mask(
        self,
        reconstruct: Reconstruct,
        y: Tensor,
        operator: Any,
        noise: PixelNoise,
        hidden: Tensor,
        *,
        generator: torch.Generator,
        weights: Tensor | None = None,
    ) -> Tensor:
        """The loss of a given mask.

        Args:
            reconstruct: As in `OperatorLoss`.
            y: As there.
            operator: As there.
            noise: As there.
            hidden: Measurements that judge, bool, shape of ``y``.
            generator: Chooses donors for "neighbours".
            weights: As there.
        """
        refuse_rows(noise, "Measurement splitting")
        if self.fill == "neighbours":
            seen, hidden = replaced(y, hidden, cfa=self.cfa, generator=generator)
            image = reconstruct(seen, operator)
        else:
            kept = (~hidden).to(y)
            image = reconstruct(kept * y, Masked(operator, kept))
        values = (operator.A(image) - y).square() - noise.expected_variance(y)
        return Risk(values, site_weights(weights, y) * hidden).mean()
