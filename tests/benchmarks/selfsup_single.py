"""One noisy picture, no pretraining: learning from it alone against BM3D, ZS-N2N, Noise2Void and deep image prior.

Grey central crops of Kodak24 in 0..1, Poisson-Gaussian noise of a known law, with and without row noise. Methods that
take Gaussian noise work after the generalised Anscombe transform with its exact unbiased inverse; those that know no
row noise meet it unprepared. Every method gets the same processor time on one thread (BM3D takes what it takes).
"Noise2Void" is its loss with our masks and the network of "recorrupted"; DIP is deepinv's, with its MSE data term.

--seconds, --side, --images, --methods, --gain, --read, --row choose; the default is small.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from noise_models.stabilise import Anscombe
from physrestore.deepinv_host import load_deepinv
from physrestore.networks.unet import UNet
from physrestore.priors.transform import TransformPrior
from physrestore.quality import psnr
from physrestore.selfsup.losses.base import SelfLoss
from physrestore.selfsup.losses.noise2void import Noise2Void
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from physrestore.selfsup.losses.recorrupted import Recorrupted
from physrestore.selfsup.losses.stein import Stein
from tests.benchmarks import _zs_n2n
from tests.shared_data import data_folder

CROP, BATCH, RATE, SAMPLES = 64, 4, 2e-3, 16


@dataclass(frozen=True)
class Task:
    """One noisy picture and what is known of its noise, stds and gain in units of white."""

    y: Tensor
    gain: float
    read: float
    row: float
    seconds: float

    @property
    def anscombe(self) -> Anscombe:
        return Anscombe(torch.tensor(self.gain), torch.tensor(self.read))


def run(arguments: list[str]) -> None:
    """Print one row per method and kind of noise."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks selfsup_single")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--gain", type=float, default=0.01)
    parser.add_argument("--read", type=float, default=0.02)
    parser.add_argument("--row", type=float, nargs="+", default=[0.0, 0.02])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = data_folder() / "sets" / "kodak24"
    if not folder.exists():
        print(f"selfsup_single: no pictures at {folder.name} (set PHYSRESTORE_TEST_DATA)")
        return
    truths = [_grey(np.asarray(Image.open(p).convert("L")), options.side) for p in sorted(folder.glob("*.png"))]
    for row in options.row:
        print(f"gain {options.gain:g}, read {options.read:g}, row {row:g}; {options.seconds:g} CPU-s a picture")
        for name in options.methods:
            values, spent = [], []
            for k, truth in enumerate(truths[: options.images]):
                y = _photograph(truth, options.gain, options.read, row, seed=k)
                begin = time.process_time()
                result = METHODS[name](Task(y, options.gain, options.read, row, options.seconds))
                spent.append(time.process_time() - begin)
                values.append(psnr(result.clamp(0, 1), truth))
            told = "  ".join(f"{value:6.2f}" for value in values)
            print(f"  {name:24}{np.mean(values):7.2f} dB  ({told})  {np.mean(spent):6.1f} CPU-s", flush=True)


class SmallNet(nn.Module):
    """A U-Net of 0.1 M weights at half resolution, told the noise; its correction starts at nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = UNet(8, 4, channels=(24, 32, 48), blocks=1)
        nn.init.normal_(self.trunk.tail.weight, std=1e-3)

    def forward(self, y: Tensor, std: Tensor) -> Tensor:
        planes = F.pixel_unshuffle(torch.cat([y, std.expand_as(y)], dim=1), 2)
        return y + F.pixel_shuffle(self.trunk(planes), 2)


def _learned(task: Task, loss: SelfLoss, *, rows: bool) -> Tensor:
    """A network trained on the stabilised picture alone; recorruptions of it averaged where the loss says so."""
    z = task.anscombe.forward(task.y)
    scale = float(z.max())
    y = z / scale
    # A row's offset grows with the slope of the transform, 1 / std of the untransformed noise.
    slope = 1.0 / (task.gain * task.y.clamp(min=0.0) + task.read**2).sqrt()
    noise = PixelNoise.of(sigma=1.0 / scale, row=(task.row * slope / scale) if rows and task.row else 0.0)
    torch.manual_seed(0)
    network, generator = SmallNet(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    begin = time.process_time()
    while (used := (time.process_time() - begin) / task.seconds) < 1.0:
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, 2.0 * (1.0 - used))
        windows = [_window(y.shape, generator) for _ in range(BATCH)]
        pieces = torch.cat([y[(..., *window)] for window in windows])
        rowed = noise.fitted(y).row.expand(y.shape)
        law = PixelNoise(noise.gain, noise.sigma, torch.cat([rowed[(..., *window)] for window in windows]))
        optimiser.zero_grad()
        (loss(network, pieces, law, generator=generator).mean() * scale**2).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    with torch.no_grad():
        if isinstance(loss, Recorrupted):
            result = loss.average(network, y, noise, samples=SAMPLES, generator=generator)
        else:
            result = network(y, noise.std(y))
    return task.anscombe.inverse(result * scale)


def _window(shape: torch.Size, generator: torch.Generator) -> tuple[slice, slice]:
    side = min(CROP, *shape[-2:])
    top, left = (int(torch.randint(n - side + 1, (), generator=generator)) for n in shape[-2:])
    return slice(top, top + side), slice(left, left + side)


def _bm3d(task: Task) -> Tensor:
    import bm3d

    z = task.anscombe.forward(task.y)[0, 0].numpy()
    return task.anscombe.inverse(torch.from_numpy(bm3d.bm3d(z, 1.0)).float())[None, None]


def _transform(task: Task) -> Tensor:
    return task.anscombe.inverse(TransformPrior().denoise(task.anscombe.forward(task.y), 1.0))


def _zs_n2n_direct(task: Task) -> Tensor:
    return _zs_n2n.denoise(task.y, cpu_seconds=task.seconds)[0]


def _dip(task: Task) -> Tensor:
    """The steps that fit, from the time of three."""
    dinv = load_deepinv()
    torch.manual_seed(0)
    side = task.y.shape[-1]
    generator = dinv.models.ConvDecoder(
        img_size=(1, side, side), in_size=(side // 32, side // 32), layers=6, channels=64
    )
    physics = dinv.physics.Denoising(dinv.physics.ZeroNoise())

    def fit(iterations: int) -> Tensor:
        model = dinv.models.DeepImagePrior(generator, img_size=(64, side // 32, side // 32), iterations=iterations)
        image: Tensor = model(task.y, physics).detach()
        return image

    begin = time.process_time()
    fit(3)
    each = (time.process_time() - begin) / 3
    return fit(max(1, int(task.seconds / each)))


METHODS: dict[str, Callable[[Task], Tensor]] = {
    "noisy": lambda task: task.y,
    "recorrupted, rows": lambda task: _learned(task, Recorrupted(0.5), rows=True),
    "recorrupted": lambda task: _learned(task, Recorrupted(0.5), rows=False),
    "SURE, rows": lambda task: _learned(task, Stein(), rows=True),
    "Noise2Void": lambda task: _learned(task, Noise2Void(), rows=False),
    "ZS-N2N": _zs_n2n_direct,
    "DIP (deepinv)": _dip,
    "transform + VST": _transform,
    **({"BM3D + VST": _bm3d} if importlib.util.find_spec("bm3d") else {}),
}


def _grey(picture: np.ndarray, side: int) -> Tensor:
    top, left = ((n - side) // 2 for n in picture.shape)
    crop = picture[top : top + side, left : left + side].astype(np.float32) / 255
    return torch.from_numpy(crop)[None, None]


def _photograph(truth: Tensor, gain: float, read: float, row: float, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shot = gain * torch.poisson(truth / gain, generator=generator)
    lines = torch.randn((*truth.shape[:3], 1), generator=generator)
    return shot + read * torch.randn(truth.shape, generator=generator) + row * lines
