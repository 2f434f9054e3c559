"""Adaptation: gains where the prior is wrong for the picture, and the network as it was where there is none to gain."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noise_models.cfa import XTRANS_ROWS, Cfa
from physrestore.quality import psnr
from physrestore.selfsup.adapt import AdaptSettings, adapt
from physrestore.selfsup.crops import NoisyImage, contrast, cut, window_side, windows
from physrestore.selfsup.held_out_gate import HeldOutGate, Role, Verdict
from physrestore.selfsup.losses.neighbours import Neighbours
from physrestore.selfsup.losses.noise2void import Noise2Void
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from physrestore.selfsup.losses.stein import Stein
from physrestore.selfsup.tasks import Demosaicking, Denoising

SIGMA = 0.2
NOISE = PixelNoise.of(sigma=SIGMA)
QUICK = AdaptSettings(steps=40, crop=48, batch=4, learning_rate=0.05, check_every=10, patience=4)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Says(nn.Module):
    """A fixed answer."""

    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, y: Tensor, *_: Tensor) -> Tensor:
        return self.answer(y)


AS_IT_IS = Says(lambda y: y)


class Smoother(nn.Module):
    """A learnable 5x5 smoother, its centre apart: small, linear, and soon at its optimum."""

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = nn.Parameter(torch.tensor(keep))
        self.kernel = nn.Parameter(torch.zeros(5, 5))

    def forward(self, y: Tensor, std: Tensor) -> Tensor:
        kernel = self.kernel.flatten().softmax(0).reshape(1, 1, 5, 5)
        soft = F.conv2d(F.pad(y, (2, 2, 2, 2), mode="reflect"), kernel.expand(y.shape[1], 1, 5, 5), groups=y.shape[1])
        return self.keep * y + (1 - self.keep) * soft


def stripes(side: int = 288) -> Tensor:
    """Of period 4 along rows: a 5x5 mean destroys them, a smoother along columns keeps them."""
    return (0.5 + 0.3 * torch.sign(torch.sin(torch.arange(side) * math.pi / 2 + 0.1))).expand(1, 1, side, side)


def noisy(x: Tensor, seed: int = 0) -> NoisyImage:
    return NoisyImage(x + SIGMA * torch.randn(x.shape, generator=drawn(seed)), NOISE)


def decibels(network: nn.Module, image: NoisyImage, x: Tensor) -> float:
    with torch.no_grad():
        return psnr(network(image.values, torch.full_like(image.values, SIGMA)), x)


def test_a_picture_unlike_the_prior_gains_and_is_accepted() -> None:
    x = stripes()
    image, start = noisy(x), Smoother(keep=0.3)

    result = adapt(start, image, generator=drawn(1), settings=QUICK)

    assert result.accepted
    assert result.verdict.blocks >= 64
    assert decibels(result.network, image, x) > decibels(start, image, x) + 1.0
    # The scores are squared errors in units of the noise: they tell the gain without the truth.
    told = 10 * math.log10(result.score_before / result.score_after)
    assert told == pytest.approx(decibels(result.network, image, x) - decibels(start, image, x), abs=0.7)


def test_hidden_sites_judge_what_a_network_makes_of_the_others() -> None:
    blind = Noise2Void(share=0.2)

    result = adapt(
        Smoother(keep=0.0), noisy(stripes()), generator=drawn(1), settings=replace(QUICK, loss=blind, judge=blind)
    )

    assert result.accepted
    assert result.score_after < 0.5 * result.score_before


def test_the_network_given_is_never_changed() -> None:
    start = Smoother(keep=0.3)
    before = {name: value.clone() for name, value in start.state_dict().items()}

    result = adapt(start, noisy(stripes()), generator=drawn(1), settings=QUICK)

    assert result.network is not start
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())


def test_a_network_at_its_best_comes_back_as_it_was() -> None:
    x = torch.full((1, 1, 288, 288), 0.5)  # flat: the 5x5 mean is the best that this network can do

    image, start = noisy(x), Smoother(keep=0.0)
    result = adapt(start, image, generator=drawn(1), settings=QUICK)

    assert not result.accepted
    assert result.network is start


def test_a_harmful_loss_is_caught_by_the_judge() -> None:
    """Trained to keep its input, as by noise believed weaker than it is; the judge knows better."""

    class KeepInput(Stein):
        def risk(self, estimate, y, noise, *, generator, weights=None):  # type: ignore[no-untyped-def]
            return super().risk(estimate, y, noise.scaled(0.01), generator=generator, weights=weights)

    image, start = noisy(stripes()), Smoother(keep=0.1)
    settings = replace(QUICK, loss=KeepInput(), judge=Noise2Void(share=0.2))

    result = adapt(start, image, generator=drawn(1), settings=settings)

    assert not result.accepted
    assert result.network is start


def test_a_copy_that_diverges_is_given_up() -> None:
    start = Smoother(0.3)

    result = adapt(
        start, noisy(stripes()), generator=drawn(1), settings=replace(QUICK, learning_rate=1e30, check_every=1, steps=6)
    )

    assert not result.accepted
    assert result.network is start


def test_equal_seeds_give_equal_networks() -> None:
    image = noisy(stripes())

    first, second = (
        adapt(Smoother(0.3), image, generator=drawn(4), settings=QUICK).network.state_dict() for _ in range(2)
    )

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_time_ends_it_and_the_verdict_still_comes() -> None:
    seconds = iter(range(10000))

    result = adapt(
        Smoother(0.3),
        noisy(stripes()),
        generator=drawn(1),
        settings=replace(QUICK, steps=1000, budget_s=20.0),
        clock=lambda: float(next(seconds)),
    )

    assert 0 < result.steps < 20
    assert result.verdict.blocks > 0


def test_chosen_parameters_alone_learn() -> None:
    start = Smoother(0.3)

    result = adapt(
        start, noisy(stripes()), generator=drawn(1), settings=QUICK, parameters=lambda network: [network.keep]
    )

    assert result.accepted
    assert torch.equal(result.network.kernel, start.kernel)
    assert not torch.equal(result.network.keep, start.keep)
    with pytest.raises(ValueError, match="No parameter to adapt"):
        adapt(start, noisy(stripes()), generator=drawn(), settings=QUICK, parameters=lambda _: [])


class Demosaicker(nn.Module):
    """Mosaic, std and colours to RGB: a normalised mean of every colour with a learnable kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(7, 7))

    def forward(self, mosaic: Tensor, std: Tensor, colours: Tensor) -> Tensor:
        kernel = self.kernel.exp().expand(3, 1, 7, 7)
        sums, counts = (F.conv2d(v, kernel, padding=3, groups=3) for v in (mosaic * colours, colours))
        return sums / counts


@pytest.mark.parametrize("cfa", [Cfa.parse("GRBG"), Cfa(XTRANS_ROWS)], ids=["Bayer", "X-Trans"])
def test_mosaic_networks_adapt_to_a_burst(cfa: Cfa) -> None:
    side = 216
    waves = torch.sin(torch.arange(side) * 2 * math.pi / 12)  # along rows only
    x = 0.5 + 0.3 * waves.expand(1, 1, side, side)
    burst = [
        NoisyImage(x + 0.1 * torch.randn(x.shape, generator=drawn(k)), PixelNoise.of(sigma=0.1), cfa) for k in range(2)
    ]

    result = adapt(Demosaicker(), burst, generator=drawn(1), settings=QUICK, task=Demosaicking(cfa))

    assert result.accepted
    kernel = result.network.kernel
    assert kernel.exp().sum(1)[3] / kernel.exp().sum() < kernel.exp().sum(0)[3] / kernel.exp().sum()


def test_broken_sites_are_neither_learned_from_nor_judged_by() -> None:
    x = stripes()
    image, weights = noisy(x), torch.ones_like(x)
    weights[..., 60:90] = 0.0
    broken = image.values.clone()
    broken[..., 62:88] = 1e4

    verdicts = []
    for values, weight in ((image.values, weights), (broken, weights), (broken, None)):
        one = NoisyImage(values, NOISE, weights=weight)
        gate = HeldOutGate(
            [one], windows([one], 48), side=48, judge=Stein(), shares=(0.2, 0.4), batch=4, generator=drawn(2)
        )
        verdicts.append(gate.compare(AS_IT_IS, Says(lambda y: 0.9 * y), Denoising(), Role.JUDGE))

    assert verdicts[0] == verdicts[1]
    assert verdicts[2].blocks > verdicts[0].blocks
    assert verdicts[2].after > 100 * verdicts[0].after  # the planted error: broken sites that count


def test_squares_have_one_role_each_and_all_have_one() -> None:
    image = noisy(stripes())
    gate = HeldOutGate(
        [image], windows([image], 48), side=48, judge=Stein(), shares=(0.2, 0.5), batch=4, generator=drawn()
    )
    masks = [gate._masks(role)[0] for role in Role]

    assert torch.equal(sum(mask.int() for mask in masks), torch.ones(288, 288, dtype=torch.int32))
    assert torch.equal(gate.learn_masks()[0], masks[0])


def test_scores_are_squared_errors_in_units_of_the_noise() -> None:
    image = noisy(torch.full((1, 1, 384, 384), 0.5))
    gate = HeldOutGate(
        [image], windows([image], 96), side=96, judge=Stein(), shares=(0.2, 0.5), batch=4, generator=drawn()
    )

    perfect, off = (Says(lambda y, c=c: torch.full_like(y, 0.5 + c)) for c in (0.0, SIGMA))
    first = gate.compare(AS_IT_IS, perfect, Denoising(), Role.JUDGE)
    second = gate.compare(perfect, off, Denoising(), Role.JUDGE)

    sites = 256 * first.blocks
    assert first.before == pytest.approx(1.0, abs=5 * (2 / sites) ** 0.5)
    assert first.after == pytest.approx(0.0, abs=5 * (2 / sites) ** 0.5)
    assert second.after == pytest.approx(1.0, abs=5 * (6 / sites) ** 0.5)
    assert first.better
    assert not second.better
    assert not gate.compare(perfect, perfect, Denoising(), Role.JUDGE).better
    broken = Says(lambda y: y / 0.0)
    assert not gate.compare(perfect, broken, Denoising(), Role.JUDGE).better
    with pytest.raises(ValueError, match="not finite"):
        gate.compare(broken, perfect, Denoising(), Role.JUDGE)


def test_the_verdict_needs_two_standard_errors() -> None:
    assert Verdict(before=1.0, after=0.79, difference=-0.21, standard_error=0.1, blocks=64).better
    assert not Verdict(before=1.0, after=0.81, difference=-0.19, standard_error=0.1, blocks=64).better


def test_informative_windows_have_contrast_above_the_noise() -> None:
    x = torch.full((1, 1, 96, 192), 0.5)
    x[..., 96:] += 0.3 * torch.sign(torch.sin(torch.arange(96) * 0.3))
    image = noisy(x)
    batch = cut([image], windows([image], 96), 96, [torch.ones(96, 192)])

    flat, structured = contrast(batch, (1, 1)).tolist()

    # 2 x 47 x 48 squared differences, each about chi-squared and shared by two: a standard error of about 3 %.
    assert flat == pytest.approx(0.0, abs=0.15)
    assert structured > 0.5


@pytest.mark.parametrize("cfa", [None, Cfa.parse("RGGB"), Cfa(XTRANS_ROWS)])
def test_windows_keep_the_phase_and_cover_the_picture(cfa: Cfa | None) -> None:
    image = NoisyImage(torch.zeros(1, 1, 101, 118), NOISE, cfa)
    side = window_side(40, image.period)
    covered = torch.zeros(101, 118)

    for _, top, left in windows([image], side):
        assert top % image.period[0] == 0
        assert left % image.period[1] == 0
        covered[top : top + side, left : left + side] += 1

    period = image.period
    assert bool((covered[: 101 // period[0] * period[0], : 118 // period[1] * period[1]] > 0).all())


def test_refusals() -> None:
    image = noisy(stripes())
    with pytest.raises(ValueError, match="no picture"):
        adapt(Smoother(0.3), [], generator=drawn())
    with pytest.raises(ValueError, match="squares of 16x16 for the verdict"):
        adapt(Smoother(0.3), noisy(stripes(96)), generator=drawn(), settings=QUICK)
    with pytest.raises(ValueError, match="smaller than a window"):
        adapt(Smoother(0.3), noisy(stripes(40)), generator=drawn(), settings=QUICK)
    other = NoisyImage(image.values, NOISE, Cfa.parse("RGGB"))
    with pytest.raises(ValueError, match="same colour filter array"):
        adapt(Smoother(0.3), [image, other], generator=drawn(), settings=QUICK)
    settings = replace(QUICK, judge=Neighbours())
    with pytest.raises(ValueError, match="does not score by site"):
        adapt(Smoother(0.3), image, generator=drawn(), settings=settings)
    with pytest.raises(ValueError, match=r"\(1, C, H, W\)"):
        NoisyImage(torch.zeros(2, 1, 8, 8), NOISE)
    for options, message in (
        ({"steps": 0}, "steps must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"shares": (0.5, 0.5)}, "shares must be positive"),
        ({"budget_s": 0.0}, "budget_s must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            AdaptSettings(**options)  # type: ignore[arg-type]
