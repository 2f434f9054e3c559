"""Calibration: dark and flat frames in, a camera's noise profile with standard errors out."""

from noise_models.calibration.calibrate import Calibration, calibrate
from noise_models.calibration.evidence import IsoEvidence
from noise_models.calibration.frames import CalibrationFrame

__all__ = ["Calibration", "CalibrationFrame", "IsoEvidence", "calibrate"]
