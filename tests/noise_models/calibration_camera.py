"""A camera of a few lines of numpy, independent of `noise_models.simulate`: what calibration must recover."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from noise_models.calibration.frames import CalibrationFrame
from noise_models.cfa import Cfa
from noise_models.frame import RawFrame, Shot


@dataclass
class Camera:
    """True parameters, in the units of `SensorNoise`; the maps of PRNU, DSNU and hot pixels are drawn once.

    Attributes that have no field there: ``clamp``, the lowest code; ``spread``, the width of log sigma over pixels;
    ``bend``, the share of the signal that is lost at 10,000 DN (linear in the signal).
    """

    gain: float = 1.0
    read: float = 4.0
    black: float = 512.3
    row: float = 0.0
    column: float = 0.0
    prnu: float = 0.0
    dsnu: float = 0.0
    jitter: float = 0.0
    hot: float = 0.0
    hot_excess: float = 800.0
    white: float = 16383.0
    clamp: float = 0.0
    spread: float = 0.0
    bend: float = 0.0
    cfa: str = "M"
    shape: tuple[int, int] = (96, 96)
    iso: float = 100.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.response = 1.0 + self.prnu * self.rng.standard_normal(self.shape)
        self.fixed = self.dsnu * self.rng.standard_normal(self.shape)
        self.sigma = self.read * np.exp(self.spread * self.rng.standard_normal(self.shape) - self.spread**2)
        lit = self.rng.random(self.shape) < self.hot
        self.hot_dn = np.where(lit, self.hot_excess * (0.5 + 0.5 * self.rng.exponential(size=self.shape)), 0.0)

    def frame(self, light: float | np.ndarray = 0.0, *, exposure_s: float | None = None) -> RawFrame:
        """One exposure to a light given as mean DN above black."""
        height, width = self.shape
        signal = np.broadcast_to(light, self.shape) * self.response + self.hot_dn
        electrons = self.rng.poisson(signal / self.gain)
        value = self.gain * electrons
        value = value * (1.0 - self.bend * value / 10_000.0) + self.black + self.fixed
        value = value + self.sigma * self.rng.standard_normal(self.shape)
        value = value + self.row * self.rng.standard_normal((height, 1))
        value = value + self.column * self.rng.standard_normal((1, width)) + self.jitter * self.rng.standard_normal()
        cfa = Cfa.parse(self.cfa)
        return RawFrame(
            mosaic=np.clip(np.rint(value), self.clamp, self.white).astype(np.uint16),
            cfa=cfa,
            black_level=np.full(cfa.period, np.rint(self.black)),
            white_level=np.full(cfa.period, self.white),
            shot=Shot(make="Test", model="Test camera", iso=self.iso, exposure_s=exposure_s),
        )

    def darks(self, count: int) -> list[CalibrationFrame]:
        return [self._described(self.frame(), "dark", index, "dark") for index in range(count)]

    def flats(self, *levels: float | np.ndarray, count: int = 2) -> list[CalibrationFrame]:
        return [
            self._described(self.frame(level), "flat", index, number)
            for number, level in enumerate(levels)
            for index in range(count)
        ]

    def _described(self, raw: RawFrame, role: str, index: int, key: object) -> CalibrationFrame:
        return CalibrationFrame(
            load=lambda: raw,
            name=f"{role} {key} {index}",
            role=role,  # type: ignore[arg-type]
            iso=self.iso,
            exposure_s=None,
            level_key=key,
        )
