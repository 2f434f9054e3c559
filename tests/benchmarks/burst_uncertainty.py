"""Whether the expected error of a burst can be believed: its law fitted anew, its coverage on other pictures.

Bursts of 8 simulated frames (`tests.benchmarks.burst_fusion`), moved and still, of CBSD432: from the errors of the
results the weights of `physrestore.burst.expected_error` are fitted as those of one frame are
(`tests.benchmarks.uncertainty`). The law as shipped is then judged on four pictures of Kodak24, with moving objects,
too: the share of errors within intervals of 90 %, of all values and of the brightest. Ten minutes of a core; --quick
fits to one picture, --judge to none.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import physrestore.burst.by_network as solver
from physrestore.burst import BurstResult, restore_burst
from physrestore.burst.expected_error import FEATURES, causes, error_variance
from physrestore.burst.root import Root
from physrestore.working_space import WorkingSpace
from tests.benchmarks.burst_fusion import ARRAYS, CASES, CROP, MARGIN, PICTURES, _camera_rgb, simulated
from tests.benchmarks.uncertainty import THINNING, WITHIN_90, _weights
from tests.shared_data import data_folder

LEVELS = ((4000.0, 4.0), (800.0, 3.0), (160.0, 3.0))
# Every so many-th picture from this one on: the weights that are shipped are of these.
FIT_FIRST, FIT_PICTURES = 3, 4
BRIGHT = 0.3  # of white
INSIDE = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))


def run(arguments: list[str]) -> None:
    """Print fit and coverage; one thread."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks burst_uncertainty")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--judge", action="store_true", help="do not fit")
    parser.add_argument("--arrays", nargs="+", choices=ARRAYS, default=list(ARRAYS), help="to judge on")
    options = parser.parse_args(arguments)
    sets = data_folder() / "sets"
    if not (sets / "kodak24").exists():
        print("burst_uncertainty: no pictures (set PHYSRESTORE_TEST_DATA)")
        return
    torch.set_num_threads(1)
    if not options.judge:
        files = sorted((sets / "cbsd432_train").iterdir())
        _fit(files[FIT_FIRST :: len(files) // FIT_PICTURES][: 1 if options.quick else FIT_PICTURES])
    for name in options.arrays:
        for case in CASES:
            for level in LEVELS:
                files = [sets / "kodak24" / f"{picture}.png" for picture in PICTURES]
                shares = [_covered(*one[:2]) for one in _bursts(files, name, level, case)]
                everywhere, bright = (float(np.nanmean(side)) for side in zip(*shares, strict=True))
                head = f"{name}, {level[0]:.0f} e-, {case}"
                print(
                    f"{head:28} within intervals of 90 %: {everywhere:.3f}, of the brightest {bright:.3f}", flush=True
                )


def _fit(files: list[Path]) -> None:
    rows, squares = [], []
    for name in ARRAYS:
        for case in ("moved", "still"):
            for level in LEVELS:
                for result, truth, found, root in _bursts(files, name, level, case):
                    v = root.value(result.rgb)
                    error = ((result.rgb - truth) / root.slope(v)).square()
                    rows.append(
                        torch.stack([one[INSIDE].flatten()[::THINNING] for one in found], dim=1).double().numpy()
                    )
                    squares.append(error[INSIDE].flatten()[::THINNING].double().numpy())
    weights = _weights(np.concatenate(rows), np.concatenate(squares))
    print("weights of " + ", ".join(f"{name} {weight:.3f}" for name, weight in zip(FEATURES, weights, strict=True)))


def _covered(result: BurstResult, truth: Tensor) -> tuple[float, float]:
    """Share of errors within intervals of 90 %; of those of bright values."""
    assert result.uncertainty is not None
    known = ~result.uncertainty[INSIDE].isnan()
    within = ((result.rgb - truth).abs() < WITHIN_90 * result.uncertainty)[INSIDE]
    bright = known & (truth[INSIDE] > BRIGHT)
    return float(within[known].float().mean()), float(within[bright].float().mean())


def _bursts(
    files: list[Path], name: str, level: tuple[float, float], case: str
) -> Iterator[tuple[BurstResult, Tensor, Tensor, Root]]:
    """Result, truth, causes of error and the space of the causes."""
    for seed, path in enumerate(files):
        picture = _camera_rgb(np.asarray(Image.open(path).convert("RGB")))
        views, shots, _ = simulated(picture, ARRAYS[name], level, case, seed=seed)
        frames, noises = [frame for frame, _ in shots], [noise for _, noise in shots]
        found = []

        def keep(*parts: object, found: list[Tensor] = found) -> Tensor:
            found.append(causes(*parts))  # type: ignore[arg-type]
            return error_variance(*parts)  # type: ignore[arg-type]

        with patch.object(solver, "error_variance", keep):
            result = restore_burst(frames, noises, uncertainty=True)
        assert len(found) == 1, f"{CROP} pixels are one tile"
        yield result, views[0], found[0], Root.of(WorkingSpace.of_frame(frames[0], noises[0]))
