"""A motion made better: every site of a frame compared with a clean picture of the reference.

Cells average 2x2 sites or more, so fine detail is aliased in them, and both sides of their comparison are noisy. Once
there is a clean picture of the reference with all colours at every pixel, each site can be compared with it where it
lies, in its own colour: no aliasing, one noise instead of two, and a gradient without any.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from physrestore.burst.frames import LinearFrame
from physrestore.burst.interpolation import look_up, look_up_with_slopes
from physrestore.burst.lucas_kanade import KNEE, Fit, Model, field, increment
from physrestore.burst.motion import Motion

# Displacement [sites] that a step tolerates beside the noise, from what cells leave to what is left at last.
TOLERATED = (0.3, 0.1, 0.05)
# Sites that decide a motion; with a million it is known to a hundredth of a site in all but the flattest pictures.
MOST_SITES = 1 << 20
# Nearer to the border the picture's own interpolation is mirrored.
BORDER = 4
# A clean picture of one frame keeps less than the whole gradient of faint detail: below so many sites, weighted and
# counted, a motion is left as it is.
FEWEST_SITES = 256


def refined(motion: Motion, frame: LinearFrame, guide: Tensor) -> Motion:
    """Gauss-Newton on the sites of a frame, by the model of the motion; local offsets stay, or go.

    Offsets that cells have seen may be those of a moving object. They are kept if the sites fit better with them.

    Args:
        motion: From the reference to the frame; right within about half a site.
        frame: In the exposure of the reference.
        guide: Clean linear light of the reference, (3, H, W).

    Returns:
        The motion, with its new standard deviation; exactly none where none is significant.
    """
    if motion.model == "none":
        return motion
    sites = _Sites(frame, guide)
    without = _refined(replace(motion, offsets=torch.zeros_like(motion.offsets)), sites)
    if not bool(motion.offsets.any()):
        return motion if without is None else without
    found = [one for one in (without, _refined(motion, sites)) if one is not None]
    return min(found, key=sites.misfit, default=motion)


def _refined(motion: Motion, sites: _Sites) -> Motion | None:
    """With the offsets that it has; None where the sites do not determine it."""
    model = Model[motion.model.upper()]
    information = torch.zeros(int(model), int(model), dtype=torch.float64)
    for tolerated in TOLERATED:
        found = sites.step(motion, model, tolerated=tolerated)
        if found is None:
            return None
        step, information = found
        matrix = motion.matrix @ torch.linalg.inv(increment(step, model, sites.shape))
        motion = replace(motion, matrix=matrix / matrix[2, 2])
    fit = Fit(motion.matrix, torch.linalg.inv(information), model, sites.shape)
    still = fit.is_still() and not bool(motion.offsets.any())
    return replace(motion, matrix=torch.eye(3, dtype=torch.float64) if still else fit.matrix, std=fit.worst_std())


class _Sites:
    """Those of one frame that are measured, at most `MOST_SITES`, drawn with a fixed seed."""

    def __init__(self, frame: LinearFrame, guide: Tensor) -> None:
        self.frame, self.guide = frame, guide
        self.shape = (int(guide.shape[-2]), int(guide.shape[-1]))
        count = frame.values.numel()
        drawn = torch.randint(count, (MOST_SITES,), generator=torch.Generator().manual_seed(0))
        drawn = torch.arange(count) if count <= MOST_SITES else drawn
        good = drawn[~(frame.clipped | frame.defective).flatten()[drawn]]
        self.row, self.column = (part.double() for part in (good // self.shape[1], good % self.shape[1]))
        self.values, self.colour = frame.values.flatten()[good], frame.colour_index().flatten()[good]

    def step(self, motion: Motion, model: Model, *, tolerated: float) -> tuple[Tensor, Tensor] | None:
        """The parameters of the increment, (n,), and what the sites know of them, (n, n); None: too little."""
        row, column, colour, values = self._inside(motion)
        seen, down, right = look_up_with_slopes(self.guide, colour, row, column)
        variance = self._variance(seen, colour)
        explained = variance + tolerated**2 * (down.square() + right.square())
        weight = (1.0 + (values - seen).square() / (KNEE**2 * explained)).square().reciprocal() / explained
        basis_down, basis_right = field(model, row, column, self.shape)
        descent = basis_down * down + basis_right * right
        information = (descent * weight) @ descent.T
        if row.numel() < FEWEST_SITES or float(torch.linalg.eigvalsh(information)[0]) < 1.0:
            return None  # some direction is not even known to a pixel
        return torch.linalg.solve(information, (descent * weight) @ (values - seen).double()), information

    def misfit(self, motion: Motion) -> float:
        """Mean over the sites of what they differ by, robustly: 0 is perfect, an outlier counts 1."""
        row, column, colour, values = self._inside(motion)
        seen = look_up(self.guide, colour, row, column)
        squared = (values - seen).square()
        return float((squared / (squared + KNEE**2 * self._variance(seen, colour))).mean())

    def _variance(self, light: Tensor, colour: Tensor) -> Tensor:
        return self.frame.gain[colour] * light.clamp(min=0.0) + self.frame.dark_variance[colour]

    def _inside(self, motion: Motion) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Row, column, colour and value of the sites that fall well inside the reference."""
        height, width = self.shape
        row, column = (place[0] for place in motion.to_reference(self.row[None], self.column[None]))
        inside = (row >= BORDER) & (row < height - BORDER) & (column >= BORDER) & (column < width - BORDER)
        return row[inside], column[inside], self.colour[inside], self.values[inside]
