"""Use a camera's calibrated noise inside deepinv: as the noise model of a physics, with parameters per image."""

import numpy as np
import torch

from noise_models.cfa import Cfa
from physrestore.deepinv_host import load_deepinv
from physrestore.demo import true_noise
from physrestore.noise import CalibratedNoise

dinv = load_deepinv()

# Packed planes of a Bayer sensor in 0..1: variance(x) = a x + b per plane, plus row noise.
cfa, black, white = Cfa.parse("RGGB"), np.full((2, 2), 512.0), np.full((2, 2), 16383.0)
noise = CalibratedNoise.of_sensor(true_noise(12800.0), cfa=cfa, black=black, white=white)
physics = dinv.physics.Denoising(noise_model=noise)

x = torch.full((2, 4, 64, 64), 0.25)
y = physics(x, seed=0)

measured, declared = (y - x).var().item(), noise.variance(x).mean().item()
print(f"variance: measured {measured:.3e}, declared {declared:.3e}")
assert abs(measured / declared - 1) < 0.1
