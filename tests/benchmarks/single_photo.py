"""Gain and read noise from one photo: errors, coverage and refusals over scenes, beside two classic estimators.

Peers in the same run, on the same packed planes: regression of 3x3 variances on 3x3 means (Theil-Sen over 40 levels),
and of Haar diagonal MADs. Neither gives an interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from noise_models.calibration.photo.single_photo import NotIdentifiable, estimate_from_frame
from noise_models.cfa import Cfa
from noise_models.frame import RawFrame
from tests.noise_models.photo_scenes import coloured, photograph, picture, power_law_scene
from tests.shared_data import data_folder

RGGB = Cfa.parse("RGGB")
SHAPE = (1024, 1536)
LEVELS = 40
# gain [DN/e-], read noise [DN], mean signal [e-]
CAMERAS = ((0.1, 1.0, 1000.0), (0.4, 2.0, 300.0), (1.0, 10.0, 300.0), (4.0, 4.0, 60.0))


@dataclass(frozen=True)
class Row:
    """One photograph: true over estimated values."""

    scene: str
    masked: bool
    trust: str
    gain_ratio: float
    gain_sigmas: float
    read_sigmas: float
    bound_holds: bool
    local_ratio: float
    haar_ratio: float


def photographs(seeds: int) -> Iterator[tuple[str, bool, float, float, RawFrame]]:
    """Scene name, masked pixels or not, gain, read noise, frame."""
    for beta in (4.0, 3.0, 2.5, 2.0):
        for seed in range(seeds):
            unit = coloured(power_law_scene(beta, SHAPE, mean=1.0, seed=seed), RGGB)
            for gain, read, mean in CAMERAS:
                for masked in (True, False):
                    bits = 12 if seed % 2 else 14
                    yield (
                        f"1/f^{beta:g}",
                        masked,
                        gain,
                        read,
                        photograph(unit * mean, gain=gain, read_dn=read, seed=seed, bits=bits, masked=masked),
                    )
    for index, path in enumerate(sorted((data_folder() / "sets" / "kodak24").glob("*"))):
        gain, read, mean = CAMERAS[index % len(CAMERAS)]
        for masked in (True, False):
            scene = picture(path, mean=min(mean, 100.0))
            yield (
                "kodak24, 100 e-",
                masked,
                gain,
                read,
                photograph(scene, gain=gain, read_dn=read, seed=index, masked=masked),
            )


def measure(scene: str, masked: bool, gain: float, read: float, frame: RawFrame) -> Row:
    """Estimate one photograph in three ways."""
    local, haar = (estimator(frame) / gain for estimator in (local_regression, haar_regression))
    try:
        estimate = estimate_from_frame(frame)
    except NotIdentifiable as refused:
        holds = refused.gain_upper is None or refused.gain_upper > gain
        return Row(scene, masked, "refused", np.nan, np.nan, np.nan, holds, local, haar)
    plane = estimate.noise.planes["G1"]
    found, found_read = plane.gain, plane.read_noise_dn
    assert found is not None
    return Row(
        scene=scene,
        masked=masked,
        trust=estimate.trust,
        gain_ratio=found.value / gain,
        gain_sigmas=(found.value - gain) / (found.standard_error or np.nan),
        read_sigmas=(found_read.value - read) / (found_read.standard_error or np.nan),
        bound_holds=True,
        local_ratio=local,
        haar_ratio=haar,
    )


def local_regression(frame: RawFrame) -> float:
    """Slope of the 3x3 sample variance over the 3x3 mean, all planes, Theil-Sen over quantiles of the mean."""
    points = []
    for plane in planes(frame):
        mean = ndimage.uniform_filter(plane, 3)
        variance = (ndimage.uniform_filter(plane**2, 3) - mean**2) * 9 / 8
        points.append((mean[1::3, 1::3].ravel(), variance[1::3, 1::3].ravel()))
    return slope(points, np.mean)


def haar_regression(frame: RawFrame) -> float:
    """The same with the squared median absolute deviation of the Haar diagonal detail."""
    points = []
    for plane in planes(frame):
        height, width = (side // 2 * 2 for side in plane.shape)
        a, b, c, d = (plane[i:height:2, j:width:2] for i in (0, 1) for j in (0, 1))
        points.append((((a + b + c + d) / 4).ravel(), np.abs(a - b - c + d).ravel() / 2))
    return slope(points, lambda detail: (1.4826 * np.median(detail)) ** 2)


def planes(frame: RawFrame) -> list[NDArray[np.float64]]:
    """Same-colour sub-lattices above black [DN]."""
    return [frame.mosaic[i::2, j::2].astype(np.float64) - frame.black_level[i, j] for i in (0, 1) for j in (0, 1)]


def slope(points, statistic) -> float:  # type: ignore[no-untyped-def]
    """Theil-Sen slope of a statistic over quantile bins of the level."""
    level, value = (np.concatenate(parts) for parts in zip(*points, strict=True))
    groups = np.array_split(np.argsort(level), LEVELS)
    return float(stats.theilslopes([statistic(value[g]) for g in groups], [level[g].mean() for g in groups])[0])


def run(seeds: int = 3) -> list[Row]:
    """Measure all photographs and print one line per kind of scene and trust."""
    rows = [measure(*photograph_) for photograph_ in photographs(seeds)]
    header = ("|K-1| med", "K in 95%", "read in", "bound", "3x3 K", "Haar K")
    print(f"{'scene':16} {'masked':6} {'trust':8} {'n':>3}", *(f"{title:>9}" for title in header))
    for scene, masked, trust in sorted({(row.scene, row.masked, row.trust) for row in rows}, reverse=True):
        group = [row for row in rows if (row.scene, row.masked, row.trust) == (scene, masked, trust)]
        numbers = [
            np.median([abs(row.gain_ratio - 1) for row in group]),
            np.mean([abs(row.gain_sigmas) < 1.96 for row in group]),
            np.mean([abs(row.read_sigmas) < 1.96 for row in group]),
            np.mean([row.bound_holds for row in group]),
            np.median([row.local_ratio for row in group]),
            np.median([row.haar_ratio for row in group]),
        ]
        if trust == "refused":
            numbers[:3] = [np.nan] * 3
        print(f"{scene:16} {masked!s:6} {trust:8} {len(group):3}", *(f"{number:9.3f}" for number in numbers))
    answered = [row for row in rows if row.trust != "refused"]
    covered = np.mean([abs(row.gain_sigmas) < 1.96 for row in answered])
    refused = len(rows) - len(answered)
    print(f"K: {covered:.0%} of {len(answered)} intervals hold the truth; {refused} photographs refused.")
    return rows
