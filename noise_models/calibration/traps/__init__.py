"""Detectors of what makes a calibration wrong although its numbers look right; each answers with a `Finding`.

One detector a file. Detectors are pure functions of frames or of measured numbers; they sample large frames
deterministically, and their thresholds come from the statistic's distribution on clean data (chance of a false alarm
at most `finding.FALSE_ALARM` a call) or, where a clean camera may deviate a little, from a named physical tolerance.
`examine` runs all that apply.
"""

from __future__ import annotations

from noise_models.calibration.traps.black_clamp import find_black_clamp
from noise_models.calibration.traps.block_artefacts import find_block_artefacts
from noise_models.calibration.traps.channel_scaling import find_channel_scaling, find_gain_ratio
from noise_models.calibration.traps.cooked import find_cooked
from noise_models.calibration.traps.dark_subtraction import find_dark_subtraction
from noise_models.calibration.traps.defect_correction import find_defect_correction
from noise_models.calibration.traps.digital_gain import find_digital_gain
from noise_models.calibration.traps.dual_gain import IsoPoint, find_dual_gain
from noise_models.calibration.traps.examine import examine_darks, examine_flats, examine_isos, examine_photo
from noise_models.calibration.traps.extended_iso import find_extended_iso
from noise_models.calibration.traps.finding import Finding
from noise_models.calibration.traps.flat_texture import find_flat_texture
from noise_models.calibration.traps.flicker import find_flicker, find_light_mismatch
from noise_models.calibration.traps.lit_dark import find_lit_dark
from noise_models.calibration.traps.lossy import find_companding, find_lossy
from noise_models.calibration.traps.masked_rows import find_masked_rows
from noise_models.calibration.traps.mismatched_frames import find_level_outliers, find_mismatched_frames
from noise_models.calibration.traps.star_eater import find_star_eater

__all__ = [
    "Finding",
    "IsoPoint",
    "examine_darks",
    "examine_flats",
    "examine_isos",
    "examine_photo",
    "find_black_clamp",
    "find_block_artefacts",
    "find_channel_scaling",
    "find_companding",
    "find_cooked",
    "find_dark_subtraction",
    "find_defect_correction",
    "find_digital_gain",
    "find_dual_gain",
    "find_extended_iso",
    "find_flat_texture",
    "find_flicker",
    "find_gain_ratio",
    "find_level_outliers",
    "find_light_mismatch",
    "find_lit_dark",
    "find_lossy",
    "find_masked_rows",
    "find_mismatched_frames",
    "find_star_eater",
]
