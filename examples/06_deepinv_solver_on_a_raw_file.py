"""Run deepinv's own solver on a raw file: calibrated noise as its data term, any prior. Makes its own file."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from noise_models.cfa import Cfa
from noise_models.rawfile import read_raw
from noise_models.scene import procedural_scene
from noise_models.simulate import VirtualCamera
from physrestore.deepinv_host import load_deepinv
from physrestore.demo import true_noise
from physrestore.demosaic import demosaic
from physrestore.fidelity.weighted import WeightedL2
from physrestore.noise import CalibratedNoise
from physrestore.operators.mosaic import Mosaic
from physrestore.output.dng import write_cfa_dng
from physrestore.priors.as_deepinv import as_deepinv
from physrestore.priors.transform import TransformPrior
from physrestore.quality import psnr

dinv = load_deepinv()

# Instead of this file, yours; its noise: `choose_noise(frame).noise`, or your profile's `at(iso)`.
shape, cfa = (192, 288), Cfa.parse("RGGB")
calibrated = true_noise(25600.0)
camera = VirtualCamera(calibrated, cfa=cfa, shape=shape, white_level=16383)
scene = procedural_scene(*shape)
with TemporaryDirectory() as folder:
    path = Path(folder) / "photo.dng"
    write_cfa_dng(path, camera.expose(scene, generator=torch.Generator().manual_seed(1)))
    frame = read_raw(path)

# Raw file -> linear mosaic, forward operator with its noise, data term with a weight and a verdict for every site.
y = frame.linear()
noise = CalibratedNoise.of_sensor(
    calibrated, cfa=frame.cfa, black=frame.black_level, white=frame.white_level, mosaic_shape=frame.shape
)
physics = Mosaic(frame.cfa, noise_model=noise)
start = demosaic(y, frame.cfa)
fidelity = WeightedL2.of_noise(noise, physics.A(start), clipped=frame.clipped())

# deepinv's half-quadratic splitting, with a falling noise level told to the prior. Its adapters take denoisers of
# deepinv as they are; ours go through `as_deepinv`.
sigma = float(noise.variance(y).mean().sqrt())
levels = [sigma * (0.08 / sigma) ** (1 - k / 7) for k in range(8)]
solver = dinv.optim.HQS(
    data_fidelity=fidelity,
    prior=dinv.optim.PnP(as_deepinv(TransformPrior())),
    stepsize=[level**2 / 0.23 for level in levels],
    sigma_denoiser=levels,
    max_iter=len(levels),
)
restored = solver(y, physics, init=start)

# Of the truth, what the sensor could see: scene in camera colours, scaled as `frame.linear()` is.
mosaic = (torch.from_numpy(camera.clean(scene)).float()[None, None] - 512.0) / (16383.0 - 512.0)
before, after = psnr(physics.A(start), mosaic), psnr(physics.A(restored), mosaic)
print(f"{path.name}: {frame.shape[0]}x{frame.shape[1]}, deepinv {dinv.__version__}")
print(f"mosaic {before:.2f} dB -> {after:.2f} dB")
assert after > before + 1
