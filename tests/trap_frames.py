"""Simulated frames that carry a trap, for the tests and the benchmark of the trap detectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.fft import dctn, idctn

from noise_models.cfa import Cfa
from noise_models.frame import RawFrame, Shot
from noise_models.sensor import Estimate, HotPixels, PlaneNoise, SensorNoise, Tail
from noise_models.simulate import VirtualCamera

U16 = NDArray[np.uint16]
F64 = NDArray[np.float64]

BLACK = 512.0
WHITE = 16383.0
# The quietest sensors sold [e-]; below, single photoelectrons show as a comb of the light itself.
LEAST_READ_NOISE = 0.25


@dataclass(frozen=True)
class Body:
    """A simulated sensor body and the noise it was made with."""

    camera: VirtualCamera
    gain: float
    read_noise_dn: float
    generator: torch.Generator

    def dark(self, exposure_s: float | None = None) -> RawFrame:
        return self.camera.dark(generator=self.generator, exposure_s=exposure_s)

    def flat(self, level: float, *, light: F64 | None = None) -> RawFrame:
        """A vignetted flat, ``level`` in 0..1 at its centre, times an optional map."""
        height, width = self.camera.shape
        y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
        vignette = (1.0 + 0.25 * (x**2 + y**2)) ** -2.0  # cos^4: a corner gets 44 % of the centre
        scene = level * vignette * (1.0 if light is None else light)
        return self.camera.flat(torch.from_numpy(scene).float(), generator=self.generator)


def body(
    seed: int,
    *,
    gain: float | None = None,
    read_noise_dn: float | None = None,
    size: tuple[int, int] = (512, 512),
    cfa: str = "RGGB",
    hot: float | None = None,
    tail: bool | None = None,
    exposure_s: float | None = None,
    dark_current: float | None = None,
    masked_columns: int = 0,
    black: float | None = None,
) -> Body:
    """A body drawn from a seed; what is not given is drawn over the range of real cameras."""
    rng = np.random.default_rng(seed)
    drawn_gain = float(np.exp(rng.uniform(np.log(0.2), np.log(8.0))))
    drawn_read = float(np.exp(rng.uniform(0.0, np.log(10.0))))
    drawn_black, drawn_hot = BLACK + rng.uniform(-0.5, 0.5), rng.uniform(0.0, 0.005)
    drawn_tail, row, dsnu, prnu = (
        rng.random() < 0.5,
        rng.uniform(0.0, 0.1),
        rng.uniform(0.0, 0.3),
        rng.uniform(0.003, 0.01),
    )
    excess = float(np.exp(rng.uniform(np.log(10.0), np.log(200.0))))
    k = gain or drawn_gain
    read = read_noise_dn or max(drawn_read, LEAST_READ_NOISE * k)
    share = drawn_hot if hot is None else hot
    parsed = Cfa.parse(cfa)
    plane = PlaneNoise(
        gain=Estimate(value=k),
        read_noise_dn=Estimate(value=read),
        black_level_dn=Estimate(value=black or drawn_black),
        prnu=Estimate(value=prnu),
        dsnu_dn=Estimate(value=dsnu * read),
        dark_current=None if dark_current is None else Estimate(value=dark_current),
    )
    heavy = drawn_tail if tail is None else tail
    noise = SensorNoise(
        iso=800.0,
        planes=dict.fromkeys(parsed.plane_names, plane),
        row_noise_dn=Estimate(value=row * read),
        column_noise_dn=Estimate(value=0.5 * row * read),
        tail=Tail(kind="lognormal", shape=Estimate(value=0.3)) if heavy else Tail(),
        hot_pixels=HotPixels(fraction=Estimate(value=share), excess_dn=Estimate(value=excess)) if share else None,
        black_jitter_dn=Estimate(value=0.05 * read),
        dark_shading_dn=Estimate(value=0.1 * read),
        exposure_s=None if exposure_s is None else (exposure_s, exposure_s),
    )
    camera = VirtualCamera(
        noise,
        cfa=parsed,
        shape=size,
        white_level=WHITE,
        seed=seed,
        shot=Shot(make="Virtual", model="Virtual camera", exposure_s=exposure_s),
        masked_columns=masked_columns,
    )
    return Body(camera, k, read, torch.Generator().manual_seed(seed + 1))


def with_codes(frame: RawFrame, codes: NDArray[np.generic]) -> RawFrame:
    """The frame with other codes, rounded and clipped to its range."""
    return replace(frame, mosaic=np.clip(np.rint(codes), 0, WHITE).astype(np.uint16))


def per_plane(frame: RawFrame, change: Callable[[F64], F64], *, planes: tuple[str, ...] | None = None) -> RawFrame:
    """The frame with every CFA site's image (or those of some planes) changed."""
    ph, pw = frame.cfa.period
    codes = frame.mosaic.astype(np.float64)
    for i, row in enumerate(frame.cfa.plane_of_site):
        for j, name in enumerate(row):
            if planes is None or name in planes:
                codes[i::ph, j::pw] = change(codes[i::ph, j::pw])
    return with_codes(frame, codes)


def scaled(frame: RawFrame, factor: float, *, planes: tuple[str, ...] | None = None) -> RawFrame:
    """Codes multiplied about the black level, as a digital gain does."""
    pedestal = round(float(frame.black_level.mean()))
    return per_plane(frame, lambda codes: np.floor((codes - pedestal) * factor) + pedestal, planes=planes)


def clamped(frame: RawFrame, level: float) -> RawFrame:
    return with_codes(frame, np.maximum(frame.mosaic, np.ceil(level)))


def blurred(frame: RawFrame, share: float) -> RawFrame:
    """Every site mixed with its four neighbours: (1 - share) itself, share their mean."""
    kernel = np.array([[0, share / 4, 0], [share / 4, 1 - share, share / 4], [0, share / 4, 0]])
    rng = np.random.default_rng(int(frame.mosaic.sum()))

    def blur(codes: F64) -> F64:
        # The camera filters before it rounds: put back what lies between the codes.
        return ndimage.convolve(codes + rng.uniform(-0.5, 0.5, codes.shape), kernel, mode="mirror")

    return per_plane(frame, blur)


def median_filtered(frame: RawFrame) -> RawFrame:
    return per_plane(frame, lambda codes: ndimage.median_filter(codes, size=3, mode="mirror"))


def capped(frame: RawFrame, reach: int) -> RawFrame:
    """Every site limited to the largest of its neighbours of one colour within ``reach``."""
    footprint = np.ones((2 * reach + 1, 2 * reach + 1), dtype=bool)
    footprint[reach, reach] = False
    return per_plane(
        frame, lambda codes: np.minimum(codes, ndimage.maximum_filter(codes, footprint=footprint, mode="mirror"))
    )


def subtracted(dark: RawFrame, other: RawFrame) -> RawFrame:
    """A dark less another one, on the same pedestal."""
    return with_codes(dark, dark.mosaic.astype(np.float64) - other.mosaic + round(float(dark.black_level.mean())))


def companded(frame: RawFrame, strength: float) -> RawFrame:
    """Coded by a curve whose step grows as the root of the light: ``strength`` times the shot noise at K = 1."""
    return with_codes(frame, curve(strength)[frame.mosaic])


def curve(strength: float) -> F64:
    """Decoded value of every code of a lossy coder."""
    values = [0.0]
    while values[-1] < WHITE:
        values.append(values[-1] + max(1.0, np.floor(strength * np.sqrt(max(values[-1] - BLACK, 0.0)))))
    table = np.array(values)
    codes = np.arange(int(WHITE) + 1)
    result: F64 = table[np.minimum(np.searchsorted(table, codes), len(table) - 1)]
    return result


def transform_coded(frame: RawFrame, step: float, *, side: int = 8) -> RawFrame:
    """Every plane's blocks through a DCT, its coefficients rounded to a step that grows with frequency, as in JPEG."""
    order = np.add.outer(np.arange(side), np.arange(side))
    steps = step * (0.5 + 4.0 * order / side)

    def code(image: F64) -> F64:
        h, w = image.shape[0] // side, image.shape[1] // side
        blocks = image[: h * side, : w * side].reshape(h, side, w, side).transpose(0, 2, 1, 3)
        spectrum = dctn(blocks, axes=(2, 3), norm="ortho")
        restored = idctn(np.rint(spectrum / steps) * steps, axes=(2, 3), norm="ortho")
        result = image.copy()
        result[: h * side, : w * side] = restored.transpose(0, 2, 1, 3).reshape(h * side, w * side)
        return result

    return per_plane(frame, code)


def covered(flat: RawFrame, dark: RawFrame, rows: slice, columns: slice) -> RawFrame:
    """A flat with an area of a dark in it."""
    codes = flat.mosaic.copy()
    codes[rows, columns] = dark.mosaic[rows, columns]
    return with_codes(flat, codes)


def wave(size: tuple[int, int], amplitude: float, cycles: float, phase: float) -> F64:
    """Light of a lamp that flickers over the rows."""
    rows = np.arange(size[0]) / size[0]
    return np.broadcast_to((1.0 + amplitude * np.sin(2 * np.pi * cycles * rows + phase))[:, None], size)
