"""A small generator, trained here, as a prior: latent search, progressive fine-tuning, other operators."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from physrestore.errors import PriorError
from physrestore.priors.generative_search import Search, invert
from physrestore.priors.generator import GeneratorPrior
from physrestore.priors.verify import verify_prior
from physrestore.quality import psnr

SIDE, LATENT = 16, 3
QUICK = Search(restarts=4, latent_steps=150, latent_rate=0.1)
TUNED = Search(restarts=4, latent_steps=150, latent_rate=0.1, tune_steps=400, tune_rate=3e-3)


def blob(latent: Tensor) -> Tensor:
    """The world of these tests: one Gaussian spot, its place and height smooth functions of the latent vector."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij")
    place = 0.6 * torch.tanh(latent[:, :2])[:, :, None, None]
    height = 0.5 + 0.3 * torch.tanh(latent[:, 2])[:, None, None]
    return (0.1 + height * torch.exp(-((x - place[:, 0]) ** 2 + (y - place[:, 1]) ** 2) / 0.15))[:, None]


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def generator() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Sequential(nn.Linear(LATENT, 64), nn.SiLU()),
            nn.Sequential(nn.Linear(64, 128), nn.SiLU()),
            nn.Sequential(nn.Linear(128, SIDE * SIDE), nn.Unflatten(1, (1, SIDE, SIDE))),
        )
    adam = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(800):
        latent = noise(64, LATENT, seed=step)
        adam.zero_grad()
        (network(latent) - blob(latent)).square().mean().backward()
        adam.step()
    return network


@pytest.fixture(scope="module")
def clean() -> Tensor:
    return blob(noise(2, LATENT, seed=-1))


def test_the_nearest_image_of_the_generator_has_little_noise_left(generator: nn.Module, clean: Tensor) -> None:
    noisy = clean + 0.2 * noise(*clean.shape, seed=5)
    out = GeneratorPrior(generator, LATENT, search=QUICK).denoise(noisy, 0.2)
    for k in range(2):  # 3 numbers are estimated from 256
        assert psnr(out[k], clean[k], peak=1.0) > psnr(noisy[k], clean[k], peak=1.0) + 12


def test_the_map_says_which_pixels_count(generator: nn.Module, clean: Tensor) -> None:
    spoilt, level = clean.clone(), torch.full_like(clean, 0.02)
    spoilt[..., :, : SIDE // 3] = 3.0
    prior = GeneratorPrior(generator, LATENT, search=QUICK)
    believed = prior.denoise(spoilt, level)
    level[..., :, : SIDE // 3] = 30.0
    told = prior.denoise(spoilt, level)
    assert float((told - clean).abs().mean()) < 0.03 < 0.1 < float((believed - clean).abs().mean())


def test_fine_tuning_reaches_just_outside_the_range_and_stops_at_the_noise(generator: nn.Module, clean: Tensor) -> None:
    sigma = 0.03
    strange = clean[:1] + 0.3 * (torch.arange(SIDE) > SIDE // 2)
    noisy = strange + sigma * noise(*strange.shape, seed=6)
    fixed = GeneratorPrior(generator, LATENT, search=QUICK).denoise(noisy, sigma)
    tuned = GeneratorPrior(generator, LATENT, search=TUNED).denoise(noisy, sigma)
    assert float((tuned - strange).square().mean()) < 0.1 * float((fixed - strange).square().mean())
    residual = float((tuned - noisy).square().mean().sqrt())
    assert 0.85 * sigma < residual < 1.05 * sigma

    def energy(made: Tensor) -> Tensor:
        return (made - noisy).square().flatten(1).sum(1) / (2 * sigma**2)

    # Without the stop the network learns the noise.
    overfit = invert(generator, energy, LATENT, search=TUNED).image
    assert float((overfit - noisy).square().mean().sqrt()) < 0.8 * residual


def test_any_operator_through_the_energy(generator: nn.Module, clean: Tensor) -> None:
    """Three rows of sixteen are seen."""
    seen = torch.zeros(SIDE)
    seen[[4, 8, 12]] = 1.0
    data = seen[:, None] * clean[:1]

    def energy(made: Tensor) -> Tensor:
        return (seen[:, None] * made - data).square().flatten(1).sum(1) / (2 * 0.02**2)

    found = invert(generator, energy, LATENT, search=QUICK)
    assert psnr(found.image, clean[:1], peak=1.0) > 30
    assert found.tuned is generator


def test_the_given_generator_is_left_as_it_was(generator: nn.Module, clean: Tensor) -> None:
    before = [parameter.detach().clone() for parameter in generator.parameters()]
    GeneratorPrior(generator, LATENT, search=Search(restarts=1, latent_steps=5, tune_steps=9)).denoise(clean, 0.01)
    for old, new in zip(before, generator.parameters(), strict=True):
        assert torch.equal(old, new)
        assert new.requires_grad


def test_more_restarts_are_never_worse(generator: nn.Module, clean: Tensor) -> None:
    def energy(made: Tensor) -> Tensor:
        return (made - clean[:1]).square().flatten(1).sum(1) / (2 * 0.05**2)

    one, many = (
        invert(generator, energy, LATENT, search=Search(restarts=n, latent_steps=60, latent_rate=0.1)) for n in (1, 8)
    )
    assert many.energy + float(many.latent.square().sum()) / 2 <= one.energy + float(one.latent.square().sum()) / 2


def test_every_check_on_its_own_kind_of_image(generator: nn.Module, clean: Tensor) -> None:
    prior = GeneratorPrior(generator, LATENT, search=QUICK, sigma_range=(0.05, 0.3))
    assert [f for f in verify_prior(prior, image=clean[:1]) if not f.passed] == []


def test_wrong_use_is_explained(generator: nn.Module, clean: Tensor) -> None:
    prior = GeneratorPrior(generator, LATENT, search=QUICK)
    with pytest.raises(PriorError, match=r"images of \(1, 16, 16\), not \(1, 15, 16\)"):
        prior.denoise(clean[..., 1:, :], 0.1)
    with pytest.raises(PriorError, match="inside the generator"):
        GeneratorPrior(generator, LATENT, search=TUNED, blocks=[nn.Linear(2, 2)]).denoise(clean, 0.1)
    with pytest.raises(PriorError, match="one latent step"):
        Search(latent_steps=0)
