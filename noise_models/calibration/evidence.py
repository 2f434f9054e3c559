"""What a calibration saw, as plain arrays: the material of the report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.dark import Histogram
from noise_models.calibration.linearity import Linearity
from noise_models.calibration.photon_transfer import TransferCurve
from noise_models.calibration.shape.fit_quality import FitQuality
from noise_models.calibration.shape.tail_fit import TailFit

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class IsoEvidence:
    """One ISO.

    Attributes:
        transfer: Photon-transfer curve per plane; empty where there were no flats.
        linearity: Response per plane; empty where the light of the flats is unknown.
        tail_fit: Shape of the read noise; None where it could not be measured.
        row_spectrum: Frequency [cycles/row] and power [DN^2] of the row means of dark differences, one frame's worth;
            the mean over frequency is the variance of row means.
        column_spectrum: The same for columns.
        histogram: Of dark differences, per plane.
        mean_dark_dn: Mean dark frame above black [DN], averaged in tiles, (th, tw).
        frame_means_dn: Mean of every dark in order [DN], (frames, planes).
        light_ratios: Light of the first over the second frame of every flat pair and plane.
        dark_frames: Darks read.
        flat_frames: Flats read.
        hot_pixels: Sites above the defect limit in the mean dark.
        frame_shape: Height and width of a frame.
        defect_places: Row and column of "defective" sites, and of "blinking" ones in the middle of the frame where
            there were darks enough; at most some thousand each.
        quality: How well the profile describes the frames.
    """

    transfer: dict[str, TransferCurve]
    linearity: dict[str, Linearity]
    tail_fit: TailFit | None
    row_spectrum: tuple[F64, F64]
    column_spectrum: tuple[F64, F64]
    histogram: dict[str, Histogram]
    mean_dark_dn: F64
    frame_means_dn: F64
    light_ratios: tuple[float, ...]
    dark_frames: int
    flat_frames: int
    hot_pixels: int
    frame_shape: tuple[int, int]
    defect_places: dict[str, NDArray[np.int64]]
    quality: FitQuality
