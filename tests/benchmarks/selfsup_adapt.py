"""Adaptation of a shipped network to one photo: what it gains on text, stars and patterns, and never loses elsewhere.

Scenes made here (a page of text, a field of stars, two patterns) and Kodak24 crops, photographed by a virtual RGGB
camera. The network adapts to each photo alone, without the truth; the gate decides. "gain" is that of what is returned,
"ungated" that of the best copy whether accepted or not; both in dB of the developed picture (white-balanced, sRGB).
"mosaic" is the gain at measured sites, in linear light: what a CFA DNG holds.

--network, --level (electrons at white), --side, --steps, --rate, --images, --scenes choose; the default is small.
--images 24 --crops 2 --greys 12 --scenes: sixty photographs of ordinary things, on which nothing may be lost (the
pictures of Set12 are grey scenes).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from noise_models.cfa import Cfa
from noise_models.frame import Colour, RawFrame
from noise_models.scene.glyphs import text_bitmap
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from noise_models.simulate import VirtualCamera
from physrestore import weights
from physrestore.fast import restore_fast
from physrestore.quality import psnr
from physrestore.selfsup.adapt import AdaptSettings, adapt
from physrestore.selfsup.frames import noisy_frame
from physrestore.selfsup.tasks import Demosaicking
from physrestore.working_space import one_hot
from tests.shared_data import data_folder

CFA = Cfa.parse("RGGB")
NEUTRAL = (0.55, 1.0, 0.65)
BLACK, WHITE, READ_ELECTRONS = 512.0, 16383.0, 3.0
LINES = ("THE QUICK BROWN FOX JUMPS OVER", "A LAZY DOG, 1234567890 TIMES.", "SPHINX OF BLACK QUARTZ, JUDGE", "MY VOW.")


def run(arguments: list[str]) -> None:
    """Print one row per photo."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks selfsup_adapt")
    parser.add_argument("--network", default="mosaic-small")
    parser.add_argument("--level", type=float, default=400.0)
    parser.add_argument("--side", type=int, default=288)
    parser.add_argument("--steps", type=int, default=AdaptSettings().steps)
    parser.add_argument("--rate", type=float, default=AdaptSettings().learning_rate)
    parser.add_argument("--images", type=int, default=4, help="pictures of Kodak24")
    parser.add_argument("--crops", type=int, default=1, help="of each, along its longer side")
    parser.add_argument("--greys", type=int, default=0, help="pictures of Set12")
    parser.add_argument("--scenes", nargs="*", default=["text", "stars", "weave", "brick"])
    parser.add_argument("--unseen", type=float, default=AdaptSettings().unseen)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    network = weights.load(options.network).network
    settings = replace(AdaptSettings(), steps=options.steps, learning_rate=options.rate, crop=72, unseen=options.unseen)
    print(
        f"{'photo':14}{'before':>8}{'gain':>8}{'ungated':>9}{'mosaic':>8}  "
        "verdict (measured: before, after; all: difference; steps; CPU-s)"
    )
    gains = []
    for name, truth in photos(options.side, options.scenes, options.images, crops=options.crops, greys=options.greys):
        gains.append(_row(name, truth, network, options.level, settings))
    print(f"mean gain {np.mean(gains):+.3f} dB, lowest {np.min(gains):+.3f} dB, of {len(gains)} photos")


def _row(name: str, truth: Tensor, network: nn.Module, level: float, settings: AdaptSettings) -> float:
    frame, noise = photograph(truth, level)
    begin = time.process_time()
    result = adapt(
        network,
        noisy_frame(frame, noise),
        generator=torch.Generator().manual_seed(0),
        settings=settings,
        task=Demosaicking(frame.cfa),
    )
    seconds = time.process_time() - begin
    made = [restore_fast(frame, noise, network=one).rgb for one in (network, result.network, result.best)]
    before, after, best = (psnr(developed(rgb), developed(truth)) for rgb in made)
    colours = one_hot(frame.cfa, *frame.shape)[0]
    mosaics = [psnr((rgb * colours).sum(0), (truth * colours).sum(0)) for rgb in made]
    verdict, word = result.verdict, "accepted" if result.accepted else "refused"
    print(
        f"{name:14}{before:8.2f}{after - before:+8.3f}{best - before:+9.3f}{mosaics[1] - mosaics[0]:+8.3f}  {word} "
        f"({verdict.before:.4f}, "
        f"{verdict.after:.4f}; {verdict.difference:+.4f} +- {verdict.standard_error:.4f}; "
        f"{result.best_step}/{result.steps}; {seconds:.0f})",
        flush=True,
    )
    return after - before


def photos(
    side: int, scenes: list[str], images: int, *, crops: int = 1, greys: int = 0
) -> Iterator[tuple[str, Tensor]]:
    """Linear camera RGB (3, side, side), at most 0.9; a picture smaller than that whole, of even sides."""
    makers = {"text": text_page, "stars": star_field, "weave": weave, "brick": bricks}
    neutral = torch.tensor(NEUTRAL).reshape(3, 1, 1)
    for name in scenes:
        yield name, makers[name](side) * neutral
    for folder, most, places in (("kodak24", images, crops), ("set12", greys, 1)):
        for path in sorted((data_folder() / "sets" / folder).glob("*.png"))[:most]:
            code = np.asarray(Image.open(path).convert("RGB"), dtype=np.float64) / 255
            for number in range(places):
                share = 0.5 if places == 1 else number / (places - 1)
                longer = max(code.shape[:2])
                top, left = (int(max(n - side, 0) * (share if n == longer else 0.5)) // 2 * 2 for n in code.shape[:2])
                piece = code[top : top + side, left : left + side]
                linear = np.where(piece <= 0.04045, piece / 12.92, ((piece + 0.055) / 1.055) ** 2.4)
                name = f"{folder[:-2]} {path.stem}" + ("" if places == 1 else f" {number + 1}")
                yield name, torch.from_numpy(0.9 * linear).float().permute(2, 0, 1) * neutral


def photograph(truth: Tensor, level: float) -> tuple[RawFrame, SensorNoise]:
    """A raw of the scene, and the noise of its camera."""
    gain = (WHITE - BLACK) / level
    plane = PlaneNoise(
        gain=Estimate(value=gain),
        read_noise_dn=Estimate(value=READ_ELECTRONS * gain),
        black_level_dn=Estimate(value=BLACK),
    )
    noise = SensorNoise(iso=None, planes=dict.fromkeys(CFA.plane_names, plane), row_noise_dn=Estimate(value=0.0))
    camera = VirtualCamera(noise, cfa=CFA, shape=(truth.shape[-2], truth.shape[-1]), white_level=WHITE)
    frame = camera.expose(truth, generator=torch.Generator().manual_seed(7))
    return replace(frame, colour=Colour(as_shot_neutral=NEUTRAL)), noise


def developed(rgb: Tensor) -> Tensor:
    """White-balanced, with the sRGB curve, 0..1."""
    balanced = (rgb / torch.tensor(NEUTRAL).reshape(3, 1, 1)).clamp(0, 1)
    return torch.where(balanced <= 0.0031308, 12.92 * balanced, 1.055 * balanced.clamp(min=1e-6) ** (1 / 2.4) - 0.055)


def text_page(side: int) -> Tensor:
    """Lines of small text, dark on paper."""
    page = torch.zeros(side, side)
    for k, top in enumerate(range(4, side - 8, 10)):
        ink = text_bitmap((LINES[k % len(LINES)] + " ") * (side // 100 + 1))[:, : side - 8]
        page[top : top + ink.shape[0], 4 : 4 + ink.shape[1]] = ink
    return (0.7 - 0.62 * page).expand(3, -1, -1)


def star_field(side: int) -> Tensor:
    """Points of all brightness, blurred by half a pixel, on a dark sky."""
    rng = np.random.default_rng(3)
    sky = np.full((side, side), 0.01)
    i, j = np.mgrid[:side, :side]
    for _ in range(side * side // 150):
        y, x, power = rng.uniform(0, side), rng.uniform(0, side), min(0.02 * rng.pareto(1.0) + 0.03, 3.0)
        near = (slice(max(int(y) - 5, 0), int(y) + 6), slice(max(int(x) - 5, 0), int(x) + 6))
        sky[near] += power * np.exp(-((i[near] - y) ** 2 + (j[near] - x) ** 2) / (2 * 0.8**2))
    return torch.from_numpy(np.minimum(sky, 0.9)).float().expand(3, -1, -1)


def weave(side: int) -> Tensor:
    """Two crossed sets of threads of two colours, at about the finest period that the array resolves."""
    t = torch.arange(side, dtype=torch.float32)
    over = 0.5 + 0.5 * torch.sin(t[:, None] * 1.1) * torch.sin(t * 1.1 + 0.6 * torch.sin(t * 0.02))
    first, second = torch.tensor([0.6, 0.35, 0.2]), torch.tensor([0.1, 0.2, 0.45])
    return over * first.reshape(3, 1, 1) + (1 - over) * second.reshape(3, 1, 1)


def bricks(side: int) -> Tensor:
    """A wall: courses of 8 pixels, bricks of 16, each of a red of its own, light joints."""
    rng = np.random.default_rng(5)
    i, j = np.mgrid[:side, :side]
    course = i // 8
    column = (j + 8 * (course % 2)) // 16
    shade = rng.uniform(0.6, 1.0, (side // 8 + 2, side // 16 + 3))[course, column]
    joint = (i % 8 == 0) | ((j + 8 * (course % 2)) % 16 == 0)
    wall = np.stack([np.where(joint, 0.6, tone * shade) for tone in (0.45, 0.18, 0.12)])
    return torch.from_numpy(wall).float()
