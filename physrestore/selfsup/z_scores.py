"""Does the noise that was assumed fit the frame? Told from pixels that the prediction never saw.

``z = (y - mu) / sqrt(v + n)`` has variance 1 if prediction and noise law are right. An unseen pixel's squared error is
noise plus the prediction's own error. So over smooth sites, chosen by the predicted v and not by their noise,

- the mean square over n is at least 1: below it, the law claims noise that is not there, whatever the prediction;
- the mean square less v, over n, is 1: above it, and with the first well above 1, the law claims too little.

A line of the squares over the light says which parameter: its slope is the gain, its start the read noise. Row noise
is what rows have of their own beyond what columns have. One thing no unseen pixel can tell: a network *trained* under
a law that claims too little takes the rest for its own error and raises v; the first number, an upper bound, shows it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from physrestore.selfsup.row_posterior import MEDIAN_CHI2

# Quantiles of the predicted light that make the tonal bins of a colour.
BINS = 10
# Smooth: the share of a bin's sites with the lowest predicted error.
SMOOTH_SHARE = 0.3
# Mean square of unseen errors over the assumed noise: no right law can lie above it but by its calibration error.
LEAST_BOUND = 0.95
# The law claims too little if that is above the first and, the prediction's error taken off, above the second. Right
# laws under a network of 45 seconds' training were seen up to 1.7 in the first (python -m tests.benchmarks selfsup).
SUSPICIOUS_BOUND, MOST_LEVEL = 1.75, 1.05
# And this many standard errors.
SIGMAS = 4.0
# Row noise must exceed the assumed one by this factor (in std) to be called wrong.
ROW_FACTOR = 1.5
# And exceed the std of a row's mean pixel noise by this one.
ROW_FLOOR = 2.0
NORMAL_90 = 1.6449
# A ratio less certain than this is not reported; a fit worse conditioned than this has one brightness only.
LARGEST_ERROR = 0.5
WORST_CONDITION = 1e12
# Variance of y_i - (y_above + y_below) / 2 in units of that of y.
DIFFERENCE_VARIANCE = 1.5


@dataclass(frozen=True)
class ToneBin:
    """Sites of one colour and brightness.

    Attributes:
        colour: Letter of the filter.
        light: Mean predicted light.
        sites: How many.
        mean: Of z; 0 if the prediction has no bias.
        variance: Of z about 0; 1 if prediction and noise law are right.
        inside_90: Share with |z| below the 90 % limit of a normal law.
    """

    colour: str
    light: float
    sites: int
    mean: float
    variance: float
    inside_90: float


@dataclass(frozen=True)
class Ratio:
    """A quantity seen on this frame over the assumed one.

    Attributes:
        value: 1 where the assumption holds.
        standard_error: Of the value, from the number of sites.
    """

    value: float
    standard_error: float


@dataclass(frozen=True)
class ZReport:
    """What unseen pixels say about prediction and noise law.

    Attributes:
        bins: Per colour and brightness.
        variance: Of z over all sites.
        level: Noise on smooth sites over the assumed, the prediction's declared error taken off.
        bound: The same if the prediction made no error at all: an upper bound.
        gain: Gain over the assumed one, an upper bound too. None: too little range of brightness to tell.
        dark: The same of the variance in the dark.
        row_noise: Seen std of the rows' offsets [linear light].
        row_noise_assumed: The calibrated one.
        wrong: What does not fit, one sentence each; empty if all does.
    """

    bins: tuple[ToneBin, ...]
    variance: float
    level: Ratio
    bound: Ratio
    gain: Ratio | None
    dark: Ratio | None
    row_noise: float
    row_noise_assumed: float
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class ZInput:
    """What the report is made from; (H, W) each.

    Attributes:
        error: y - mu, the row's offset taken out.
        raw_error: y - mu as it came.
        mean: mu.
        variance: v.
        gain: a of ``variance = a x + b``.
        dark: b.
        row: Std of row noise.
        sites: Those to be judged, bool.
        colour: Index into ``letters`` of every site.
        letters: Of the filters, "RGB" or "M".
        period: Lines after which the filter array repeats.
    """

    error: Tensor
    raw_error: Tensor
    mean: Tensor
    variance: Tensor
    gain: Tensor
    dark: Tensor
    row: Tensor
    sites: Tensor
    colour: Tensor
    letters: str
    period: int

    @property
    def noise(self) -> Tensor:
        """Variance of the noise at the predicted mean."""
        return self.gain * self.mean.clamp(min=0.0) + self.dark


def z_report(data: ZInput) -> ZReport:
    """Judge prediction and noise law.

    Raises:
        ValueError: no site to be judged.
    """
    if not bool(data.sites.any()):
        raise ValueError("No site is left to be judged: all are clipped, defective or left out.")
    z = data.error / (data.variance + data.noise).sqrt()
    bins, smooth = _bins(data, z)
    squares = data.error.double().square()
    level, bound = (_level(data, smooth, values) for values in (squares - data.variance, squares))
    gain, dark = _law(data, smooth, squares)
    seen, assumed = _row_noise(data), float(data.row[data.sites].mean())
    variance = float(z[data.sites].double().square().mean())
    wrong = (*_wrong_law(level, bound, gain, dark), *_wrong_rows(seen, assumed, data))
    return ZReport(bins, variance, level, bound, gain, dark, seen, assumed, wrong)


def _bins(data: ZInput, z: Tensor) -> tuple[tuple[ToneBin, ...], Tensor]:
    """Statistics per colour and brightness, and the smoothest sites of every bin, (H, W) bool."""
    smooth = torch.zeros_like(data.sites)
    roughness = data.variance / data.noise
    bins = []
    for k, letter in enumerate(data.letters):
        mine = data.sites & (data.colour == k)
        if not bool(mine.any()):
            continue
        edges = quantiles(data.mean[mine], BINS)
        place = torch.bucketize(data.mean.contiguous(), edges)
        for b in range(BINS):
            inside = mine & (place == b)
            values = z[inside].double()
            if values.numel() == 0:
                continue
            smooth |= inside & (roughness <= quantiles(roughness[inside], round(1 / SMOOTH_SHARE))[0])
            bins.append(
                ToneBin(
                    colour=letter,
                    light=float(data.mean[inside].mean()),
                    sites=values.numel(),
                    mean=float(values.mean()),
                    variance=float(values.square().mean()),
                    inside_90=float((values.abs() < NORMAL_90).double().mean()),
                )
            )
    return tuple(bins), smooth


def quantiles(values: Tensor, parts: int) -> Tensor:
    """The ``parts - 1`` inner limits that cut the values into equal shares (torch.quantile refuses large inputs)."""
    ordered = values.flatten().sort().values
    index = torch.arange(1, parts, device=values.device) * ordered.numel() // parts
    return ordered[index.clamp(max=ordered.numel() - 1)]


def _level(data: ZInput, smooth: Tensor, squares: Tensor) -> Ratio:
    """Squares of smooth sites over the assumed noise, weighted least squares."""
    noise, squares = data.noise[smooth].double(), squares[smooth]
    weight = (noise + data.variance[smooth].double()) ** -2
    norm = (weight * noise.square()).sum()
    value = (weight * noise * squares).sum() / norm
    scatter = (weight * noise * (squares - value * noise)).square().sum().sqrt() / norm
    return Ratio(float(value), float(scatter))


def _law(data: ZInput, smooth: Tensor, squares: Tensor) -> tuple[Ratio | None, Ratio | None]:
    """Squares of smooth sites against the assumed shot and dark variance, weighted least squares."""
    shot = (data.gain * data.mean.clamp(min=0.0))[smooth].double()
    dark, squares = data.dark[smooth].double(), squares[smooth]
    # The variance of the square of a normal error.
    weight = 0.5 / (shot + dark + data.variance[smooth].double()).square()
    design = torch.stack([shot, dark])
    normal = (design * weight) @ design.T
    if float(torch.linalg.cond(normal / normal.diagonal().mean())) > WORST_CONDITION:
        return None, None
    inverse = torch.linalg.inv(normal)
    value = inverse @ ((design * weight) @ squares)
    residual = squares - value @ design
    # Tails and the prediction's error make squares scatter more than a normal law's.
    inflation = max(1.0, float((weight * residual.square()).mean()))
    error = (inverse.diagonal() * inflation).sqrt()
    ratios = [Ratio(float(v), float(e)) for v, e in zip(value, error, strict=True)]
    told = [ratio if ratio.standard_error < LARGEST_ERROR else None for ratio in ratios]
    return told[0], told[1]


def _row_noise(data: ZInput) -> float:
    """Std of what rows have in common beyond what columns have: scenes and predictions err along both."""
    excess = _spread_of_lines(data, 1) - _spread_of_lines(data, 0)
    return math.sqrt(max(excess, 0.0))


def _spread_of_lines(data: ZInput, axis: int) -> float:
    """Variance of what every line along an axis has of its own, the pixels' share taken off.

    Lines are compared with those one period of the filter array before and after them, so that no slow or coloured
    error of the prediction counts; a median is taken, for some lines lie along an edge.
    """
    weight = data.sites / (data.variance + data.noise).double()
    total = weight.sum(axis)
    means = (weight * data.raw_error).sum(axis) / total
    p = data.period
    if means.numel() <= 2 * p:
        return 0.0
    own = means[p:-p] - (means[: -2 * p] + means[2 * p :]) / 2.0
    pixels = 1.0 / total[p:-p] + (1.0 / total[: -2 * p] + 1.0 / total[2 * p :]) / 4.0
    told = own.isfinite()
    if not bool(told.any()):
        return 0.0
    return float((own.square() / MEDIAN_CHI2 - pixels)[told].median()) / DIFFERENCE_VARIANCE


def _wrong_law(level: Ratio, bound: Ratio, gain: Ratio | None, dark: Ratio | None) -> list[str]:
    if bound.value + SIGMAS * bound.standard_error < LEAST_BOUND:
        what = f"Unseen pixels vary only {bound.value:.2f} times as much as the noise that the profile claims"
    elif bound.value > SUSPICIOUS_BOUND and level.value - SIGMAS * level.standard_error > MOST_LEVEL:
        ratio = f"{level.value:.2f} to {bound.value:.2f}"
        what = f"Unseen pixels vary {ratio} times as much as the noise that the profile claims"
    else:
        return []
    told = [
        (abs(r.value - 1.0) / r.standard_error, name)
        for name, r in (("gain K", gain), ("read noise", dark))
        if r is not None
    ]
    cause = f"the {max(told)[1]} fits worst" if told else "one brightness does not tell whether gain or read noise"
    return [f"{what}: {cause}. Check the ISO and whether the profile is of this camera."]


def _wrong_rows(seen: float, assumed: float, data: ZInput) -> list[str]:
    # Row noise not clearly above what the average of a row of pixels leaves cannot be seen.
    floor = math.sqrt(float(data.noise[data.sites].mean()) / data.sites.shape[1])
    floor *= ROW_FLOOR
    if seen > max(floor, ROW_FACTOR * assumed):
        sentence = f"Rows carry an offset of std {seen:.2g} of full scale; the profile says {assumed:.2g}: check it."
        return [sentence]
    if assumed > max(floor, ROW_FACTOR * seen):
        sentence = f"The profile's row noise, {assumed:.2g} of full scale, is not in the frame (seen: {seen:.2g})."
        return [sentence + " Is the file already corrected?"]
    return []
