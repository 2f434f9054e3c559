"""Priors for pictures as plain denoisers: what they make of white Gaussian noise in three crops of Kodak24.

Pictures as priors see them: white-balanced, the square root of linear light, white is 1. PSNR [dB] per std of the
noise, and processor seconds a megapixel on one thread. Priors whose package is not installed are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from physrestore.cli.prior_names import BUILT_IN, named_prior
from physrestore.errors import MissingPackage
from physrestore.pictures import srgb_to_linear
from physrestore.quality import psnr
from tests.shared_data import data_folder

PICTURES, CROP = ("05", "13", "19"), 192
STDS = (0.01, 0.03, 0.1)
Denoise = Callable[[Tensor, float], Tensor]


def run() -> None:
    """Print one row a prior."""
    folder = data_folder() / "sets" / "kodak24"
    if not folder.exists():
        print(f"colour_priors: no pictures at {folder.name} (set PHYSRESTORE_TEST_DATA)")
        return
    torch.set_num_threads(1)
    truths = [_picture(np.asarray(Image.open(folder / f"{name}.png").convert("RGB"))) for name in PICTURES]
    print(f"{'':10}" + "".join(f"{f'std {std}':>10}" for std in STDS) + "  CPU-s/MP")
    _row("noisy", truths, lambda x, _: x)
    _row("colour", truths, _asked("colour"))
    for name in BUILT_IN:
        try:
            _row(name, truths, _asked(name))
        except MissingPackage as error:
            print(f"{name}: {error}")


def _asked(name: str) -> Denoise:
    prior = named_prior(name).prior
    assert prior is not None
    return prior.denoise


def _row(name: str, truths: list[Tensor], denoise: Denoise) -> None:
    cells, seconds = [], 0.0
    for std in STDS:
        scores = []
        for seed, truth in enumerate(truths):
            noisy = truth + std * torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed))
            begin = time.process_time()
            with torch.no_grad():
                made = denoise(noisy, std)
            seconds += time.process_time() - begin
            scores.append(psnr(made, truth))
        cells.append(f"{np.mean(scores):10.2f}")
    print(f"{name:10}" + "".join(cells) + f"{seconds / (len(STDS) * len(truths) * CROP**2 / 1e6):10.1f}", flush=True)


def _picture(picture: np.ndarray) -> Tensor:
    top, left = ((size - CROP) // 2 for size in picture.shape[:2])
    code = torch.from_numpy(picture[top : top + CROP, left : left + CROP].astype(np.float32) / 255).permute(2, 0, 1)
    return srgb_to_linear(code).sqrt()[None]
