"""Is a noise model right? Numbers that compare real dark frames with a model or with simulated ones.

No single number suffices: the divergence of histograms is blind to tails, quantiles see nothing but tails, and
neither sees lines or the place of a pixel. Every number here comes with its standard error or its floor.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from noise_models.calibration.shape.codes import CodeCounts, pooled_chi2, pooled_starts
from noise_models.calibration.shape.pixel_spread import require_frames
from noise_models.errors import CalibrationError
from noise_models.sensor import Estimate
from noise_models.stabilise import Anscombe

F64 = NDArray[np.float64]

# Frequency bands of a line spectrum: octaves show what shapes a spectrum, single frequencies show its noise.
_SMALLEST_BAND = 4  # periodogram ordinates
# Quantiles need this many pixels beyond them: fewer and the interval of the quantile reaches past the last pixel.
_FEWEST_BEYOND = 10
TAIL_PROBABILITIES = (1e-3, 1e-5)


@dataclass(frozen=True)
class ChiSquare:
    """Pearson's test of counts.

    Attributes:
        chi2: Cells of fewer than five expected pixels pooled.
        dof: Degrees of freedom.
        probability: Of a chi^2 this large if the model is right.
    """

    chi2: float
    dof: int
    probability: float


@dataclass(frozen=True)
class Divergence:
    """Kullback-Leibler divergence of code histograms.

    Attributes:
        nats: As counted.
        bias: What two samples of one law show on average, ``(bins - 1) / 2 (1/N1 + 1/N2)``.
        bins: Cells after pooling thin ones.
    """

    nats: float
    bias: float
    bins: int

    @property
    def excess(self) -> float:
        """Divergence beyond sampling noise; scatters about zero where the laws are equal."""
        return self.nats - self.bias


@dataclass(frozen=True)
class SpectrumRatio:
    """Line spectrum of real over simulated frames, in octaves.

    Attributes:
        frequency: Centres of the bands [cycles/line].
        decibel: 10 log10 of the ratio of powers.
        standard_error: Of ``decibel``.
    """

    frequency: F64
    decibel: F64
    standard_error: F64

    @property
    def worst(self) -> float:
        """Largest absolute deviation [dB]."""
        return float(np.abs(self.decibel).max())


@dataclass(frozen=True)
class GoodnessOfFit:
    """Real darks against simulated ones.

    Attributes:
        divergence: Of the code histograms, real || simulated.
        floor: The same between the two real darks.
        rows: Spectrum of row means.
        columns: Spectrum of column means.
        tail_slopes: Probability -> width between the quantiles p and 1 - p, real over simulated; a probability for
            which there are too few pixels is absent.
    """

    divergence: Divergence
    floor: Divergence
    rows: SpectrumRatio
    columns: SpectrumRatio
    tail_slopes: dict[float, Estimate]

    @property
    def in_floors(self) -> float:
        """Divergence as a multiple of that between two real darks: 1 is a simulation that cannot be told apart.

        Both are taken as counted. The floor without its bias scatters about zero and cannot divide.
        """
        return self.divergence.nats / self.floor.nats


def compare_darks(real: NDArray[np.generic], simulated: NDArray[np.generic]) -> GoodnessOfFit:
    """Judge simulated darks by real ones.

    Args:
        real: (n, h, w) integer codes, n >= 2, of one CFA site.
        simulated: The same shape.

    Raises:
        CalibrationError: fewer than two frames, or shapes that differ.
    """
    require_frames(real, 2)
    if real.shape != simulated.shape:
        raise CalibrationError(
            f"Real darks are {real.shape}, simulated ones {simulated.shape}: the floor of the divergence holds for "
            "equal numbers of pixels only. Simulate as many frames of the same size."
        )
    first, second, made = (CodeCounts.of(_whole(frame)) for frame in (real[0], real[1], simulated[0]))
    # Differences of two frames: the histogram of single frames also holds the fixed pattern.
    wide, model = (CodeCounts.of(_whole(f[0]).astype(np.int64) - _whole(f[1])) for f in (real, simulated))
    slopes = {p: slope for p in TAIL_PROBABILITIES if (slope := tail_slope(wide, model, probability=p)) is not None}
    return GoodnessOfFit(
        divergence=divergence(first, made),
        floor=divergence(first, second),
        rows=line_spectrum_ratio(real, simulated, lines="rows"),
        columns=line_spectrum_ratio(real, simulated, lines="columns"),
        tail_slopes=slopes,
    )


def held_out_log_likelihood(counts: CodeCounts, log_probability: F64) -> Estimate:
    """Mean log-likelihood per pixel [nats] of codes that were not used to fit the model.

    Args:
        counts: Of a held-out frame.
        log_probability: The model's ln P of each of ``counts.codes``, (n,).

    Raises:
        CalibrationError: a code that the model forbids occurs.
    """
    used = counts.counts > 0
    weights, log_p = counts.counts[used] / counts.total, log_probability[used]
    if not np.isfinite(log_p).all():
        forbidden = counts.codes[used][~np.isfinite(log_p)][0]
        raise CalibrationError(
            f"The model gives code {forbidden} no probability, but it occurs. Exclude hot pixels, or widen the model."
        )
    mean = float(weights @ log_p)
    variance = float(weights @ (log_p - mean) ** 2)
    return Estimate(
        value=mean, standard_error=math.sqrt(variance / counts.total), method=f"{counts.total} held-out codes"
    )


def chi_square(counts: CodeCounts, log_probability: F64, *, fitted: int = 0) -> ChiSquare:
    """Test code counts against a model.

    Args:
        counts: Observed.
        log_probability: ln P of each of ``counts.codes``, (n,). What it lacks to a sum of one is a cell without pixels.
        fitted: Parameters that were fitted to these very counts.

    Raises:
        CalibrationError: too few pixels for a test.
    """
    expected = counts.total * np.exp(log_probability)
    rest = max(counts.total - float(expected.sum()), 0.0)
    chi2, cells = pooled_chi2(np.append(counts.counts, 0).astype(np.float64), np.append(expected, rest))
    dof = cells - 1 - fitted
    if dof < 1:
        raise CalibrationError(
            f"{counts.total} pixels fill {cells} cells, which test nothing after {fitted} fitted parameters. "
            "Use more pixels."
        )
    return ChiSquare(chi2, dof, float(stats.chi2.sf(chi2, dof)))


def divergence(first: CodeCounts, second: CodeCounts) -> Divergence:
    """KL(first || second) of two code histograms; neighbouring codes are pooled until both have five pixels in each.

    Raises:
        CalibrationError: nothing but one cell remains.
    """
    low = min(first.first, second.first)
    high = max(int(first.codes[-1]), int(second.codes[-1]))
    a, b = (part.between(low, high).counts for part in (first, second))
    starts = pooled_starts(np.minimum(a, b).astype(np.float64))
    if len(starts) < 2:
        raise CalibrationError(
            f"Codes {int(first.codes[0])}..{int(first.codes[-1])} and {int(second.codes[0])}..{int(second.codes[-1])} "
            "share too few pixels for a divergence: the black levels differ, or one code holds nearly all pixels."
        )
    p, q = np.add.reduceat(a, starts) / a.sum(), np.add.reduceat(b, starts) / b.sum()
    nats = float(np.sum(p * np.log(p / q)))
    bias = (len(starts) - 1) / 2.0 * (1.0 / first.total + 1.0 / second.total)
    return Divergence(nats, bias, len(starts))


def tail_slope(first: CodeCounts, second: CodeCounts, *, probability: float) -> Estimate | None:
    """Width between the quantiles p and 1 - p, first over second; 1 where the tails agree.

    Quantiles are interpolated within a code; the error is that of the binomial count beyond them.

    Args:
        first: Usually of a real dark difference.
        second: Of a simulated one.
        probability: p, such as 1e-3.

    Returns:
        None where fewer than ten pixels lie beyond a quantile.
    """
    if probability * min(first.total, second.total) < _FEWEST_BEYOND:
        return None
    (a, a_error), (b, b_error) = _width(first, probability), _width(second, probability)
    value = a / b
    return Estimate(
        value=value,
        standard_error=value * math.hypot(a_error / a, b_error / b),
        method=f"quantiles at {probability:g}",
    )


def _width(counts: CodeCounts, probability: float) -> tuple[float, float]:
    """Distance of the quantiles and its standard error [DN]."""
    scatter = math.sqrt(probability / counts.total)
    ends = [_quantile(counts, p) for p in (probability, 1.0 - probability)]
    spans = [
        _quantile(counts, p + min(scatter, 0.9 * probability)) - _quantile(counts, p - min(scatter, 0.9 * probability))
        for p in (probability, 1.0 - probability)
    ]
    return ends[1] - ends[0], 0.5 * math.hypot(*spans)


def _quantile(counts: CodeCounts, probability: float) -> float:
    share = np.concatenate([[0.0], np.cumsum(counts.counts)]) / counts.total
    edges = np.append(counts.codes, counts.codes[-1] + 1) - 0.5
    return float(np.interp(probability, share, edges))


def line_spectrum_ratio(
    real: NDArray[np.generic], simulated: NDArray[np.generic], *, lines: Literal["rows", "columns"]
) -> SpectrumRatio:
    """Power spectrum of row (or column) means of dark differences, real over simulated, in octaves.

    Differences of successive frames hold no fixed pattern. Periodogram ordinates of a smooth spectrum are independent
    and exponential, which gives the errors.

    Args:
        real: (n, h, w) of one CFA site, n >= 2.
        simulated: (m, h, w), m >= 2.
        lines: Which means.

    Raises:
        CalibrationError: fewer than two frames of either, fewer than 16 lines, or frames without noise.
    """
    powers = [_line_power(frames, lines) for frames in (real, simulated)]
    size = powers[0].shape[1]
    if powers[1].shape[1] != size or size < 2 * _SMALLEST_BAND:
        raise CalibrationError(
            f"Spectra of {lines} need frames of one size with at least {4 * _SMALLEST_BAND} lines; these have shapes "
            f"{real.shape} and {simulated.shape}."
        )
    edges = [size]
    while edges[-1] // 2 >= _SMALLEST_BAND:
        edges.append(edges[-1] // 2)
    edges = [0, *edges[::-1]]
    bands = list(itertools.pairwise(edges))
    means = np.array([[power[:, low:high].mean() for low, high in bands] for power in powers])
    if not (means > 0.0).all():
        raise CalibrationError("Frames without any noise between them have no spectrum. Check that they are different.")
    ordinates = np.array([[power.shape[0] * (high - low) for low, high in bands] for power in powers])
    frequency = np.array([(low + high + 1) / 2.0 for low, high in bands]) / (2.0 * size)
    error = 10.0 / math.log(10.0) * np.sqrt((1.0 / ordinates).sum(axis=0))
    return SpectrumRatio(frequency, 10.0 * np.log10(means[0] / means[1]), error)


def _line_power(frames: NDArray[np.generic], lines: Literal["rows", "columns"]) -> F64:
    """(pairs, frequencies above zero) periodograms of line means of disjoint frame differences."""
    require_frames(frames, 2)
    axis = 1 if lines == "rows" else 0
    power = []
    for first, second in zip(frames[0::2], frames[1::2], strict=False):
        means = (first.astype(np.float32) - second.astype(np.float32)).mean(axis=axis, dtype=np.float64)
        # The ordinate of an even length's highest frequency has one degree of freedom instead of two: left out.
        power.append(np.abs(np.fft.rfft(means)[1 : (len(means) + 1) // 2]) ** 2 / len(means))
    return np.array(power)


def stabilised_variance(
    first_dn: NDArray[np.generic], second_dn: NDArray[np.generic], *, gain: float, noise_dn: float
) -> Estimate:
    """Variance after the generalised Anscombe transform of two frames of the same light: 1 where K and read noise hold.

    Args:
        first_dn: Above black [DN], any shape.
        second_dn: The same scene again.
        gain: K [DN/e-].
        noise_dn: Std of everything in a pixel that is not shot noise [DN], quantisation included.

    Raises:
        CalibrationError: arrays of different shapes.
    """
    if first_dn.shape != second_dn.shape:
        raise CalibrationError(f"Two frames of one scene are needed, not shapes {first_dn.shape}, {second_dn.shape}.")
    law = Anscombe(torch.tensor(gain, dtype=torch.float64), torch.tensor(noise_dn, dtype=torch.float64))
    a, b = (law.forward(torch.from_numpy(np.array(part, dtype=np.float64))) for part in (first_dn, second_dn))
    difference = (a - b).numpy()
    square = (difference - difference.mean()) ** 2 / 2.0
    return Estimate(
        value=float(square.mean()),
        standard_error=float(square.std() / math.sqrt(square.size)),
        method="generalised Anscombe, difference of two frames",
    )


def _whole(frame: NDArray[np.generic]) -> NDArray[np.integer]:
    """The frame as whole numbers.

    Raises:
        CalibrationError: it holds none.
    """
    if not np.issubdtype(frame.dtype, np.integer):
        raise CalibrationError(
            f"Histograms need integer codes as stored, not {frame.dtype}. Do not subtract the black."
        )
    return frame.astype(np.int64)
