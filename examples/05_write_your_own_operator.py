"""Write a forward operator of your own: here a video mode that reads two rows of every four. Three methods do."""

import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.scene import procedural_scene
from physrestore.operators.base import LinearOperator
from physrestore.operators.blur import Blur
from physrestore.priors.transform import TransformPrior
from physrestore.quality import psnr
from physrestore.solvers.hqs import hqs
from physrestore.solvers.schedule import noise_locked
from physrestore.solvers.solve import solve


class RowSkip(LinearOperator):
    """Keeps the first two rows of every four, as sensors do for video: (B, C, H, W) to (B, C, H / 2, W)."""

    def A(self, x: Tensor, **_: object) -> Tensor:  # noqa: N802 (the field's name)
        """Image to measurement."""
        return x.unflatten(-2, (-1, 4))[..., :2, :].flatten(-3, -2)

    def A_adjoint(self, y: Tensor, **_: object) -> Tensor:  # noqa: N802
        """The transpose: every value back to its place, zero elsewhere."""
        return F.pad(y.unflatten(-2, (-1, 2)), (0, 0, 0, 2)).flatten(-3, -2)

    def gram_diagonal(self, weights: Tensor, y: Tensor) -> Tensor:
        """Only where A^T W A is diagonal: prox and pseudo-inverse become closed forms. Leave it out elsewhere."""
        return self.A_adjoint(weights.expand(y.shape))


operator = RowSkip()
print(f"closed form: {operator.prox_weighted(torch.zeros(1, 1, 4, 1), torch.ones(1, 1, 2, 1), 1.0, 1.0).flatten()}")

# The law that every operator must keep: <A u, v> = <u, A^T v>.
u = torch.randn(1, 3, 192, 288, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
v = torch.randn(1, 3, 96, 288, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
gap = ((operator.A(u) * v).sum() - (u * operator.A_adjoint(v)).sum()).abs() / operator.A(u).norm()
print(f"adjoint gap {gap:.1e}")
assert gap < 1e-12

# It composes with all others: rows skipped of a blurred scene. The prox is the blur's own, by conjugate gradients.
composed = operator * Blur.gaussian(0.5, boundary="reflect")
print(f"composed: {tuple(u.shape)} -> {tuple(composed.A(u).shape)}")

# And it is solved like all others.
truth = procedural_scene(192, 288).clamp(0, 1)[None]
sigma = 0.02
noise = sigma * torch.randn(truth[..., ::2, :].shape, generator=torch.Generator().manual_seed(2))
y = operator.A(truth) + noise
rows = torch.arange(192)
nearest = torch.where(rows % 4 < 2, rows // 4 * 2 + rows % 4, rows // 4 * 2 + 1 + (rows % 4 == 3)).clamp(max=95)
start = y[..., nearest, :]
solution = solve(
    hqs(
        start,
        prox_fidelity=lambda x, gamma: operator.prox_weighted(x, y, sigma**-2, gamma),
        denoise=TransformPrior().denoise,
        schedule=noise_locked(torch.tensor(sigma), steps=8, first=0.1),
    )
)
print(f"nearest rows {psnr(start, truth):.2f} dB -> restored {psnr(solution.x, truth):.2f} dB")
assert psnr(solution.x, truth) > psnr(start, truth) + 1
