"""What was taken from two real photos: whiteness and variance of the residual on smooth areas, method by method.

Canon EOS 30D at ISO 100 and 640. Correlation: the largest of neighbours in all planes. Variance: of the residual over
the calibrated noise, per plane; 1 if exactly the noise was taken. --seconds is the budget of selfsup.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noise_models.cfa import pack
from noise_models.frame import RawFrame
from noise_models.rawfile import read_raw
from physrestore.contract import Options
from physrestore.noise_choice import choose_noise
from physrestore.pipeline import Method, restore
from physrestore.quality import residual_chi2, residual_correlation, smooth_areas
from tests.shared_data import data_folder

METHODS = ("classic", "fast", "selfsup")
PHOTOS = ("canon_30d_iso100.CR2", "canon_30d_iso640.CR2")


def run(arguments: list[str]) -> None:
    """Print one row per photo and method."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks residuals")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    options = parser.parse_args(arguments)
    folder = data_folder() / "raw"
    if not folder.exists():
        print(f"residuals: no photos at {folder.name} (set PHYSRESTORE_TEST_DATA)")
        return
    for photo in PHOTOS:
        frame = read_raw(folder / photo)
        noise = choose_noise(frame).noise
        affine = noise.affine(frame.cfa, frame.black_level, frame.white_level)
        for method in map(Method, options.methods):
            asked = Options(budget_seconds=options.seconds) if method is Method.SELFSUP else Options()
            result = restore(frame, noise, method=method, options=asked)
            source, clean = (_planes(frame, mosaic) for mosaic in (frame.mosaic, result.mosaic))
            variance = float(affine.a.mean()) * clean.clamp(min=0) + float(affine.b.mean())
            smooth = smooth_areas(clean, variance.sqrt())
            found = residual_correlation((source - clean) / variance.sqrt(), smooth)
            largest = max(map(abs, (*found.horizontal, *found.vertical, *found.diagonal)))
            ratios = " ".join(f"{ratio:.3f}" for ratio in residual_chi2(source - clean, variance, smooth))
            print(f"{photo:24}{method:10} correlation {largest:.3f}, variance {ratios}; {' '.join(result.notes)}")


def _planes(frame: RawFrame, mosaic: NDArray[np.uint16]) -> Tensor:
    black, white = float(frame.black_level.mean()), float(frame.white_level.mean())
    return pack(torch.from_numpy((mosaic.astype(np.float32) - black) / (white - black))[None], frame.cfa)
