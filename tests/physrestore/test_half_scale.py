"""The strength by simulation at half the size: right about errors that it can see, on a mosaic with a real prior."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.scene import procedural_scene
from physrestore.demosaic import demosaic
from physrestore.operators.mosaic import Mosaic
from physrestore.priors.transform import TransformPrior
from physrestore.quality import psnr
from physrestore.solvers.auto import restore_tuning_free
from physrestore.solvers.half_scale import choose_by_half_scale

CFA = Cfa.parse("RGGB")
# Electrons at white, read noise [e-]: hardly any noise, so that what is left to do is to demosaick; and much.
QUIET, LOUD = (16000.0, 5.0), (250.0, 3.0)
DIAL = (0.35, 0.7, 1.4, 2.8)


def light() -> Tensor:
    return procedural_scene(512, 768)[None, :, 200:264, 300:364].float()


def law(full: float, read: float) -> Callable[[Tensor], Tensor]:
    return lambda mean: mean.clamp(min=0.0) / full + (read / full) ** 2


def test_it_scores_every_value_against_the_scene_it_made() -> None:
    """A restoration that is the scene plus an error of known size scores this size over the noise's variance."""
    image, operator = light(), Mosaic(CFA)
    scene = torch.nn.functional.avg_pool2d(image, 2)
    made: list[Tensor] = []

    def restore(y: Tensor, strength: float) -> Tensor:
        made.append(y)
        return scene + 0.1 * (strength - 1.0)

    choice = choose_by_half_scale(
        image,
        operator=operator,
        variance=lambda mean: torch.full_like(mean, 0.01),
        restore=restore,
        candidates=(0.5, 1.0, 3.0),
        generator=torch.Generator().manual_seed(0),
    )

    assert choice.scores == pytest.approx((0.25, 0.0, 4.0), abs=1e-4)
    assert choice.strength == 1.0
    assert all(torch.equal(y, made[0]) for y in made)  # all candidates see the same data
    left = (made[0] - operator.A(scene)).square().mean()
    assert float(left) == pytest.approx(0.01, rel=5 * (2 / made[0].numel()) ** 0.5)


@pytest.mark.parametrize("exposure", [QUIET, LOUD], ids=["quiet", "loud"])
def test_the_choice_is_near_the_best_of_the_dial(exposure: tuple[float, float]) -> None:
    truth, operator, variance = light(), Mosaic(CFA), law(*exposure)
    mean = operator.A(truth)
    y = mean + variance(mean).sqrt() * torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))

    def restored(strengths: tuple[float, ...]) -> Tensor:
        return restore_tuning_free(
            y,
            operator=operator,
            variance=variance,
            denoise=TransformPrior().denoise,
            start=lambda data: demosaic(data, CFA),
            generator=torch.Generator().manual_seed(2),
            select="half-scale",
            strengths=strengths,
            period=CFA.period,
            steps=6,
        ).x

    dial = [psnr(restored((strength,)), truth) for strength in DIAL]
    chosen = psnr(restored(DIAL), truth)

    # Within a step of this coarse dial, whose wrong end costs far more; a made scene is not quite alike at all scales.
    assert chosen > max(dial) - 0.7
    assert chosen > min(dial) + 0.8


def test_a_picture_that_cannot_be_halved_is_an_error() -> None:
    with pytest.raises(ValueError, match="give a larger one"):
        choose_by_half_scale(
            torch.zeros(1, 3, 1, 8),
            operator=Mosaic(CFA),
            variance=lambda mean: mean + 1,
            restore=lambda y, _: y,
            candidates=(1.0,),
            generator=torch.Generator(),
        )
