"""Frames of a burst in one unit: linear light in the exposure of the reference, rows straightened, defects marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.errors import ProfileError
from noise_models.frame import RawFrame, Shot, tile_to
from noise_models.sensor import SensorNoise
from physrestore.classic.lines import row_offsets
from physrestore.errors import RestoreError
from physrestore.pnp.defects import repair_defects
from physrestore.working_space import COLOURS, WorkingSpace

SMALLEST_SIDE = 16
# Exposures that differ more than this leave nothing that both frames show well.
LARGEST_RATIO = 1000.0


@dataclass(frozen=True, eq=False)
class LinearFrame:
    """One frame, ready to be compared with the others.

    Attributes:
        values: (H, W) float32 linear light in the exposure of the reference, white of the reference at 1.
        clipped: (H, W) bool, sites of which only a lower bound is known.
        defective: (H, W) bool, sites that say nothing.
        gain: a of R, G, B in these units, (3,): variance is ``a x + b``.
        dark_variance: b of R, G, B, (3,).
        exposure: Of this frame over that of the reference.
        row_noise_removed_dn: Std of the row offsets taken away [DN].
        cfa: From the top-left.
    """

    values: Tensor
    clipped: Tensor
    defective: Tensor
    gain: Tensor
    dark_variance: Tensor
    exposure: float
    row_noise_removed_dn: float
    cfa: Cfa

    @classmethod
    def of(cls, frame: RawFrame, noise: SensorNoise, *, exposure: float, keep_all: bool = False) -> LinearFrame:
        """Straighten rows, find defects, divide by the exposure.

        Args:
            frame: Not monochrome.
            noise: Of this frame.
            exposure: Over that of the reference.
            keep_all: Change no measured value and call none defective.

        Raises:
            ProfileError: the noise describes other planes, or its gain is unknown.
        """
        space = WorkingSpace.of_frame(frame, noise)
        signal, removed = frame.linear()[0, 0], 0.0
        defective = torch.zeros(frame.shape, dtype=torch.bool)
        offsets = None if keep_all else row_offsets(frame, noise)
        if offsets is not None:
            span = tile_to(torch.from_numpy(frame.white_level - frame.black_level).float(), *frame.shape)
            signal = signal - torch.from_numpy(offsets).float()[:, None] / span
            removed = float(np.std(offsets))
        if not keep_all:
            defective = repair_defects(space.stabilise(signal, frame.cfa), frame.cfa).defective
        return cls(
            values=signal / exposure,
            clipped=frame.clipped()[0, 0] & ~defective,
            defective=defective,
            gain=space.gain.float() / exposure,
            dark_variance=(space.dark_noise.float() / exposure).square(),
            exposure=exposure,
            row_noise_removed_dn=removed,
            cfa=frame.cfa,
        )

    def colour_index(self) -> Tensor:
        """Which of R, G, B every site measures, (H, W) int64."""
        period = torch.tensor([[COLOURS.index(letter) for letter in row] for row in self.cfa.rows])
        return tile_to(period, *self.values.shape)


def check_burst(frames: Sequence[RawFrame], noises: Sequence[SensorNoise]) -> None:
    """Refuse frames that cannot be restored together.

    Raises:
        RestoreError: no frame, a monochrome or too small one, frames of different shapes or arrays, or another number
            of noises.
        ProfileError: a noise that describes other planes than its frame has.
    """
    if not frames:
        raise RestoreError("A burst needs at least one frame; none was given.")
    if len(noises) != len(frames):
        raise RestoreError(f"A burst of {len(frames)} frames needs as many noises, not {len(noises)}.")
    first = frames[0]
    if first.cfa.is_mono:
        raise RestoreError("A monochrome frame has no colours to demosaic; bursts of them are not supported.")
    if min(first.shape) < SMALLEST_SIDE:
        raise RestoreError(f"A frame of {first.shape} is too small: needed are {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels.")
    for number, (frame, noise) in enumerate(zip(frames, noises, strict=True), start=1):
        if frame.shape != first.shape or frame.cfa != first.cfa:
            raise RestoreError(
                f"Frame {number} of the burst is {frame.shape} {frame.cfa.name}, the first {first.shape} "
                f"{first.cfa.name}. Give frames of one camera in one orientation."
            )
        if set(noise.planes) != set(frame.cfa.plane_names):
            raise ProfileError(
                f"The profile of frame {number} describes planes {', '.join(noise.planes)}; the frame has "
                f"{', '.join(frame.cfa.plane_names)}. Calibrate this camera itself."
            )


def relative_exposures(frames: Sequence[RawFrame]) -> tuple[float, ...]:
    """Values in DN that each frame gives the same scene, over those of the first: time, aperture and ISO.

    Nominal settings are rounded (1/60 s is 1/64 s): frames of different settings may differ by some percent from what
    is returned here, which in good light lowers their weights. Measured ratios are better where there are any.

    Raises:
        RestoreError: one frame states a setting that the other does not, or the exposures differ absurdly.

    >>> from dataclasses import replace
    >>> dark = RawFrame(np.zeros((2, 2), np.uint16), Cfa.parse("M"), np.zeros((1, 1)), np.ones((1, 1)))
    >>> long, short = (replace(dark, shot=Shot(exposure_s=s, iso=100.0)) for s in (0.5, 0.125))
    >>> relative_exposures([long, short])
    (1.0, 0.25)
    """
    return tuple(_ratio(frame.shot, frames[0].shot) for frame in frames)


def _ratio(shot: Shot, reference: Shot) -> float:
    ratio = 1.0
    for name, power in (("exposure_s", 1), ("iso", 1), ("aperture", -2)):
        own, first = getattr(shot, name), getattr(reference, name)
        if (own is None) != (first is None):
            raise RestoreError(f"Only some frames of the burst state their {name}. Give the relative exposures.")
        if own is not None and own > 0 and first > 0:
            ratio *= (own / first) ** power
    if not (1 / LARGEST_RATIO < ratio < LARGEST_RATIO and math.isfinite(ratio)):
        raise RestoreError(f"A frame of the burst has {ratio:g} times the exposure of the first: leave it out.")
    return ratio
