"""A burst of 8 frames against one: PSNR of linear camera RGB, moved, still and with a moving object; Bayer and X-Trans.

Kodak24 pictures become linear camera RGB; every frame is a view turned by up to half a degree and shifted by up to 6
sites (a spline of degree 5, which is not what the restoration assumes), a 14-bit mosaic, and Poisson-Gaussian noise.
"Noisy" is the first frame, demosaicked with fixed filters; "fast" and "pnp" restore it alone; "with a prior" is the
burst by the solver on normal equations, with the transform as prior; "burst" is the default, by the network, and its
gain is over "fast", the same network on one frame. "8 times the light" is "fast" on one frame with the light of all. A
margin of 12 pixels does not count: there the views do not all overlap. Everything takes
six minutes of a core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates
from torch import Tensor

from noise_models.cfa import XTRANS_ROWS, Cfa
from noise_models.frame import Colour, RawFrame, tile_to
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from physrestore.burst import restore_burst
from physrestore.demosaic import demosaic
from physrestore.fast import default_network, restore_fast
from physrestore.pnp import restore_pnp
from physrestore.priors.transform import TransformPrior
from physrestore.quality import psnr
from tests.shared_data import data_folder

PICTURES = ("01", "08", "19", "23")
CROP, MARGIN, FRAMES = 160, 12, 8
LARGEST_TURN_DEGREES, LARGEST_SHIFT = 0.5, 6.0
# Electrons at full scale and read noise [e-].
LEVELS = ((800.0, 3.0), (160.0, 3.0))
NEUTRAL = (0.5, 1.0, 0.6)
BLACK, WHITE = 512.0, 16383.0
OBJECT_RADIUS, OBJECT_STEP = 12.0, 9.0  # pixels, and pixels a frame
ARRAYS = {"Bayer": Cfa.parse("RGGB"), "X-Trans": Cfa(XTRANS_ROWS)}
CASES = ("moved", "still", "object")
COLUMNS = ("noisy", "fast", "pnp", "8 x the light", "with a prior", "burst", "gain", "frames", "CPU-s/MP")


def run(arguments: Sequence[str] = ()) -> None:
    """Print one line per array, exposure and case: means over the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks burst_fusion", description=__doc__)
    parser.add_argument("--arrays", nargs="+", choices=ARRAYS, default=list(ARRAYS))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    asked = parser.parse_args(arguments)
    folder = data_folder() / "sets" / "kodak24"
    if not folder.exists():
        print(f"burst_fusion: no pictures at {folder.name} (set PHYSRESTORE_TEST_DATA)")
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pictures = [_camera_rgb(np.asarray(Image.open(folder / f"{name}.png").convert("RGB"))) for name in PICTURES]
    print(f"{'':26}" + "".join(f"{name:>15}" for name in COLUMNS))
    for name in asked.arrays:
        for level in LEVELS:
            for case in asked.cases:
                rows = [_measure(picture, ARRAYS[name], level, case, seed=k) for k, picture in enumerate(pictures)]
                head = f"{name}, {level[0]:.0f} e-, {case}"
                print(f"{head:26}" + "".join(f"{value:15.2f}" for value in np.mean(rows, axis=0)), flush=True)
    torch.set_num_threads(threads)


def _measure(
    picture: NDArray[np.float64], cfa: Cfa, level: tuple[float, float], case: str, *, seed: int
) -> tuple[float, ...]:
    """Values of `COLUMNS`."""
    views, shots, rng = simulated(picture, cfa, level, case, seed=seed)
    frames, noises = [frame for frame, _ in shots], [noise for _, noise in shots]
    bright = _shot(views[0], cfa, (FRAMES * level[0], FRAMES**0.5 * level[1]), rng)
    start = time.process_time()
    result = restore_burst(frames, noises)
    seconds = time.process_time() - start
    judged = torch.zeros(CROP, CROP, dtype=torch.bool)
    judged[MARGIN:-MARGIN, MARGIN:-MARGIN] = True
    if case == "object":  # wherever the object is or was
        judged &= torch.stack([_disc(k) for k in range(FRAMES)]).any(0)
    network = default_network()
    pictures = (
        _balanced_demosaic(frames[0]),
        restore_fast(frames[0], noises[0], network=network).rgb,
        restore_pnp(frames[0], noises[0]).rgb,
        restore_fast(*bright, network=network).rgb,
        restore_burst(frames, noises, prior=TransformPrior()).rgb,
        result.rgb,
    )
    noisy, fast, pnp, light, prior, burst = (psnr(rgb[:, judged], views[0][:, judged]) for rgb in pictures)
    worth = float(result.effective_frames[judged].mean())
    return noisy, fast, pnp, light, prior, burst, burst - fast, worth, seconds / (CROP**2 / 1e6)


def simulated(
    picture: NDArray[np.float64], cfa: Cfa, level: tuple[float, float], case: str, *, seed: int
) -> tuple[list[Tensor], list[tuple[RawFrame, SensorNoise]], np.random.Generator]:
    """What each frame sees, (3, h, w) linear; the frames with their noise; and where the draws have come to."""
    rng = np.random.default_rng(seed)
    motions = [np.eye(3)] + [np.eye(3) if case == "still" else _motion(rng) for _ in range(FRAMES - 1)]
    views = [_view(picture, motion) for motion in motions]
    if case == "object":
        for k, view in enumerate(views):
            view[:, _disc(k)] = 0.15 * torch.tensor(NEUTRAL)[:, None] + 0.3 * view[:, _disc(k)]
    return views, [_shot(view, cfa, level, rng) for view in views], rng


def _disc(frame: int) -> Tensor:
    row, column = torch.meshgrid(torch.arange(CROP), torch.arange(CROP), indexing="ij")
    return (row - CROP / 2) ** 2 + (column - CROP / 3 - OBJECT_STEP * frame) ** 2 < OBJECT_RADIUS**2


def _motion(rng: np.random.Generator) -> NDArray[np.float64]:
    """From a frame's pixels (column, row, 1) to the picture's crop."""
    angle = np.deg2rad(rng.uniform(-LARGEST_TURN_DEGREES, LARGEST_TURN_DEGREES))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.full(2, (CROP - 1) / 2)
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = rng.uniform(-LARGEST_SHIFT, LARGEST_SHIFT, 2) + middle - turn @ middle
    return matrix


def _view(picture: NDArray[np.float64], motion: NDArray[np.float64]) -> Tensor:
    """(3, h, w) of the picture's middle, seen from elsewhere."""
    row, column = np.mgrid[:CROP, :CROP].astype(float)
    x, y, _ = np.einsum("ij,jhw->ihw", motion, np.stack([column, row, np.ones_like(row)]))
    top, left = ((size - CROP) // 2 for size in picture.shape[:2])
    planes = [map_coordinates(picture[..., k], [y + top, x + left], order=5, mode="reflect") for k in range(3)]
    return torch.from_numpy(np.stack(planes).clip(min=0)).float()


def _shot(
    truth: Tensor, cfa: Cfa, level: tuple[float, float], rng: np.random.Generator
) -> tuple[RawFrame, SensorNoise]:
    index = torch.tensor([["RGB".index(letter) for letter in row] for row in cfa.rows])
    span = WHITE - BLACK
    gain, read = span / level[0], level[1] * span / level[0]
    signal = truth.gather(0, tile_to(index, *truth.shape[-2:])[None])[0].double().numpy() * span
    signal = gain * rng.poisson(signal / gain) + rng.normal(0.0, read, signal.shape)
    # A white level above all codes: clipping is not part of the question.
    mosaic = np.clip(np.round(signal + BLACK), 0, 65534).astype(np.uint16)
    levels = (np.full(cfa.period, BLACK), np.full(cfa.period, WHITE))
    plane = PlaneNoise(
        gain=Estimate(value=gain), read_noise_dn=Estimate(value=read), black_level_dn=Estimate(value=BLACK)
    )
    noise = SensorNoise(iso=None, planes=dict.fromkeys(cfa.plane_names, plane), row_noise_dn=Estimate(value=0.0))
    return RawFrame(mosaic, cfa, *levels, colour=Colour(as_shot_neutral=NEUTRAL)), noise


def _balanced_demosaic(frame: RawFrame) -> Tensor:
    gain = 1 / torch.tensor(NEUTRAL)
    index = torch.tensor([["RGB".index(letter) for letter in row] for row in frame.cfa.rows])
    return demosaic(frame.linear() * tile_to(gain[index], *frame.shape), frame.cfa)[0] / gain.reshape(3, 1, 1)


def _camera_rgb(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """An sRGB picture as linear camera RGB (H, W, 3), at most 0.9."""
    code = picture.astype(np.float64) / 255
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return np.asarray(0.9 * linear * NEUTRAL)
