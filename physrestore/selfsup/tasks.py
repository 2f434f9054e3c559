"""What a network is asked: to denoise what was measured, or to give all colours of a mosaic.

A mosaic's own measurements say nothing of the colours that were not measured: a network that adapts to them alone
becomes better there and forgets how to interpolate. Nothing else says it either. Two judges were tried, and on a page
of small text both called losses (of 0.9 and 4.2 dB) great gains: how well a network finds its own image again through
another phase of the array (equivariant imaging), and how well it interpolates the photo at half its resolution. Detail
that the array cannot resolve is neither in the networks' images nor the same at another scale. So `Demosaicking` does
no harm instead: where nothing was measured a network is held to what it said before, and what it says otherwise is
charged to it in full, as an error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from noise_models.cfa import Cfa
from noise_models.errors import CfaError
from physrestore.selfsup.crops import Batch
from physrestore.selfsup.losses.base import Risk
from physrestore.working_space import one_hot


class Task(Protocol):
    """How a network is called, and what its measurements do not show."""

    def of_batch(self, batch: Batch) -> Task:
        """The same task for windows of photos with levels of their own."""

    def estimate(self, network: nn.Module, y: Tensor, std: Tensor) -> Tensor:
        """The noise-free measurement, (B, C, H, W), of a measurement and the std of its noise."""

    def unseen_change(self, before: nn.Module, after: nn.Module, batch: Batch) -> Risk | None:
        """How far ``after`` departs from ``before`` where nothing was measured, in squared values by site.

        It takes gradients of ``after``. None: all was measured.
        """


@dataclass(frozen=True)
class Denoising:
    """``network(y, std)`` returns what was measured, without noise."""

    def of_batch(self, batch: Batch) -> Denoising:  # noqa: ARG002 (levels do not matter)
        """As in `Task`."""
        return self

    def estimate(self, network: nn.Module, y: Tensor, std: Tensor) -> Tensor:
        """As in `Task`."""
        image: Tensor = network(y, std)
        return image

    def unseen_change(
        self,
        before: nn.Module,  # noqa: ARG002 (all was measured)
        after: nn.Module,  # noqa: ARG002
        batch: Batch,  # noqa: ARG002
    ) -> Risk | None:
        """None."""
        return None


@dataclass(frozen=True, eq=False)
class Demosaicking:
    """``network(mosaic, std, colours)`` returns RGB; noise is one std a colour, as in the working space.

    Attributes:
        cfa: Of the mosaics, from their top-left.
        black: What to add to the network's values to make them roots of light, (3, 1, 1) or one a window (B, 3, 1, 1),
            where they are (the working space). A measured root is too small on average, by the bend of the root:
            ``std^2 / (2 v)``, and less in the dark. A network trained with clean images gives the root of the light,
            and must not be taught the smaller value. That of the photos themselves (`NoisyImage.black`) comes first.
            None: measurements are right on average.

    Raises:
        CfaError: a monochrome array.
    """

    cfa: Cfa
    black: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse an array without colours."""
        if self.cfa.is_mono:
            raise CfaError("A monochrome sensor measures all there is: adapt its network by Denoising.")

    def of_batch(self, batch: Batch) -> Demosaicking:
        """As in `Task`: with the black of every window."""
        return self if batch.black is None else replace(self, black=batch.black)

    def estimate(self, network: nn.Module, y: Tensor, std: Tensor) -> Tensor:
        """As in `Task`: of every site, the mean measurement of its colour."""
        colours = one_hot(self.cfa, *y.shape[-2:]).to(y)
        image: Tensor = network(y, std, colours)
        return (self.mean_measurement(image, std) * colours).sum(1, keepdim=True)

    def unseen_change(self, before: nn.Module, after: nn.Module, batch: Batch) -> Risk | None:
        """As in `Task`: mean over the colours that a site did not measure."""
        colours, std = one_hot(self.cfa, *batch.y.shape[-2:]).to(batch.y), batch.noise.std(batch.y)
        with torch.no_grad():
            old = before(batch.y, std, colours)
        unseen = 1.0 - colours
        change = ((after(batch.y, std, colours) - old).square() * unseen).sum(1, keepdim=True)
        return Risk(change / unseen.sum(1, keepdim=True), batch.weights)

    def mean_measurement(self, rgb: Tensor, std: Tensor) -> Tensor:
        """The mean measurement of roots of light.

        Args:
            rgb: A network's values, (B, 3, H, W).
            std: Of the noise, broadcasts to it; where it is that of another colour, the value means nothing.
        """
        if self.black is None:
            return rgb
        # At least what no light gives: below it the root has no meaning.
        roots = (rgb + self.black.to(rgb)).maximum(self.black.to(rgb))
        square = std.square() / roots.square()
        return rgb - 0.5 * std * square.sqrt() * (1.0 - 1.5 * square)
