"""Digital gain: codes multiplied after the converter.

A factor g above 1 leaves the share 1 - 1/g of all codes empty, evenly over the range (a factor of 2 every second
code); one below 1 puts two codes into one. The gain K and the rounding error are then those of the scaled codes, and
the factor adds nothing but clipping.

A sensor that resolves single photoelectrons (read noise below 0.25 e- and a gain of several DN/e-) has a comb of its
own, with a period of K codes.

Source: missing codes of extended ISO settings as shown by J. Kasson (bit shifts of the Nikon D800E).
"""

from __future__ import annotations

from collections.abc import Sequence

from noise_models.calibration.traps.code_comb import DOUBLED_FACTOR, FEWEST_IRREGULAR, Comb, plane_combs
from noise_models.calibration.traps.finding import Finding, unjudged
from noise_models.frame import RawFrame

TRAP = "digital_gain"

# Codes that must be comparable before a histogram counts as regular: of 16, a factor of 1.2 leaves three empty.
FEWEST_CODES = 16


def find_digital_gain(frames: Sequence[RawFrame]) -> Finding:
    """Look for a comb of missing or doubled codes that is the same at all levels.

    Args:
        frames: One or more frames of one camera and ISO; flats and photos show more codes than darks.

    Returns:
        The number of irregular codes of the plane that has most. A comb that widens with level is lossy coding's
        (`lossy.find_lossy`) and does not count.

    Raises:
        CalibrationError: a frame is too small.
    """
    combs = plane_combs(frames)
    usable = {plane: comb for plane, comb in combs.items() if comparable(comb)}
    if not usable:
        return unjudged(
            TRAP,
            FEWEST_IRREGULAR,
            f"Histograms too narrow: no plane has {FEWEST_CODES} well filled codes.",
            "Give flats or photos as well.",
        )
    plane, comb = max(usable.items(), key=lambda item: item[1].irregular / item[1].threshold)
    found = not comb.regular and not comb.grows
    return Finding(
        trap=TRAP,
        found=found,
        statistic=float(comb.irregular),
        threshold=float(comb.threshold),
        evidence=_evidence(plane, comb),
        advice="This setting multiplies the codes of a lower ISO: calibrate that ISO and scale, or keep this one as an "
        "entry of its own; quantisation noise is that of the coarser step."
        if found
        else "",
    )


def comparable(comb: Comb) -> bool:
    """Whether a comb was seen, or enough codes to say that there is none."""
    return not comb.regular or max(comb.pairs, comb.tested) >= FEWEST_CODES


def _evidence(plane: str, comb: Comb) -> str:
    if comb.regular:
        return f"All of {comb.pairs} neighbouring codes of {plane} follow each other without a comb."
    if comb.grows:
        return (
            f"{comb.gaps} codes of {plane} are missing, but the step grows by {comb.growth:.2f} codes with level: "
            "lossy coding, not gain."
        )
    if comb.gaps >= FEWEST_IRREGULAR:
        return (
            f"{comb.gaps} gaps between {comb.pairs} pairs of neighbouring {plane} codes: a factor of {comb.step:.3f} "
            "at all levels."
        )
    return (
        f"{comb.doubled} of {comb.tested} {plane} codes hold more or less than {DOUBLED_FACTOR:g} times what their "
        f"neighbours predict: a comb as a factor of about {comb.factor:.3f} makes it."
    )
