"""One tile: planes of the prepared frame in, linear light out, and if asked how wrong it may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore.demosaic import demosaic
from physrestore.pnp import sharpen
from physrestore.pnp.colour_prior import DemosaicPrior
from physrestore.pnp.expected_error import ErrorLaw, error_std, in_light, unknown_where_clipped
from physrestore.pnp.grain import put_back
from physrestore.pnp.held_out_error import HeldOut, held_out
from physrestore.pnp.joint import NOISE_SHARE, Measured, Pace, restore_jointly, split
from physrestore.priors.base import Prior
from physrestore.working_space import WorkingSpace

# Multiples of it are in phase with the array (2, 4 or 6) and with the coarsest patch grid of the cosine transform (8).
ALIGN = 24
# What is still blurred errs more in colour differences, too: 2 dB better than 1 on deblurred Kodak24 crops.
SHARPEN_CHROMA = 2.5


class TileSolver:
    """Restores tiles of one frame.

    Attributes:
        steps: Of the joint solve, by the prior that was given if there is one; a budget lowers it.
        error_factor: Of the expected error, for a prior that the law was not calibrated for.
        on_work: Called with pixel-steps as they are done; all tiles together do ``work`` per pixel read.
    """

    def __init__(
        self,
        space: WorkingSpace,
        cfa: Cfa,
        optics: sharpen.Optics,
        *,
        prior: Prior | None,
        share: float,
        uncertain: bool,
        device: torch.device,
    ) -> None:
        """As in `physrestore.pnp.restore_pnp`; ``share`` is the strength, 0..1."""
        self.space, self.cfa, self.optics = space, cfa, optics
        self.prior, self.share, self.uncertain, self.device = prior, share, uncertain, device
        self.steps = (Pace.of(cfa) if prior is None else Pace.onward(cfa)).steps
        self.error_factor = 1.0
        self.on_work: Callable[[int], None] = lambda _: None

    @property
    def work(self) -> int:
        """Pixel-steps per pixel."""
        before = 0 if self.prior is None else Pace.of(self.cfa).steps
        return before + self.steps + (0 if self.optics.is_plain else sharpen.STEPS * self.optics.scale**2)

    def __call__(self, planes: Tensor) -> Tensor:
        """(4, h, w) of `physrestore.pnp.prepare.Prepared` to (3 s^2, h, w): blocks of s x s pixels as channels.

        With uncertainty (6, h, w): the std of every value follows the picture.
        """
        data = self._measured(planes)
        v = self._joint(data)
        rgb = self.space.linear(v.cpu())
        made = rgb if self.optics.is_plain else self._sharpened(rgb, data)
        if self.share < 1.0:
            grain = self._with_grain(rgb, planes) - rgb
            made = made + (grain if self.optics.scale == 1 else self._enlarged(grain))
        made = made if self.optics.scale == 1 else F.pixel_unshuffle(made, self.optics.scale)
        return torch.cat([made, self._std(v, data)]) if self.uncertain else made

    def trial(self, planes: Tensor, steps: int) -> Tensor:
        """What takes as long as so many of the `steps`, to be timed."""
        data = self._measured(planes)
        if self.prior is None:
            return restore_jointly(data, steps=steps)
        return split(data, demosaic(data.values, data.cfa), self.prior, Pace.onward(data.cfa), steps=steps)

    def trial_beside(self, planes: Tensor) -> Tensor:
        """What is done besides, to be timed."""
        data = self._measured(planes)
        v = demosaic(data.values, data.cfa) if self.prior is None else restore_jointly(data)
        return v if self.optics.is_plain else self._sharpened(self.space.linear(v[0].cpu()), data)

    def measured_error_factor(self, pieces: Iterable[Tensor], *, seed: int) -> float:
        """What `error_factor` should be, from sites hidden from the prior on some pieces of the frame."""
        generator = torch.Generator().manual_seed(seed)
        law, found = ErrorLaw.of(self.cfa), HeldOut()
        for piece in pieces:
            restore = lambda data: restore_jointly(data, prior=self.prior, steps=self.steps)  # noqa: E731
            found += held_out(self._measured(piece), restore=restore, law=law, generator=generator)
        return found.factor

    def _measured(self, planes: Tensor) -> Measured:
        values, known, clipped = planes[:3].to(self.device)
        return Measured(values[None, None], known > 0, clipped > 0, self.space.scale.to(self.device), self.cfa)

    def _joint(self, data: Measured) -> Tensor:
        pixels = data.values.numel()
        v = restore_jointly(data, prior=self.prior, steps=self.steps, on_iterate=lambda _: self.on_work(pixels))
        return v[0]

    def _sharpened(self, rgb: Tensor, data: Measured) -> Tensor:
        pixels = data.values.numel() * self.optics.scale**2
        prior = self.prior or DemosaicPrior(NOISE_SHARE * data.noise, chroma=SHARPEN_CHROMA)
        return sharpen.sharpen(
            rgb.to(self.device),
            data,
            optics=self.optics,
            space=self.space,
            prior=prior,
            on_iterate=lambda _: self.on_work(pixels),
        ).cpu()

    def _with_grain(self, rgb: Tensor, planes: Tensor) -> Tensor:
        return put_back(
            rgb,
            planes[3],
            cfa=self.cfa,
            balance=self.space.balance,
            share=1.0 - self.share,
            known=planes[1] > 0,
            clipped=planes[2] > 0,
        )

    def _enlarged(self, grain: Tensor) -> Tensor:
        return F.interpolate(grain[None], scale_factor=self.optics.scale, mode="nearest")[0]

    def _std(self, v: Tensor, data: Measured) -> Tensor:
        """Of the result in linear light: what the restoration got wrong, and the noise that was put back."""
        restored = self.error_factor * error_std(v, data, ErrorLaw.of(self.cfa))
        std = ((self.share * restored).square() + ((1.0 - self.share) * data.noise).square()).sqrt()
        return in_light(unknown_where_clipped(std, data), v, self.space).cpu()
