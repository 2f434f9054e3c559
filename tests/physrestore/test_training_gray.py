"""The gray task: the noise it says, the gray of the test sets, and networks that stay in their set while they learn."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from physrestore.networks.cdlnet import CDLNet, CDLNetConfig
from physrestore.networks.cscnet import CSCNet, CSCNetConfig
from physrestore.networks.deep_ksvd import DeepKSVD, DeepKSVDConfig
from physrestore.networks.dncnn import DnCNN, DnCNNConfig
from physrestore.networks.ffdnet import FFDNet, FFDNetConfig
from physrestore.training.fit import fit
from physrestore.training.pictures import Pictures
from physrestore.training.recipe import Recipe
from physrestore.training.tasks.gray import FoundingConfig, GrayTask, founding_network

TINY = CDLNetConfig(filters=6, kernel=5, stride=2, unfoldings=2, constant_thresholds=False)


def pictures() -> Pictures:
    """Discs of one colour each on another."""
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(64), indexing="ij")
    images = []
    for k in range(6):
        inside = (rows - 8 * k).square() + (columns - 30).square() < 200
        images.append(torch.where(inside, torch.tensor([200, 30 * k, 90]).reshape(3, 1, 1), 60).to(torch.uint8))
    return Pictures(images)


def task(**changes: object) -> GrayTask:
    parts: dict[str, object] = {"network": TINY, "side": 32, "count": 4, "sigma": (0.05, 0.2)}
    return GrayTask(pictures(), **(parts | changes))


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (TINY, CDLNet),
        (CSCNetConfig(filters=3, kernel=4, stride=2, unfoldings=2), CSCNet),
        (DeepKSVDConfig(patch=3, atoms_per_axis=3), DeepKSVD),
        (DnCNNConfig(layers=3), DnCNN),
        (FFDNetConfig(layers=3), FFDNet),
    ],
)
def test_every_configuration_makes_its_network(config: FoundingConfig, kind: type[nn.Module]) -> None:
    network = founding_network(config)
    assert type(network) is kind
    assert network.config == config


def test_noise_has_the_level_that_is_told() -> None:
    generator = torch.Generator().manual_seed(0)
    noisy, sigma, clean = task(count=64).batch(generator)
    assert bool(((sigma >= 0.05) & (sigma <= 0.2)).all())
    assert float(sigma.max() - sigma.min()) > 0.1
    scaled = (noisy - clean) / sigma
    # Five standard errors of the mean square of unit noise.
    bound = 5 * math.sqrt(2 / scaled.numel())
    assert abs(float(scaled.square().mean()) - 1) < bound
    assert abs(float((scaled * 1.1).square().mean()) - 1) > bound


def test_gray_is_the_luma_of_display_values() -> None:
    green = Pictures([torch.tensor([0, 255, 0], dtype=torch.uint8).reshape(3, 1, 1).expand(3, 40, 40).contiguous()])
    _, _, clean = GrayTask(green, TINY, side=16).batch(torch.Generator().manual_seed(0))
    torch.testing.assert_close(clean, torch.full_like(clean, 0.587))


def test_one_level_is_drawn_for_a_network_of_one_level() -> None:
    _, sigma, _ = task(sigma=(0.1, 0.1)).batch(torch.Generator().manual_seed(0))
    torch.testing.assert_close(sigma, torch.full_like(sigma, 0.1))


def identity(noisy: Tensor, _: Tensor) -> Tensor:
    return noisy


def test_loss_of_doing_nothing_is_the_mean_level() -> None:
    batch = task(count=64).batch(torch.Generator().manual_seed(0))
    loss = float(task().loss(identity, batch))
    assert loss == pytest.approx(float(batch[1].mean()), rel=5 * math.sqrt(2 / batch[0].numel()))


def test_training_learns_and_keeps_filters_in_the_unit_ball(tmp_path: Path) -> None:
    rows = []
    recipe = Recipe(steps=60, learning_rate=3e-3, log_every=20, save_every=60, ema=0.9)

    trained = fit(task(), recipe, tmp_path, on_step=rows.append)

    assert rows[-1].loss < 0.8 * rows[0].loss
    assert isinstance(trained.network, CDLNet)
    # The running mean of points of a convex set lies in it.
    assert float(trained.network.analysis.detach().flatten(2).norm(dim=2).max()) <= 1 + 1e-6
    assert float(trained.network.threshold.detach().min()) >= 0
    assert not bool(trained.network.threshold.detach()[:, 0].any())
