"""Adaptation of a denoiser to one picture: a few steps on pairs made from it, or from a clean one like it.

*External* adaptation learns from a clean related picture: another page of the same print, another field of stars.
*Internal* adaptation has none and takes the network's own first result for clean: the network learns what this picture
is made of, from what it got right already. Both add fresh noise of the known level. Internal adaptation usually gains
where a picture repeats itself (text, facades) and rarely loses; nothing here checks that it gains.

Source:
    Vaksman, Elad, Milanfar, "LIDIA: Lightweight learned image denoising with instance adaptation", NTIRE 2020, section
    4: Adam at 1e-3, 5 epochs, blocks of 64 x 64 every 32 pixels, 4 at a time, the logarithm of the squared error.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from physrestore.errors import TrainingError

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """How much and how fast; the defaults are the paper's.

    Attributes:
        epochs: How often every block is seen.
        learning_rate: Of Adam.
        side: Of the blocks on which the error is measured, pixels.
        stride: Between blocks.
        batch: Blocks at a time.
        context: Pixels around a block that the network sees besides, cut off before the error is measured.

    Raises:
        ValueError: numbers that cannot be.
    """

    epochs: int = 5
    learning_rate: float = 1e-3
    side: int = 64
    stride: int = 32
    batch: int = 4
    context: int = 16

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if min(self.epochs, self.side, self.stride, self.batch) < 1 or self.context < 0 or self.learning_rate <= 0:
            raise ValueError(f"epochs, side, stride, batch >= 1, context >= 0, learning_rate > 0 are needed: {self}")


def adapt_internally(
    network: Network, noisy: Tensor, sigma: float, *, generator: torch.Generator, settings: Adaptation | None = None
) -> Network:
    """A copy of a denoiser that has learned from its own first result on a picture.

    Args:
        network: Called as ``network(x, sigma)``; it stays as it is.
        noisy: (1, C, H, W), the picture.
        sigma: Std of its noise, same unit.
        generator: Of blocks, turns and noise, on the CPU.
        settings: How much and how fast.

    Raises:
        TrainingError: no picture, a level of noise that is not positive, or an error that is no longer finite.
    """
    with torch.no_grad():
        first = copy.deepcopy(network).eval()(noisy, torch.tensor(sigma, dtype=noisy.dtype, device=noisy.device))
    return adapt_externally(network, first, sigma, generator=generator, settings=settings)


def adapt_externally(
    network: Network, clean: Tensor, sigma: float, *, generator: torch.Generator, settings: Adaptation | None = None
) -> Network:
    """A copy of a denoiser that has learned from a clean picture like the noisy one.

    Args:
        network: Called as ``network(x, sigma)``; it stays as it is.
        clean: (1, C, H, W), the related picture, of any size.
        sigma: Std of the noise that the copy is for, same unit.
        generator: Of blocks, turns and noise, on the CPU.
        settings: How much and how fast.

    Raises:
        TrainingError: no picture, a level of noise that is not positive, or an error that is no longer finite.
    """
    if clean.dim() != 4 or clean.shape[0] != 1 or 0 in clean.shape or not sigma > 0:
        raise TrainingError(
            f"One picture (1, C, H, W) and a positive level of noise are needed, not {tuple(clean.shape)} and {sigma}."
        )
    settings = Adaptation() if settings is None else settings
    adapted = copy.deepcopy(network).train()
    optimiser = torch.optim.Adam(adapted.parameters(), lr=settings.learning_rate)
    level = torch.tensor(sigma, dtype=clean.dtype, device=clean.device)
    for blocks in _batches(clean, settings, generator):
        noise = torch.randn(blocks.shape, generator=generator, dtype=clean.dtype).to(clean.device)
        error = adapted(blocks + sigma * noise, level) - blocks
        loss = _inside(error, settings).square().mean().log10()
        if not bool(torch.isfinite(loss)):
            raise TrainingError(f"The error is {float(loss.detach())} while adapting. Lower learning_rate.")
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        project = getattr(adapted, "project", None)
        if project is not None:  # networks whose weights live in a set
            project()
    return adapted.train(network.training)


def _batches(clean: Tensor, settings: Adaptation, generator: torch.Generator) -> Iterator[Tensor]:
    """Every block of every epoch in random order, turned at random, (b, C, side, side) with their context."""
    sides = [min(settings.side + 2 * settings.context, size) for size in clean.shape[-2:]]
    starts = [
        sorted({*range(0, size - side, settings.stride), size - side})
        for size, side in zip(clean.shape[-2:], sides, strict=True)
    ]
    corners = [(top, left) for top in starts[0] for left in starts[1]]
    for _ in range(settings.epochs):
        order = torch.randperm(len(corners), generator=generator).tolist()
        for start in range(0, len(order), settings.batch):
            chosen = [corners[k] for k in order[start : start + settings.batch]]
            blocks = [clean[0, :, top : top + sides[0], left : left + sides[1]] for top, left in chosen]
            yield torch.stack(_turned(blocks, generator))


def _turned(blocks: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Each mirrored at random; all turned the same way, so that they stay of one shape."""
    turn = int(torch.randint(4, (), generator=generator))
    mirrors = torch.randint(2, (len(blocks),), generator=generator).tolist()
    turned = (torch.rot90(block, turn, dims=(-2, -1)) for block in blocks)
    return [block.flip(-1) if mirror else block for block, mirror in zip(turned, mirrors, strict=True)]


def _inside(error: Tensor, settings: Adaptation) -> Tensor:
    """Without the context; a picture that is smaller than a block with its context keeps what lies at its border."""
    for dim in (-2, -1):
        length = error.shape[dim]
        cut = min(settings.context, max(length - settings.side, 0) // 2)
        error = error.narrow(dim, cut, length - 2 * cut)
    return error
