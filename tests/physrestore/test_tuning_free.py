"""Parameters from the noise model: what the prior is told, which strength is chosen, and the alarms of the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from physrestore.quality import psnr
from physrestore.solvers.auto import restore_tuning_free
from physrestore.solvers.choice import Choice, blend, choose
from physrestore.solvers.held_out import choose_by_held_out
from physrestore.solvers.iterate import StopReason
from physrestore.solvers.noise_level import image_noise_level
from physrestore.solvers.sure import choose_by_sure

SIDE = 64


class Mask:
    """Keeps some sites; a stand-in for a mosaic."""

    def __init__(self, keep: Tensor) -> None:
        self.keep = keep

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        return self.keep * x

    A_adjoint = A

    def prox_weighted(self, z: Tensor, y: Tensor, weights: Tensor, gamma: float | Tensor) -> Tensor:
        seen = self.keep * weights
        return (seen * y + z / gamma) / (seen + 1 / gamma)


def gaussian(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spectrum() -> Tensor:
    """Power of a smooth random scene, per value."""
    fy, fx = torch.fft.fftfreq(SIDE).double()[:, None], torch.fft.fftfreq(SIDE).double()[None]
    return 0.1 / (1 + 4000 * (fy.square() + fx.square())) ** 1.5


def scene(seed: int) -> Tensor:
    return 0.5 + torch.fft.ifft2(torch.fft.fft2(gaussian(seed, 1, 1, SIDE, SIDE)) * spectrum().sqrt()).real


def wiener(trust: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The posterior mean for such scenes if it is told ``trust`` times the noise it should be."""

    def denoise(x: Tensor, noise_level: Tensor) -> Tensor:
        variance = (noise_level.mean() / trust) ** 2
        return 0.5 + torch.fft.ifft2(torch.fft.fft2(x - 0.5) * spectrum() / (spectrum() + variance)).real

    return denoise


STD = 0.05
STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
EVERYWHERE = torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool)


def constant(mean: Tensor) -> Tensor:
    return torch.full_like(mean, STD**2)


def settings(**changed: Any) -> dict[str, Any]:
    parts = {
        "operator": Mask(EVERYWHERE.double()),
        "variance": constant,
        "denoise": wiener(1.0),
        "start": lambda y: y,
        "generator": torch.Generator().manual_seed(0),
    }
    return {**parts, **changed}


def test_the_image_has_the_noise_of_its_own_sites() -> None:
    columns = torch.arange(SIDE) % 2
    keep = torch.stack([columns == 0, columns == 1])[None, :, None].expand(1, 2, SIDE, SIDE).double()
    std = torch.tensor([0.02, 0.05]).double().reshape(1, 2, 1, 1)

    level = image_noise_level(Mask(keep), (1 / std.square()).expand(1, 2, SIDE, SIDE), keep)

    assert torch.allclose(level, std.expand_as(level))


def test_gain_in_the_operator_makes_the_image_cleaner_than_the_data() -> None:
    level = image_noise_level(Mask(torch.tensor(4.0)), torch.full((1, 1, 8, 8), 25.0), torch.zeros(1, 1, 8, 8))

    assert torch.allclose(level, torch.tensor(0.2 / 4))


def test_a_blown_area_has_the_noise_of_the_noisiest_place_that_counts() -> None:
    weights = torch.ones(1, 1, SIDE, SIDE)
    weights[..., :32] = 0
    weights[..., 48:] = 4

    level = image_noise_level(Mask(torch.tensor(1.0)), weights, weights)

    assert torch.isfinite(level).all()
    assert torch.equal(level[..., :20], level.amax().expand_as(level[..., :20]))
    assert torch.allclose(level[..., 56:], torch.tensor(0.5))


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="no measured site with a positive weight"):
        image_noise_level(Mask(torch.tensor(1.0)), torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))


def shrinking(y: Tensor, measured: Tensor, strength: float) -> Tensor:
    """A restoration with a known best: the Wiener filter for ``strength`` times the variance, unmeasured at 0.5."""
    gain = spectrum() / (spectrum() + strength * STD**2)
    return 0.5 + torch.fft.ifft2(torch.fft.fft2(torch.where(measured, y - 0.5, 0.0)) * gain).real


CANDIDATES = (0.01, 0.2, 1.0, 5.0, 100.0)


def test_sure_is_the_true_error_and_chooses_the_posterior_mean() -> None:
    truth = scene(1)
    y = truth + STD * gaussian(2, 1, 1, SIDE, SIDE)

    choice = choose_by_sure(
        y,
        restore=shrinking,
        variance=constant(y),
        measured=EVERYWHERE,
        candidates=CANDIDATES,
        generator=torch.Generator().manual_seed(0),
    )

    assert choice.strength == 1.0
    n = y.numel()
    for score, strength in zip(choice.scores, CANDIDATES, strict=True):
        true = float((shrinking(y, EVERYWHERE, strength) - truth).square().mean()) / STD**2
        # |y - x|^2 has a spread of about 2 error + 2 per site, the probe one of 4 on the divergence.
        assert abs(score - true) < 5 * ((2 + 4 * true + 4) / n) ** 0.5


def test_sure_with_the_wrong_noise_is_not_the_error() -> None:
    truth = scene(1)
    y = truth + STD * gaussian(2, 1, 1, SIDE, SIDE)

    choice = choose_by_sure(
        y,
        restore=shrinking,
        variance=constant(y) * 4,
        measured=EVERYWHERE,
        candidates=(1.0,),
        generator=torch.Generator().manual_seed(0),
    )

    true = float((shrinking(y, EVERYWHERE, 1.0) - truth).square().mean()) / (4 * STD**2)
    assert abs(choice.scores[0] - true) > 0.3


def held_out(y: Tensor, restore: Callable[[Tensor, Tensor, float], Tensor], **changed: Any) -> Choice:
    parts: dict[str, Any] = {"variance": constant(y), "measured": EVERYWHERE, "period": (1, 1), "share": 0.1}
    generator = torch.Generator().manual_seed(0)
    return choose_by_held_out(y, restore=restore, candidates=CANDIDATES, generator=generator, **{**parts, **changed})


def test_held_out_sites_are_scored_without_their_noise() -> None:
    truth = scene(3)
    y = truth + STD * gaussian(4, 1, 1, SIDE, SIDE)

    perfect = held_out(y, lambda *_: truth)
    smoothed = held_out(y, lambda visible, kept, strength: shrinking(visible, EVERYWHERE, strength))

    assert abs(perfect.scores[0]) < 5 * (2 / 400) ** 0.5
    assert smoothed.strength in {0.2, 1.0, 5.0}
    assert smoothed.scores[-1] > max(smoothed.scores[1:4])


def test_what_is_hidden_cannot_be_seen() -> None:
    """A restoration that hands its data through would score 0 noise if it saw them: minus 1. It sees neighbours."""
    y = scene(5) + STD * gaussian(6, 1, 1, SIDE, SIDE)

    leak = held_out(y, lambda visible, kept, strength: visible)

    assert leak.scores[0] > 0


def test_hidden_sites_are_filled_from_their_own_colour() -> None:
    colours = (torch.arange(SIDE)[:, None] % 2 + 2.0 * (torch.arange(SIDE) % 2)).double()
    y = colours[None, None] + 0.0

    own = held_out(y, lambda visible, kept, strength: visible, period=(2, 2))
    mixed = held_out(y, lambda visible, kept, strength: visible, period=(1, 1))

    assert own.scores[0] == pytest.approx(-1)
    assert mixed.scores[0] > 10


def test_too_small_a_share_is_an_error() -> None:
    with pytest.raises(ValueError, match="hides none"):
        held_out(scene(1), shrinking, share=0.0)


def test_no_candidate_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one candidate"):
        choose([], [], method="none")


def test_a_blend_weighs_the_scores_and_refuses_other_candidates() -> None:
    first = Choice(1.0, (0.5, 1.0), (2.0, 1.0), (0.3, 0.0), "a")
    second = Choice(0.5, (0.5, 1.0), (1.0, 1.8), (0.0, 0.4), "b")

    assert blend(first, second, share=0.5).scores == pytest.approx((1.5, 1.4))
    assert blend(first, second, share=0.5).strength == 1.0
    assert blend(first, second, share=0.4).strength == 0.5
    assert blend(first, second, share=0.5).errors == pytest.approx((0.15, 0.2))
    with pytest.raises(ValueError, match="different candidates"):
        blend(first, Choice(1.0, (1.0,), (1.0,), (0.0,), "c"), share=0.5)


def noisy(seed: int) -> tuple[Tensor, Tensor]:
    truth = scene(seed)
    return truth, truth + STD * gaussian(seed + 100, 1, 1, SIDE, SIDE)


@pytest.mark.parametrize("trust", [0.3, 3.0])
def test_a_prior_that_misjudges_the_noise_is_set_right_by_the_data(trust: float) -> None:
    truth, y = noisy(7)
    parts = settings(denoise=wiener(trust), steps=8)
    dial = [psnr(restore_tuning_free(y, **parts, select="sure", strengths=(s,)).x, truth) for s in STRENGTHS]

    chosen = restore_tuning_free(y, **parts, select="sure", strengths=STRENGTHS)

    assert chosen.choice is not None
    assert chosen.choice.strength != 1.0
    assert psnr(chosen.x, truth) > max(dial) - 0.15
    assert psnr(restore_tuning_free(y, **parts).x, truth) < max(dial) - 0.3


def test_sites_that_were_never_measured_are_judged_by_hidden_ones() -> None:
    keep = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3)) < 0.4
    truth, full = noisy(9)
    y = torch.where(keep, full, 0.0)

    result = restore_tuning_free(y, **settings(steps=8), measured=keep, select="held-out", strengths=STRENGTHS)

    assert result.choice is not None
    assert "held-out photosites" in result.choice.method
    assert psnr(result.x, truth) > psnr(torch.where(keep, full, y[keep].mean()), truth) + 3
    poisoned = restore_tuning_free(
        torch.where(keep, full, 1e3),
        **settings(steps=8, start=lambda _: torch.full_like(y, 0.5)),
        measured=keep,
    )
    clean = restore_tuning_free(y, **settings(steps=8, start=lambda _: torch.full_like(y, 0.5)), measured=keep)
    assert torch.equal(poisoned.x, clean.x)


def test_the_alarms_tell_right_noise_from_wrong() -> None:
    _, y = noisy(11)

    right = restore_tuning_free(y, **settings())
    too_little = restore_tuning_free(y, **settings(variance=lambda mean: constant(mean) / 9))
    strong = restore_tuning_free(y, **settings(denoise=lambda x, _: torch.full_like(x, 0.5)))

    assert right.choice is None
    assert right.solution.reason is StopReason.SCHEDULE
    assert right.chi2[0] == pytest.approx(1.0, abs=0.1)
    assert abs(right.correlation.horizontal[0]) < 5 * right.correlation.standard_error
    assert too_little.chi2[0] > 2
    assert strong.correlation.horizontal[0] > 5 * strong.correlation.standard_error, (
        "what is left in the residual is picture"
    )


def test_the_data_weigh_as_the_noise_expected_at_the_current_estimate() -> None:
    seen: list[Tensor] = []

    class Watched(Mask):
        def prox_weighted(self, z: Tensor, y: Tensor, weights: Tensor, gamma: float | Tensor) -> Tensor:
            seen.append(weights * variance(z))
            return super().prox_weighted(z, y, weights, gamma)

    def variance(mean: Tensor) -> Tensor:
        return 0.01 * mean.clamp(min=0.0) + 1e-4

    restore_tuning_free(noisy(13)[1], **settings(operator=Watched(EVERYWHERE.double()), variance=variance))

    assert len(seen) == 20
    assert all(torch.allclose(unit, torch.ones_like(unit)) for unit in seen)


def test_the_same_generator_gives_the_same_restoration_and_the_data_are_left_alone() -> None:
    _, y = noisy(15)
    given = y.clone()

    runs = [restore_tuning_free(y, **settings(steps=4), select="both", strengths=(0.5, 1.0)) for _ in range(2)]

    assert torch.equal(y, given)
    assert torch.equal(runs[0].x, runs[1].x)
    assert runs[0].choice == runs[1].choice


def test_data_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        restore_tuning_free(torch.full((1, 1, 8, 8), float("nan")), **settings())


def test_a_mosaic_with_the_weight_free_prior_beats_its_start_and_weighs_both_scores() -> None:
    from noise_models.cfa import Cfa
    from physrestore.demosaic import demosaic
    from physrestore.operators.mosaic import Mosaic
    from physrestore.priors.transform import TransformPrior

    cfa, full, read_noise = Cfa.parse("GRBG"), 200.0, 3.0

    def variance(mean: Tensor) -> Tensor:
        return mean.clamp(min=0.0) / full + (read_noise / full) ** 2

    truth = (scene(17) + torch.tensor([0.05, 0.1, -0.1]).double().reshape(1, 3, 1, 1)).float()
    operator = Mosaic(cfa)
    mean = operator.A(truth)
    y = mean + variance(mean).sqrt() * gaussian(18, 1, 1, SIDE, SIDE).float()

    result = restore_tuning_free(
        y,
        operator=operator,
        variance=variance,
        denoise=TransformPrior().denoise,
        start=lambda data: demosaic(data, cfa),
        generator=torch.Generator().manual_seed(0),
        select="both",
        strengths=(0.5, 1.0),
        period=cfa.period,
        steps=6,
    )

    assert result.choice is not None
    assert result.choice.method.startswith("33% SURE at 4096 photosites, 67% ")
    assert psnr(result.x, truth) > psnr(demosaic(y, cfa), truth) + 6
    # The image is told the noise of the mosaic: that of its mean, on the average.
    assert torch.allclose(result.noise_level.square().mean(), variance(truth).mean(), rtol=0.1)
