"""Frames that do not belong together: other settings, or another light level than the rest of their group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from noise_models.calibration.traps.finding import Finding, unjudged
from noise_models.calibration.traps.tiles import robust_std, site_tiles, without_lines
from noise_models.frame import RawFrame

SETTINGS = "mismatched_frames"
LEVEL = "level_outlier"

_SETTINGS: dict[str, Callable[[RawFrame], Hashable]] = {
    "size": lambda frame: frame.shape,
    "CFA": lambda frame: frame.cfa.name,
    "camera": lambda frame: frame.shot.camera,
    "ISO": lambda frame: frame.shot.iso,
    "exposure": lambda frame: frame.shot.exposure_s,
    "aperture": lambda frame: frame.shot.aperture,
    "black level": lambda frame: tuple(frame.black_level.ravel().tolist()),
    "white level": lambda frame: tuple(frame.white_level.ravel().tolist()),
}

# Black levels are measured by the camera for every frame and differ by a fraction of a code or two.
BLACK_TOLERANCE_DN = 2.0
# Shutters and lamps repeat to 1 %: a frame of the same light lies within five times that. Darks have no light; their
# black level may move by half the noise of a pixel.
LIGHT_TOLERANCE = 0.05
NOISE_TOLERANCE = 0.5


def find_mismatched_frames(frames: Sequence[RawFrame], *, names: Sequence[str] | None = None) -> Finding:
    """Compare size, CFA, camera, exposure and levels of frames of one group.

    Args:
        frames: Meant to be alike.
        names: For the evidence; default: their numbers from 1.

    Returns:
        The number of frames unlike the majority.

    Raises:
        ValueError: not as many names as frames.
    """
    labels = _labels(frames, names)
    if len(frames) < 2:
        return unjudged(SETTINGS, 1.0, f"{len(frames)} frame; nothing to compare.", "Give two frames or more.")
    reasons: dict[int, list[str]] = {}
    for setting, read in _SETTINGS.items():
        values = [read(frame) for frame in frames]
        usual = Counter(values).most_common(1)[0][0]
        for k, value in enumerate(values):
            if value != usual and not (setting == "black level" and _close(value, usual)):
                reasons.setdefault(k, []).append(f"{setting} {value} instead of {usual}")
    found = bool(reasons)
    listed = "; ".join(f"{labels[k]}: {', '.join(texts)}" for k, texts in sorted(reasons.items()))
    return Finding(
        trap=SETTINGS,
        found=found,
        statistic=float(len(reasons)),
        threshold=1.0,
        evidence=f"{len(reasons)} of {len(frames)} frames differ from the others{': ' + listed if found else ''}.",
        advice="Leave these frames out or group them by their own settings." if found else "",
    )


def find_level_outliers(frames: Sequence[RawFrame], *, names: Sequence[str] | None = None) -> Finding:
    """Look for frames whose mean is far from that of the others.

    Args:
        frames: Alike in settings, and meant to be alike in light.
        names: For the evidence; default: their numbers from 1.

    Returns:
        The largest distance of a frame's level from the median, in units of what repetition allows.

    Raises:
        CalibrationError: a frame is too small.
        ValueError: not as many names as frames.
    """
    labels = _labels(frames, names)
    if len(frames) < 2:
        return unjudged(LEVEL, 1.0, f"{len(frames)} frame; nothing to compare.", "Give two frames or more.")
    levels, noises = np.array([_level_and_noise(frame) for frame in frames]).T
    centre = float(np.median(levels))
    allowed = LIGHT_TOLERANCE * max(centre, 0.0) + NOISE_TOLERANCE * float(np.median(noises))
    distances = np.abs(levels - centre) / max(allowed, np.finfo(float).tiny)
    outliers = [labels[k] for k in np.flatnonzero(distances > 1.0).tolist()]
    worst = int(np.argmax(distances))
    return Finding(
        trap=LEVEL,
        found=bool(outliers),
        statistic=float(distances[worst]),
        threshold=1.0,
        evidence=f"{labels[worst]} lies {levels[worst] - centre:+.2f} DN from the group's median of {centre:.2f} DN "
        f"above black; {allowed:.2f} DN is allowed{'; outside: ' + ', '.join(outliers) if outliers else ''}.",
        advice="Leave these frames out: the light, the shutter or the lens cap was not the same." if outliers else "",
    )


def _labels(frames: Sequence[RawFrame], names: Sequence[str] | None) -> Sequence[str]:
    if names is not None and len(names) != len(frames):
        raise ValueError(f"{len(names)} names were given for {len(frames)} frames.")
    return names if names is not None else [f"frame {k + 1}" for k in range(len(frames))]


def _close(value: Hashable, usual: Hashable) -> bool:
    if not (isinstance(value, tuple) and isinstance(usual, tuple) and len(value) == len(usual)):
        return False
    return all(abs(a - b) <= BLACK_TOLERANCE_DN for a, b in zip(value, usual, strict=True))


def _level_and_noise(frame: RawFrame) -> tuple[float, float]:
    """Mean of the tiles' medians above black, and the pixel noise [DN]."""
    sites = site_tiles(frame)
    levels = [float(np.median(tiles.codes, axis=(1, 2)).mean()) - tiles.black for tiles in sites]
    noises = [robust_std(without_lines(tiles.codes.astype(np.float32))) for tiles in sites]
    return float(np.mean(levels)), float(np.mean(noises))
