"""The network of LIDIA between two pictures: from matrices of similar patches to the noise of each patch."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from physrestore.networks.lidia_layers import RowWeights, SeparableBlock, SeparableLayer

# Luma of ITU-R BT.601, by which colour patches are compared.
LUMA = (0.2989, 0.5870, 0.1140)


@dataclass(frozen=True)
class Features:
    """Some patches on their way through the network: n patches of d values, k rows, f features.

    Attributes:
        noisy: (n, d), the patches themselves.
        fine: (k, n, f), of the first scale.
        coarse: (k, n, f), of the second.
        weight: (n, 1), of the patch itself at the second scale.
    """

    noisy: Tensor
    fine: Tensor
    coarse: Tensor
    weight: Tensor


class PatchNet(nn.Module):
    """All learned parts of LIDIA.

    Args:
        channels: Of the picture, C.
        patch: Side of a patch.
        rows: The patch and its nearest ones, k.
        features: Columns inside the network, f.
        deep: Whether blocks have two layers.
    """

    def __init__(self, *, channels: int, patch: int, rows: int, features: int, deep: bool) -> None:
        super().__init__()
        k, f, d = rows, features, channels * patch**2
        self.channels = channels
        self.fine_weights, self.coarse_weights = RowWeights(k), RowWeights(k)
        self.fine, self.coarse = (SeparableBlock((k, k), (d, f), norm=False, deep=deep) for _ in range(2))
        self.fine_estimate, self.coarse_estimate = (SeparableLayer((k, 1), (f, d)) for _ in range(2))
        self.fine_return, self.coarse_return = (SeparableLayer((1, k), (d, f), rectify=True) for _ in range(2))
        self.joint = SeparableBlock((4 * k, 4 * k), (f, f), norm=True, deep=deep)
        self.noise = SeparableLayer((4 * k, 1), (f, d))
        # How fast the weight of a patch in the average of all falls with its variance.
        self.flatness = nn.Parameter(torch.full((1,), 0.5))
        self.register_buffer("luma", torch.tensor(LUMA), persistent=False)

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights, on the CPU."""
        for layer in self.modules():
            if isinstance(layer, SeparableLayer | RowWeights):
                layer.reset(generator)

    def features(self, near: Tensor, far: Tensor) -> Features:
        """First half.

        Args:
            near: (k, n, d), patches of the picture with their neighbours.
            far: (k, n, d), of the second scale.
        """
        weights = self.coarse_weights(self._distances(far)).t()[..., None]
        return Features(
            noisy=near[0],
            fine=self.fine(near * self.fine_weights(self._distances(near)).t()[..., None]),
            coarse=self.coarse(far * weights),
            weight=weights[0],
        )

    def first_estimates(self, part: Features) -> tuple[Tensor, Tensor]:
        """Patches (n, d) of both scales, to be averaged into pictures."""
        return self.fine_estimate(part.fine)[0], self.coarse_estimate(part.coarse)[0] / part.weight

    def last_estimates(self, part: Features, returned: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Second half: denoised patches (n, d), weighted, and their weights (n, d / C).

        Args:
            part: From the first half.
            returned: Patches (n, d) of the pictures into which the first estimates were averaged.
        """
        fine = self.fine_return(returned[0][None])
        coarse = self.coarse_return((returned[1] * part.weight)[None])
        noise = self.noise(self.joint(torch.cat([part.fine, part.coarse, fine, coarse])))[0]
        clean = part.noisy - noise
        weight = torch.exp(-self.flatness.abs() * clean.var(1, keepdim=True, correction=0))
        return clean * weight, weight.expand(-1, clean.shape[1] // self.channels)

    def measuring_copy(self) -> PatchNet:
        """A copy, of all but the parameters, that takes over the statistics of what it sees.

        In training mode it normalises by the statistics of its input; in evaluation mode by those that it saw last.
        """
        twin = copy.deepcopy(self, {id(parameter): parameter for parameter in self.parameters()})
        for norm in twin.modules():
            if isinstance(norm, nn.BatchNorm1d):
                norm.momentum = 1.0
        return twin

    def gray(self, x: Tensor) -> Tensor:
        """What patches are compared by: (B, C, H, W) to (B, 1, H, W)."""
        return x if self.channels == 1 else torch.einsum("bchw,c->bhw", x, self.luma)[:, None]

    def _distances(self, rows: Tensor) -> Tensor:
        """Squared distances (n, k - 1) of the neighbours from the patch, and the energy of the patch itself.

        Args:
            rows: (k, n, d).
        """
        patch = rows[0]
        difference = rows[1:] - patch
        if self.channels > 1:
            difference = torch.einsum(
                "knci,c->kni", difference.view(*difference.shape[:2], self.channels, -1), self.luma
            )
        energy = patch.var(1) * patch.shape[1]
        return torch.cat([difference.square().sum(2).t(), energy[:, None]], dim=1)
