"""Founding networks on white Gaussian noise: parameters, operations, processor time, PSNR on BSD68 and Set12.

``python -m tests.benchmarks founding`` takes few pictures; all of them: ``python -m tests.benchmarks.founding --images
68`` (hours on one core). Noise is not clipped and has the picture's number as its seed. Published weights are read from
the shared data, ours from the package; networks without either show what they cost, and a dash for their quality.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from physrestore.networks.cdlnet import CDLNet, CDLNetConfig
from physrestore.networks.cscnet import CSCNet, CSCNetConfig
from physrestore.networks.deep_ksvd import DeepKSVD, DeepKSVDConfig
from physrestore.networks.dncnn import DnCNN, DnCNNConfig
from physrestore.networks.ffdnet import FFDNet, FFDNetConfig
from physrestore.networks.lidia import LIDIA, LIDIAConfig
from physrestore.networks.lidia_published import published_lidia
from physrestore.networks.published import cscnet_of_authors, dncnn_of_kair
from physrestore.quality import psnr
from physrestore.weights import catalogue, load
from tests.shared_data import data_folder

LEVELS = (15, 25, 50)
SETS = ("set12", "bsd68")
# Pictures of each set when nothing else is asked for: a table in some minutes.
FEW = 3
# Side of the picture on which operations are counted and time is taken, in pixels.
SIDE = 256

Maker = Callable[[int], nn.Module | None]


@dataclass(frozen=True)
class Contender:
    """A row of the table.

    Attributes:
        name: As printed.
        untrained: The architecture, for size and cost.
        trained: From the level (of 255) to a network with weights for it; None where there are none.
    """

    name: str
    untrained: nn.Module
    trained: Maker


def run(images: int = FEW, levels: tuple[int, ...] = LEVELS, only: str = "") -> None:
    """Print the table; one thread, so that processor time compares work and not waiting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    columns = [f"{name}@{level}" for name in SETS for level in levels]
    print(f"{'':30}{'parameters':>11}{'GMAC/MP':>9}{'CPU-s/MP':>10}" + "".join(f"{c:>10}" for c in columns))
    for contender in _contenders():
        if only.lower() not in contender.name.lower():
            continue
        scores = [_score(contender.trained(level), name, level, images) for name in SETS for level in levels]
        macs, seconds = _cost(contender.untrained)
        print(
            f"{contender.name:30}{_size(contender.untrained):>11,}{macs:>9.1f}{seconds:>10.2f}"
            + "".join(f"{'-' if s is None else format(s, '.2f'):>10}" for s in scores),
            flush=True,
        )
    torch.set_num_threads(threads)


def _contenders() -> Iterator[Contender]:
    yield Contender("noisy", nn.Identity(), lambda _: _Same())
    yield Contender("DnCNN published", DnCNN(DnCNNConfig.published()), _dncnn)
    yield Contender("FFDNet", FFDNet(FFDNetConfig.published()), lambda _: None)
    yield Contender("CSCNet published", CSCNet(CSCNetConfig()), _cscnet)
    for name, small in (("LIDIA published", False), ("LIDIA small published", True)):
        config = LIDIAConfig.published(small=small)
        yield Contender(name, LIDIA(config), lambda level, small=small: _lidia(level, small=small))
    yield Contender("Deep K-SVD, paper's size", DeepKSVD(DeepKSVDConfig()), lambda _: None)
    yield Contender("CDLNet, paper's size", CDLNet(CDLNetConfig.published()), lambda _: None)
    for name in catalogue():
        network = load(name).network
        if isinstance(network, CDLNet | CSCNet | DeepKSVD | LIDIA | DnCNN | FFDNet):
            yield Contender(f"{name} (shipped)", network, lambda _, network=network: network)


class _Same(nn.Module):
    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        return x


def _dncnn(level: int) -> nn.Module | None:
    tensors = _tensors(f"dncnn/dncnn_{level}.pth")
    return None if tensors is None else dncnn_of_kair(tensors, level=level / 255)


def _cscnet(level: int) -> nn.Module | None:
    tensors = _tensors(f"cscnet/sigma_{level}.model")
    return None if tensors is None else cscnet_of_authors(tensors, level=level / 255)


def _lidia(level: int, *, small: bool) -> nn.Module | None:
    file = _tensors(f"lidia/model_state_{'small_' if small else ''}sigma_{level}_bw.pt")
    return None if file is None else published_lidia(file["state_dict"], level=level / 255)


def _tensors(name: str) -> dict | None:
    """A published file, or None where it is not at hand."""
    path = data_folder() / "weights" / name
    return torch.load(path, weights_only=True, map_location="cpu") if path.exists() else None


@torch.no_grad()
def _score(network: nn.Module | None, name: str, level: int, images: int) -> float | None:
    """Mean PSNR [dB] over the first pictures of a set; None without weights or pictures."""
    paths = sorted((data_folder() / "sets" / name).glob("*.png"))[:images]
    if network is None or not paths:
        return None
    scores = []
    for number, path in enumerate(paths, start=1):
        clean = torch.from_numpy(np.array(Image.open(path))).float()[None, None] / 255
        sigma = level / 255
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(number))
        scores.append(psnr(network(clean + sigma * noise, torch.tensor(sigma)), clean))
    return float(np.mean(scores))


def _size(network: nn.Module) -> int:
    return sum(values.numel() for values in network.parameters())


@torch.no_grad()
def _cost(network: nn.Module) -> tuple[float, float]:
    """Multiply-accumulates [1e9] and processor time [s] per megapixel."""
    if not _size(network):
        return 0.0, 0.0
    x, sigma = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)), torch.tensor(0.1)
    with FlopCounterMode(display=False) as counter:
        network(x, sigma)
    start = time.process_time()
    network(x, sigma)
    megapixels = SIDE**2 / 1e6
    return counter.get_total_flops() / 2 / 1e9 / megapixels, (time.process_time() - start) / megapixels


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.founding", description=__doc__)
    parser.add_argument("--images", type=int, default=FEW, help="pictures of each set (Set12 has 12, BSD68 68)")
    parser.add_argument("--sigma", type=int, nargs="+", default=list(LEVELS), help="levels of 255")
    parser.add_argument("--only", default="", help="rows with this text in their name")
    chosen = parser.parse_args()
    run(chosen.images, tuple(chosen.sigma), chosen.only)
