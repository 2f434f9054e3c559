"""Losses that need less than the exact law: an unknown level (UNSURE), or only a sampler (Noisier2Noise)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore.selfsup.losses.noisier import Noisier, of_sampler
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from physrestore.selfsup.losses.stein import Stein
from physrestore.selfsup.losses.unsure import Unsure
from tests.noise_models.noise_profiles import entry, profile
from tests.physrestore.unbiased import assert_unbiased, excess, gaussian, photons, scene, smoother, std_map

MAP = PixelNoise.of(sigma=std_map())


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def neighbours_and_self(share: Tensor) -> object:
    """``share`` of the own measurement, the rest the mean of the four neighbours."""

    def estimate(y: Tensor, _std: Tensor) -> Tensor:
        around = (y.roll(1, -1) + y.roll(-1, -1) + y.roll(1, -2) + y.roll(-1, -2)) / 4
        return share * y + (1 - share) * around

    return estimate


def test_at_the_true_level_unsure_is_sure() -> None:
    x, y = scene(), gaussian(scene(), MAP, 300)

    with torch.no_grad():
        assert_unbiased(excess(Unsure(), smoother, y, x, MAP))
        ours, stein = (loss(smoother, y, MAP, generator=drawn(3)) for loss in (Unsure(), Stein()))
    torch.testing.assert_close(ours, stein)


def ascend(loss: Unsure, y: Tensor, given: PixelNoise, steps: int) -> float:
    share = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([share], lr=20.0)
    generator = drawn(1)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(neighbours_and_self(share), y, given, generator=generator).mean().backward()  # type: ignore[arg-type]
        optimiser.step()
    return share.item()


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_the_level_is_found_from_a_wrong_one(factor: float) -> None:
    """Over a flat area the multiplier ends at the true factor times 1 + 1/4, for a mean of four neighbours."""
    flat = torch.full((1, 1, 48, 48), 0.5, dtype=torch.float64)
    std = torch.linspace(0.03, 0.05, 48, dtype=torch.float64).expand(1, 1, 48, 48)
    y = gaussian(flat, PixelNoise.of(sigma=std), 2)
    loss = Unsure(rate=0.02 * factor, momentum=0.5)

    share = ascend(loss, y, PixelNoise.of(sigma=std / factor**0.5), 250)

    # Of |y - neighbours|^2 over 4608 sites the relative standard error is about 3 %; weighted by an uneven map, 4 %.
    assert float(loss.multiplier[0]) == pytest.approx(1.25 * factor, rel=0.15)
    assert share == pytest.approx(0.0, abs=0.05)


def test_momentum_keeps_the_direction() -> None:
    y = gaussian(scene(), MAP, 4)
    steady, nimble = Unsure(momentum=0.9, rate=0.1), Unsure(momentum=0.0, rate=0.1)
    up, down = (torch.tensor(share, requires_grad=True) for share in (1.0, -1.0))

    for loss in (steady, nimble):
        for share in (up, down):  # a positive divergence, then a negative one
            loss(neighbours_and_self(share), y, MAP, generator=drawn())  # type: ignore[arg-type]

    assert float(steady.multiplier[0]) == pytest.approx(1 + 0.2 + 0.1 * (0.9 * 2 - 0.1 * 2), abs=0.02)
    assert float(nimble.multiplier[0]) == pytest.approx(1.0, abs=0.02)


def test_gain_and_read_noise_adapt_apart_only_if_asked() -> None:
    noise = PixelNoise.of(gain=torch.tensor(0.01, dtype=torch.float64), sigma=0.02)
    y = photons(scene(), noise, 4)
    tied, apart = Unsure(), Unsure(separate=True)
    share = torch.tensor(1.0, requires_grad=True)

    for loss in (tied, apart):
        loss(neighbours_and_self(share), y, noise, generator=drawn())  # type: ignore[arg-type]

    assert tied.multiplier[0] == tied.multiplier[1]
    part = float(noise.gain * y.mean() / noise.variance(y).mean())
    assert apart.multiplier[0].item() == pytest.approx(1 + 0.2 * part, rel=1e-3)
    assert apart.multiplier[1].item() == pytest.approx(1 + 0.2 * (1 - part), rel=1e-3)


def test_evaluation_leaves_the_level_alone() -> None:
    loss = Unsure()
    with torch.no_grad():
        loss(smoother, gaussian(scene(), MAP, 2), MAP, generator=drawn())

    assert loss.multiplier.tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="momentum"):
        Unsure(momentum=1.0)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5])
def test_noisier2noise_ends_at_the_posterior_mean(alpha: float) -> None:
    """x ~ N(0, 1), y ~ N(x, s^2): the best factor for y' is 1 / (1 + (1 + alpha^2) s^2) after the correction."""
    x = torch.randn(64, 1, 40, 40, generator=drawn(), dtype=torch.float64)
    noise = PixelNoise.of(sigma=torch.tensor(0.7, dtype=torch.float64))
    y = x + noise.draw(x, generator=drawn(1))
    fed: list[Tensor] = []
    loss = Noisier(alpha=alpha)
    loss(lambda v, _: fed.append(v) or v, y, noise, generator=drawn(2))  # type: ignore[func-returns-value]
    best = float((fed[0] * y).sum() / fed[0].square().sum())

    posterior = loss.average(lambda v, _: best * v, y, noise, samples=1, generator=drawn(2))

    factor = (posterior / fed[0]).mean().item()
    assert factor == pytest.approx(1 / (1 + (1 + alpha**2) * 0.49), abs=5 * (1 + alpha**-2) * 102400**-0.5)
    assert best != pytest.approx(factor, abs=0.05)  # uncorrected it is another one


def test_noisier2noise_draws_by_the_calibrated_chain() -> None:
    noise = entry(3200.0, row=40.0)
    sampler = profile(noise).sampler(isos=[3200.0])
    parameters = sampler.law.draw(1, generator=drawn())
    cfa = Cfa.parse("RGGB")
    measure = of_sampler(sampler, cfa=cfa, parameters=parameters)
    x = torch.full((8, 1, 64, 64), 0.2)
    y = measure(x, drawn(1))
    fed: list[Tensor] = []

    Noisier(measure)(lambda v, _: fed.append(v) or v, y, PixelNoise.of(sigma=0.1), generator=drawn(2))  # type: ignore[func-returns-value]

    added = fed[0] - y
    rows = added.mean(-1)
    pixels, row = parameters.variance(x, cfa).mean().item(), parameters.row.square().mean().item()
    # 512 rows: the relative standard error of their variance is 6 %.
    assert rows.var().item() == pytest.approx(row + pixels / 64, rel=0.3)
    assert added.var().item() == pytest.approx(row + pixels, rel=0.1)


def test_noise_is_drawn_around_the_estimate_if_asked() -> None:
    means: list[Tensor] = []

    def measure(mean: Tensor, generator: torch.Generator) -> Tensor:
        means.append(mean)
        return mean

    y = torch.rand(1, 1, 8, 8, generator=drawn())
    for around in (False, True):
        Noisier(measure, around_estimate=around)(lambda v, _: 0.5 * v, y, PixelNoise.of(sigma=0.1), generator=drawn())

    torch.testing.assert_close(means[0], y)
    torch.testing.assert_close(means[1], 0.5 * y)
