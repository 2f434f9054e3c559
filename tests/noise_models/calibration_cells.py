"""Cameras and sets on which the intervals of a calibration must cover: the cells of the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from noise_models.calibration.frames import CalibrationFrame
from noise_models.sensor import SensorNoise
from tests.noise_models.calibration_camera import Camera

SHAPE = (96, 96)
DARKS = 8
QUANTITIES = ("gain", "read", "black", "prnu", "dsnu", "row")


@dataclass(frozen=True)
class Cell:
    """One kind of camera.

    Attributes:
        name: In the table.
        camera: Of a seed.
        frames: The set that is taken with it.
        unseen: Quantities that this set cannot determine.
    """

    name: str
    camera: Callable[[int], Camera]
    frames: Callable[[Camera], list[CalibrationFrame]]
    unseen: tuple[str, ...] = ()


def of_levels(*levels: float) -> Callable[[Camera], list[CalibrationFrame]]:
    return lambda camera: camera.darks(DARKS) + camera.flats(*levels)


def uneven(camera: Camera) -> list[CalibrationFrame]:
    """Light that falls to a third over the frame."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, length) for length in camera.shape), indexing="ij")
    light = (1.0 + 0.35 * (x**2 + y**2)) ** -2.0
    return camera.darks(DARKS) + camera.flats(*(level * light for level in (300.0, 1000.0, 3000.0)))


def clipping(camera: Camera) -> list[CalibrationFrame]:
    """The brightest level clips in part of the frame, the next one nearly."""
    ramp = np.linspace(0.5, 1.5, SHAPE[1])[None, :] * np.ones(SHAPE)
    return camera.darks(DARKS) + camera.flats(300.0, 900.0, 3400.0, 3500.0 * ramp)


def telegraph(camera: Camera) -> list[CalibrationFrame]:
    """Half a per cent of the sites jump by 12 sigma in every other frame or so."""
    places = camera.rng.random(SHAPE) < 0.005

    def blinking(frame: CalibrationFrame) -> CalibrationFrame:
        raw = frame.load()
        jump = (12.0 * camera.read * (places & (camera.rng.random(SHAPE) < 0.3))).astype(np.uint16)
        lifted = replace(raw, mosaic=raw.mosaic + jump)
        return replace(frame, load=lambda: lifted)

    return [blinking(f) for f in camera.darks(12) + camera.flats(300.0, 1000.0, 3000.0)]


def outliers(camera: Camera) -> list[CalibrationFrame]:
    """Five per cent of the sites are hot, dead or stuck."""
    kind = camera.rng.random(SHAPE)

    def broken(frame: CalibrationFrame) -> CalibrationFrame:
        raw = frame.load()
        codes = raw.mosaic.astype(np.int64)
        codes = np.where(kind < 0.03, codes + 400, codes)
        codes = np.where((kind >= 0.03) & (kind < 0.04), 0, codes)
        codes = np.where((kind >= 0.04) & (kind < 0.05), 16383, codes)
        spoilt = replace(raw, mosaic=np.clip(codes, 0, 16383).astype(np.uint16))
        return replace(frame, load=lambda: spoilt)

    return [broken(frame) for frame in of_levels(300.0, 1000.0, 3000.0)(camera)]


def flickering(camera: Camera) -> list[CalibrationFrame]:
    """The lamp changes by 2 % from frame to frame."""
    flats = []
    for number, level in enumerate((300.0, 1000.0, 3000.0)):
        for _ in range(2):
            frame = camera.flats(level * (1.0 + 0.02 * camera.rng.standard_normal()), count=1)[0]
            flats.append(replace(frame, level_key=number))
    return camera.darks(DARKS) + flats


def dual_gain(camera: Camera) -> list[CalibrationFrame]:
    """The ISO of the cell, and one below the step with three times its input-referred noise."""
    below = Camera(gain=0.5 * camera.gain, read=1.5 * camera.read, iso=0.5 * camera.iso, seed=camera.seed + 10_000)
    below.shape = SHAPE
    below.__post_init__()
    return of_levels(300.0, 1000.0, 3000.0)(below) + of_levels(300.0, 1000.0, 3000.0)(camera)


def _camera(**fields: object) -> Callable[[int], Camera]:
    common: dict[str, object] = {"prnu": 0.01, "dsnu": 1.0, "row": 0.4, "shape": SHAPE}
    return lambda seed: Camera(**{**common, **fields, "seed": seed})  # type: ignore[arg-type]


CELLS = (
    Cell("K 0.05, read 3 DN", _camera(gain=0.05, read=3.0), of_levels(300.0, 1500.0, 4500.0)),
    Cell("K 1, read 4 DN", _camera(gain=1.0, read=4.0), of_levels(300.0, 1000.0, 3000.0)),
    Cell("K 30, read 30 DN", _camera(gain=30.0, read=30.0, dsnu=5.0), of_levels(500.0, 1500.0, 4500.0)),
    Cell(
        "K 0.5, read 0.3 DN",
        _camera(gain=0.5, read=0.3, dsnu=0.1, row=0.0),
        of_levels(300.0, 1000.0, 3000.0),
        ("row",),
    ),
    Cell("row noise 25 %", _camera(gain=1.0, read=4.0, row=1.0), of_levels(300.0, 1000.0, 3000.0)),
    Cell("row noise 2 %", _camera(gain=1.0, read=10.0, row=0.2), of_levels(300.0, 1000.0, 3000.0)),
    Cell("black jitter 0.5 DN", _camera(gain=1.0, read=4.0, jitter=0.5), of_levels(300.0, 1000.0, 3000.0)),
    Cell("clamp at black", _camera(gain=1.0, read=8.0, black=64.3, clamp=64.0), of_levels(300.0, 1000.0, 3000.0)),
    Cell("dual gain", _camera(gain=2.0, read=4.0, iso=800.0), dual_gain),
    Cell("telegraph noise", _camera(gain=1.0, read=4.0), telegraph),
    Cell("hot pixels", _camera(gain=2.0, read=4.0, hot=5e-4), of_levels(300.0, 1000.0, 3000.0)),
    Cell("5 % outliers", _camera(gain=1.0, read=4.0), outliers),
    # Larger: over tiles of a ninth of the frame such light has an edge.
    Cell("uneven light", _camera(gain=1.0, read=4.0, shape=(192, 192)), uneven),
    Cell("flicker 2 %", _camera(gain=1.0, read=4.0), flickering),
    Cell("clipping", _camera(gain=1.0, read=4.0, white=4095.0), clipping),
)


def errors(cell: Cell, camera: Camera, noise: SensorNoise) -> dict[str, tuple[float, float, float]]:
    """Estimate, standard error and truth of everything that a cell determines."""
    plane = noise.planes["M"]
    sound = camera.hot_dn == 0.0
    seen = {
        "gain": (plane.gain, camera.gain),
        "read": (plane.read_noise_dn, camera.read),
        "black": (plane.black_level_dn, camera.black + float(camera.fixed[sound].mean())),
        "prnu": (plane.prnu, camera.prnu),
        "dsnu": (plane.dsnu_dn, camera.dsnu),
        "row": (noise.row_noise_dn, camera.row),
    }
    result = {}
    for name, (estimate, truth) in seen.items():
        if name not in cell.unseen and estimate is not None and estimate.standard_error is not None:
            result[name] = (estimate.value, estimate.standard_error, truth)
    return result
