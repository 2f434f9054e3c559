"""Pictures of one scene for the tests of comparison: simulated, restored, and their truth."""

from __future__ import annotations

import torch
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.frame import RawFrame, Shot
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from noise_models.simulate import VirtualCamera
from physrestore.compare import Picture

GAIN, READ_DN, BLACK, WHITE = 2.0, 6.0, 256.0, 4095.0


def sensor_noise(cfa: str = "RGGB", *, gain: float = GAIN) -> SensorNoise:
    """Noise without rows or tails."""
    plane = PlaneNoise(
        gain=Estimate(value=gain), read_noise_dn=Estimate(value=READ_DN), black_level_dn=Estimate(value=BLACK)
    )
    planes = dict.fromkeys(Cfa.parse(cfa).plane_names, plane)
    return SensorNoise(iso=800.0, planes=planes, row_noise_dn=Estimate(value=0.0))


def ramp_scene(height: int, width: int) -> Tensor:
    """(3, H, W) linear light without any detail, so even that all of it is smooth; colours apart."""
    along = torch.linspace(0.18, 0.22, width).expand(height, width)
    return torch.stack([along, 0.5 * along + 0.2, 0.5 - along])


def photo(scene: Tensor, cfa: str = "RGGB", *, seed: int = 0) -> RawFrame:
    """What the camera of `sensor_noise` records."""
    body = VirtualCamera(
        sensor_noise(cfa),
        cfa=Cfa.parse(cfa),
        shape=(scene.shape[-2], scene.shape[-1]),
        white_level=WHITE,
        shot=Shot(make="Test", model="Test One", iso=800.0),
    )
    light = scene.mean(0, keepdim=True) if body.cfa.is_mono else scene
    return body.expose(light, generator=torch.Generator().manual_seed(seed))


def of_frame(frame: RawFrame, name: str = "photo.dng", record: dict[str, object] | None = None) -> Picture:
    """As `read_picture` would give it."""
    return Picture(name=name, frame=frame, colour=frame.colour, orientation=frame.orientation, record=record)


def of_colours(rgb: Tensor, name: str = "clean.png") -> Picture:
    """A picture with all colours at every pixel."""
    return Picture(name=name, rgb=rgb)
