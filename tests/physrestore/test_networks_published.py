"""Published weights in our networks give the published quality: what proves that the architectures are exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from physrestore.errors import PriorError
from physrestore.networks.cscnet import CSCNet, CSCNetConfig
from physrestore.networks.dncnn import DnCNN, DnCNNConfig
from physrestore.networks.published import cscnet_of_authors, dncnn_of_kair
from physrestore.quality import psnr
from tests.physrestore.network_laws import SIGMA, scattered, uniform
from tests.shared_data import shared

LEVEL = 25 / 255
# The size of a disagreement that is an error and not another draw of the noise; `tests.benchmarks.founding` gives the
# same network another seed: one picture of 154,401 pixels moves by about 0.01 dB, the mean of all 68 by 0.002 dB.
TOLERANCE_DB = 0.02


def tensors(path: Path) -> dict[str, Tensor]:
    found = torch.load(path, weights_only=True, map_location="cpu")
    assert isinstance(found, dict)
    return found


def picture(path: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(path))).float()[None, None] / 255


@torch.no_grad()
def mean_psnr(network: nn.Module, names: list[str]) -> float:
    """On BSD68 at sigma 25, unclipped noise with the picture's number as its seed, as `tests.benchmarks.founding`."""
    scores = []
    for name in names:
        clean = picture(shared(f"sets/bsd68/{name}.png"))
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(int(name[-3:])))
        scores.append(psnr(network(clean + LEVEL * noise, torch.tensor(LEVEL)), clean))
    return float(np.mean(scores))


@torch.no_grad()
def test_kair_names_become_ours() -> None:
    network = scattered(DnCNN(DnCNNConfig(features=5, layers=4)))
    renamed = {
        name.replace("convolutions.", "model.").replace(f".{k}.", f".{2 * k}."): values
        for name, values in network.state_dict().items()
        for k in [int(name.split(".")[1])]
    }
    loaded, x = dncnn_of_kair(renamed, level=0.2).double(), uniform(1, 1, 9, 9)
    assert loaded.config == DnCNNConfig(features=5, layers=4, level=0.2)
    torch.testing.assert_close(loaded(x, SIGMA), network(x, SIGMA), rtol=0, atol=1e-6)


def authors_names(network: CSCNet) -> dict[str, Tensor]:
    config = network.config
    shape = (config.filters, config.channels, config.kernel, config.kernel)
    return {
        "apply_A.weight": network.synthesis.detach().reshape(shape),
        "apply_B.weight": network.analysis.detach().reshape(shape),
        "apply_C.weight": network.output.detach().reshape(shape),
        "soft_threshold.threshold": network.threshold.detach().reshape(1, -1, 1, 1),
    }


@torch.no_grad()
def test_authors_names_of_cscnet_become_ours() -> None:
    network = scattered(CSCNet(CSCNetConfig(filters=4, kernel=5, stride=3, unfoldings=2)))
    assert isinstance(network, CSCNet)
    given = authors_names(network)
    loaded, x = cscnet_of_authors(given, level=0.3, stride=3, unfoldings=2).double(), uniform(1, 1, 9, 9)
    assert loaded.config == CSCNetConfig(1, 4, 5, 3, 2, 0.3)
    torch.testing.assert_close(loaded(x, SIGMA), network(x, SIGMA), rtol=0, atol=1e-6)
    swapped = given | {"apply_C.weight": given["apply_A.weight"]}
    other = cscnet_of_authors(swapped, level=0.3, stride=3, unfoldings=2).double()
    assert float((other(x, SIGMA) - network(x, SIGMA)).abs().max()) > 1e-3


def test_other_weights_are_refused() -> None:
    network = CSCNet(CSCNetConfig(filters=4, kernel=5, stride=3, unfoldings=2))
    given = authors_names(network)
    with pytest.raises(PriorError, match=r"No tensor 'model\.0\.weight' .* weights of KAIR's DnCNN"):
        dncnn_of_kair(given, level=LEVEL)
    with pytest.raises(PriorError, match=r"5 given, 4 used, wrong shapes: none"):
        cscnet_of_authors(given | {"more": torch.zeros(1)}, level=LEVEL)
    with pytest.raises(PriorError, match=r"wrong shapes: output \(3, 25\) for \(4, 25\)"):
        cscnet_of_authors(given | {"apply_C.weight": given["apply_C.weight"][:3]}, level=LEVEL)


def published(kind: str) -> nn.Module:
    if kind == "DnCNN":
        return dncnn_of_kair(tensors(shared("weights/dncnn/dncnn_25.pth")), level=LEVEL)
    return cscnet_of_authors(tensors(shared("weights/cscnet/sigma_25.model")), level=LEVEL)


# What these networks give on these pictures; on all of BSD68 the published means (see `tests.benchmarks.founding`).
@pytest.mark.data
@pytest.mark.parametrize(
    ("kind", "names", "expected"),
    [("DnCNN", ["test001"], 25.931), ("CSCNet", ["test001"], 25.840)],
)
def test_published_weights_give_the_published_quality(kind: str, names: list[str], expected: float) -> None:
    assert mean_psnr(published(kind), names) == pytest.approx(expected, abs=TOLERANCE_DB)


@pytest.mark.data
@torch.no_grad()
def test_a_small_mistake_in_cscnet_shows() -> None:
    network = published("CSCNet")
    assert isinstance(network, CSCNet)
    clean = picture(shared("sets/bsd68/test001.png"))[..., 100:164, 100:164]
    noisy = clean + LEVEL * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    right = psnr(network(noisy, torch.tensor(LEVEL)), clean)
    fewer = CSCNet(replace(network.config, unfoldings=11))
    fewer.load_state_dict(network.state_dict())
    assert abs(psnr(fewer(noisy, torch.tensor(LEVEL)), clean) - right) > TOLERANCE_DB
    one_grid = network.on_grid(noisy, 0, 0)
    assert psnr(one_grid, clean) < right - 3  # the average over shifts is what makes the quality


@pytest.mark.data
@torch.no_grad()
def test_a_small_mistake_in_dncnn_shows() -> None:
    network = published("DnCNN")
    assert isinstance(network, DnCNN)
    clean = picture(shared("sets/bsd68/test001.png"))[..., 100:164, 100:164]
    noisy = clean + LEVEL * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    right = psnr(network(noisy, torch.tensor(LEVEL)), clean)
    network.convolutions[8].bias.zero_()
    assert abs(psnr(network(noisy, torch.tensor(LEVEL)), clean) - right) > TOLERANCE_DB
