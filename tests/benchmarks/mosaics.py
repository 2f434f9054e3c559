"""What the cards of the shipped mosaic networks state: PSNR [dB] of linear light, Bayer and X-Trans, four exposures.

Kodak24 crops of 512x512 become linear camera RGB and get Poisson-Gaussian noise; both parts stand in one row: of the
measured colour at every site, and of all three colours.

--exact: in float32 instead of the fastest engine of this machine, to see what its rounding costs.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from PIL import Image

import tests.benchmarks.pnp as shared
from noise_models.cfa import XTRANS_ROWS, Cfa
from physrestore import weights
from physrestore.fast import restore_fast
from physrestore.fast.engine import Engine, choose_engine
from physrestore.quality import psnr
from physrestore.working_space import one_hot
from tests.shared_data import data_folder

PICTURES = ("01", "08", "23")
LEVELS = ((1e6, 1.0), (4000.0, 4.0), (800.0, 3.0), (160.0, 3.0))
CROP = 512
EXACT = Engine(torch.device("cpu"), torch.float32, "exact")


def run(arguments: list[str]) -> None:
    """Print one row per network and array."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks mosaics")
    parser.add_argument("--exact", action="store_true")
    engine = EXACT if parser.parse_args(arguments).exact else choose_engine()
    folder = data_folder() / "sets" / "kodak24"
    if not folder.exists():
        print(f"mosaics: no pictures at {folder.name} (set PHYSRESTORE_TEST_DATA)")
        return
    torch.set_num_threads(1)
    shared.CROP = CROP
    pictures = [np.asarray(Image.open(folder / f"{name}.png").convert("RGB")) for name in PICTURES]
    truths = [shared._camera_rgb(picture) for picture in pictures]
    print(f"{'measured, all colours':28}" + "".join(f"{f'{full:.0f} e-':>16}" for full, _ in LEVELS))
    for name in ("mosaic-small", "mosaic-large"):
        network = weights.load(name).network
        for array, cfa in (("Bayer", Cfa.parse("RGGB")), ("X-Trans", Cfa(XTRANS_ROWS))):
            colours, cells = one_hot(cfa, CROP, CROP)[0], []
            for level in LEVELS:
                scores = []
                for k, truth in enumerate(truths):
                    rgb = restore_fast(*shared._shot(truth, cfa, level, seed=k), network=network, engine=engine).rgb
                    measured = [(x * colours).sum(0) for x in (rgb, truth)]
                    scores.append((psnr(*measured), psnr(rgb, truth)))
                own, everywhere = np.mean(scores, axis=0)
                cells.append(f"{f'{own:.2f}, {everywhere:.2f}':>16}")
            print(f"{f'{name}, {array}':28}" + "".join(cells), flush=True)
