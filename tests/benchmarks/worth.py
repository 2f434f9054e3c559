"""What calibration is worth: the same network on the same raws, told the true noise and wrong ones.

The pictures, cameras and scores are those of the benchmark priors. "Gaussian" tells the mean noise of the picture as
if it were the same in light and dark; "no row noise" tells everything but the rows.

--iso, --images and --network choose; the default is ISO 1600 and 6400 of three cameras.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from noise_models.published import published_profiles
from noise_models.sensor import Estimate, SensorNoise
from physrestore import weights
from physrestore.fast import restore_fast
from physrestore.pipeline import sampled
from tests.benchmarks.priors import CAMERAS, PICTURES, Shot, camera_rgb, score, shots
from tests.shared_data import data_folder

Told = Callable[[Shot], SensorNoise]


def run(arguments: list[str]) -> None:
    """Print the loss of every wrong telling against the true one."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks worth")
    parser.add_argument("--isos", type=float, nargs="+", default=[1600.0, 6400.0])
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--network", default="mosaic-large")
    options = parser.parse_args(arguments)
    folder = data_folder() / "sets" / "kodak24"
    if not folder.exists():
        print(f"worth: no pictures at {folder.name} (set PHYSRESTORE_TEST_DATA)")
        return
    torch.set_num_threads(1)
    network = weights.load(options.network).network
    pictures = [np.asarray(Image.open(folder / f"{name}.png").convert("RGB")) for name in PICTURES[: options.images]]
    truths = [camera_rgb(picture) for picture in pictures]
    profiles = [p for name in CAMERAS for p in published_profiles() if name in p.model]
    print(f"{'told':22}" + "".join(f"{f'ISO {iso:.0f}':>22}" for iso in options.isos) + "   raw, developed PSNR [dB]")
    for name, told in TELLINGS:
        cells = []
        for iso in options.isos:
            scores = []
            for shot in shots(profiles, iso, truths):
                result = restore_fast(shot.frame, told(shot), network=network)
                raw, _, seen, _ = score(shot, (sampled(result.rgb, shot.frame), result.rgb))
                scores.append((raw, seen))
            raw, seen = np.mean(scores, axis=0)
            cells.append(f"{f'{raw:.2f}  {seen:.2f}':>22}")
        print(f"{name:22}" + "".join(cells), flush=True)


def _changed(shot: Shot, *, gain: float = 1.0, read: float = 1.0, row: float = 1.0) -> SensorNoise:
    planes = {
        name: plane.model_copy(
            update={
                "gain": Estimate(value=plane.gain.value * gain) if plane.gain else None,
                "read_noise_dn": Estimate(value=plane.read_noise_dn.value * read),
            }
        )
        for name, plane in shot.noise.planes.items()
    }
    rows = shot.noise.row_noise_dn
    offset = None if rows is None else Estimate(value=rows.value * row)
    return shot.noise.model_copy(update={"planes": planes, "row_noise_dn": offset})


def _gaussian(shot: Shot) -> SensorNoise:
    """The mean variance at every level of light; the rest of the gain is too small to matter."""
    span = float(shot.frame.white_level[0, 0] - shot.frame.black_level[0, 0])
    signal = float(shot.truth.mean()) * span
    plane = shot.noise.planes["G1"]
    std = float(np.sqrt(plane.variance(signal)))
    tiny = 1e-3
    return _changed(shot, gain=tiny, read=std / plane.read_noise_dn.value)


TELLINGS: list[tuple[str, Told]] = [
    ("the truth", lambda shot: shot.noise),
    ("half the gain", lambda shot: _changed(shot, gain=0.5)),
    ("twice the gain", lambda shot: _changed(shot, gain=2.0)),
    ("half the read noise", lambda shot: _changed(shot, read=0.5)),
    ("no row noise", lambda shot: _changed(shot, row=0.0)),
    ("Gaussian", _gaussian),
]
