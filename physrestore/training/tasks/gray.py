"""The founding networks' task: white Gaussian noise of a known level on gray pictures, in display values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from physrestore.networks.cdlnet import CDLNet, CDLNetConfig
from physrestore.networks.cscnet import CSCNet, CSCNetConfig
from physrestore.networks.deep_ksvd import DeepKSVD, DeepKSVDConfig
from physrestore.networks.dncnn import DnCNN, DnCNNConfig
from physrestore.networks.ffdnet import FFDNet, FFDNetConfig
from physrestore.training.pictures import Pictures

# Weights of R, G, B in the gray pictures of this field's test sets (ITU-R BT.601-7, 2.5.1), made from display values.
LUMA = (0.299, 0.587, 0.114)

FoundingConfig = CDLNetConfig | CSCNetConfig | DeepKSVDConfig | DnCNNConfig | FFDNetConfig


@dataclass(frozen=True)
class GrayTask:
    """See `physrestore.training.fit.Task`.

    Attributes:
        pictures: sRGB scenes.
        network: Which network, and its size.
        sigma: Range of the noise, uniform, for values in 0..1; twice the same for a network made for one level.
        side: Of a patch, pixels.
        count: Patches a batch.
        shrink: Share of patches cut at twice the side and reduced twofold.
    """

    pictures: Pictures = field(repr=False)
    network: FoundingConfig
    sigma: tuple[float, float] = (5 / 255, 55 / 255)
    side: int = 128
    count: int = 4
    shrink: float = 0.0

    def build(self) -> nn.Module:
        """The network."""
        return founding_network(self.network)

    def batch(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Noisy pictures, the noise's std, clean pictures."""
        display = self.pictures.crops(self.count, self.side, generator=generator, shrink=self.shrink)
        clean = (display * torch.tensor(LUMA).reshape(3, 1, 1)).sum(1, keepdim=True)
        low, high = self.sigma
        sigma = low + (high - low) * torch.rand(self.count, 1, 1, 1, generator=generator)
        return clean + sigma * torch.randn(clean.shape, generator=generator), sigma, clean

    def loss(self, network: Callable[..., Tensor], batch: tuple[Tensor, ...]) -> Tensor:
        """Mean squared error over sigma, which makes levels count alike: good networks err by about its root."""
        noisy, sigma, clean = batch
        return ((network(noisy, sigma).float() - clean).square() / sigma).mean()


def founding_network(config: FoundingConfig) -> nn.Module:
    """The network that a configuration belongs to, untrained."""
    match config:
        case CDLNetConfig():
            return CDLNet(config)
        case CSCNetConfig():
            return CSCNet(config)
        case DeepKSVDConfig():
            return DeepKSVD(config)
        case DnCNNConfig():
            return DnCNN(config)
        case FFDNetConfig():
            return FFDNet(config)
