"""What the darks of one ISO say: black level, line noise, fixed pattern, hot pixels and the noise at zero light."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.banding import LineNoise
from noise_models.calibration.maps import MapBuilder
from noise_models.calibration.photon_transfer import TransferPoints
from noise_models.calibration.shape.quantised import CodeFit
from noise_models.calibration.spatial import Pattern
from noise_models.calibration.specimen import DarkSpecimen
from noise_models.calibration.traps import Finding
from noise_models.cfa import Cfa
from noise_models.sensor import QUANTISATION_VARIANCE_DN2

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
Site = tuple[int, int]

# Histogram of dark differences for the report, in units of their standard deviation.
HISTOGRAM_REACH = 8.0
BINS_PER_STD = 8


@dataclass(frozen=True)
class Histogram:
    """How often dark differences occur.

    Attributes:
        edges: Of the bins [standard deviations], (n + 1,).
        counts: (n,).
    """

    edges: F64
    counts: NDArray[np.int64]


@dataclass
class DarkMeasurement:
    """What the darks of one ISO say. Lists grow pair by pair, frame by frame.

    Attributes:
        cfa: Of the frames.
        shape: Height and width of the frames.
        frame_means: Mean of every frame [DN], one value a plane; defects of its group's first pair left out.
        exposures: Exposure of every frame [s].
        groups: Level key of every frame.
        points: Per plane, one point at mean zero a pair.
        pair_groups: Level key and exposure [s] of every pair.
        rows: Temporal row noise.
        columns: Temporal column noise.
        codes: Per plane, pairs of codes; only where the noise is below half a code step or cut off by a clamp.
        code_fits: Per plane, what those codes say.
        clamp: Lowest code that the camera writes, where it cuts the noise off; None: it does not.
        patterns: Fixed pattern of every CFA site, from the largest group.
        defects: Defective sites of every CFA site, from the largest group.
        pair_defects: Those of them that a pair shows, and that were left out of its noise.
        black_shift: Per plane, what is added to `frame_means` [DN] for the defects that only the mean frame shows, and
            for the clamp.
        pattern_frames: Frames that ``patterns`` is the mean of.
        main_group: Level key of that largest group.
        specimen: The middle of the frames of the largest group.
        maps: Collects maps; None where nobody asked for them.
        findings: What the trap detectors say.
        histogram: Per plane, of the first pair's difference.
        notes: What was found and what was left out.
    """

    cfa: Cfa
    shape: tuple[int, int] = (0, 0)
    frame_means: list[F64] = field(default_factory=list)
    exposures: list[float | None] = field(default_factory=list)
    groups: list[Hashable] = field(default_factory=list)
    points: dict[str, list[TransferPoints]] = field(default_factory=dict)
    pair_groups: list[tuple[Hashable, float | None]] = field(default_factory=list)
    rows: LineNoise = field(default_factory=lambda: LineNoise("row"))
    columns: LineNoise = field(default_factory=lambda: LineNoise("column"))
    codes: dict[str, Counter[tuple[int, int]]] = field(default_factory=dict)
    code_fits: dict[str, CodeFit] = field(default_factory=dict)
    clamp: int | None = None
    patterns: dict[Site, Pattern] = field(default_factory=dict)
    defects: dict[Site, Bool] = field(default_factory=dict)
    pair_defects: dict[Site, Bool] = field(default_factory=dict)
    black_shift: dict[str, float] = field(default_factory=dict)
    pattern_frames: int = 0
    main_group: Hashable = None
    specimen: DarkSpecimen = field(default_factory=lambda: DarkSpecimen(0))
    maps: MapBuilder | None = None
    findings: list[Finding] = field(default_factory=list)
    histogram: dict[str, Histogram] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def black(self, plane: str, exposure_s: float | None) -> float:
        """Mean dark level [DN] at the exposure nearest to the given one."""
        index = self.cfa.plane_names.index(plane)
        nearest = self._nearest(exposure_s, self.exposures)
        chosen = [mean[index] for mean, e in zip(self.frame_means, self.exposures, strict=True) if nearest in (None, e)]
        return float(np.mean(chosen)) + self.black_shift.get(plane, 0.0)

    def zero_points(self, plane: str, exposures: Iterable[float | None]) -> list[TransferPoints]:
        """The pairs whose exposure is the nearest to one of the given ones: dark current adds noise with time."""
        known = [exposure for _, exposure in self.pair_groups]
        nearest = {self._nearest(exposure, known) for exposure in exposures}
        pairs = zip(self.points[plane], known, strict=True)
        return [point for point, exposure in pairs if None in nearest or exposure in nearest]

    @staticmethod
    def _nearest(exposure_s: float | None, known: Sequence[float | None]) -> float | None:
        """The known exposure nearest in ratio; None where nothing tells exposures apart."""
        positive = [e for e in known if e is not None and e > 0]
        if exposure_s is None or exposure_s <= 0 or not positive:
            return None
        return min(positive, key=lambda e: abs(math.log(e / exposure_s)))

    def pixel_variance(self, plane: str) -> float:
        """Temporal variance of one pixel [DN^2] in the largest group, rounding and line noise excluded."""
        if self.clamp is not None:
            return max(0.0, self.code_fits[plane].read_noise_dn ** 2 - self.line_variance())
        return float(np.average([p.variance_dn2[0] for p in self._main(plane)], weights=self._weights(plane)))

    def _main(self, plane: str) -> list[TransferPoints]:
        return [p for p, (key, _) in zip(self.points[plane], self.pair_groups, strict=True) if key == self.main_group]

    def _weights(self, plane: str) -> F64:
        return np.array([1.0 / point.relative_error[0] ** 2 for point in self._main(plane)])

    def dsnu_variance(self, plane: str) -> tuple[float, float]:
        """Pixel-to-pixel variance [DN^2] of the fixed pattern, defects excluded, and its standard error."""
        if self.clamp is not None:
            fit = self.code_fits[plane]
            return fit.pattern_dn**2, 2.0 * fit.pattern_dn * (fit.pattern_error_dn or fit.pattern_dn)
        patterns = [self.patterns[site] for site in self.cfa.sites(plane)]
        measured = float(np.mean([pattern.variance for pattern in patterns]))
        own_error = math.sqrt(sum(pattern.error**2 for pattern in patterns)) / len(patterns)
        blinking, _ = self.specimen.blinking_variance(
            self.cfa.sites(plane)
        )  # in the noise of pairs, not in the pattern
        temporal = self.pixel_variance(plane) - blinking + QUANTISATION_VARIANCE_DN2
        temporal_error = temporal / math.sqrt(float(self._weights(plane).sum()))
        # A frame has few lines, so what they leave in the mean scatters by more than their estimate's error.
        line_error = math.hypot(self.rows.variance()[1], self.columns.variance()[1]) * math.sqrt(
            len(self.points[plane])
        )
        error = math.hypot(own_error, math.hypot(temporal_error, line_error) / self.pattern_frames)
        return measured - (temporal + self.line_variance()) / self.pattern_frames, error

    def line_variance(self) -> float:
        """Variance [DN^2] of row and column offsets together, not below zero."""
        return max(0.0, self.rows.variance()[0]) + max(0.0, self.columns.variance()[0])
