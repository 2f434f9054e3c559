"""Founding networks on white Gaussian noise: parameters, operations, processor time, PSNR on BSD68 and Set12.

Without options it takes few pictures; all of them need ``--images 68`` and hours on one core. With ``--resume FILE``
every picture's PSNR goes to that file as it comes, a later run goes on from there, and ``--known`` prints the means of
what the file holds, with those of DnCNN on the same pictures. Noise is not clipped and has the
picture's number as its seed. Published weights are read from the shared data, ours from the package; networks without
either show what they cost, and a dash for their quality.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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


class Scores:
    """PSNR [dB] of every picture taken so far.

    Args:
        path: A CSV file that is read first and appended to; None: nothing is kept. The key of a line has the digest of
            the weights, so that a retrained network is measured anew; after a change of code, begin a new file.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._known: dict[tuple[str, ...], float] = {}
        if path is not None and path.exists():
            with path.open(newline="") as file:
                self._known = {tuple(key): float(score) for *key, score in csv.reader(file)}

    def of(self, name: str, network: nn.Module, picture: Path, *, number: int, level: int) -> float:
        """The known score, or a new one, kept at once."""
        key = (name, _digest(network), picture.parent.name, str(level), picture.name)
        if key not in self._known:
            self._known[key] = _score(network, picture, number=number, level=level)
            if self.path is not None:
                with self.path.open("a", newline="") as file:
                    csv.writer(file).writerow([*key, self._known[key]])
        return self._known[key]

    def by_column(self) -> dict[tuple[str, str, str], dict[str, float]]:
        """(network, set, level) to the scores of its pictures by name."""
        columns: dict[tuple[str, str, str], dict[str, float]] = {}
        for (name, _, folder, level, picture), score in self._known.items():
            columns.setdefault((name, folder, level), {})[picture] = score
        return columns


def run(arguments: list[str]) -> None:
    """Print the table; one thread, so that processor time compares work and not waiting."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks founding", description=__doc__)
    parser.add_argument("--images", type=int, default=FEW, help="pictures of each set (Set12 has 12, BSD68 68)")
    parser.add_argument("--sigma", type=int, nargs="+", default=list(LEVELS), help="levels of 255")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--only", default="", help="rows with this text in their name")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keep the scores here, and go on from them")
    parser.add_argument("--known", action="store_true", help="measure nothing, print what the file of --resume holds")
    chosen = parser.parse_args(arguments)
    if chosen.known:
        _print_known(Scores(chosen.resume))
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    scores = Scores(chosen.resume)
    columns = [(name, level) for name in chosen.sets for level in chosen.sigma]
    titles = [f"{name}@{level}" for name, level in columns]
    print(f"{'':30}{'parameters':>11}{'GMAC/MP':>9}{'CPU-s/MP':>10}" + "".join(f"{c:>10}" for c in titles))
    for contender in _contenders():
        if chosen.only.lower() not in contender.name.lower():
            continue
        means = [_mean(scores, contender, name, level, chosen.images) for name, level in columns]
        macs, seconds = _cost(contender.untrained)
        print(
            f"{contender.name:30}{_size(contender.untrained):>11,}{macs:>9.1f}{seconds:>10.2f}"
            + "".join(f"{'-' if s is None else format(s, '.2f'):>10}" for s in means),
            flush=True,
        )
    torch.set_num_threads(threads)


def _print_known(scores: Scores) -> None:
    """A line per network, set and level: pictures, mean, and the mean of DnCNN where it has been on all of them."""
    columns = scores.by_column()
    print(f"{'':30}{'set@level':>10}{'pictures':>10}{'PSNR':>8}{'DnCNN there':>13}")
    for (name, folder, level), own in sorted(columns.items(), key=lambda item: item[0][1:]):
        peer = columns.get(("DnCNN published", folder, level), {})
        there = f"{np.mean([peer[picture] for picture in own]):.3f}" if own.keys() <= peer.keys() else "-"
        mean = float(np.mean(list(own.values())))
        print(f"{name:30}{f'{folder}@{level}':>10}{len(own):>10}{mean:>8.3f}{there:>13}")


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


def _mean(scores: Scores, contender: Contender, name: str, level: int, images: int) -> float | None:
    """Mean PSNR [dB] over the first pictures of a set; None without weights or pictures."""
    paths = sorted((data_folder() / "sets" / name).glob("*.png"))[:images]
    network = contender.trained(level)
    if network is None or not paths:
        return None
    numbered = enumerate(paths, start=1)
    return float(np.mean([scores.of(contender.name, network, p, number=n, level=level) for n, p in numbered]))


@torch.no_grad()
def _score(network: nn.Module, picture: Path, *, number: int, level: int) -> float:
    clean = torch.from_numpy(np.array(Image.open(picture))).float()[None, None] / 255
    sigma = level / 255
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(number))
    return psnr(network(clean + sigma * noise, torch.tensor(sigma)), clean)


def _digest(network: nn.Module) -> str:
    """Twelve digits that name the weights."""
    found = hashlib.sha256()
    for name, values in network.state_dict().items():
        found.update(name.encode())
        found.update(values.contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def _size(network: nn.Module) -> int:
    return sum(values.numel() for values in network.parameters())


@torch.no_grad()
def _cost(network: nn.Module) -> tuple[float, float]:
    """Multiply-accumulates [1e9] and processor time [s] per megapixel; searches and sorting are in the time only."""
    if not _size(network):
        return 0.0, 0.0
    x, sigma = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)), torch.tensor(0.1)
    with FlopCounterMode(display=False) as counter:
        network(x, sigma)
    start = time.process_time()
    network(x, sigma)
    megapixels = SIDE**2 / 1e6
    return counter.get_total_flops() / 2 / 1e9 / megapixels, (time.process_time() - start) / megapixels
