"""Demosaicking and denoising of all frames by a network: merge, clean, give back what stands out, and again.

Each round merges the frames around the picture of the round before. The first picture is that of the reference alone.
On a crop of Kodak24 each round gained half to a quarter of what the one before did, the fifth less than 0.1 dB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore.burst.expected_error import error_variance
from physrestore.burst.ghosts import Guide
from physrestore.burst.kept_detail import given_back
from physrestore.burst.merge import effective_frames, merge, spreads
from physrestore.burst.phases import Run, clean
from physrestore.burst.root import Root
from physrestore.burst.sites import Look

ROUNDS = 4
# A clipped site of the reference calls for the others like so many sites of theirs: two among the 49 around do.
CLIPPED = 25.0
# Sites that did not clip, of any frame, for a value to be known where the reference clipped: four that are diagonal to
# a place are 0.17, one of them is less.
FEWEST_SITES = 0.1


@dataclass(frozen=True, eq=False)
class Cleaned:
    """One tile.

    Attributes:
        light: Linear, (3, H, W).
        effective: How many frames every pixel is worth, (H, W).
        std: Expected error of ``light``, same shape; NaN where light was clipped in all frames; None: not asked for.
    """

    light: Tensor
    effective: Tensor
    std: Tensor | None


@dataclass(frozen=True, eq=False)
class NetworkSolver:
    """What all tiles share.

    Attributes:
        run: The network.
        root: Of the reference.
        put_back: Share, 0..1, of what the restoration took from the frames' mean that is given back.
        uncertain: Whether expected errors are wanted.
        on_round: Called after every round.
    """

    run: Run
    root: Root
    put_back: float
    uncertain: bool
    on_round: Callable[[], None]

    @torch.no_grad()
    def __call__(self, guide: Guide, looks: Sequence[Look], cfa: Cfa) -> Cleaned:
        """Restore a tile.

        Args:
            guide: Of the reference alone.
            looks: Sites of every frame on the tile, the reference first.
            cfa: Of the frames, from the tile's corner.
        """
        light = guide.light
        for _ in range(ROUNDS):
            merged = merge(light, looks, cfa, self.root)
            pilot, variety = clean(merged, self.run, cfa, self.root)
            light = given_back(pilot, merged, variety, spreads(cfa), self.root)
            self.on_round()
        helped = self._helped(guide.light, looks)
        light = guide.light + helped * (light - guide.light)
        std = self._std(light, guide, looks, helped, variety, cfa) if self.uncertain else None
        if self.put_back > 0:
            light = light + self.put_back * merge(light, looks, cfa, self.root).difference
        return Cleaned(light, effective_frames(looks, light, self.root), std)

    def _helped(self, guide: Tensor, looks: Sequence[Look]) -> Tensor:
        """Share of the result in the picture, (H, W): 0 where the reference is alone, 1 where others outweigh it.

        Where nothing is added to the reference, its own restoration is best, and the result is exactly that. Where it
        clipped, others count in full.
        """
        own, others = (effective_frames(some, guide, self.root, clipped=False) for some in (looks[:1], looks[1:]))
        clipped = effective_frames(looks[:1], guide, self.root) - own
        ratio = (others + CLIPPED * clipped) / own.clamp(min=torch.finfo(own.dtype).tiny)
        return ratio.clamp(max=1.0) * (others > 0)

    def _std(
        self, light: Tensor, guide: Guide, looks: Sequence[Look], helped: Tensor, variety: Tensor, cfa: Cfa
    ) -> Tensor:
        """Expected error; where the reference is alone, that of its own restoration."""
        unclipped = [replace(look, trust=look.trust * ~look.clipped) for look in looks]
        seen = merge(light, unclipped, cfa, self.root)
        together = error_variance(light, seen, variety, self.root)
        mixed = helped * together + (1 - helped) * guide.error.square()
        restored = torch.where(guide.error.isnan(), together, mixed)
        noise = self.root.reference_variance(light) * seen.share
        std = ((1 - self.put_back) ** 2 * restored + self.put_back**2 * noise).sqrt()
        if not bool(guide.error.isnan().any()):
            return std
        alike = [replace(look, frame=looks[0].frame) for look in unclipped]  # a short frame's site counts in full
        unknown = guide.error.isnan() & (merge(light, alike, cfa, self.root).sites < FEWEST_SITES)
        return std.masked_fill(unknown, torch.nan)
