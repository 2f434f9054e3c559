"""Pass or fail, and what to photograph next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from noise_models.calibration.calibrate import Calibration
from noise_models.calibration.evidence import IsoEvidence
from noise_models.sensor import Estimate, SensorNoise

# What a set must reach to be called good. One per cent is what a denoiser can no longer feel; a reduced chi^2 of 3 is a
# curve that bends visibly; light that changes by 3 % between the frames of a pair is outside normal flicker.
GOOD_RELATIVE_ERROR = 0.01
GOOD_CHI2_DOF = 3.0
GOOD_LIGHT_RATIO = 0.03
GOOD_DARKS = 8
GOOD_LEVELS = 3
GOOD_STABILISED = 0.02  # of the variance: 1 % of the noise
# A Gaussian in place of a Tukey-lambda of 0.05 loses that many nats a pixel: visible in the tails only.
GOOD_NATS = 0.005
CHANCE = 4.0  # standard errors that the worst of many may be off
LOW_SHARE = 0.1  # of the fitted range: a level below it separates read noise from shot noise


@dataclass(frozen=True)
class Check:
    """One line of the box.

    Attributes:
        passed: Whether it is good enough.
        text: What was found, with the numbers.
        advice: What to do if it failed.
    """

    passed: bool
    text: str
    advice: str = ""


def judge(calibration: Calibration) -> list[Check]:
    """All checks of a calibration, ISO by ISO."""
    return [
        check
        for entry in calibration.profile.entries
        for check in _of_iso(entry, calibration.evidence.get(entry.setting))
    ]


def _of_iso(entry: SensorNoise, seen: IsoEvidence | None) -> Iterator[Check]:
    at = f"ISO {entry.setting:g}"
    for name, label in (("gain", "K"), ("read_noise_dn", "read noise")):
        worst = _worst_relative([getattr(plane, name) for plane in entry.planes.values()])
        if worst is not None:
            yield Check(
                worst <= GOOD_RELATIVE_ERROR,
                f"{at}: {label} known to {100 * worst:.2g} % (goal {100 * GOOD_RELATIVE_ERROR:g} %)",
                "Take more flats at different levels below 30 % of saturation."
                if name == "gain"
                else "Take more darks with the lens cap on.",
            )
    chi2 = [plane.chi2_dof for plane in entry.planes.values() if plane.chi2_dof is not None]
    if chi2:
        yield Check(
            max(chi2) <= GOOD_CHI2_DOF,
            f"{at}: the photon-transfer line fits with chi²/dof up to {max(chi2):.2f} (goal below {GOOD_CHI2_DOF:g})",
            "The curve bends: use levels below 10 % of saturation, steady light, and no in-camera noise reduction.",
        )
    if seen is not None:
        yield from _of_frames(at, seen)
        yield from _of_fit(at, seen)


def _of_frames(at: str, seen: IsoEvidence) -> Iterator[Check]:
    yield Check(
        seen.dark_frames >= GOOD_DARKS,
        f"{at}: {seen.dark_frames} darks (goal {GOOD_DARKS})",
        f"Take {max(GOOD_DARKS - seen.dark_frames, 0)} more darks, for hot pixels and the jitter of the black level.",
    )
    if not seen.transfer:
        yield Check(False, f"{at}: no flats, so no gain", "Take 2 flats each at 5, 10 and 25 % of saturation.")
        return
    curve = next(iter(seen.transfer.values()))
    lit = curve.points.mean_dn[curve.used & (curve.points.mean_dn > 0)]
    enough = len(lit) >= GOOD_LEVELS
    yield Check(enough, f"{at}: {len(lit)} points in the fit (goal {GOOD_LEVELS})", "Take 2 flats each at more levels.")
    low = bool((lit <= LOW_SHARE * curve.limit_dn).any())
    yield Check(
        low,
        f"{at}: {'some' if low else 'no'} point below a tenth of the fitted range ({curve.limit_dn:.0f} DN)",
        f"Take 4 more flats below {LOW_SHARE * curve.limit_dn:.0f} DN above black.",
    )
    if seen.light_ratios:
        worst = float(np.max(np.abs(np.asarray(seen.light_ratios) - 1.0)))
        yield Check(
            worst <= GOOD_LIGHT_RATIO,
            f"{at}: light of the pairs steady to {100 * worst:.2g} % (goal {100 * GOOD_LIGHT_RATIO:g} %)",
            "The lamp flickers or drifts: use daylight or exposures longer than 1/50 s. (The drift was corrected.)",
        )


def _of_fit(at: str, seen: IsoEvidence) -> Iterator[Check]:
    within = [
        level.variance
        for plane, levels in seen.quality.stabilised.items()
        for level in levels
        if level.mean_dn <= seen.transfer[plane].limit_dn
    ]
    if within:
        worst = max(within, key=lambda one: abs(one.value - 1.0))
        allowed = GOOD_STABILISED + CHANCE * (worst.standard_error or 0.0)
        yield Check(
            abs(worst.value - 1.0) <= allowed,
            f"{at}: noise of the flats in the fit is {100 * (worst.value - 1.0):+.2g} % off the profile "
            f"(goal {100 * allowed:.2g} %)",
            "K or read noise does not describe these flats: look at the photon-transfer curve and at the traps.",
        )
    codes = seen.quality.codes
    if codes is not None:
        missing = codes.attainable - codes.log_likelihood.value
        allowed = GOOD_NATS + codes.chi_square.dof / codes.count
        yield Check(
            missing <= allowed,
            f"{at}: the shape of the dark noise loses {missing:.2g} nats a pixel (goal {allowed:.2g})",
            "The dark noise has a shape that no model here describes; simulated darks will differ from real ones.",
        )


def _worst_relative(estimates: list[Estimate | None]) -> float | None:
    known = [
        estimate.standard_error / estimate.value
        for estimate in estimates
        if estimate is not None and estimate.standard_error is not None and estimate.value > 0
    ]
    return max(known, default=None)
