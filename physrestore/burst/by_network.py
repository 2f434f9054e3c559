"""Demosaicking and denoising of all frames by a network: merge, clean, give back what stands out, and again.

Each round merges the frames around the picture of the round before. The first picture is that of the reference alone.
On a crop of Kodak24 each round gained half to a quarter of what the one before did, the fifth less than 0.1 dB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore.burst.kept_detail import given_back
from physrestore.burst.merge import effective_frames, merge, spreads
from physrestore.burst.phases import Run, clean
from physrestore.burst.root import Root
from physrestore.burst.sites import Look

ROUNDS = 4
# A clipped site of the reference calls for the others like so many sites of theirs: two among the 49 around do.
CLIPPED = 25.0


@dataclass(frozen=True, eq=False)
class NetworkSolver:
    """What all tiles share.

    Attributes:
        run: The network.
        root: Of the reference.
        put_back: Share, 0..1, of what the restoration took from the frames' mean that is given back.
        on_round: Called after every round.
    """

    run: Run
    root: Root
    put_back: float
    on_round: Callable[[], None]

    @torch.no_grad()
    def __call__(self, guide: Tensor, looks: Sequence[Look], cfa: Cfa) -> tuple[Tensor, Tensor]:
        """Linear light of one tile, (3, H, W), and how many frames every pixel is worth, (H, W).

        Args:
            guide: Of the reference alone, (3, H, W).
            looks: Sites of every frame on the tile, the reference first.
            cfa: Of the frames, from the tile's corner.
        """
        light = guide
        for _ in range(ROUNDS):
            merged = merge(light, looks, cfa, self.root)
            pilot, variety = clean(merged, self.run, cfa, self.root)
            light = given_back(pilot, merged, variety, spreads(cfa), self.root)
            self.on_round()
        light = guide + self._helped(guide, looks) * (light - guide)
        if self.put_back > 0:
            light = light + self.put_back * merge(light, looks, cfa, self.root).difference
        return light, effective_frames(looks, light, self.root)

    def _helped(self, guide: Tensor, looks: Sequence[Look]) -> Tensor:
        """Share of the result in the picture, (H, W): 0 where the reference is alone, 1 where others outweigh it.

        Where nothing is added to the reference, its own restoration is best, and the result is exactly that. Where it
        clipped, others count in full.
        """
        own, others = (effective_frames(some, guide, self.root, clipped=False) for some in (looks[:1], looks[1:]))
        clipped = effective_frames(looks[:1], guide, self.root) - own
        ratio = (others + CLIPPED * clipped) / own.clamp(min=torch.finfo(own.dtype).tiny)
        return ratio.clamp(max=1.0) * (others > 0)
