"""Bursts of a virtual camera: a scene that stands still, shifts as a whole, or has something that moves in it."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.frame import RawFrame
from noise_models.scene import procedural_scene
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from noise_models.simulate import VirtualCamera

MARGIN = 16
SHAPE = (512, 768)


@cache
def canvas(shape: tuple[int, int] = SHAPE) -> Tensor:
    """The demo's scene with a margin to shift into, half as bright."""
    return procedural_scene(shape[0], shape[1] + MARGIN) / 2


def body(
    *,
    gain: float = 1.0,
    read: float = 4.0,
    row: float = 0.5,
    column: float = 0.3,
    cfa: str = "RGGB",
    shape: tuple[int, int] = SHAPE,
    masked: bool = True,
    iso: float = 800.0,
    seed: int = 0,
) -> VirtualCamera:
    """A 14-bit camera with PRNU and DSNU, with or without masked columns."""
    array = Cfa.parse(cfa)
    plane = PlaneNoise(
        gain=Estimate(value=gain),
        read_noise_dn=Estimate(value=read),
        black_level_dn=Estimate(value=512.0),
        prnu=Estimate(value=0.01),
        dsnu_dn=Estimate(value=0.1 * read),
    )
    noise = SensorNoise(
        iso=iso,
        planes=dict.fromkeys(array.plane_names, plane),
        row_noise_dn=Estimate(value=row),
        column_noise_dn=Estimate(value=column),
    )
    return VirtualCamera(noise, cfa=array, shape=shape, seed=seed, masked_columns=36 if masked else 0)


def shifted(scene: Tensor, pixels: float) -> Tensor:
    """The part of a canvas that a camera sees after it turned right by some pixels (linear interpolation)."""
    whole, part = int(pixels), pixels - int(pixels)
    width = scene.shape[-1] - MARGIN
    near, far = (scene[..., start : start + width] for start in (whole, whole + 1))
    return near * (1 - part) + far * part


def burst(
    camera: VirtualCamera,
    *,
    seed: int,
    frames: int = 2,
    shift: float = 0.0,
    light: float = 1.0,
    mover: float = 0.0,
    scene: Tensor | None = None,
) -> list[RawFrame]:
    """Photos in a row.

    Args:
        camera: From `body`.
        seed: Of the noise.
        frames: How many.
        shift: Pixels to the right between one frame and the next.
        light: Factor of the light from one frame to the next and back.
        mover: Share of the width that an object with strong texture covers; it moves by 7 pixels each frame.
        scene: A canvas; None: the demo's.
    """
    generator = torch.Generator().manual_seed(seed)
    source = canvas(camera.shape) if scene is None else scene
    taken = []
    for index in range(frames):
        view = shifted(source, shift * index).clone()
        if camera.cfa.is_mono:
            view = view[1:2]
        width = int(mover * camera.shape[1])
        if width:
            wave = torch.sin(torch.arange(width) * 0.7) * torch.sin(torch.arange(view.shape[-2]) * 0.5)[:, None]
            view[..., 7 * index : 7 * index + width] = 0.2 + 0.15 * wave
        taken.append(camera.expose(view, generator=generator, exposure=light if index % 2 else 1.0))
    return taken
