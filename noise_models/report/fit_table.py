"""Goodness of fit of one ISO as lines of a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from noise_models.calibration.evidence import IsoEvidence
from noise_models.calibration.shape.fit_quality import FitQuality

# Largest of some tens of deviations that chance makes, in standard errors.
_SIGMAS = 3.0
_GOOD_DB = 0.5


@dataclass(frozen=True)
class FitLine:
    """One number.

    Attributes:
        text: What it is.
        value: As text.
        good: What a right profile shows.
    """

    text: str
    value: str
    good: str


def fit_lines(seen: IsoEvidence) -> list[FitLine]:
    """Everything that compares the profile with its frames; lines without data are left out."""
    return [*_stabilised(seen), *_darks(seen.quality)]


def _stabilised(seen: IsoEvidence) -> Iterator[FitLine]:
    every = [(p, level) for p, levels in seen.quality.stabilised.items() for level in levels]
    inside = [level.variance for p, level in every if level.mean_dn <= seen.transfer[p].limit_dn]
    outside = [level.variance for p, level in every if level.mean_dn > seen.transfer[p].limit_dn]
    for where, levels in (("flats in the fit", inside), ("brighter flats", outside)):
        if levels:
            off = [level.value - 1.0 for level in levels]
            worst = off[int(np.argmax(np.abs(off)))]
            error = float(np.mean([level.standard_error or 0.0 for level in levels]))
            text = f"variance of {where} after stabilisation, largest deviation of {len(levels)} from 1"
            yield FitLine(text, f"{worst:+.4f}", f"up to about {_SIGMAS * error:.4f}")


def _darks(quality: FitQuality) -> Iterator[FitLine]:
    codes = quality.codes
    if codes is not None:
        which = "darks that the shape was not fitted to" if codes.unseen else "the darks themselves"
        missing = codes.attainable - codes.log_likelihood.value
        yield FitLine(
            f"log-likelihood of codes, {which} [nats a pixel]",
            f"{codes.log_likelihood.value:.5f}",
            "as high as possible",
        )
        yield FitLine("... below that of the histogram itself", f"{missing:.5f}", "about 0")
        yield FitLine(
            "... above that of a Gaussian", f"{codes.log_likelihood.value - codes.gaussian:+.5f}", "0 or more"
        )
        test = codes.chi_square
        yield FitLine(f"chi² of those codes, {test.dof} degrees of freedom", f"{test.chi2:.0f}", f"about {test.dof}")
    darks = quality.darks
    if darks is not None:
        text = "divergence of real from simulated darks, in units of that between two real ones"
        bias = f"{darks.divergence.nats:.2g} nats, of which {darks.divergence.bias:.2g} by chance"
        yield FitLine(text, f"{darks.in_floors:.2f}", f"up to 1.5 ({bias})")
        for name, ratio in (("row", darks.rows), ("column", darks.columns)):
            error = float(ratio.standard_error.max())
            yield FitLine(
                f"spectrum of {name} means, real over simulated, largest deviation",
                f"{ratio.worst:.2f} dB",
                f"up to about {max(_GOOD_DB, _SIGMAS * error):.1f} dB",
            )
        for probability, slope in darks.tail_slopes.items():
            yield FitLine(
                f"width between the {probability:g} quantiles, real over simulated",
                f"{slope.value:.4f} ± {slope.standard_error or 0.0:.4f}",
                "1",
            )
    if quality.split_half is not None:
        half = quality.split_half
        yield FitLine(
            "correlation of pixel variances between even and odd darks",
            f"{half.value:.4f} ± {half.standard_error or 0.0:.4f}",
            "0: all pixels alike; above: pixels differ in noise",
        )
