"""Plug-and-play: any prior, any operator, the calibrated noise. Here: demosaicking with a weight-free prior."""

import torch

from noise_models import Cfa
from noise_models.scene import procedural_scene
from physrestore.demosaic import demosaic
from physrestore.fidelity.weighted import WeightedL2
from physrestore.operators.mosaic import Mosaic
from physrestore.priors.transform import TransformPrior
from physrestore.quality import psnr
from physrestore.solvers.hqs import hqs
from physrestore.solvers.schedule import noise_locked
from physrestore.solvers.solve import solve

# A measurement y = A x + noise with variance(y) = a y + b: made here; yours: `RawFrame.linear()`, a profile's `affine`.
truth = procedural_scene(256, 384).clamp(0, 1)[None]
operator = Mosaic(Cfa.parse("RGGB"))
a, b = 2e-3, 1e-5
clean = operator.A(truth)
variance = a * clean + b
y = clean + variance.sqrt() * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))

fidelity = WeightedL2(weights=1.0 / variance)  # right for every operator, also for blurs
prior = TransformPrior()  # or DeepinvPrior(...), NetworkPrior(...), OnnxPrior(...), Bm3dPrior(), ...
start = demosaic(y, Cfa.parse("RGGB"))
noise = (a * start.clamp(min=0) + b).sqrt()  # a map: dark and bright areas get what is theirs

solution = solve(
    hqs(
        start,
        prox_fidelity=lambda x, gamma: fidelity.prox(x, y, operator, gamma=gamma),
        denoise=prior.denoise,
        schedule=noise_locked(noise, steps=8, first=0.08),
    )
)

print(f"{solution.steps} steps, {solution.reason.value}")
print(f"demosaicked {psnr(start, truth):.2f} dB -> plug-and-play {psnr(solution.x, truth):.2f} dB")
assert psnr(solution.x, truth) > psnr(start, truth) + 1
