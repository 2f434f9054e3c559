"""Adaptation on a page of text, by a small network that has only seen clouds and blots."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noise_models.scene.glyphs import text_bitmap
from physrestore.errors import TrainingError
from physrestore.networks.dncnn import DnCNN, DnCNNConfig
from physrestore.networks.lidia import LIDIA, LIDIAConfig
from physrestore.quality import psnr
from physrestore.training import adapt_pairs
from physrestore.training.adapt_pairs import Adaptation, adapt_externally, adapt_internally

NOISE = 0.2
LEVEL = torch.tensor(NOISE)
SETTINGS = Adaptation(epochs=15, side=32, stride=16, context=4)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def page(words: str, rows: int) -> Tensor:
    """Dark text on light paper, (1, 1, 11 rows, 123)."""
    lines = [F.pad(text_bitmap((9 * words)[7 * k : 7 * k + 20]), (2, 2, 2, 2)) for k in range(rows)]
    return 0.9 - 0.8 * torch.cat(lines)[None, None]


def clouds(generator: torch.Generator) -> Tensor:
    """Eight scenes, half of them smooth, half with edges."""
    scenes = torch.randn(8, 1, 40, 40, generator=generator)
    for _ in range(2):
        scenes = F.avg_pool2d(F.pad(scenes, [2] * 4, mode="reflect"), 5, stride=1)
    scenes = 4 * scenes
    scenes[::2] = (8 * scenes[::2]).tanh() / 2
    return (0.5 + scenes).clamp(0, 1)


@pytest.fixture(scope="module")
def network() -> DnCNN:
    network, generator = DnCNN(DnCNNConfig(features=16, layers=5, level=NOISE)), drawn(0)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(150):
        clean = clouds(generator)
        noisy = clean + NOISE * torch.randn(clean.shape, generator=generator)
        optimiser.zero_grad()
        torch.autograd.backward((network(noisy, LEVEL) - clean).square().mean())
        optimiser.step()
    return network.eval()


@torch.no_grad()
def test_adaptation_gains_on_text(network: DnCNN) -> None:
    before = {name: values.clone() for name, values in network.state_dict().items()}
    clean = page("THE NOISE OF A SENSOR IS KNOWN ", 12)
    noisy = clean + NOISE * torch.randn(clean.shape, generator=drawn(1))

    with torch.enable_grad():
        inside = adapt_internally(network, noisy, NOISE, generator=drawn(2), settings=SETTINGS)
        related = page("GREY FOXES JUMP QUICKLY ", 6)
        outside = adapt_externally(network, related, NOISE, generator=drawn(2), settings=SETTINGS)
        # Related only by name: a page without anything on it.
        blank = adapt_externally(network, torch.ones_like(related), NOISE, generator=drawn(2), settings=SETTINGS)

    first, internal, external, useless = (psnr(n(noisy, LEVEL), clean) for n in (network, inside, outside, blank))
    assert internal > first + 1.0
    assert internal > psnr(noisy, clean) + 0.5
    assert external > first + 2.5
    assert useless < first
    for name, values in network.state_dict().items():
        assert torch.equal(values, before[name])
    assert not network.training
    assert not inside.training


def test_the_same_draws_give_the_same_network(network: DnCNN) -> None:
    few = Adaptation(epochs=1, side=20, stride=20, context=3)
    one, two, other = (
        adapt_externally(network, page("SAME ", 4), NOISE, generator=drawn(seed), settings=few).convolutions[0].weight
        for seed in (3, 3, 4)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


class Seen(nn.Module):
    """Keeps what it is given, and adds a parameter to it."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1))
        self.pictures: list[Tensor] = []

    def __deepcopy__(self, memo: dict) -> Seen:
        return self

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.pictures.append(x.detach())
        return x + self.offset


def test_every_pixel_is_seen_in_every_epoch() -> None:
    seen = Seen()
    clean = torch.arange(50 * 31.0).reshape(1, 1, 50, 31)
    settings = Adaptation(epochs=2, side=16, stride=8, context=2, batch=3)
    adapt_externally(seen, clean, 1e-3, generator=drawn(0), settings=settings)
    values = torch.cat([batch.flatten() for batch in seen.pictures]).round()
    assert {batch.shape[-1] for batch in seen.pictures} == {20}
    assert set(values.tolist()) == set(clean.flatten().tolist())
    corners = 5 * 3  # tops 0, 8, 16, 24, 30 and lefts 0, 8, 11
    assert sum(len(batch) for batch in seen.pictures) == 2 * corners


def test_the_context_is_not_scored() -> None:
    error = torch.ones(1, 1, 24, 20)
    settings = Adaptation(side=16, context=4)
    assert adapt_pairs._inside(error, settings).shape[-2:] == (16, 16)
    # A narrow picture has no context to lose.
    assert adapt_pairs._inside(torch.ones(1, 1, 24, 15), settings).shape[-2:] == (16, 15)


def test_networks_with_normalisation_adapt_on_pictures_smaller_than_a_block() -> None:
    lidia = LIDIA(LIDIAConfig(patch=3, features=4, neighbours=3, radius=3)).eval()
    clean = page("TEXT ", 2)[..., :30]
    adapted = adapt_externally(
        lidia, clean, NOISE, generator=drawn(1), settings=Adaptation(epochs=20, learning_rate=5e-3)
    )
    noisy = clean + NOISE * torch.randn(clean.shape, generator=drawn(5))
    with torch.no_grad():
        gain = psnr(adapted(noisy, LEVEL), clean) - psnr(lidia(noisy, LEVEL), clean)
    assert gain > 0.5


def test_what_cannot_be_adapted_to_is_refused(network: DnCNN) -> None:
    with pytest.raises(TrainingError, match=r"not \(2, 1, 8, 8\) and 0\.2"):
        adapt_externally(network, torch.zeros(2, 1, 8, 8), NOISE, generator=drawn(0))
    with pytest.raises(TrainingError, match=r"positive level of noise are needed, not \(1, 1, 8, 8\) and 0\.0"):
        adapt_internally(network, torch.zeros(1, 1, 8, 8), 0.0, generator=drawn(0))
    with pytest.raises(TrainingError, match=r"The error is nan while adapting\. Lower"):
        adapt_externally(network, torch.full((1, 1, 8, 8), torch.nan), NOISE, generator=drawn(0))
    with pytest.raises(ValueError, match=r"epochs, side, stride, batch >= 1"):
        Adaptation(epochs=0)
