"""Histograms of whole codes: which codes are missing, which are doubled, and how far apart codes lie.

Noise of more than half a code step makes a smooth histogram. Arithmetic on codes after the converter does not: a
factor above 1 leaves codes empty, one below 1 puts two codes into one, a curve does either more and more with level.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from noise_models.calibration.traps.finding import FALSE_ALARM
from noise_models.calibration.traps.tiles import F64, site_tiles
from noise_models.frame import RawFrame

Counts = NDArray[np.int64]

# A code between two codes of 25 sites or more expects at least as many: empty by chance once in exp(25).
STRONG_COUNT = 25
# Corrected defects fill a few sites into an empty code.
EMPTY_SHARE = 0.05
# Longest gap that belongs to a comb; a wider one lies between two light levels.
LONGEST_STEP = 64

# A code that holds this factor more or less than its four neighbours predict was made of two codes, or is one among
# doubled ones.
DOUBLED_FACTOR = 1.4
DOUBLED_SIGMA = 3.5
# Codes over which a histogram's own shape is averaged out: a comb has a period of 2 to about 15 codes.
_TREND_CODES = 31
# A frequency this strong against the strongest is the fundamental or one of its harmonics.
_STRONG_HARMONIC = 0.6
# Counts from which the logarithm of a count is about normal.
DOUBLED_COUNT = 60

# A comb needs this many irregular codes: stuck values, a clamp and a kink in the tail make one or two. Of the doubled
# ones, so many more as chance makes among those tested.
FEWEST_IRREGULAR = 3

# Pairs of neighbouring codes in a window that measures the local step: a factor g shows steps whose mean over m
# pairs is g to 1/m.
WINDOW_PAIRS = 16
MOST_WINDOWS = 8
# Growth of the step over the level that no rounding of windows explains.
GROWTH_MARGIN = 0.1


@dataclass(frozen=True)
class Comb:
    """Regularity of one plane's histogram.

    Attributes:
        pairs: Neighbouring occupied codes that were compared.
        gaps: Of these, with empty codes between.
        step: Mean distance of neighbours in codes.
        tested: Codes compared with their four neighbours.
        doubled: Of these, with a count unlike the neighbours'.
        rate: Doubled codes per code, from the frequency of the comb; 0 where fewer than two codes were tested.
        windows: (level [DN], mean step) of windows along the codes, each of `WINDOW_PAIRS` pairs or more.
    """

    pairs: int
    gaps: int
    step: float
    tested: int
    doubled: int
    rate: float
    windows: tuple[tuple[float, float], ...]

    @property
    def irregular(self) -> int:
        """Missing and doubled codes."""
        return self.gaps if self.gaps >= FEWEST_IRREGULAR else max(self.gaps, self.doubled)

    @property
    def threshold(self) -> int:
        """Irregular codes that a histogram without a comb does not have."""
        if self.gaps >= FEWEST_IRREGULAR:
            return FEWEST_IRREGULAR
        chance = 2.0 * float(stats.norm.sf(DOUBLED_SIGMA))
        # Four planes; neighbouring codes share counts, so that one chance event makes up to three irregular ones.
        clusters = int(stats.binom.isf(FALSE_ALARM / 4, self.tested, chance))
        return FEWEST_IRREGULAR * (1 + clusters)

    @property
    def regular(self) -> bool:
        """No sign of arithmetic on codes."""
        return self.irregular < self.threshold

    @property
    def factor(self) -> float:
        """The factor on codes that makes such a comb; 1 where there is none."""
        if self.regular:
            return 1.0
        return self.step if self.gaps >= FEWEST_IRREGULAR else 1.0 / (1.0 + self.rate)

    @property
    def factor_error(self) -> float:
        """How far `factor` can be off: one code more or fewer in the range that was seen."""
        if self.regular:
            return 0.0
        return 1.0 / max(self.pairs, 1) if self.gaps >= FEWEST_IRREGULAR else 2.0 / max(self.tested, 1)

    @property
    def growth(self) -> float:
        """Largest rise of the mean step from one window to a brighter one, in codes."""
        steps = np.array([step for _, step in self.windows])
        if len(steps) < 2:
            return 0.0
        return float(np.max(steps - np.minimum.accumulate(steps)))

    @property
    def grows(self) -> bool:
        """The step rises with the level: a curve, not a factor."""
        return self.growth > growth_limit()


def growth_limit() -> float:
    """Rise of the mean step between two windows that a constant factor cannot have."""
    return 2.0 / WINDOW_PAIRS + GROWTH_MARGIN


def plane_combs(frames: Iterable[RawFrame]) -> dict[str, Comb]:
    """The comb of every plane, over all frames together.

    Args:
        frames: Of one camera and ISO; more levels show more codes.

    Raises:
        CalibrationError: a frame is too small.
    """
    counts: dict[str, Counts] = {}
    for frame in frames:
        for tiles in site_tiles(frame):
            histogram = np.bincount(tiles.codes.ravel(), minlength=1 << 16)
            # What is clipped piles up at one code.
            histogram[int(np.ceil(tiles.white)) :] = 0
            counts[tiles.plane] = counts.get(tiles.plane, 0) + histogram
    return {plane: read_comb(histogram) for plane, histogram in counts.items()}


def read_comb(counts: Counts) -> Comb:
    """Look for missing and doubled codes.

    Args:
        counts: Sites per code, from code 0.
    """
    levels, steps = _steps(counts)
    tested, doubled, rate = _doubled(counts)
    return Comb(
        pairs=len(steps),
        gaps=int(np.count_nonzero(steps > 1)),
        step=float(steps.mean()) if len(steps) else 1.0,
        tested=tested,
        doubled=doubled,
        rate=rate,
        windows=_windows(levels, steps),
    )


def _steps(counts: Counts) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Lower code and distance of every pair of neighbouring strong codes with nothing between."""
    strong = np.flatnonzero(counts >= STRONG_COUNT)
    if len(strong) < 2:
        return strong[:0], strong[:0]
    steps = np.diff(strong)
    cumulative = np.cumsum(counts)
    between = cumulative[strong[1:] - 1] - cumulative[strong[:-1]]
    empty = between <= EMPTY_SHARE * np.minimum(counts[strong[1:]], counts[strong[:-1]])
    keep = empty & (steps <= LONGEST_STEP)
    return strong[:-1][keep], steps[keep]


def _doubled(counts: Counts) -> tuple[int, int, float]:
    """Codes compared with their neighbours, those that differ by `DOUBLED_FACTOR`, and the rate of doubled codes.

    The logarithm of a smooth density is locally a cubic; through the codes at -2, -1, 1 and 2 it predicts
    ``(4 (l[-1] + l[1]) - l[-2] - l[2]) / 6`` at 0.
    """
    enough = counts >= DOUBLED_COUNT
    inner = enough[:-4] & enough[1:-3] & enough[2:-2] & enough[3:-1] & enough[4:]
    centre = np.flatnonzero(inner) + 2
    if not len(centre):
        return 0, 0, 0.0
    log: F64 = np.log(np.maximum(counts, 1))
    predicted = (4.0 * (log[centre - 1] + log[centre + 1]) - log[centre - 2] - log[centre + 2]) / 6.0
    weight = 1.0 / np.maximum(counts, 1)
    variance = (
        weight[centre]
        + (16.0 * (weight[centre - 1] + weight[centre + 1]) + weight[centre - 2] + weight[centre + 2]) / 36.0
    )
    limit = np.maximum(np.log(DOUBLED_FACTOR), DOUBLED_SIGMA * np.sqrt(variance))
    residual = log[centre] - predicted
    return len(centre), int(np.count_nonzero(np.abs(residual) > limit)), _rate(centre, counts)


def _rate(codes: NDArray[np.intp], counts: Counts) -> float:
    """Doubled codes per code: the comb's frequency f, or 1 - f where single codes are the exception.

    A comb of doubled codes is a train of pulses: its harmonics are about as strong as its fundamental, which is
    therefore the lowest of the strong frequencies.
    """
    span = counts[codes[0] : codes[-1] + 1]
    if len(span) < _TREND_CODES:
        return 0.0
    log = np.log(np.maximum(span, 1))
    residual = log - ndimage.uniform_filter1d(log, _TREND_CODES, mode="nearest")
    frequencies = np.fft.rfftfreq(len(span))
    amplitude = np.abs(np.fft.rfft(residual * np.hanning(len(span))))
    amplitude[frequencies < 2.0 / _TREND_CODES] = 0.0
    strong = np.flatnonzero(amplitude >= _STRONG_HARMONIC * amplitude.max())
    # The highest point of the first strong peak.
    first = int(strong[0])
    while first + 1 < len(amplitude) and amplitude[first + 1] > amplitude[first]:
        first += 1
    frequency = float(frequencies[first])
    few_high = float(np.mean((residual - residual.mean()) ** 3)) >= 0.0
    return frequency if few_high else 1.0 - frequency


def _windows(levels: NDArray[np.intp], steps: NDArray[np.intp]) -> tuple[tuple[float, float], ...]:
    number = min(MOST_WINDOWS, len(steps) // WINDOW_PAIRS)
    if number == 0:
        return ()
    edges = np.linspace(0, len(steps), number + 1).astype(int)
    return tuple((float(levels[a:b].mean()), float(steps[a:b].mean())) for a, b in itertools.pairwise(edges))
