"""What several networks are held to: shared measurements, no tests."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from physrestore.tiling import map_tiles

SIGMA = torch.tensor(0.1, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parameters(network: nn.Module) -> int:
    return sum(values.numel() for values in network.parameters())


def scattered(network: nn.Module, *, seed: int = 1, spread: float = 0.1) -> nn.Module:
    """The network in float64 with every parameter moved at random, so that no two are alike by construction."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double().eval()
    with torch.no_grad():
        for values in network.parameters():
            noise = torch.randn(values.shape, generator=generator, dtype=torch.float64)
            values.add_(spread * (values.std() if values.numel() > 1 else values.abs()) * noise)
    return network


@torch.no_grad()
def tile_gap(denoise: Callable[[Tensor], Tensor], x: Tensor, *, tile: int, halo: int, align: int = 1) -> float:
    """Largest difference between a picture (1, C, H, W) denoised whole and in tiles."""
    pieces = map_tiles(lambda part: denoise(part[None])[0], x[0], tile=tile, halo=halo, align=align)
    return float((pieces - denoise(x)[0]).abs().max())
