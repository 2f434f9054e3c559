"""The law that carries a sensor's noise from its measured ISOs to one between them.

Inside one conversion-gain segment (docs/noise_model.md): K is proportional to ISO, and dark noise is made
of a part before and a part after the gain, ``sigma(K)^2 = s1^2 + (K s0)^2``. Across a step of the conversion gain no
such law holds: on a Sony A7S II one line through all ISOs is wrong by up to 59 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from noise_models.read_split import FEWEST_ISOS, fit_split
from noise_models.sensor import Estimate, HotPixels, PlaneNoise, SensorNoise, Tail


@dataclass(frozen=True)
class _Place:
    """Where the asked ISO lies.

    Attributes:
        lower: Measured neighbour below.
        upper: Measured neighbour above.
        segment: All measured entries of the conversion-gain segment.
        fraction: Position between the neighbours on a log scale of ISO, 0..1.
    """

    lower: SensorNoise
    upper: SensorNoise
    segment: Sequence[SensorNoise]
    fraction: float


def interpolate(segment: Sequence[SensorNoise], iso: float) -> SensorNoise:
    """The noise at an ISO strictly between two measured ISOs of one conversion-gain segment.

    Every standard error holds the neighbours' own errors and the law's misfit to the segment's entries.

    Args:
        segment: The measured entries of the segment, sorted by ISO, at least two.
        iso: Between two neighbours of ``segment``.
    """
    lower = max((entry for entry in segment if entry.setting < iso), key=lambda entry: entry.setting)
    upper = min((entry for entry in segment if entry.setting > iso), key=lambda entry: entry.setting)
    fraction = math.log(iso / lower.setting) / math.log(upper.setting / lower.setting)
    place = _Place(lower, upper, segment, fraction)
    gains = {name: _gain(place, name) for name in lower.planes}
    planes = {name: _plane(place, name, gains[name], iso) for name in lower.planes}
    abscissae, target = _line_abscissae(segment, gains, iso)
    return SensorNoise(
        iso=iso,
        planes=planes,
        row_noise_dn=_dark_noise(place, lambda entry: entry.row_noise_dn, abscissae, target),
        column_noise_dn=_optional(
            place,
            lambda entry: entry.column_noise_dn,
            lambda get: _dark_noise(place, get, abscissae, target),
            segment,
        ),
        tail=_tail(place),
        hot_pixels=_hot_pixels(place),
        black_jitter_dn=_optional(place, lambda entry: entry.black_jitter_dn, lambda get: _log_mean(place, get)),
        dark_shading_dn=_optional(place, lambda entry: entry.dark_shading_dn, lambda get: _log_mean(place, get)),
        exposure_s=_common_exposure(place),
        segment=lower.segment,
        origin="interpolated",
        notes=(
            f"Interpolated between ISO {lower.setting:g} and ISO {upper.setting:g} of one conversion-gain segment.",
        ),
    )


def _plane(place: _Place, name: str, gain: Estimate | None, iso: float) -> PlaneNoise:
    abscissae = [_abscissa(entry.planes[name].gain, entry.setting) for entry in place.segment]
    if any(entry.planes[name].gain is None for entry in place.segment):
        # Darks only somewhere: K is proportional to ISO, so ISO itself serves as the abscissa of the law.
        abscissae, target = [entry.setting for entry in place.segment], iso
    else:
        target = _abscissa(gain, iso)

    def of(field: str) -> Callable[[SensorNoise], Estimate | None]:
        def get(entry: SensorNoise) -> Estimate | None:
            value: Estimate | None = getattr(entry.planes[name], field)
            return value

        return get

    return PlaneNoise(
        gain=gain,
        read_noise_dn=_dark_noise(place, lambda e: e.planes[name].read_noise_dn, abscissae, target),
        black_level_dn=_level(place, lambda e: e.planes[name].black_level_dn),
        saturation_dn=_optional(place, of("saturation_dn"), lambda get: _level(place, get)),
        prnu=_optional(place, of("prnu"), lambda get: _level(place, get)),
        dsnu_dn=_optional(place, of("dsnu_dn"), lambda get: _log_mean(place, get)),
        dark_current=_optional(place, of("dark_current"), lambda get: _level(place, get)),
        linearity_error=_optional(place, of("linearity_error"), lambda get: _level(place, get)),
    )


def _gain(place: _Place, name: str) -> Estimate | None:
    """K by log-linear interpolation; its misfit is the scatter of K / ISO about proportionality in the segment."""
    known = [entry for entry in place.segment if entry.planes[name].gain is not None]
    low, high = place.lower.planes[name].gain, place.upper.planes[name].gain
    if low is None or high is None:
        return None
    logs = np.log([_abscissa(entry.planes[name].gain, entry.setting) / entry.setting for entry in known])
    misfit = float(np.std(logs, ddof=1))
    value = low.value ** (1 - place.fraction) * high.value**place.fraction
    return _estimate(value, _relative(low, high), misfit, "log-linear in ISO")


def _dark_noise(
    place: _Place, get: Callable[[SensorNoise], Estimate], abscissae: Sequence[float], target: float
) -> Estimate:
    """``s1^2 + (K s0)^2`` fitted to the segment, or log-log interpolation where it has only two ISOs.

    The law is carried through the neighbours: what it misses at them is interpolated, so that a measured ISO is met
    exactly and nothing jumps beside it.
    """
    values = np.array([get(entry).value for entry in place.segment])
    if len(values) < FEWEST_ISOS or not (values > 0).all():
        return _log_mean(place, get)
    gains = np.asarray(abscissae)
    fit = fit_split(gains, values)
    missed = np.interp(math.log(target), np.log(gains), np.log(values / fit.std_dn(gains)))
    value = float(fit.std_dn(target)) * math.exp(missed)
    return _estimate(value, _relative(get(place.lower), get(place.upper)), fit.misfit, "s1^2 + (K s0)^2")


def _log_mean(place: _Place, get: Callable[[SensorNoise], Estimate]) -> Estimate:
    """Log-log interpolation of a non-negative quantity; linear where an end is zero."""
    low, high = get(place.lower), get(place.upper)
    if low.value <= 0 or high.value <= 0:
        return _level(place, get)
    value = low.value ** (1 - place.fraction) * high.value**place.fraction
    # With two points nothing tests the law: the truth is taken as uniform between the neighbours.
    misfit = abs(math.log(high.value / low.value)) / math.sqrt(12.0)
    return _estimate(value, _relative(low, high), misfit, "log-log interpolation")


def _level(place: _Place, get: Callable[[SensorNoise], Estimate]) -> Estimate:
    """Linear interpolation in log ISO; the truth is taken as uniform between the neighbours."""
    low, high = get(place.lower), get(place.upper)
    value = (1 - place.fraction) * low.value + place.fraction * high.value
    spread = abs(high.value - low.value) / math.sqrt(12.0)
    if low.standard_error is None or high.standard_error is None:
        return Estimate(value=value, method="interpolated in log ISO")
    error = math.hypot(max(low.standard_error, high.standard_error), spread)
    return Estimate(value=value, standard_error=error, method="interpolated in log ISO")


def _optional(
    place: _Place,
    get: Callable[[SensorNoise], Estimate | None],
    law: Callable[[Callable[[SensorNoise], Estimate]], Estimate],
    read: Sequence[SensorNoise] = (),
) -> Estimate | None:
    """Apply a law to a quantity that both neighbours, and all entries in ``read``, must have; else None."""
    if any(get(entry) is None for entry in (place.lower, place.upper, *read)):
        return None

    def known(entry: SensorNoise) -> Estimate:
        value = get(entry)
        assert value is not None
        return value

    return law(known)


def _tail(place: _Place) -> Tail:
    nearer = place.lower if place.fraction < 0.5 else place.upper
    low, high = place.lower.tail.shape, place.upper.tail.shape
    if place.lower.tail.kind != place.upper.tail.kind or low is None or high is None:
        return nearer.tail
    value = (1 - place.fraction) * low.value + place.fraction * high.value
    return Tail(kind=nearer.tail.kind, shape=Estimate(value=value, method="interpolated in log ISO"))


def _hot_pixels(place: _Place) -> HotPixels | None:
    if place.lower.hot_pixels is None or place.upper.hot_pixels is None:
        return None

    def part(field: str) -> Callable[[SensorNoise], Estimate]:
        return lambda entry: getattr(entry.hot_pixels, field)

    return HotPixels(fraction=_log_mean(place, part("fraction")), excess_dn=_log_mean(place, part("excess_dn")))


def _common_exposure(place: _Place) -> tuple[float, float] | None:
    low, high = place.lower.exposure_s, place.upper.exposure_s
    return None if low is None or high is None else (min(low[0], high[0]), max(low[1], high[1]))


def _abscissa(gain: Estimate | None, iso: float) -> float:
    return iso if gain is None else gain.value


def _line_abscissae(
    segment: Sequence[SensorNoise], gains: dict[str, Estimate | None], iso: float
) -> tuple[list[float], float]:
    """Mean K over the planes for every entry and for the asked ISO; ISO itself where a gain is not known."""
    if any(plane.gain is None for entry in segment for plane in entry.planes.values()):
        return [entry.setting for entry in segment], iso
    means = [float(np.mean([_abscissa(p.gain, e.setting) for p in e.planes.values()])) for e in segment]
    return means, float(np.mean([_abscissa(gain, iso) for gain in gains.values()]))


def _relative(low: Estimate, high: Estimate) -> float | None:
    """The larger relative standard error of the neighbours; None where one is unknown."""
    if low.standard_error is None or high.standard_error is None:
        return None
    return max(low.standard_error / low.value, high.standard_error / high.value)


def _estimate(value: float, relative: float | None, misfit: float, method: str) -> Estimate:
    error = None if relative is None else value * math.hypot(relative, misfit)
    return Estimate(value=value, standard_error=error, method=method)
