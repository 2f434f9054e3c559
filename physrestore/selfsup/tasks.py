"""What a network is asked: to denoise what was measured, or to give all colours of a mosaic.

A mosaic's own measurements say nothing of the colours that were not measured: a network that adapts to them alone
becomes better there and forgets how to interpolate. `Demosaicking` therefore adds two things that see all colours. It
learns from its own running mean, measured anew through another phase of the array (equivariant imaging with the running
mean for a target). And it is judged on the mosaic at a smaller scale: blocks that hold all colours become pixels of
which one colour is shown and the others, measured with independent noise, are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
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

    def estimate(self, network: nn.Module, y: Tensor, std: Tensor) -> Tensor:
        """The noise-free measurement, (B, C, H, W), of a measurement and the std of its noise."""

    def unseen_loss(
        self, network: nn.Module, teacher: nn.Module, batch: Batch, *, generator: torch.Generator
    ) -> Tensor | None:
        """Loss of what was not measured, a number in units of squared values; None: all was measured."""

    def unseen_risk(self, network: nn.Module, batch: Batch) -> Risk | None:
        """Squared error of what was not measured, spread over the sites; None: all was measured."""


@dataclass(frozen=True)
class Denoising:
    """``network(y, std)`` returns what was measured, without noise."""

    def estimate(self, network: nn.Module, y: Tensor, std: Tensor) -> Tensor:
        """As in `Task`."""
        image: Tensor = network(y, std)
        return image

    def unseen_loss(
        self,
        network: nn.Module,  # noqa: ARG002 (all was measured)
        teacher: nn.Module,  # noqa: ARG002
        batch: Batch,  # noqa: ARG002
        *,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Tensor | None:
        """None."""
        return None

    def unseen_risk(self, network: nn.Module, batch: Batch) -> Risk | None:  # noqa: ARG002
        """None."""
        return None


@dataclass(frozen=True)
class Demosaicking:
    """``network(mosaic, std, colours)`` returns RGB; noise is one std a colour, as in the working space.

    Attributes:
        cfa: Of the mosaics, from their top-left.

    Raises:
        CfaError: a monochrome array.
    """

    cfa: Cfa

    def __post_init__(self) -> None:
        """Refuse an array without colours."""
        if self.cfa.is_mono:
            raise CfaError("A monochrome sensor measures all there is: adapt its network by Denoising.")

    def estimate(self, network: nn.Module, y: Tensor, std: Tensor) -> Tensor:
        """As in `Task`: of every site, the colour that was measured."""
        colours = one_hot(self.cfa, *y.shape[-2:]).to(y)
        return (_rgb(network, y, std, colours) * colours).sum(1, keepdim=True)

    def unseen_loss(
        self, network: nn.Module, teacher: nn.Module, batch: Batch, *, generator: torch.Generator
    ) -> Tensor | None:
        """As in `Task`: of the teacher's image, measured anew with another phase and new noise."""
        std, colours = batch.noise.std(batch.y), one_hot(self.cfa, *batch.y.shape[-2:]).to(batch.y)
        with torch.no_grad():
            image = _rgb(teacher, batch.y, std, colours)
        others = one_hot(self._other_phase(generator), *batch.y.shape[-2:]).to(batch.y)
        new_std = (_by_colour(std, colours) * others).sum(1, keepdim=True)
        normal = torch.randn(batch.y.shape, generator=generator, device=generator.device).to(batch.y)
        measured = (image * others).sum(1, keepdim=True) + new_std * normal
        error = (_rgb(network, measured, new_std, others) - image).square().mean(1, keepdim=True)
        return (error * batch.weights).sum() / batch.weights.sum()

    def unseen_risk(self, network: nn.Module, batch: Batch) -> Risk | None:
        """As in `Task`: at the scale of blocks that hold all colours (2x2 of Bayer, 3x3 of X-Trans)."""
        block, like = self._block(), batch.y
        height, width = (n // block * block for n in like.shape[-2:])
        inside = (..., slice(0, height), slice(0, width))
        colours = one_hot(self.cfa, *like.shape[-2:]).to(like)[inside]
        counts = _pooled(colours, block)
        means = _pooled(like[inside] * colours, block) / counts
        variances = _pooled(batch.noise.variance(like)[inside] * colours, block) / counts.square()
        shown = one_hot(self.cfa, height // block, width // block).to(like)
        small, small_std = ((v * shown).sum(1, keepdim=True) for v in (means, variances.sqrt()))
        errors = (_rgb(network, small, small_std, shown) - means).square() - variances
        asked = 1.0 - shown
        values = (errors * asked).sum(1, keepdim=True) / asked.sum(1, keepdim=True)
        whole = (_pooled((batch.weights[inside] > 0).to(like), block) == block**2).to(like)
        weights = whole * _pooled(batch.weights[inside], block) / block**2
        return Risk(_spread(values, block, like), _spread(weights, block, like))

    def _other_phase(self, generator: torch.Generator) -> Cfa:
        """The array seen from another of its sites, never the same array."""
        (rows, columns), phases = self.cfa.period, []
        for i in range(rows):
            phases += [self.cfa.shifted(i, j) for j in range(columns) if self.cfa.shifted(i, j) != self.cfa]
        return phases[int(torch.randint(len(phases), (), generator=generator, device=generator.device))]

    def _block(self) -> int:
        """Side of the smallest squares of the array that all hold every colour."""
        return {2: 2, 4: 4, 6: 3}[self.cfa.period[0]]


def _rgb(network: nn.Module, y: Tensor, std: Tensor, colours: Tensor) -> Tensor:
    rgb: Tensor = network(y, std, colours)
    return rgb


def _by_colour(std: Tensor, colours: Tensor) -> Tensor:
    """Mean std of every colour, (B, 3, 1, 1)."""
    return (std * colours).sum((2, 3), keepdim=True) / colours.sum((2, 3), keepdim=True)


def _pooled(values: Tensor, block: int) -> Tensor:
    """Sums over blocks."""
    return torch.nn.functional.avg_pool2d(values, block) * block**2


def _spread(values: Tensor, block: int, like: Tensor) -> Tensor:
    """One value a block to every site of it, zero where no block fits."""
    spread = values.repeat_interleave(block, -2).repeat_interleave(block, -1)
    missing = (0, like.shape[-1] - spread.shape[-1], 0, like.shape[-2] - spread.shape[-2])
    return torch.nn.functional.pad(spread, missing)
