"""Every detector that applies to a set of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from noise_models.calibration.traps.black_clamp import find_black_clamp
from noise_models.calibration.traps.block_artefacts import find_block_artefacts
from noise_models.calibration.traps.channel_scaling import find_channel_scaling, find_gain_ratio
from noise_models.calibration.traps.cooked import find_cooked
from noise_models.calibration.traps.dark_subtraction import find_dark_subtraction
from noise_models.calibration.traps.defect_correction import LONG_EXPOSURE_S, find_defect_correction
from noise_models.calibration.traps.digital_gain import find_digital_gain
from noise_models.calibration.traps.dual_gain import IsoPoint, find_dual_gain
from noise_models.calibration.traps.extended_iso import find_extended_iso
from noise_models.calibration.traps.finding import Finding
from noise_models.calibration.traps.flat_texture import find_flat_texture
from noise_models.calibration.traps.flicker import find_flicker, find_light_mismatch
from noise_models.calibration.traps.lit_dark import find_lit_dark
from noise_models.calibration.traps.lossy import find_lossy
from noise_models.calibration.traps.masked_rows import find_masked_rows
from noise_models.calibration.traps.mismatched_frames import find_level_outliers, find_mismatched_frames
from noise_models.calibration.traps.star_eater import find_star_eater
from noise_models.frame import RawFrame
from noise_models.sensor import Estimate


def examine_darks(first: RawFrame, second: RawFrame, *, short_dark: RawFrame | None = None) -> list[Finding]:
    """All detectors on two darks of the same settings.

    Args:
        first: One dark.
        second: Another.
        short_dark: A dark of the same ISO with a short exposure, where ``first`` is a long one.

    Raises:
        CalibrationError: a frame too small to be sampled, or a short dark of another ISO.
    """
    alike = find_mismatched_frames([first, second])
    findings = [
        alike,
        find_digital_gain([first]),
        find_channel_scaling([first]),
        find_black_clamp(first),
        find_star_eater(first),
        find_lit_dark(first),
    ]
    if _comparable(first, second):
        findings += [
            find_level_outliers([first, second]),
            find_cooked(first, second),
            find_block_artefacts(first, second),
        ]
    if first.shot.exposure_s is not None and first.shot.exposure_s >= LONG_EXPOSURE_S:
        findings += [find_dark_subtraction(first, reference=short_dark), find_defect_correction(first)]
    return findings


def examine_flats(first: RawFrame, second: RawFrame) -> list[Finding]:
    """All detectors on two flats of the same light and settings.

    Args:
        first: One flat.
        second: Another.

    Raises:
        CalibrationError: a frame too small to be sampled.
    """
    findings = [
        find_mismatched_frames([first, second]),
        find_digital_gain([first]),
        find_channel_scaling([first]),
        find_star_eater(first),
        find_masked_rows(first),
        find_flat_texture(first),
    ]
    if _comparable(first, second):
        findings += [
            find_flicker(first, second),
            find_light_mismatch(first, second),
            find_cooked(first, second),
            find_block_artefacts(first, second),
        ]
    return findings


def examine_photo(frames: Sequence[RawFrame]) -> list[Finding]:
    """The detectors that need neither darks nor flats, on photos or on frames of several levels.

    Args:
        frames: Of one camera, ISO and file format.

    Raises:
        CalibrationError: a frame too small to be sampled.
    """
    return [find_lossy(frames), find_digital_gain(frames), find_channel_scaling(frames)]


def examine_isos(points: Sequence[IsoPoint], *, gains: Mapping[float, Mapping[str, Estimate]]) -> list[Finding]:
    """The detectors on measured numbers.

    Args:
        points: One row per ISO.
        gains: ISO -> plane name -> K [DN/e-].
    """
    return [find_dual_gain(points), find_extended_iso(points), *(find_gain_ratio(planes) for planes in gains.values())]


def _comparable(first: RawFrame, second: RawFrame) -> bool:
    return first.shape == second.shape and first.cfa == second.cfa
