"""White balance in the raw data: planes multiplied by factors of their own.

Some cameras scale red and blue before they write the file. Planes then differ in gain K although they share one
amplifier, and the scaled ones have missing codes that the others do not have.

Source: comb gaps of Nikon's red and blue planes as shown by J. Kasson.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from noise_models.calibration.traps.code_comb import Comb, plane_combs
from noise_models.calibration.traps.digital_gain import comparable
from noise_models.calibration.traps.finding import Finding, normal_limit, unjudged
from noise_models.frame import RawFrame
from noise_models.sensor import Estimate

TRAP = "channel_scaling"

# Gains of the planes' amplifiers agree to about 1 %; white balance starts at 10 %.
AMPLIFIER_SPREAD = 0.01

ADVICE = (
    "The camera scaled this plane before writing: keep K per plane (never average planes), and expect its white level "
    "and rounding noise to be scaled as well."
)


def find_channel_scaling(frames: Sequence[RawFrame]) -> Finding:
    """Look for planes whose codes have combs unlike the others'.

    Args:
        frames: One or more frames of one camera and ISO; flats and photos show more codes than darks.

    Returns:
        The largest difference between two planes' factors on codes.

    Raises:
        CalibrationError: a frame is too small.
    """
    combs = plane_combs(frames)
    usable = [(plane, comb) for plane, comb in combs.items() if comparable(comb)]
    if any(comb.grows for _, comb in usable):
        return unjudged(
            TRAP,
            AMPLIFIER_SPREAD,
            "The code step grows with level (lossy coding), so planes of other levels differ anyway.",
            "Use lossless raw files.",
        )
    if len(usable) < 2:
        return unjudged(
            TRAP,
            AMPLIFIER_SPREAD,
            "Fewer than two planes with enough well filled codes to compare.",
            "Give flats or photos.",
        )
    pairs = [(_difference(a, b), p, q) for k, (p, a) in enumerate(usable) for q, b in usable[k + 1 :]]
    (size, bound), first, second = max(pairs, key=lambda pair: pair[0][0] - pair[0][1])
    found = size > bound
    factors = dict(usable)
    return Finding(
        trap=TRAP,
        found=found,
        statistic=size,
        threshold=bound,
        evidence=f"Codes of {first} were multiplied by {factors[first].factor:.3f}, those of {second} by "
        f"{factors[second].factor:.3f}; the number of codes allows a difference of {bound:.3f}.",
        advice=ADVICE if found else "",
    )


def find_gain_ratio(gains: Mapping[str, Estimate]) -> Finding:
    """Look for planes whose measured gain differs from the greens'.

    Args:
        gains: Plane name -> K [DN/e-] with its standard error.

    Returns:
        The largest deviation of a plane's ln K from the mean of the others in standard deviations.
    """
    known = {plane: k for plane, k in gains.items() if k.value > 0.0 and k.standard_error is not None}
    limit = normal_limit(2 * max(1, len(known)))
    if len(known) < 2:
        return unjudged(TRAP, limit, f"{len(known)} plane with known gain and error; two are needed.", "Take flats.")
    reference = [plane for plane in known if plane.startswith("G")] or [next(iter(known))]
    scores = []
    for plane, gain in known.items():
        others = [known[name] for name in reference if name != plane]
        if others:
            ratio = gain.value / (sum(other.value for other in others) / len(others))
            errors = [_relative(gain), *(_relative(other) / len(others) for other in others)]
            scores.append((abs(math.log(ratio)) / math.hypot(*errors), ratio, plane))
    z, ratio, plane = max(scores)
    found = z > limit
    return Finding(
        trap=TRAP,
        found=found,
        statistic=z,
        threshold=limit,
        evidence=f"K of {plane} is {ratio:.3f} times that of {'/'.join(n for n in reference if n != plane)}: {z:.1f} "
        f"sigma (threshold {limit:.1f}).",
        advice=ADVICE if found else "",
    )


def _relative(gain: Estimate) -> float:
    assert gain.standard_error is not None
    return math.hypot(gain.standard_error / gain.value, AMPLIFIER_SPREAD)


def _difference(first: Comb, second: Comb) -> tuple[float, float]:
    """Difference of two planes' factors, and what one code more or fewer explains.

    Two combs of doubled codes are not compared: their factors are known only up to a harmonic. Where planes are
    scaled, one at least is not.
    """
    if max(first.factor, second.factor) < 1.0:
        return 0.0, AMPLIFIER_SPREAD
    return abs(first.factor - second.factor), first.factor_error + second.factor_error + AMPLIFIER_SPREAD
