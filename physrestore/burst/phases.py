"""A network for mosaics as a denoiser of merged pictures: it sees them through several colour filter arrays.

A merged picture has three colours at every pixel; the network takes one. So it is given the picture's mosaics in every
Bayer phase and in the array of the frames, each with its own noise, and the results are averaged: what demosaicking
gets wrong differs from phase to phase, what is right is common. Where frames measured only the sites of their own array
(one frame, frames on a tripod, behind a moving object), the other mosaics would be guesses: they count by the sites
that decide them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.cfa import BAYER_PHASES, Cfa
from noise_models.stabilise import ANSCOMBE_OFFSET
from physrestore.burst.merge import Merged
from physrestore.burst.root import Root
from physrestore.working_space import one_hot

# Mosaic, noise and colours as `physrestore.networks.mosaic_net.MosaicNet.forward` takes them.
Run = Callable[[Tensor, Tensor, Tensor], Tensor]
# Pixels mirrored beyond the border, as in `physrestore.fast.tile`; a multiple of every shipped network's grid.
MIRRORED = 8
# A mosaic counts by this power of the sites that decide its weakest pixels, averaged over a window [pixels]: half as
# many (between the sites of another array) is next to nothing.
POWER, WINDOW = 4, 13
# Least sites counted: where nothing was measured, all mosaics are guesses alike.
LEAST_SITES = 1e-3


def clean(merged: Merged, run: Run, cfa: Cfa, root: Root) -> tuple[Tensor, Tensor]:
    """The merged picture without noise, as far as the network knows.

    Args:
        merged: With a known noise.
        run: The network.
        cfa: Of the frames, from the corner of the picture.
        root: Of the reference.

    Returns:
        Linear light, (3, H, W), and the variety of the mosaics that made it, (H, W): 0 where it was one, 1 where all
        counted alike.
    """
    arrays = {phase: Cfa.parse(phase) for phase in BAYER_PHASES} | {cfa.name: cfa}
    height, width = merged.light.shape[-2:]
    # The noise's share belongs to the transform: less noise needs less of an offset.
    offset = ANSCOMBE_OFFSET * _planes(root.gain) * merged.share + _planes(root.dark_variance / root.gain)
    balance = _planes(root.balance)
    black = (balance * offset).sqrt()
    above = (balance * (merged.light + offset).clamp(min=0.0)).sqrt() - black
    noise = root.scale * merged.share.sqrt()
    total, weights = torch.zeros_like(above), []
    for array in arrays.values():
        colours = one_hot(array, height, width)[0]
        mosaic, of_noise = (_mirrored((plane * colours).sum(0, keepdim=True)) for plane in (above, noise))
        inside = (..., slice(MIRRORED, -MIRRORED), slice(MIRRORED, -MIRRORED))
        found = run(mosaic, of_noise, _mirrored(colours))[0][inside].cpu()
        weights.append(_decided((merged.sites * colours).sum(0)))
        total += weights[-1] * found
    of_all = sum(weights, torch.zeros(height, width))
    v = total / of_all + black
    as_many = of_all.square() / sum((weight.square() for weight in weights), torch.zeros(height, width))
    return v * v.abs() / balance - offset, (as_many - 1) / (len(weights) - 1)


def _decided(sites: Tensor) -> Tensor:
    """Weight of a mosaic, (H, W), from how many sites decide each of its pixels: a power of their harmonic mean."""
    few = F.avg_pool2d(
        sites.clamp(min=LEAST_SITES).reciprocal()[None], WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False
    )[0]
    return few.pow(-POWER)


def _mirrored(planes: Tensor) -> Tensor:
    """(1, C, H + 16, W + 16)."""
    return F.pad(planes[None], (MIRRORED,) * 4, mode="reflect")


def _planes(values: Tensor) -> Tensor:
    return values.reshape(3, 1, 1)
