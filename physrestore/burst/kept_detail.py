"""What a denoiser took from a merged picture that stands out of the noise is given back.

A network that sees mosaics does not use all that merged frames show. What it removed is looked at in small patches, as
cosines of luminance and colour differences: where its own result has much of a cosine, compared with the noise, it may
be wrong by more than the noise, and the merged picture is believed; elsewhere the network is.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dct
from torch import Tensor

from physrestore.burst.merge import Merged
from physrestore.burst.root import Root
from physrestore.priors.transform import OPPONENT_COLOURS

# Side of the patches and their distance [pixels].
PATCH, STRIDE = 8, 2
# The network's error in a coefficient, as a share of the coefficient's energy. Between 1/4 and 1 the result is the same
# within 0.1 dB; lower keeps less noise.
ERROR_SHARE = 0.25
# Share of the noise's power below which no coefficient is taken to be free of it.
LEAST_POWER = 1e-3


def given_back(pilot: Tensor, merged: Merged, variety: Tensor, spreads: Tensor, root: Root) -> Tensor:
    """The pilot with what it lost, (3, H, W) linear light.

    Args:
        pilot: The merged picture, denoised: linear light, (3, H, W).
        merged: Before.
        variety: How far all colours were measured at every pixel, (H, W), 0..1: what lies between the sites of a single
            frame is a guess, of which nothing is given back.
        spreads: Std of the Gaussian that averaged each colour, (3,): how far noise is correlated [pixels].
        root: Of the reference: noise is compared in its space.

    Source:
        Dabov et al., IEEE TIP 16(8), 2007, section III-B (the empirical Wiener filter with a pilot).
    """
    colours = pilot.new_tensor(OPPONENT_COLOURS)
    v = root.value(pilot)
    variance = root.variance(pilot, root.gain, root.dark_variance) * merged.share
    own, removed = (torch.einsum("ij,jhw->ihw", colours, planes) for planes in (v, root.value(merged.light) - v))
    mixed = colours.square()
    of_planes = torch.einsum("ij,jhw->ihw", mixed, variance)
    of_cosines = torch.einsum("ij,jk->ik", mixed, torch.stack([_noise_power(float(std)) for std in spreads]))
    planes = zip(own, removed, of_planes, of_cosines, strict=True)
    kept = torch.stack([_wiener(*plane, ERROR_SHARE * variety) for plane in planes])
    return root.light(v + torch.einsum("ij,ihw->jhw", colours, kept))


def _wiener(own: Tensor, removed: Tensor, variance: Tensor, power: Tensor, error_share: Tensor) -> Tensor:
    """Of one plane, what is kept of what was removed, (H, W)."""
    height, width = own.shape
    # Every pixel in as many patches; an odd side meets the stride.
    border = (PATCH, PATCH + width % STRIDE, PATCH, PATCH + height % STRIDE)
    basis = _cosines()
    patches = [F.pad(plane[None, None], border, mode="reflect") for plane in (own, removed, variance, error_share)]
    signal, lost = (F.conv2d(plane, basis, stride=STRIDE) for plane in patches[:2])
    variance, error_share = (F.avg_pool2d(plane, PATCH, stride=STRIDE) for plane in patches[2:])
    noise, error = variance * power.reshape(1, -1, 1, 1), error_share * signal.square()
    back = F.conv_transpose2d(lost * (error / (error + noise)), basis, stride=STRIDE) / (PATCH // STRIDE) ** 2
    return back[0, 0, PATCH : PATCH + height, PATCH : PATCH + width]


@cache
def _cosines() -> Tensor:
    """Orthonormal cosines of a patch as filters, (64, 1, 8, 8)."""
    line = _line()
    return torch.einsum("ia,jb->ijab", line, line).reshape(PATCH**2, 1, PATCH, PATCH).float()


def _line() -> Tensor:
    """A cosine a row."""
    return torch.from_numpy(dct(np.eye(PATCH), axis=0, norm="ortho"))


def _noise_power(spread: float) -> Tensor:
    """Variance of every cosine, (64,), of noise of variance 1 that a Gaussian of this std averaged."""
    distance = torch.arange(PATCH, dtype=torch.float64)[:, None] - torch.arange(PATCH, dtype=torch.float64)
    line = _line()
    along = (line @ torch.exp(-distance.square() / (4 * spread**2)) @ line.T).diagonal().clamp(min=LEAST_POWER)
    return torch.outer(along, along).flatten().float()
