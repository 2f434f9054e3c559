"""Demosaicking and denoising as one problem: half-quadratic splitting on the mosaic's own values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from noise_models.cfa import Cfa
from physrestore.demosaic import demosaic
from physrestore.pnp.colour_prior import DemosaicPrior
from physrestore.priors.base import Prior
from physrestore.solvers.hqs import hqs
from physrestore.solvers.iterate import Iterate, Step
from physrestore.solvers.schedule import Level
from physrestore.solvers.solve import solve

# Std of what demosaicking still has wrong at the last step, where v of white is about 1.
LAST_ERROR = 0.003
# ... but never below this share of the noise, which hides it.
ERROR_PER_NOISE = 0.25
# A third of the values are measured, and steps before have taken noise from all: the prior is told of less than one
# site has. Lower keeps more texture and, from 160 electrons at white on, noise (-1.2 dB at 0.5).
NOISE_SHARE = 0.7
# Of the prior in the data step. Small: the measured values are to stay until the prior has seen them together.
PRIOR_WEIGHT = 0.03


@dataclass(frozen=True)
class Pace:
    """How the prior is led from a demosaicked picture to the result; found on Kodak24 crops.

    Attributes:
        chroma: Error of demosaicking in colour differences, as a multiple of that in luminance: the tent that starts
            an X-Trans picture knows nothing of luminance, Malvar's filters do.
        steps: From ``first_error`` to `LAST_ERROR`.
        first_error: Std of what demosaicking has wrong at the first step, where v of white is about 1.
        spread: Of what the data step corrects, this share is also interpolated to the sites between, as far as the
            error is demosaicking's and not noise. Without it a small coloured thing, measured at few sites, stays below
            the prior's threshold at every step and turns grey; with all of it the fringes of interpolation come back.
    """

    chroma: float
    steps: int
    first_error: float
    spread: float

    @classmethod
    def of(cls, cfa: Cfa) -> Pace:
        """Of `DemosaicPrior`.

        With twice the first error noisy pictures are blurred (-0.3 dB), with half of it fringes stay (-1 dB without
        noise); with 8 steps, Bayer gains less than 0.05 dB; with 6, X-Trans loses 0.3 dB.
        """
        if cfa.is_bayer:
            return cls(chroma=2.5, steps=6, first_error=0.03, spread=0.5)
        return cls(chroma=4.0, steps=8, first_error=0.03, spread=0.5)

    @classmethod
    def onward(cls, cfa: Cfa) -> Pace:
        """Of any other prior, which goes on from the result of `DemosaicPrior`.

        Told of white noise only, it would not see the fringes of a linear demosaic for errors: from there the same
        network has 1 dB less on X-Trans, the cosine transform 9.
        """
        return cls(chroma=1.0, steps=12, first_error=0.045 if cfa.is_bayer else 0.03, spread=0.25)


@dataclass(frozen=True)
class Measured:
    """A mosaic in the working space.

    Attributes:
        values: (1, 1, H, W).
        known: Sites that were measured and are not defective, bool.
        clipped: Sites of which only a lower bound is known, bool.
        noise: Std per colour, (3, 1, 1), positive.
        cfa: From the top-left of ``values``.
    """

    values: Tensor
    known: Tensor
    clipped: Tensor
    noise: Tensor
    cfa: Cfa


def restore_jointly(
    data: Measured,
    *,
    prior: Prior | None = None,
    steps: int | None = None,
    on_iterate: Callable[[Iterate], None] | None = None,
) -> Tensor:
    """The three colours of every site: by `DemosaicPrior`, and from there on by another prior if one is given.

    Args:
        data: What was measured.
        prior: Of white-balanced pictures in this space (a root of linear light); None: `DemosaicPrior` alone.
        steps: Two or more, of the given prior if there is one; None: those of `Pace`.
        on_iterate: Called with every step.

    Returns:
        (1, 3, H, W).
    """
    start, pace = demosaic(data.values, data.cfa), Pace.of(data.cfa)
    own = DemosaicPrior(NOISE_SHARE * data.noise, chroma=pace.chroma)
    if prior is None:
        return split(data, start, own, pace, steps=steps, on_iterate=on_iterate)
    start = split(data, start, own, pace, on_iterate=on_iterate)
    return split(data, start, prior, Pace.onward(data.cfa), steps=steps, on_iterate=on_iterate)


def split(
    data: Measured,
    start: Tensor,
    prior: Prior,
    pace: Pace,
    *,
    steps: int | None = None,
    on_iterate: Callable[[Iterate], None] | None = None,
) -> Tensor:
    """Half-quadratic splitting from a demosaicked picture on.

    The data step (exact: the mosaic's prox is diagonal) and the prior alternate while the error attributed to
    demosaicking falls; the sensor's noise stays in every level. What the data correct at their sites is partly carried
    to the sites between (`Pace.spread`). A clipped site pulls upwards only. Last, sites whose noise is below what the
    prior was told of take back their measured value in proportion.

    Args:
        data: What was measured.
        start: (1, 3, H, W).
        prior: Of white-balanced pictures in this space.
        pace: How it is led.
        steps: Two or more; None: those of the pace.
        on_iterate: Called with every step.

    Returns:
        (1, 3, H, W).

    Source:
        Zhang et al., IEEE TPAMI 44(10), 2022, section 4.2 (the splitting for demosaicking).
    """
    from physrestore.operators.mosaic import Mosaic  # imports deepinv

    operator = Mosaic(data.cfa)
    noise = NOISE_SHARE * data.noise[None]
    of_site = operator.A(data.noise[None].expand(1, 3, *data.values.shape[-2:]))
    precision = of_site.square().reciprocal()

    def data_step(x: Tensor, gamma: Step) -> Tensor:
        active = data.known & ~(data.clipped & (operator.A(x) >= data.values))
        return operator.prox_weighted(x, data.values, precision * active, gamma)

    def spreading_step(x: Tensor, gamma: Step) -> Tensor:
        z = data_step(x, gamma)
        correction = demosaic(operator.A(z - x), data.cfa)
        share = pace.spread * (1.0 - noise.square() / (PRIOR_WEIGHT * gamma))
        return z + share * (correction - (z - x))

    errors = list(_errors(_hidden(data.noise), pace.first_error, steps or pace.steps))
    schedule = [_level(noise, error) for error in errors]
    iterates = hqs(start, prox_fidelity=spreading_step, denoise=prior.denoise, schedule=schedule)
    x = solve(iterates, on_iterate=on_iterate).x
    beyond = errors[-1] ** 2 - _hidden(data.noise) ** 2
    return data_step(x, beyond) if beyond > 0 else x


def _errors(hidden: float, first: float, steps: int) -> Iterator[float]:
    """Std of demosaicking's error at every step, equally spaced in the logarithm."""
    last = max(LAST_ERROR, hidden)
    first = max(first, last)
    for step in range(steps):
        yield last * (first / last) ** (1 - step / (steps - 1))


def _hidden(noise: Tensor) -> float:
    """Error of demosaicking that noise hides."""
    return ERROR_PER_NOISE * float(noise.square().mean().sqrt())


def _level(noise: Tensor, error: float) -> Level:
    variance = noise.square() + error**2
    return Level(variance.sqrt(), variance / PRIOR_WEIGHT)
