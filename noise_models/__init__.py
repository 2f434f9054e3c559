"""The physics of a camera's noise: raw frames in, noise profiles and realistic noise out.

The public names are loaded when they are first used, so that `import noise_models` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from noise_models.calibration import Calibration as Calibration
    from noise_models.calibration import calibrate as calibrate
    from noise_models.calibration.inputs.group import frames_from as frames_from
    from noise_models.calibration.photo.single_photo import estimate_from_frame as estimate_from_frame
    from noise_models.cfa import Cfa as Cfa
    from noise_models.frame import RawFrame as RawFrame
    from noise_models.profile import CameraProfile as CameraProfile
    from noise_models.rawfile import Decoder as Decoder
    from noise_models.rawfile import read_raw as read_raw
    from noise_models.sampling import NoiseSampler as NoiseSampler
    from noise_models.sensor import SensorNoise as SensorNoise
    from noise_models.simulate import VirtualCamera as VirtualCamera
    from noise_models.stabilise import Anscombe as Anscombe
    from noise_models.store import read_profile as read_profile

_HOMES = {
    "Anscombe": "noise_models.stabilise",
    "Calibration": "noise_models.calibration",
    "CameraProfile": "noise_models.profile",
    "Cfa": "noise_models.cfa",
    "Decoder": "noise_models.rawfile",
    "NoiseSampler": "noise_models.sampling",
    "RawFrame": "noise_models.frame",
    "SensorNoise": "noise_models.sensor",
    "VirtualCamera": "noise_models.simulate",
    "calibrate": "noise_models.calibration",
    "estimate_from_frame": "noise_models.calibration.photo.single_photo",
    "frames_from": "noise_models.calibration.inputs.group",
    "read_profile": "noise_models.store",
    "read_raw": "noise_models.rawfile",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 (a list of the table above)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'noise_models' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
