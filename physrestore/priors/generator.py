"""The range of a generator as a prior: the clean image is one that the network can make."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from physrestore.errors import PriorError
from physrestore.priors.base import PriorSpec, shaped_like
from physrestore.priors.generative_search import Energy, Search, invert
from physrestore.priors.levels import check_level


class GeneratorPrior:
    """The most probable image of a generator under any noise map.

    Not for photographs in general: it knows only its own kind of image, at its own size. Equal input and seed give an
    equal result. For other data than noisy images call `physrestore.priors.generative_search.invert`.

    Attributes:
        generator: Latents (R, n), standard normal, to images (R, C, H, W); put into evaluation mode.
        latent_size: n.
        search: How long. With ``tune_steps`` the generator follows the image until the residual is as large as the
            noise, and no further.
        spec: What the prior can do.
    """

    def __init__(
        self,
        generator: nn.Module,
        latent_size: int,
        *,
        search: Search | None = None,
        blocks: Sequence[nn.Module] | None = None,
        sigma_range: tuple[float, float] = (0.0, math.inf),
        value_range: tuple[float, float] = (0.0, 1.0),
        weights_licence: str | None = None,
    ) -> None:
        """Wrap; ``blocks`` as in `invert`, what follows as in `PriorSpec`."""
        self.generator = generator.eval()
        self.latent_size = latent_size
        self.search = Search() if search is None else search
        self._blocks = blocks
        with torch.no_grad():
            made: Tensor = generator(next(generator.parameters()).new_zeros(1, latent_size))
        self._image_shape = tuple(made.shape[1:])
        self.spec = PriorSpec(
            channels=made.shape[1],
            noise="map",
            sigma_range=sigma_range,
            value_range=value_range,
            non_local=True,
            differentiable=False,
            weights_licence=weights_licence,
        )

    @torch.no_grad()
    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """See `physrestore.priors.base.Prior.denoise`."""
        level = shaped_like(sigma, x)
        check_level(self.spec, level)
        if tuple(x.shape[1:]) != self._image_shape:
            raise PriorError(f"This generator makes images of {self._image_shape}, not {tuple(x.shape[1:])}.")
        levels = level.expand(x.shape[0], *level.shape[1:])
        return torch.stack([self._one(image, one) for image, one in zip(x, levels, strict=True)])

    def _one(self, image: Tensor, sigma: Tensor) -> Tensor:
        black, unit = self.spec.value_range[0], self.spec.unit
        found = invert(
            self.generator,
            _gaussian_energy(image * unit + black, sigma * unit),
            self.latent_size,
            search=self.search,
            blocks=self._blocks,
            enough=image.numel() / 2,  # discrepancy principle: a residual as large as the noise
        )
        return (found.image[0].to(image) - black) / unit


def _gaussian_energy(image: Tensor, sigma: Tensor) -> Energy:
    """``|made - image|^2 / (2 sigma^2)`` of every candidate."""
    return lambda made: ((made.to(image) - image) / sigma).square().flatten(1).sum(1) / 2
