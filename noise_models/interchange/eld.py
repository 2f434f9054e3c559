"""A profile in the words of ELD: log-lines of read and row noise over the gain, per conversion-gain segment.

Source: Wei et al., CVPR 2020, section 3.3: log sigma | log K ~ N(slope log K + bias, spread^2), natural logs, DN.
ELD fits one line over all ISOs; across a step of the conversion gain that errs by up to 59 %, so a line never leaves
its segment here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noise_models.errors import ProfileError
from noise_models.profile import CameraProfile
from noise_models.sensor import SensorNoise


@dataclass(frozen=True)
class LogLine:
    """log sigma = slope log K + bias; ``spread`` is the rms of the residuals (0 for two points)."""

    slope: float
    bias: float
    spread: float


@dataclass(frozen=True)
class EldView:
    """One conversion-gain segment in ELD's parameters.

    Attributes:
        segment: Number of the segment.
        log_gain_range: Smallest and largest log K.
        read: Line of the Gaussian read noise (g_scale).
        row: Line of the row noise (R_scale); None where a segment has entries without row noise.
        shapes: Tukey lambda per ISO, for entries whose tail is of that kind.
        colour_bias_dn: Black level per plane minus their mean [DN], per ISO.
    """

    segment: int
    log_gain_range: tuple[float, float]
    read: LogLine
    row: LogLine | None
    shapes: dict[float, float]
    colour_bias_dn: dict[float, dict[str, float]]


def eld_view(profile: CameraProfile) -> list[EldView]:
    """Every conversion-gain segment with at least two ISOs, in ELD's parameters.

    Raises:
        ProfileError: an entry has no gain, or no segment has two ISOs.
    """
    views = []
    for segment in sorted({entry.segment for entry in profile.entries}):
        entries = [entry for entry in profile.entries if entry.segment == segment]
        if len(entries) >= 2:  # a line needs two points
            views.append(_view(segment, entries))
    if not views:
        raise ProfileError("ELD's lines need two ISOs of one conversion-gain segment; this profile has one. Add ISOs.")
    return views


def _view(segment: int, entries: list[SensorNoise]) -> EldView:
    gains = np.log([_mean_gain(entry) for entry in entries])
    read = np.array([np.mean([p.read_noise_dn.value for p in entry.planes.values()]) for entry in entries])
    row = np.array([entry.row_noise_dn.value for entry in entries])
    return EldView(
        segment=segment,
        log_gain_range=(float(gains.min()), float(gains.max())),
        read=_line(gains, np.log(read)),
        row=_line(gains, np.log(row)) if (row > 0).all() else None,
        shapes={e.setting: e.tail.shape.value for e in entries if e.tail.kind == "tukey" and e.tail.shape is not None},
        colour_bias_dn={entry.setting: _bias(entry) for entry in entries},
    )


def _bias(entry: SensorNoise) -> dict[str, float]:
    levels = {name: plane.black_level_dn.value for name, plane in entry.planes.items()}
    mean = sum(levels.values()) / len(levels)
    return {name: level - mean for name, level in levels.items()}


def _mean_gain(entry: SensorNoise) -> float:
    gains = [plane.gain.value for plane in entry.planes.values() if plane.gain is not None]
    if len(gains) != len(entry.planes):
        raise ProfileError(f"ISO {entry.setting:g} has no gain (made from darks only). Calibrate it with flats.")
    return math.fsum(gains) / len(gains)


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> LogLine:
    slope, bias = np.polyfit(x, y, 1)
    return LogLine(float(slope), float(bias), float(np.sqrt(np.mean((y - slope * x - bias) ** 2))))
