"""DnCNN: a plain stack of 3x3 convolutions that predicts the noise; the reference every prior is measured against.

Source:
    Zhang, Zuo, Chen, Meng, Zhang, "Beyond a Gaussian denoiser: residual learning of deep CNN for image denoising",
    IEEE TIP 2017. Parameters: 555,137 (gray, 17 layers, batch normalisation folded), 668,227 (colour, 20 layers).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from physrestore.networks.borders import require_pictures

# Weights drawn without a generator given start from here, so that two networks of one configuration are the same.
INITIAL_SEED = 0


@dataclass(frozen=True)
class DnCNNConfig:
    """Sizes of a DnCNN; the defaults are those of the paper for gray pictures.

    Attributes:
        channels: Of the picture.
        features: Of the hidden layers.
        layers: Convolutions.
        batch_norm: Whether hidden layers are normalised, as in training; see `DnCNN.folded`.
        level: Std of the noise that it is made for, in the picture's unit.
    """

    channels: int = 1
    features: int = 64
    layers: int = 17
    batch_norm: bool = False
    level: float = 25 / 255

    @classmethod
    def published(cls, *, channels: int = 1, level: float = 25 / 255) -> DnCNNConfig:
        """Gray ("DnCNN-S", 17 layers) or colour ("CDnCNN", 20 layers), with folded normalisation."""
        return cls(channels=channels, layers=17 if channels == 1 else 20, level=level)


class DnCNN(nn.Module):
    """Subtracts the noise that it sees; made for one level of it.

    Args:
        config: Sizes.
    """

    def __init__(self, config: DnCNNConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.layers - 2
        widths = [config.channels, *[config.features] * (config.layers - 1), config.channels]
        # A bias in front of a normalisation would be subtracted again.
        biased = [True, *[not config.batch_norm] * hidden, True]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(widths[k], widths[k + 1], 3, padding=1, bias=biased[k]) for k in range(config.layers)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(config.features) for _ in range(hidden * config.batch_norm))
        self.reset(torch.Generator().manual_seed(INITIAL_SEED))

    @property
    def halo(self) -> int:
        """Pixels from which an output value can depend on the input."""
        return self.config.layers

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights (He et al. 2015, as in the paper), on the CPU."""
        reset_convolutions(self, generator)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: ARG002  (the contract of all networks)
        """Denoise.

        Args:
            x: (B, C, H, W).
            sigma: Not used: the level is `DnCNNConfig.level`.

        Raises:
            PriorError: ``x`` has another shape.
        """
        require_pictures(x, channels=self.config.channels, network="DnCNN")
        hidden = channels_last_on_cpu(F.relu(self.convolutions[0](x)))
        for k in range(1, self.config.layers - 1):
            hidden = self.convolutions[k](hidden)
            hidden = F.relu(self.norms[k - 1](hidden) if self.config.batch_norm else hidden)
        noise: Tensor = self.convolutions[-1](hidden)
        return x - noise

    @torch.no_grad()
    def folded(self) -> DnCNN:
        """A copy whose normalisation is part of the convolutions: what it computes in evaluation mode, but faster."""
        plain = DnCNN(replace(self.config, batch_norm=False)).to(next(self.parameters()))
        for k, (ours, theirs) in enumerate(zip(plain.convolutions, self.convolutions, strict=True)):
            norm = self.norms[k - 1] if self.config.batch_norm and 0 < k < self.config.layers - 1 else None
            _fold(ours, theirs, norm)
        return plain


def channels_last_on_cpu(hidden: Tensor) -> Tensor:
    """The memory layout in which a CPU convolves many channels in about two thirds of the time; same values."""
    return hidden.contiguous(memory_format=torch.channels_last) if hidden.device.type == "cpu" else hidden


def reset_convolutions(network: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of all convolutions anew, scaled for rectifiers; biases become zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _fold(plain: nn.Module, convolution: nn.Module, norm: nn.Module | None) -> None:
    """Give ``plain`` the weights of a convolution and of the normalisation behind it."""
    assert isinstance(plain, nn.Conv2d)
    assert isinstance(convolution, nn.Conv2d)
    assert plain.bias is not None
    if not isinstance(norm, nn.BatchNorm2d):
        plain.load_state_dict(convolution.state_dict())
        return
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    plain.weight.copy_(convolution.weight * scale.reshape(-1, 1, 1, 1))
    plain.bias.copy_(norm.bias - norm.running_mean * scale)
