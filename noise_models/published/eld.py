"""Five cameras as published with ELD: log-linear laws of read and row noise over the gain.

Source: Wei, Fu, Yang, Huang, "A physics-based noise formation model for extreme low-light raw denoising" (CVPR 2020;
TPAMI 2021); files camera_params/release of the repository Vandermode/ELD (MIT). Numbers only; 14-bit DN, natural logs:
log sigma | log K ~ N(slope log K + bias, spread^2). "Profile-1" of each camera, the one used for training.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "ELD (Wei et al., CVPR 2020 / TPAMI 2021), repository Vandermode/ELD, MIT"
ISOS = (100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0)  # K at ISO 6400 is 64 times K at ISO 100 in the source
NOTES = (
    "Published by others: measured on one body by the authors of ELD, not on yours.",
    (
        "Read and row noise are one log-line over all ISOs: it smooths over steps of the conversion gain, and is off "
        "by up to a factor of 2 against later measurements of the same models."
    ),
    "Black and white levels are nominal; PRNU, hot pixels and dark shading are not part of the source.",
)


@dataclass(frozen=True)
class Line:
    """log sigma = slope log K + bias, scatter ``spread``; sigma in DN, K in DN/e-."""

    slope: float
    bias: float
    spread: float


@dataclass(frozen=True)
class EldCamera:
    """One camera of the source.

    Attributes:
        make: As the camera writes it.
        model: As the camera writes it.
        black_dn: Nominal black level [DN].
        white_dn: Nominal white level [DN].
        gain_at_iso_100: K [DN/e-].
        read: Gaussian read noise.
        row: Row noise.
    """

    make: str
    model: str
    black_dn: float
    white_dn: float
    gain_at_iso_100: float
    read: Line
    row: Line


CAMERAS = (
    EldCamera(
        "Canon", "Canon EOS 5D Mark IV", 2048.0, 16383.0, 0.21819,
        Line(0.67713, 1.51219, 0.24641), Line(0.47128, -0.80790, 0.24362),
    ),
    EldCamera(
        "Canon", "Canon EOS 70D", 2048.0, 16383.0, 0.40750,
        Line(0.56812, 1.99827, 0.24870), Line(0.72922, -0.93706, 0.25022),
    ),
    EldCamera(
        "Canon", "Canon EOS 700D", 2048.0, 16383.0, 0.44763,
        Line(0.65246, 2.07986, 0.25782), Line(0.62206, -0.77570, 0.24848),
    ),
    EldCamera(
        "NIKON CORPORATION", "NIKON D850", 400.0, 16383.0, 0.41504,
        Line(0.56346, 0.79941, 0.21408), Line(0.44829, -1.79771, 0.23218),
    ),
)  # fmt: skip
