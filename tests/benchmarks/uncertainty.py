"""Whether the expected error of a restoration can be believed: its law fitted anew, its coverage on other pictures.

Crops of 18 training pictures become mosaics at five exposures and three brightnesses; from the restored pictures'
errors the weights of `physrestore.pnp.expected_error` are fitted (non-negative least squares, weighed by the predicted
variance, scaled so that intervals of 90 % hold 90 %). The law as shipped is then judged on nine pictures of Kodak24, on
which nothing was fitted: the share of errors within intervals of 90 %, per exposure and per brightness.

--method pnp or fast.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist

import numpy as np
import torch
from PIL import Image
from scipy.optimize import nnls
from torch import Tensor

from noise_models.cfa import XTRANS_ROWS, Cfa
from physrestore.fast.engine import Engine
from physrestore.fast.restore import default_network
from physrestore.fast.tile import FastTile, error_law
from physrestore.pnp.expected_error import FEATURES, ErrorLaw, error_std, features, in_light
from physrestore.pnp.joint import Measured, restore_jointly
from physrestore.pnp.prepare import prepare
from physrestore.working_space import WorkingSpace, one_hot
from tests.benchmarks.pnp import _camera_rgb, _shot
from tests.shared_data import data_folder

LEVELS = ((20000.0, 4.0), (4000.0, 4.0), (800.0, 3.0), (160.0, 3.0), (60.0, 2.0))
BRIGHTNESS = (1.0, 0.5, 0.2)
FIT_PICTURES, TEST_PICTURES = 18, 9
ARRAYS = {"Bayer": Cfa.parse("RGGB"), "X-Trans": Cfa(XTRANS_ROWS)}
WITHIN_90 = NormalDist().inv_cdf(0.95)
# One value in so many goes into the fit: neighbours have the same features.
THINNING = 31
# A squared error of more than so many times the prediction counts as that: a few wrong edges must not set the law.
LARGEST_RATIO = 50.0
EDGES = (0.0, 0.01, 0.03, 0.1, 0.3, 2.0)


@dataclass(frozen=True)
class Case:
    """A restored picture whose truth is known."""

    electrons: float
    v: Tensor
    data: Measured
    truth: Tensor
    error: Tensor  # linear
    slope: Tensor  # linear per unit of the working space


@dataclass(frozen=True)
class Way:
    """A method: to values of the working space, from there to light, and its law of errors."""

    restore: Callable[[Measured, WorkingSpace], Tensor]
    light: Callable[[WorkingSpace, Tensor], Tensor]
    law: Callable[[Cfa], ErrorLaw]


def _one_pass(data: Measured, space: WorkingSpace) -> Tensor:
    solve = FastTile(EXACT.prepare(default_network()), space, data.cfa, EXACT.device)
    return solve.values(torch.stack([data.values[0, 0], data.known.float(), data.clipped.float()]))


EXACT = Engine(torch.device("cpu"), torch.float32, "exact")
WAYS = {
    "pnp": Way(lambda data, _: restore_jointly(data)[0], WorkingSpace.linear, ErrorLaw.of),
    "fast": Way(_one_pass, WorkingSpace.light, error_law),
}


def run(arguments: list[str]) -> None:
    """Print fit and coverage; one thread."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks uncertainty")
    parser.add_argument("--method", choices=sorted(WAYS), default="pnp")
    way = WAYS[parser.parse_args(arguments).method]
    sets = data_folder() / "sets"
    if not (sets / "kodak24").exists():
        print("uncertainty: no pictures (set PHYSRESTORE_TEST_DATA)")
        return
    torch.set_num_threads(1)
    for name, cfa in ARRAYS.items():
        fitted = _fitted(list(_cases(sets / "cbsd432_train", FIT_PICTURES, cfa, way)))
        print(f"{name}: weights of {', '.join(FEATURES)}")
        for place, weights in fitted.items():
            print(f"  {place:9}" + "".join(f"{w:9.3f}" for w in weights))
        _judge(list(_cases(sets / "kodak24", TEST_PICTURES, cfa, way)), way.law(cfa))


def _cases(folder: Path, count: int, cfa: Cfa, way: Way) -> Iterator[Case]:
    files = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))
    for i, path in enumerate(files[:: max(1, len(files) // count)][:count]):
        truth = _camera_rgb(np.asarray(Image.open(path).convert("RGB"))) * BRIGHTNESS[i % len(BRIGHTNESS)]
        for k, level in enumerate(LEVELS):
            frame, noise = _shot(truth, cfa, level, seed=len(LEVELS) * i + k)
            ready = prepare(frame, noise, share=1.0)
            values, known, clipped, _ = ready.planes
            data = Measured(values[None, None], known > 0, clipped > 0, ready.space.scale, cfa)
            v = way.restore(data, ready.space)
            slope = in_light(torch.ones_like(v), v, ready.space)
            yield Case(level[0], v, data, truth, way.light(ready.space, v) - truth, slope)


def _fitted(cases: list[Case]) -> dict[str, np.ndarray]:
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"measured": [], "between": []}
    for case in cases:
        causes, squares = features(case.v, case.data), (case.error / case.slope).square()
        own = one_hot(case.data.cfa, *case.v.shape[-2:])[0] > 0
        for place, where in (("measured", own), ("between", ~own)):
            rows = torch.stack([cause[where][::THINNING] for cause in causes], dim=1)
            parts[place].append((rows.double().numpy(), squares[where][::THINNING].double().numpy()))
    return {
        place: _weights(*(np.concatenate(side) for side in zip(*pairs, strict=True))) for place, pairs in parts.items()
    }


def _weights(causes: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Variances as non-negative sums of causes: least squares, each weighed by the variance it predicts."""
    weights = np.full(causes.shape[1], 0.1)
    for _ in range(8):
        predicted = causes @ weights + 1e-12
        rows = causes / predicted[:, None]
        right = np.minimum(squares / predicted, LARGEST_RATIO)
        weights, _ = nnls(rows.T @ rows, rows.T @ right)
    within = np.quantile(squares / (causes @ weights), 0.9) / WITHIN_90**2
    return weights * within


def _judge(cases: list[Case], law: ErrorLaw) -> None:
    print(f"  Kodak24, errors within intervals of 90 %; {'light':>12}" + "".join(f"{edge:>9}" for edge in EDGES[1:]))
    for electrons, _ in LEVELS:
        ours = [case for case in cases if case.electrons == electrons]
        inside = torch.cat([_is_inside(case, law).flatten() for case in ours])
        light = torch.cat([case.truth.flatten() for case in ours])
        worst = min(float(_is_inside(case, law).double().mean()) for case in ours)
        bins = [inside[(light >= low) & (light < high)].double() for low, high in pairwise(EDGES)]
        cells = "".join(f"{float(b.mean()):9.3f}" if b.numel() > 1000 else f"{'-':>9}" for b in bins)
        print(f"  {electrons:8.0f} e-: all {float(inside.double().mean()):.3f}, worst picture {worst:.3f}      {cells}")


def _is_inside(case: Case, law: ErrorLaw) -> Tensor:
    return case.error.abs() <= WITHIN_90 * error_std(case.v, case.data, law) * case.slope
