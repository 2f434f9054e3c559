"""One tile of the fast method: through the network and back to linear light, with the expected error if asked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore.fast.engine import Run
from physrestore.pnp.expected_error import ErrorLaw, detail_energy, error_std, in_light, unknown_where_clipped
from physrestore.pnp.grain import put_back
from physrestore.pnp.joint import Measured
from physrestore.working_space import WorkingSpace, one_hot

# Std of what the shipped networks get wrong where there is detail far above the noise, in the working space (white is
# about 1); half of it where detail has this many times the noise's variance. Chosen on Bayer by the error on nine
# training pictures at 4000 to 30000 electrons; on three pictures of Kodak24 it is no worse on X-Trans than twice as
# much. On smooth areas networks err far less.
DETAIL_ERROR, CLEAR_DETAIL = 0.010, 4.0

# Sites mirrored beyond the border, colours too: the network's own border, which sees nothing beyond, is cut off. A
# multiple of every shipped network's grid.
MIRRORED = 8

# Weights of `physrestore.pnp.expected_error.FEATURES` for the shipped networks, fitted and judged as those of the
# method pnp (`python -m tests.benchmarks uncertainty --method fast`).
BAYER_ERROR = ErrorLaw(measured=(0.1, 0.948, 0.0, 0.0, 0.0), between=(0.058, 1.562, 0.017, 5.256, 0.027))
WIDE_ERROR = ErrorLaw(measured=(0.102, 0.968, 0.0, 0.0, 0.0), between=(0.051, 1.53, 0.02, 6.704, 0.0))


@dataclass(frozen=True)
class FastTile:
    """What all tiles of a frame share.

    Attributes:
        run: The network on its engine.
        space: Of the frame.
        cfa: From the top-left of every tile.
        device: Of the engine.
        share: Of the noise that is removed, 0..1.
        uncertain: Whether expected errors are wanted.
    """

    run: Run
    space: WorkingSpace
    cfa: Cfa
    device: torch.device
    share: float = 1.0
    uncertain: bool = False

    def __call__(self, planes: Tensor) -> Tensor:
        """(4, h, w) of `physrestore.pnp.prepare.Prepared` to linear RGB (3, h, w); with expected error (6, h, w)."""
        known, clipped = planes[1] > 0, planes[2] > 0
        v = self.values(planes)
        rgb = self.space.light(v)
        if self.share < 1.0:
            balance, left = self.space.balance, 1.0 - self.share
            rgb = put_back(rgb, planes[3], cfa=self.cfa, balance=balance, share=left, known=known, clipped=clipped)
        if not self.uncertain:
            return rgb
        data = Measured(planes[0][None, None], known, clipped, self.space.scale, self.cfa)
        std = (self.share * error_std(v, data, error_law(self.cfa))).square()
        std = (std + ((1.0 - self.share) * self.space.scale).square()).sqrt()
        return torch.cat([rgb, in_light(unknown_where_clipped(std, data), v, self.space)])

    def values(self, planes: Tensor) -> Tensor:
        """Clean values of the working space, (3, h, w); measured sites keep what their noise is too small to spoil."""
        colours = one_hot(self.cfa, *planes.shape[-2:])
        values, known, clipped = planes[0], planes[1] > 0, planes[2] > 0
        scale, black = self.space.scale, self.space.black
        noise = (scale * colours).sum(1, keepdim=True)
        above = values - (black * colours[0]).sum(0)
        seen = (F.pad(p, (MIRRORED,) * 4, mode="reflect") for p in (above[None, None], noise, colours))
        inside = (..., slice(MIRRORED, -MIRRORED), slice(MIRRORED, -MIRRORED))
        v = self.run(*(p.to(self.device) for p in seen))[0][inside].cpu() + black
        trust = self._trust(v)
        mixed = torch.where((colours[0] > 0) & known, values + trust * (v - values), v)
        # Of a clipped site only a lower bound is known.
        return torch.where((colours[0] > 0) & clipped, torch.maximum(mixed, values), mixed)

    def _trust(self, v: Tensor) -> Tensor:
        """Share of the network's correction that measured sites take: Wiener's, of its error against the noise."""
        noise, detail = self.space.scale.square(), detail_energy(v)[0]
        error = DETAIL_ERROR * detail / (detail + CLEAR_DETAIL * noise)
        return noise / (noise + error.square())


def error_law(cfa: Cfa) -> ErrorLaw:
    """For Bayer, or an array of wider period."""
    return BAYER_ERROR if cfa.is_bayer else WIDE_ERROR
