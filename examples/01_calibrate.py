"""Calibrate a camera: frames in, a profile with standard errors out. Makes its own frames with the virtual camera."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from noise_models.calibration import calibrate
from noise_models.calibration.inputs.group import frames_from
from noise_models.cfa import BAYER_PLANES, Cfa
from noise_models.frame import Shot
from noise_models.report import render_report
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from noise_models.simulate import VirtualCamera
from noise_models.store import profile_to_json, read_profile

# The truth: 0.8 DN/e-, 3 DN read noise, 0.3 DN row noise, black at 256 DN.
plane = PlaneNoise(gain=Estimate(value=0.8), read_noise_dn=Estimate(value=3.0), black_level_dn=Estimate(value=256.0))
truth = SensorNoise(iso=400, planes=dict.fromkeys(BAYER_PLANES, plane), row_noise_dn=Estimate(value=0.3))
camera = VirtualCamera(
    truth, cfa=Cfa.parse("RGGB"), shape=(256, 384), white_level=4095, shot=Shot(make="Ex", model="Ample", iso=400)
)

# Instead of these lists, name your raw files: frames_from(darks=[...paths...], flats=[...paths...]).
rng = torch.Generator().manual_seed(0)
darks = [camera.dark(generator=rng) for _ in range(8)]
flats = [camera.flat(level, generator=rng) for level in (0.03, 0.1, 0.25) for _ in range(2)]

result = calibrate(frames_from(darks, flats))

noise = result.profile.at(400)
for name, measured in noise.planes.items():
    assert measured.gain is not None
    low, high = measured.gain.interval()
    print(f"{name}: K = {measured.gain.value:.4f} DN/e-, 95 % interval {low:.4f} .. {high:.4f}")
print(f"row noise {noise.row_noise_dn.value:.3f} DN")

with TemporaryDirectory() as folder:
    path = Path(folder) / "ample.pnoise.json"
    path.write_text(profile_to_json(result.profile))
    assert read_profile(path) == result.profile
    (Path(folder) / "report.html").write_text(render_report(result), encoding="utf-8")
