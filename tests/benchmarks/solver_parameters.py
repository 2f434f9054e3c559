"""Parameters from the noise model against the best on a grid, and what a solver costs around its prior.

Kodak24 crops in linear light, red and blue dimmed as before white balance, Poisson-Gaussian noise of a known law at
five exposures, three operators, the weight-free transform prior. The oracle knows the truth and picks the best strength
of the same dial (and of one finer and wider) for every picture.

--crop N: other crops than 96x96; --only WORD: one operator, without the table of costs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore.demosaic import demosaic
from physrestore.operators.base import LinearOperator
from physrestore.operators.blur import Blur
from physrestore.operators.exposure import Exposure
from physrestore.operators.mosaic import Mosaic
from physrestore.priors.transform import TransformPrior
from physrestore.quality import psnr
from physrestore.solvers.auto import FIRST, STEPS, STRENGTHS, restore_tuning_free
from physrestore.solvers.locked import NoiseLocked
from tests.shared_data import data_folder

PICTURES = ("01", "05", "08", "13", "19", "23")
CROP, OFFSET = 96, 200
# Electrons at full scale and read noise [e-]: base ISO to the end of the dial of a small-pixel camera.
EXPOSURES = ((16000.0, 5.0), (4000.0, 4.0), (1000.0, 3.0), (250.0, 3.0), (60.0, 3.0))
CAMERA_WHITE = (0.5, 1.0, 0.6)
COLUMNS = "{:7.2f} {:11.2f} {:7.2f} {:19.2f} {:14.2f} {:13.2f}"
GRID = (0.25, 0.35, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.4, 2.0, 2.8, 4.0)


@dataclass(frozen=True)
class Case:
    """One operator with its classical start."""

    name: str
    operator: LinearOperator
    start: Callable[[Tensor], Tensor]
    period: tuple[int, int]


def run(arguments: list[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks solver_parameters")
    parser.add_argument("--crop", type=int, default=CROP)
    parser.add_argument("--only", choices=[case.name for case in cases()], default="")
    options = parser.parse_args(arguments or [])
    torch.set_num_threads(1)
    if not options.only:
        overhead()
    against_oracle(PICTURES, crop=options.crop, only=options.only)


def against_oracle(pictures: tuple[str, ...], *, crop: int = CROP, only: str = "") -> None:
    """PSNR [dB] of start, calibrated strength, chosen strength, and oracles; means over the pictures."""
    folder = data_folder() / "sets" / "kodak24"
    if not folder.exists():
        print(f"parameters: no pictures at {folder.name} (set PHYSRESTORE_TEST_DATA)")
        return
    truths = [_linear(np.asarray(Image.open(folder / f"{name}.png").convert("RGB")), crop) for name in pictures]
    print(" " * 18 + "  start  strength 1  chosen  oracle (same dial)  oracle (grid)  largest loss")
    for case in (one for one in cases() if only in one.name):
        for full, read_noise in EXPOSURES:
            rows = torch.tensor([_row(case, t, full, read_noise, seed=k) for k, t in enumerate(truths)])
            values = [*rows.mean(0).tolist(), float((rows[:, 4] - rows[:, 2]).max())]
            print(f"{case.name:9}{full:6.0f} e- " + COLUMNS.format(*values), flush=True)


def overhead() -> None:
    """Processor time inside the prior, inside the operator, and in the solver around them."""
    truth = torch.linspace(0, 40, 512).sin().mul(0.3).add(0.5).expand(1, 3, 512, 512)
    law = _law(1000.0, 3.0)
    for case in cases():
        mean = case.operator.A(truth)
        y = mean + law(mean).sqrt() * torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
        prior, operator = Stopwatch(TransformPrior()), Stopwatch(case.operator)
        solver = NoiseLocked(operator, law, prior.denoise, case.start, 8, FIRST)
        begin = time.process_time()
        solver.solve(y, torch.ones_like(y, dtype=torch.bool), 1.0)
        total = time.process_time() - begin
        own = total - prior.spent - operator.spent
        print(
            f"512x512, 8 steps, {case.name:9} {total:5.1f} CPU-s: prior {prior.spent / total:6.1%}, "
            f"operator {operator.spent / total:6.1%}, solver {own / total:6.1%}",
            flush=True,
        )


class Stopwatch:
    """Passes calls on and adds up the processor time spent in them."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.spent = inner, 0.0

    def __getattr__(self, name: str) -> Callable[..., Tensor]:
        def timed(*arguments: Any) -> Tensor:
            begin = time.process_time()
            result: Tensor = getattr(self.inner, name)(*arguments)
            self.spent += time.process_time() - begin
            return result

        return timed


def cases() -> Iterator[Case]:
    """Denoising, demosaicking, deblurring."""
    cfa = Cfa.parse("RGGB")
    yield Case("identity", Exposure(1.0), lambda y: y, (1, 1))
    yield Case("mosaic", Mosaic(cfa), lambda y: demosaic(y, cfa), cfa.period)
    yield Case("blur", Blur.gaussian(1.0), lambda y: y, (1, 1))


def _row(case: Case, truth: Tensor, full: float, read_noise: float, *, seed: int) -> list[float]:
    law, generator = _law(full, read_noise), torch.Generator().manual_seed(seed)
    mean = case.operator.A(truth)
    y = mean + law(mean).sqrt() * torch.randn(mean.shape, generator=generator)
    denoise = TransformPrior().denoise
    solver = NoiseLocked(case.operator, law, denoise, case.start, STEPS, FIRST)
    everywhere = torch.ones_like(y, dtype=torch.bool)
    scores = {s: psnr(solver.solve(y, everywhere, s)[0].x, truth) for s in GRID}
    chosen = restore_tuning_free(
        y,
        operator=case.operator,
        variance=law,
        denoise=denoise,
        start=case.start,
        generator=generator,
        select="half-scale" if case.period != (1, 1) else "sure",
    )
    dial = max(scores[s] for s in STRENGTHS)
    return [psnr(case.start(y), truth), scores[1.0], psnr(chosen.x, truth), dial, max(scores.values())]


def _law(full: float, read_noise: float) -> Callable[[Tensor], Tensor]:
    """Variance of the mean, for a sensor with so many electrons at white."""
    return lambda mean: mean.clamp(min=0.0) / full + (read_noise / full) ** 2


def _linear(picture: np.ndarray, side: int) -> Tensor:
    """Crop in linear camera colours, (1, 3, side, side)."""
    code = torch.from_numpy(picture[OFFSET : OFFSET + side, OFFSET : OFFSET + side].astype(np.float32) / 255)
    linear = torch.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return (linear * linear.new_tensor(CAMERA_WHITE)).permute(2, 0, 1)[None]
