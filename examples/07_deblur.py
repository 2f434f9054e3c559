"""Undo the blur of a lens while demosaicking: one operator, mosaic of blur, under the noise of every site."""

import torch

from noise_models.cfa import Cfa
from noise_models.scene import procedural_scene
from physrestore.demosaic import demosaic
from physrestore.operators.blur import Blur
from physrestore.operators.mosaic import Mosaic
from physrestore.priors.transform import TransformPrior
from physrestore.quality import psnr
from physrestore.solvers.hqs import hqs
from physrestore.solvers.noise_level import image_noise_level
from physrestore.solvers.schedule import noise_locked
from physrestore.solvers.solve import solve

# "unobserved": the scene goes on beyond the picture, and nothing is assumed of what is there.
cfa = Cfa.parse("RGGB")
blur = Blur.gaussian(1.0, boundary="unobserved")
operator = Mosaic(cfa) * blur
rim = blur.kernel.shape[-1] // 2

truth = procedural_scene(128 + 2 * rim, 192 + 2 * rim).clamp(0, 1)[None]
a, b = 2e-4, 1e-6  # variance(y) = a y + b: a low ISO
clean = operator.A(truth)
y = clean + (a * clean + b).sqrt() * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))

sharp = demosaic(y, cfa)
start = torch.nn.functional.pad(sharp, (rim,) * 4, mode="replicate")
weights = 1.0 / (a * y.clamp(min=0.0) + b)
solution = solve(
    hqs(
        start,
        prox_fidelity=lambda x, gamma: operator.prox_weighted(x, y, weights, gamma, tol=1e-4),
        denoise=TransformPrior().denoise,
        schedule=noise_locked(image_noise_level(operator, weights, start), steps=6, first=0.05),
    )
)


def inner(x: torch.Tensor) -> torch.Tensor:
    """What the sensor saw, without the rim that it did not."""
    return x[..., rim:-rim, rim:-rim]


before, after = psnr(sharp, inner(truth)), psnr(inner(solution.x), inner(truth))
print(f"demosaicked {before:.2f} dB -> demosaicked and deblurred {after:.2f} dB")
assert after > before + 1
