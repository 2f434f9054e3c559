"""What a network is asked: to denoise what was measured, or to give all colours of a mosaic.

A mosaic's own measurements say nothing of the colours that were not measured: a network that adapts to them alone
becomes better there and forgets how to interpolate. `Demosaicking` therefore adds a loss and a judgement of all
colours, which rest on a scene being as likely under another phase of the array (equivariant imaging): an image is
measured anew through another phase, and the network must find it again.
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

    def unseen_difference(
        self, before: nn.Module, after: nn.Module, batch: Batch, *, generator: torch.Generator
    ) -> Risk | None:
        """By how much ``after`` is worse at what was not measured, in squared values by site; None: all was."""


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

    def unseen_difference(
        self,
        before: nn.Module,  # noqa: ARG002 (all was measured)
        after: nn.Module,  # noqa: ARG002
        batch: Batch,  # noqa: ARG002
        *,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Risk | None:
        """None."""
        return None


@dataclass(frozen=True, eq=False)
class Demosaicking:
    """``network(mosaic, std, colours)`` returns RGB; noise is one std a colour, as in the working space.

    Attributes:
        cfa: Of the mosaics, from their top-left.
        black: What to add to the network's values to make them roots of light, (3, 1, 1), where they are (the working
            space). A measured root is too small on average, by the bend of the root: ``std^2 / (2 v)``, and less in
            the dark. A network trained with clean images gives the root of the light, and must not be taught the
            smaller value. None: measurements are right on average.

    Raises:
        CfaError: a monochrome array.
    """

    cfa: Cfa
    black: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse an array without colours."""
        if self.cfa.is_mono:
            raise CfaError("A monochrome sensor measures all there is: adapt its network by Denoising.")

    def estimate(self, network: nn.Module, y: Tensor, std: Tensor) -> Tensor:
        """As in `Task`: of every site, the mean measurement of its colour."""
        colours = one_hot(self.cfa, *y.shape[-2:]).to(y)
        return (self._mean(_rgb(network, y, std, colours), std) * colours).sum(1, keepdim=True)

    def unseen_loss(
        self, network: nn.Module, teacher: nn.Module, batch: Batch, *, generator: torch.Generator
    ) -> Tensor | None:
        """As in `Task`: of the teacher's image, measured anew."""
        with torch.no_grad():
            image = self._image(teacher, batch)
        measured, std, colours = self._anew(image, batch, generator)
        error = (_rgb(network, measured, std, colours) - image).square().mean(1, keepdim=True)
        return (error * batch.weights).sum() / batch.weights.sum()

    def unseen_difference(
        self, before: nn.Module, after: nn.Module, batch: Batch, *, generator: torch.Generator
    ) -> Risk | None:
        """As in `Task`, of the images of both networks, measured anew: each has an advantage on its own."""
        total = torch.zeros_like(batch.y)
        for image in (self._image(before, batch), self._image(after, batch)):
            measured, std, colours = self._anew(image, batch, generator)
            unseen = 1.0 - colours
            errors = [
                ((_rgb(one, measured, std, colours) - image).square() * unseen).sum(1, keepdim=True)
                / unseen.sum(1, keepdim=True)
                for one in (before, after)
            ]
            total = total + 0.5 * (errors[1] - errors[0])
        return Risk(total, batch.weights)

    def _image(self, network: nn.Module, batch: Batch) -> Tensor:
        return _rgb(network, batch.y, batch.noise.std(batch.y), one_hot(self.cfa, *batch.y.shape[-2:]).to(batch.y))

    def _anew(self, image: Tensor, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The image through another phase, with new noise: mosaic, std and colours."""
        own = one_hot(self.cfa, *image.shape[-2:]).to(image)
        colours = one_hot(self._other_phase(generator), *image.shape[-2:]).to(image)
        std = (_by_colour(batch.noise.std(batch.y), own) * colours).sum(1, keepdim=True)
        normal = torch.randn(batch.y.shape, generator=generator, device=generator.device, dtype=batch.y.dtype)
        mean = (self._mean(image, std) * colours).sum(1, keepdim=True)
        return mean + std * normal.to(image), std, colours

    def _mean(self, rgb: Tensor, std: Tensor) -> Tensor:
        """The mean measurement of every colour; where the std is that of another colour, the value is not used."""
        if self.black is None:
            return rgb
        # At least what no light gives: below it the root has no meaning.
        roots = (rgb + self.black.to(rgb)).maximum(self.black.to(rgb))
        square = std.square() / roots.square()
        return rgb - 0.5 * std * square.sqrt() * (1.0 - 1.5 * square)

    def _other_phase(self, generator: torch.Generator) -> Cfa:
        """The array seen from another of its sites, never the same array."""
        (rows, columns), phases = self.cfa.period, []
        for i in range(rows):
            phases += [self.cfa.shifted(i, j) for j in range(columns) if self.cfa.shifted(i, j) != self.cfa]
        return phases[int(torch.randint(len(phases), (), generator=generator, device=generator.device))]


def _rgb(network: nn.Module, y: Tensor, std: Tensor, colours: Tensor) -> Tensor:
    rgb: Tensor = network(y, std, colours)
    return rgb


def _by_colour(std: Tensor, colours: Tensor) -> Tensor:
    """Mean std of every colour, (B, 3, 1, 1)."""
    return (std * colours).sum((2, 3), keepdim=True) / colours.sum((2, 3), keepdim=True)
