"""The image that a generator can make, or nearly make, and that fits the data best.

First the latent vector is searched from several starts. With ``tune_steps`` the generator itself then moves too, block
by block from the latent side, which reaches images just outside its range.

Sources: Bora, Jalal, Price & Dimakis, "Compressed sensing using generative models", ICML 2017 (latent search with
restarts); Pan et al., "Exploiting deep generative prior for versatile image restoration and manipulation", IEEE TPAMI
44(11), 2022 (progressive fine-tuning; their distance in a discriminator's features is left out: it needs the
discriminator).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from physrestore.errors import PriorError

# Candidates (R, C, H, W) to the negative log-likelihood of the data under each, (R,).
Energy = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Search:
    """How long and how far to search.

    Attributes:
        restarts: Latent vectors tried; the best is kept.
        latent_steps: Adam steps for the latent vector.
        latent_rate: Their size.
        tune_steps: Adam steps for latent vector and generator, shared out over the blocks; 0: the generator is fixed.
        tune_rate: Their size.
        seed: Of the first latent vectors.
    """

    restarts: int = 4
    latent_steps: int = 200
    latent_rate: float = 0.05
    tune_steps: int = 0
    tune_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a search that does not move."""
        if self.restarts < 1 or self.latent_steps < 1 or self.tune_steps < 0:
            raise PriorError(f"At least one restart and one latent step are needed, and no negative number: {self}.")


@dataclass(frozen=True)
class Inversion:
    """What a search found.

    Attributes:
        image: (1, C, H, W).
        latent: (1, n).
        energy: Negative log-likelihood of the data under the image.
        tuned: The generator that makes ``image`` from ``latent``: the given one, or its fine-tuned copy.
    """

    image: Tensor
    latent: Tensor
    energy: float
    tuned: nn.Module


def invert(
    generator: nn.Module,
    energy: Energy,
    latent_size: int,
    *,
    search: Search | None = None,
    blocks: Sequence[nn.Module] | None = None,
    enough: float = -math.inf,
) -> Inversion:
    """``argmin_z energy(G(z)) + |z|^2 / 2``; with ``tune_steps`` then over z and G.

    Args:
        generator: Latents (R, n), standard normal, to images (R, C, H, W), in evaluation mode; it is not changed.
        energy: Of candidates for one image, any differentiable function: any operator, any likelihood.
        latent_size: n.
        search: How long; None: the defaults.
        blocks: Parts of ``generator`` from the latent side to the image; one more is freed at a time. None: its
            children in order.
        enough: Tuning ends at this energy: beyond it noise would be fitted.

    Returns:
        The best of all starts.

    Raises:
        PriorError: blocks that are no part of the generator.
    """
    search = Search() if search is None else search
    names = _names(generator, blocks) if search.tune_steps else []
    with torch.enable_grad():
        latent = _search_latent(generator, energy, latent_size, search)
        tuned = _tune(generator, energy, latent, search, names, enough) if names else generator
    with torch.no_grad():
        image = tuned(latent)
        return Inversion(image, latent.detach(), float(energy(image)), tuned)


def _search_latent(generator: nn.Module, energy: Energy, latent_size: int, search: Search) -> Tensor:
    """The best latent vector, (1, n); all starts descend side by side."""
    noise = torch.Generator().manual_seed(search.seed)
    start = torch.randn(search.restarts, latent_size, generator=noise)
    latent = start.to(next(generator.parameters())).requires_grad_()

    def cost() -> Tensor:
        return energy(generator(latent)) + latent.square().sum(1) / 2

    adam = torch.optim.Adam([latent], lr=search.latent_rate)
    for _ in range(search.latent_steps):
        # With respect to the latent alone: gradients of the generator's parameters are not ours to touch.
        (latent.grad,) = torch.autograd.grad(cost().sum(), [latent])
        adam.step()
    with torch.no_grad():
        best = int(cost().argmin())
    return latent.detach()[best : best + 1].clone()


def _tune(
    generator: nn.Module, energy: Energy, latent: Tensor, search: Search, names: list[str], enough: float
) -> nn.Module:
    """A copy of the generator, fitted together with ``latent``, which moves in place."""
    tuned = copy.deepcopy(generator).requires_grad_(requires_grad=False)
    latent.requires_grad_()
    adam = torch.optim.Adam([latent], lr=search.tune_rate)
    for name in names:
        freed = list(tuned.get_submodule(name).requires_grad_().parameters())
        if freed:
            adam.add_param_group({"params": freed})
        for _ in range(-(-search.tune_steps // len(names))):
            misfit = energy(tuned(latent)).sum()
            if float(misfit.detach()) <= enough:
                return tuned
            adam.zero_grad()
            (misfit + latent.square().sum() / 2).backward()  # type: ignore[no-untyped-call]
            adam.step()
    return tuned


def _names(generator: nn.Module, blocks: Sequence[nn.Module] | None) -> list[str]:
    """The blocks' names in the generator, by which its copy knows them too."""
    known = {id(module): name for name, module in generator.named_modules()}
    parts = list(generator.children()) if blocks is None else list(blocks)
    if not parts or any(id(part) not in known for part in parts):
        raise PriorError("blocks must be modules inside the generator, from the latent side to the image.")
    return [known[id(part)] for part in parts]
