"""Joint demosaicking and denoising against its rivals: PSNR of linear camera RGB, Bayer and X-Trans.

Kodak24 crops become linear camera RGB (sRGB undone, red and blue dimmed as daylight does before white balance), a
14-bit mosaic, and Poisson-Gaussian noise at three exposures, or none. The rivals are given the white balance too;
"Malvar, denoised" runs the same cosine transform in the same working space after demosaicking, told of 1.5 times the
noise. In brackets: PSNR after white balance and the sRGB curve, as an eye would weigh it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from noise_models.cfa import XTRANS_ROWS, Cfa
from noise_models.frame import Colour, RawFrame, tile_to
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from physrestore.classic import denoise_classic
from physrestore.demosaic import demosaic
from physrestore.pnp import restore_pnp
from physrestore.pnp.colour_prior import DemosaicPrior
from physrestore.quality import psnr
from physrestore.working_space import WorkingSpace
from tests.shared_data import data_folder

PICTURES = ("01", "05", "08", "13", "19", "23")
CROP = 240
# Electrons at full scale and read noise [e-]; None: no noise but rounding.
LEVELS: tuple[tuple[float, float] | None, ...] = (None, (4000.0, 4.0), (800.0, 3.0), (160.0, 3.0))
NEUTRAL = (0.5, 1.0, 0.6)
BLACK, WHITE = 512.0, 16383.0
# What "noise-free" is told as: far below rounding.
NO_NOISE_DN = (1e-3, 1e-2)
TOLD_AFTER_DEMOSAIC = 1.5

Rival = Callable[[RawFrame, SensorNoise], Tensor]


def run() -> None:
    """Print one table per filter array; one thread, so that processor time compares work and not waiting."""
    folder = data_folder() / "sets" / "kodak24"
    if not folder.exists():
        print(f"pnp: no pictures at {folder.name} (set PHYSRESTORE_TEST_DATA)")
        return
    truths = [_camera_rgb(np.asarray(Image.open(folder / f"{name}.png").convert("RGB"))) for name in PICTURES]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, cfa in (("Bayer", Cfa.parse("RGGB")), ("X-Trans", Cfa(XTRANS_ROWS))):
        heads = ("no noise" if level is None else f"{level[0]:.0f} e-" for level in LEVELS)
        print(f"{name:28}" + "".join(f"{head:>16}" for head in heads) + "   CPU-s/MP")
        for rival, method in _rivals(cfa):
            _row(rival, method, cfa, truths)
    torch.set_num_threads(threads)


def _row(name: str, method: Rival, cfa: Cfa, truths: list[Tensor]) -> None:
    cells, start = [], time.process_time()
    for level in LEVELS:
        scores = []
        for k, truth in enumerate(truths):
            frame, noise = _shot(truth, cfa, level, seed=k)
            rgb = method(frame, noise)
            scores.append((psnr(rgb, truth), psnr(_seen(rgb), _seen(truth))))
        linear, seen = np.mean(scores, axis=0)
        cells.append(f"{linear:8.2f} ({seen:5.2f})")
    megapixels = len(LEVELS) * len(truths) * CROP**2 / 1e6
    cost = (time.process_time() - start) / megapixels
    print(f"{name:28}" + "".join(f"{cell:>16}" for cell in cells) + f"{cost:11.1f}", flush=True)


def _rivals(cfa: Cfa) -> Iterator[tuple[str, Rival]]:
    yield "bilinear", lambda frame, _: _tent(frame)
    first = "Malvar" if cfa.is_bayer else "tent"
    if cfa.is_bayer:
        yield "Malvar", lambda frame, _: _balanced_demosaic(frame)
        yield (
            "classic, then Malvar",
            lambda frame, noise: _balanced_demosaic(replace(frame, mosaic=denoise_classic(frame, noise).mosaic)),
        )
    yield f"{first}, denoised", _demosaic_then_denoise
    yield "physrestore pnp", lambda frame, noise: restore_pnp(frame, noise).rgb


def _balanced_demosaic(frame: RawFrame) -> Tensor:
    gain = 1 / torch.tensor(NEUTRAL)
    index = torch.tensor([["RGB".index(letter) for letter in row] for row in frame.cfa.rows])
    return demosaic(frame.linear() * tile_to(gain[index], *frame.shape), frame.cfa)[0] / gain.reshape(3, 1, 1)


def _tent(frame: RawFrame) -> Tensor:
    """Mean of each colour's sites under a tent of 3x3 (Bayer: bilinear) or 5x5."""
    radius = 1 if frame.cfa.is_bayer else 2
    side = (1 + radius - torch.arange(-radius, radius + 1).abs()).float()
    kernel = torch.outer(side, side)[None, None]
    x = frame.linear()
    index = torch.tensor([["RGB".index(letter) for letter in row] for row in frame.cfa.rows])
    colour = tile_to(index, *frame.shape)
    planes = []
    for k in range(3):
        mask = (colour == k).float()[None, None]
        filled = F.conv2d(x * mask, kernel, padding=radius) / F.conv2d(mask, kernel, padding=radius)
        planes.append(x.where(mask > 0, filled)[0, 0])
    return torch.stack(planes)


def _demosaic_then_denoise(frame: RawFrame, noise: SensorNoise) -> Tensor:
    space = WorkingSpace.of_frame(frame, noise)
    values = space.balanced(space.stabilise(frame.linear()[0, 0], frame.cfa), frame.cfa)
    level = TOLD_AFTER_DEMOSAIC * space.scale
    prior = DemosaicPrior(level, chroma=1.0)
    return space.linear(prior.denoise(demosaic(values[None, None], frame.cfa), level[None])[0])


def _shot(truth: Tensor, cfa: Cfa, level: tuple[float, float] | None, *, seed: int) -> tuple[RawFrame, SensorNoise]:
    index = torch.tensor([["RGB".index(letter) for letter in row] for row in cfa.rows])
    span = WHITE - BLACK
    signal = truth.gather(0, tile_to(index, *truth.shape[-2:])[None])[0].double().numpy() * span
    gain, read = NO_NOISE_DN
    if level is not None:
        full, electrons = level
        gain, read = span / full, electrons * span / full
        rng = np.random.default_rng(seed)
        signal = gain * rng.poisson(signal / gain) + rng.normal(0.0, read, signal.shape)
    # A white level above all codes: clipping is not part of the question.
    mosaic = np.clip(np.round(signal + BLACK), 0, 65534).astype(np.uint16)
    colour = Colour(as_shot_neutral=NEUTRAL)
    frame = RawFrame(mosaic, cfa, np.full(cfa.period, BLACK), np.full(cfa.period, WHITE), colour=colour)
    plane = PlaneNoise(
        gain=Estimate(value=gain), read_noise_dn=Estimate(value=read), black_level_dn=Estimate(value=BLACK)
    )
    planes = dict.fromkeys(cfa.plane_names, plane)
    return frame, SensorNoise(iso=None, planes=planes, row_noise_dn=Estimate(value=0.0))


def _camera_rgb(picture: np.ndarray) -> Tensor:
    """Central crop of an sRGB picture as linear camera RGB (3, h, w), at most 0.9."""
    top, left = ((size - CROP) // 2 for size in picture.shape[:2])
    code = picture[top : top + CROP, left : left + CROP].astype(np.float64) / 255
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return torch.from_numpy(0.9 * linear * NEUTRAL).float().permute(2, 0, 1).contiguous()


def _seen(rgb: Tensor) -> Tensor:
    balanced = (rgb / torch.tensor(NEUTRAL).reshape(3, 1, 1)).clamp(0, 1)
    return torch.where(balanced <= 0.0031308, 12.92 * balanced, 1.055 * balanced.clamp(min=1e-6) ** (1 / 2.4) - 0.055)
