"""What the methods cost: processor time per megapixel of pnp and classic, the solver's own share, the exact likelihood.

A simulated 14-bit frame of 512x512 sites, one thread. The solver's own share is what half-quadratic splitting spends
outside prior and operator, as in `solver_parameters`. Last, one prox of a data term on a mosaic, per megapixel, and how
far the approximations of the exact likelihood are from its score at codes within three sigma of the mean.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from noise_models.cfa import XTRANS_ROWS, Cfa
from noise_models.scene import procedural_scene
from physrestore.classic import denoise_classic
from physrestore.fidelity.exact import ExactPoissonGaussian
from physrestore.fidelity.poisson import ShiftedPoisson
from physrestore.fidelity.weighted import WeightedL2
from physrestore.operators.mosaic import Mosaic
from physrestore.pnp import restore_pnp
from tests.benchmarks import solver_parameters
from tests.benchmarks.pnp import _shot

SIDE = 512
# Electrons at full scale and read noise [e-].
LEVEL = (4000.0, 4.0)
# Mean electrons, read noise [e-] and size of a code [e-]: from a photon-counting sensor to a bright ordinary one.
MEANS = ((0.5, 0.2, 0.1), (2.0, 0.2, 0.1), (2.0, 1.5, 0.5), (2.0, 3.0, 1.0), (30.0, 3.0, 1.0), (900.0, 3.0, 1.0))


def run() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    methods()
    solver_parameters.overhead()
    data_terms()
    scores()


def methods() -> None:
    """CPU-s/MP of whole restorations."""
    truth = 0.9 * procedural_scene(SIDE, SIDE).clamp(0, 1)
    for name, cfa in (("Bayer", Cfa.parse("RGGB")), ("X-Trans", Cfa(XTRANS_ROWS))):
        frame, noise = _shot(truth, cfa, LEVEL, seed=0)
        costs = {"pnp": _cost(lambda f=frame, n=noise: restore_pnp(f, n))}
        if cfa.is_bayer:
            costs["classic"] = _cost(lambda f=frame, n=noise: denoise_classic(f, n))
        print(f"{name:8}" + ", ".join(f"{method} {cost:.1f} CPU-s/MP" for method, cost in costs.items()), flush=True)


def data_terms() -> None:
    """CPU-s/MP of one prox through a mosaic, at 4000 electrons."""
    side = 128
    operator = Mosaic(Cfa.parse("RGGB"))
    x = procedural_scene(side, side).clamp(0, 1)[None]
    gain, sigma, step = 1 / LEVEL[0], LEVEL[1] / LEVEL[0], 1 / 16383
    mean = operator.A(x)
    variance = gain * mean + sigma**2
    y = mean + variance.sqrt() * torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    y = ((y / step).round() * step).clamp(max=1.0)
    terms: dict[str, Any] = {
        "WeightedL2": WeightedL2(1.0 / variance, clipped=y >= 1.0),
        "ShiftedPoisson": ShiftedPoisson(gain, sigma),
        "ExactPoissonGaussian": ExactPoissonGaussian(gain, sigma, step=step, high=1.0),
    }
    for name, term in terms.items():
        begin = time.process_time()
        term.prox(x + 0.02, y, operator, gamma=1e-4)
        print(f"one prox, {name:22}{(time.process_time() - begin) / side**2 * 1e6:8.1f} CPU-s/MP", flush=True)


def scores() -> None:
    """Largest error of each named approximation's score, in sigmas, at codes within three sigma of the mean."""
    names = ("ShiftedPoisson", "L2 at the mean", "L2 at the code")
    print(f"{'electrons, noise, code [e-]':30}" + "".join(f"{name:>18}" for name in names))
    for mean, read, step in MEANS:
        errors = score_errors(mean, read, step)
        print(f"{mean:10g}{read:10g}{step:10g}" + "".join(f"{errors[name]:18.2f}" for name in names), flush=True)


def score_errors(mean: float, read: float, step: float) -> dict[str, float]:
    """Of codes within three sigma of the mean, in electrons."""
    dark = math.sqrt(read**2 + step**2 / 12)
    std = math.sqrt(mean + dark**2)
    codes = torch.arange(round((mean - 3 * std) / step), round((mean + 3 * std) / step) + 1, dtype=torch.float64)
    y = (step * codes)[None, None, None]
    u = torch.full_like(y, mean)
    exact = ExactPoissonGaussian(1.0, read, step=step).slope(u, y)
    slopes: dict[str, Tensor] = {
        "ShiftedPoisson": ShiftedPoisson(1.0, dark).slope(u, y),
        "L2 at the mean": (u - y) / std**2,
        "L2 at the code": (u - y) / (y.clamp(min=0.0) + dark**2),
    }
    return {name: float((slope - exact).abs().max()) * std for name, slope in slopes.items()}


def _cost(call: Callable[[], object]) -> float:
    begin = time.process_time()
    call()
    return (time.process_time() - begin) / SIDE**2 * 1e6
