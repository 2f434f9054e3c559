"""Deep K-SVD: patches sparsely coded over one learned dictionary, with a threshold that a small network chooses.

Source:
    Scetbon, Elad, Milanfar, "Deep K-SVD denoising", IEEE TIP 2021. Parameters at the paper's size: 35,138 for one
    stage, 53,891 for two, 72,644 for three.

Differs from it: thresholds are kept from going negative; and a network may be conditioned on the noise level
(`DeepKSVDConfig.conditioned`), which the paper's, made for one level, is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from physrestore.networks.borders import level_in_blocks, pad_mirrored, require_pictures
from physrestore.networks.dncnn import INITIAL_SEED
from physrestore.networks.patches import add_patches, take_patches, weight_of_pixels
from physrestore.networks.shrinkage import lista_step

# Patches coded at once. Codes of 256 atoms need 1 KiB each, and a handful of tensors of that size live at a time: a
# quarter of a GiB, whatever the picture's size.
PATCHES_AT_ONCE = 1 << 16
# Threshold of an untrained network in units of the noise: what survives is above noise by more than chance.
INITIAL_THRESHOLD = 2.0


@dataclass(frozen=True)
class DeepKSVDConfig:
    """Sizes of a Deep K-SVD network for gray pictures; the defaults are those of the paper.

    Attributes:
        patch: Side of the patches [pixels].
        atoms_per_axis: Its square is the number of atoms (a separable cosine dictionary is the start).
        unfoldings: Thresholdings of each stage.
        hidden: Widths of the layers between a patch and its threshold.
        stages: Denoisers in a row; they share the dictionary.
        conditioned: Whether the network is told the noise level. Then patches are coded without their mean and in units
            of the noise, and ``D(c x + d, c sigma) = c D(x, sigma) + d``.
        level: Std of the noise that an unconditioned network is made for, in the picture's unit.
    """

    patch: int = 8
    atoms_per_axis: int = 16
    unfoldings: int = 7
    hidden: tuple[int, ...] = (128, 64, 32)
    stages: int = 1
    conditioned: bool = False
    level: float = 25 / 255

    @property
    def pixels(self) -> int:
        """Pixels of a patch."""
        return self.patch**2

    @property
    def atoms(self) -> int:
        """Columns of the dictionary."""
        return self.atoms_per_axis**2


class DeepKSVD(nn.Module):
    """Codes every overlapping patch by LISTA and averages the decoded patches with learned weights.

    Args:
        config: Sizes.

    Attributes:
        dictionary: (pixels, atoms).
        curvature: "c" of the paper, (1,): the inverse step, at least the dictionary's largest squared singular value.
        thresholds: One network per stage, from a patch to its threshold.
        weights: One (patch, patch) per stage, for averaging.
    """

    def __init__(self, config: DeepKSVDConfig) -> None:
        super().__init__()
        self.config = config
        atoms = cosine_dictionary(config.patch, config.atoms_per_axis)
        self.dictionary = nn.Parameter(atoms)
        self.curvature = nn.Parameter(torch.linalg.matrix_norm(atoms, 2).square().reshape(1))
        self.thresholds = nn.ModuleList(_threshold_network(config) for _ in range(config.stages))
        self.weights = nn.ParameterList(torch.ones(config.patch, config.patch) for _ in range(config.stages))
        self.reset(torch.Generator().manual_seed(INITIAL_SEED))

    @property
    def halo(self) -> int:
        """Pixels from which an output value can depend on the input."""
        return self.config.stages * (self.config.patch - 1)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Cosines as the dictionary, even weights, and thresholds that begin at a multiple of the noise."""
        config = self.config
        self.dictionary.copy_(cosine_dictionary(config.patch, config.atoms_per_axis))
        self.curvature.copy_(torch.linalg.matrix_norm(self.dictionary, 2).square())
        for weights in self.weights:
            weights.fill_(1.0)
        for network in self.thresholds:
            for layer in (module for module in network.modules() if isinstance(module, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                nn.init.zeros_(layer.bias)
            # The last layer starts small, so that every patch begins with about the same threshold.
            layer.weight.mul_(0.01)
            layer.bias.fill_(INITIAL_THRESHOLD * (1.0 if config.conditioned else config.level))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise, in stripes: memory beyond some pictures is bounded, as long as no gradient is asked for.

        Args:
            x: (B, 1, H, W).
            sigma: Std of the noise, broadcasts to (B, 1, H, W); not used unless the network is conditioned.

        Raises:
            PriorError: ``x`` has another shape.
        """
        require_pictures(x, channels=1, network="Deep K-SVD")
        height, width = x.shape[-2:]
        below, beside = (max(self.config.patch - side, 0) for side in (height, width))
        level = self._level_of_patches(sigma.to(x), (height, width), below, beside)
        x = pad_mirrored(x, right=beside, bottom=below)
        for network, weights in zip(self.thresholds, self.weights, strict=True):
            x = self._stage(x, level, network, weights)
        return x[..., :height, :width]

    def _level_of_patches(self, sigma: Tensor, size: tuple[int, int], below: int, beside: int) -> Tensor:
        """Root of the mean variance inside each patch, (B or 1, 1, rows, columns), or one value per picture."""
        sigma = level_in_blocks(sigma, size, 1)
        if not self.config.conditioned or sigma.shape[-2:] == (1, 1):
            return sigma
        variance = pad_mirrored(sigma.square(), right=beside, bottom=below)
        return F.avg_pool2d(variance, self.config.patch, stride=1).sqrt()

    def _stage(self, x: Tensor, level: Tensor, network: nn.Module, weights: Tensor) -> Tensor:
        """One denoiser: code, decode and average all patches."""
        side = self.config.patch
        columns = x.shape[-1] - side + 1
        total = torch.zeros_like(x)
        for rows in _stripes(x.shape[-2] - side + 1, max(PATCHES_AT_ONCE // (x.shape[0] * columns), 1)):
            covered = slice(rows.start, rows.stop + side - 1)
            patches = take_patches(x[..., covered, :], side)
            inside = level if level.shape[-2:] == (1, 1) else level[..., rows, :]
            decoded = self._code(patches, inside.reshape(level.shape[0], -1, 1), network) * weights.flatten()
            stripe = add_patches(decoded, (rows.stop - rows.start + side - 1, x.shape[-1]), side)
            total = total + F.pad(stripe, (0, 0, covered.start, x.shape[-2] - covered.stop))
        return total / weight_of_pixels(weights, (x.shape[-2], x.shape[-1]))

    def _code(self, patches: Tensor, level: Tensor, network: nn.Module) -> Tensor:
        """Patches (B, N, pixels) to their sparse approximations, same shape."""
        if not self.config.conditioned:
            threshold = network(patches).relu()
            # The paper's bounds: no picture value lies beyond them.
            return lista(patches, self.dictionary, self.curvature, threshold, self.config.unfoldings).clamp(-1, 1)
        mean = patches.mean(2, keepdim=True)
        details = (patches - mean) / level
        threshold = network(details).relu()
        return mean + level * lista(details, self.dictionary, self.curvature, threshold, self.config.unfoldings)


def lista(signal: Tensor, dictionary: Tensor, curvature: Tensor, threshold: Tensor, unfoldings: int) -> Tensor:
    """Approximate signals by few atoms: unrolled iterative shrinkage from zero.

    It minimises ``|signal - D z|^2 / 2 + threshold |z|_1``, exactly so for many unfoldings and a curvature of at least
    the squared norm of D.

    Args:
        signal: (..., pixels).
        dictionary: D, (pixels, atoms).
        curvature: Inverse of the step.
        threshold: (..., 1), of the data term's scale: it is divided by the curvature.
        unfoldings: Thresholdings, at least 1.

    Returns:
        ``D z``, the shape of ``signal``.
    """
    codes = signal.new_zeros(*signal.shape[:-1], dictionary.shape[1])
    unexplained = signal
    for _ in range(unfoldings):
        # D^T (y - D z) costs half of the published form with the Gram matrix: there are more atoms than pixels.
        codes = lista_step(codes, unexplained @ (dictionary / curvature), threshold / curvature)
        unexplained = signal - codes @ dictionary.T
    return signal - unexplained


def cosine_dictionary(pixels: int, atoms: int) -> Tensor:
    """Overcomplete, separable cosines: the dictionary that K-SVD starts from (Aharon, Elad, Bruckstein 2006).

    Args:
        pixels: Side of the patches.
        atoms: Cosines along each axis; frequencies are multiples of half a period per ``atoms`` pixels.

    Returns:
        (pixels^2, atoms^2), columns of length 1; all but the first cosine of an axis are without mean.
    """
    frequency = torch.arange(atoms, dtype=torch.float64) * math.pi / atoms
    axis = torch.cos(torch.arange(pixels, dtype=torch.float64)[:, None] * frequency)
    axis[:, 1:] -= axis[:, 1:].mean(0)
    axis /= axis.norm(dim=0)
    return torch.kron(axis, axis).float()


def _threshold_network(config: DeepKSVDConfig) -> nn.Sequential:
    """From a patch to one number, rectifiers between linear layers."""
    widths = [config.pixels, *config.hidden, 1]
    layers: list[nn.Module] = []
    for k in range(len(widths) - 1):
        layers += [nn.Linear(widths[k], widths[k + 1]), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _stripes(rows: int, at_once: int) -> Iterator[slice]:
    """Cover rows by slices of at most ``at_once``."""
    for start in range(0, rows, at_once):
        yield slice(start, min(start + at_once, rows))
