"""The expected error of plug-and-play: whether it can be believed, and what it says where nothing is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from noise_models.cfa import XTRANS_ROWS
from physrestore.errors import RestoreError
from physrestore.pnp import restore_pnp
from physrestore.pnp.expected_error import ErrorLaw, error_std, features, in_light
from physrestore.pnp.held_out_error import HeldOut
from physrestore.pnp.joint import Measured
from physrestore.priors.transform import TransformPrior
from physrestore.solvers.coverage import coverage
from physrestore.working_space import WorkingSpace
from tests.physrestore.test_pnp import BLACK, GAIN_DN, WHITE, frame_of, scene, sensor_noise

XTRANS = "".join(XTRANS_ROWS)


def textured(height: int, width: int) -> Tensor:
    """A scene with detail at all scales in its right half: the left is easy, the right is not."""
    generator = torch.Generator().manual_seed(7)
    pattern = sum(
        torch.nn.functional.interpolate(
            torch.randn(1, 1, height // k, width // k, generator=generator), size=(height, width), mode="bicubic"
        )[0]
        for k in (2, 4, 8)
    )
    right = torch.sigmoid((torch.arange(width) - 0.5 * width) / 2.0)
    return 0.7 * scene(height, width) * (1 + 0.15 * right * pattern).clamp(min=0.2)


@pytest.mark.parametrize("name", ["RGGB", XTRANS])
def test_intervals_cover_and_tell_hard_places_from_easy_ones(name: str) -> None:
    truth = textured(144, 144)
    frame = frame_of(truth, name)

    result = restore_pnp(frame, sensor_noise(frame.cfa), uncertainty=True)

    assert result.uncertainty is not None
    assert result.uncertainty.shape == result.rgb.shape
    error, std = result.rgb - truth, result.uncertainty
    easy, hard = (slice(None), slice(None), slice(12, 60)), (slice(None), slice(None), slice(84, 132))
    # A synthetic scene is no picture: its own tolerance; pictures are in `tests.benchmarks.uncertainty`.
    assert 0.75 < coverage(error[hard], std[hard], level=0.9) < 0.999
    assert coverage(error[easy], std[easy], level=0.9) > 0.85
    # The planted errors: a quarter of the std, and the map of another place, do not.
    assert coverage(error[hard], 0.25 * std[hard], level=0.9) < 0.75
    assert coverage(error[hard], std[easy], level=0.9) < 0.75
    expected, found = (float(part.square().mean().sqrt()) for part in (std[hard], error[hard]))
    assert 0.6 < expected / found < 1.9  # grey texture is easier to demosaick than what the law was fitted to


def test_the_law_is_a_sum_of_its_causes() -> None:
    generator = torch.Generator().manual_seed(0)
    v = 0.5 + 0.1 * torch.rand(3, 32, 32, generator=generator)
    frame = frame_of(scene(32, 32), "RGGB")
    everywhere = torch.ones(32, 32, dtype=torch.bool)
    noise = torch.tensor([0.01, 0.02, 0.03]).reshape(3, 1, 1)
    data = Measured(v[:1, None].mean(0, keepdim=True), everywhere, ~everywhere, noise, frame.cfa)
    law = ErrorLaw(measured=(1.0, 0.0, 0.0, 0.0, 0.0), between=(4.0, 0.0, 0.0, 0.0, 0.0))

    std = error_std(v, data, law)

    assert float(std[0, 0, 0]) == pytest.approx(0.01)  # red is measured at the corner of RGGB
    assert float(std[2, 0, 0]) == pytest.approx(0.06)
    causes = features(v, data)
    assert causes.shape == (5, 3, 32, 32)
    assert float(causes.min()) >= 0
    flat = features(torch.full_like(v, 0.5), replace(data, values=torch.full((1, 1, 32, 32), 0.5)))
    assert torch.equal(flat[1:], torch.zeros_like(flat[1:]))


def test_the_way_to_light_is_its_slope() -> None:
    frame = frame_of(scene(32, 32), "RGGB")
    space = WorkingSpace.of_frame(frame, sensor_noise(frame.cfa))
    v = torch.linspace(0.3, 0.9, 64).expand(3, 1, 64)
    step = 1e-3

    slope = (space.light(v + step) - space.light(v - step)) / (2 * step)

    assert torch.allclose(in_light(torch.ones_like(v), v, space), slope, rtol=1e-3)
    black = in_light(torch.ones(3, 1, 1), torch.zeros(3, 1, 1), space)
    assert float(black.min()) > 0  # black is not known for certain


@pytest.mark.parametrize("name", ["RGGB", XTRANS])
def test_saturated_colours_have_no_error_that_is_known(name: str) -> None:
    truth = scene(72, 72) * 1.9
    frame = frame_of(truth, name)

    std = restore_pnp(frame, sensor_noise(frame.cfa), uncertainty=True).uncertainty

    assert std is not None
    clipped = frame.clipped()[0, 0]
    assert clipped.any()
    green = torch.tensor([[letter == "G" for letter in row] for row in frame.cfa.rows])
    period = green.shape[0]
    at_green = green.repeat(72 // period, 72 // period) & clipped
    assert bool(std[1][at_green].isnan().all())
    assert bool(torch.isfinite(std[:, :, :20]).all())  # the dark side


def test_strength_puts_the_noise_back_into_the_error() -> None:
    truth = torch.full((3, 96, 96), 0.2)
    frame = frame_of(truth, "RGGB")
    noise = sensor_noise(frame.cfa)

    full, half, none = (restore_pnp(frame, noise, strength=s, uncertainty=True).uncertainty for s in (100, 50, 0))

    assert full is not None
    assert half is not None
    assert none is not None
    own = float((GAIN_DN * 0.2 / (WHITE - BLACK)) ** 0.5)  # of one site, read noise is small
    assert float(none.mean()) == pytest.approx(own, rel=0.1)
    assert float(half.mean()) == pytest.approx(0.5 * own, rel=0.25)
    assert float(full.mean()) < 0.45 * own


class _Careless(TransformPrior):
    """A prior that blurs everything: much worse than the law expects."""

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        return torch.nn.functional.avg_pool2d(super().denoise(x, sigma), 9, 1, 4, count_include_pad=False)


def test_the_error_of_an_unfamiliar_prior_is_measured() -> None:
    truth = textured(96, 96)
    frame = frame_of(truth, "RGGB")
    noise = sensor_noise(frame.cfa)

    good, bad = (restore_pnp(frame, noise, prior=p, uncertainty=True) for p in (TransformPrior(), _Careless()))

    factors = [result.numbers["error_factor"] for result in (good, bad)]
    assert factors[1] > 1.5 * factors[0]
    assert bad.uncertainty is not None
    error = bad.rgb - truth
    assert coverage(error, bad.uncertainty, level=0.9) > 0.88
    assert coverage(error, bad.uncertainty / factors[1], level=0.9) < 0.88  # uncorrected, it would not


def test_held_out_sums_add_up_and_are_never_surer_than_shown() -> None:
    one = HeldOut(excess=4.0, excess_variance=0.01, expected=1.0, count=100)
    lost = HeldOut(excess=-3.0, excess_variance=4.0, expected=16.0, count=100)

    assert one.factor == pytest.approx(2.0)
    assert lost.factor == pytest.approx(0.5)  # two standard errors of 2, of 16 expected
    assert (one + lost).expected == 17.0
    assert (one + lost).count == 200
    assert HeldOut().factor == 1.0


def test_without_being_asked_there_is_none_and_with_optics_it_is_refused() -> None:
    frame = frame_of(scene(48, 48), "RGGB")
    noise = sensor_noise(frame.cfa)

    assert restore_pnp(frame, noise).uncertainty is None
    with pytest.raises(RestoreError, match="not with --deblur or --scale"):
        restore_pnp(frame, noise, uncertainty=True, scale=2)
