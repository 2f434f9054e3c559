"""Local means of colours: of what is known, in one place, and what they are for: small noise in half precision."""

from __future__ import annotations

import pytest
import torch

from noise_models.cfa import XTRANS_ROWS, Cfa
from physrestore.networks.local_mean import MEAN_REACH, LocalMean
from physrestore.working_space import one_hot

XTRANS = Cfa(XTRANS_ROWS)
# Float64 throughout: what remains is rounding of sums of some tens of terms.
ROUNDING = 1e-13


@pytest.mark.parametrize("cfa", [Cfa.parse("GRBG"), XTRANS], ids=["bayer", "xtrans"])
def test_local_means_of_flat_light_are_the_light_up_to_the_border(cfa: Cfa) -> None:
    local_mean, colours = LocalMean().double(), one_hot(cfa, 20, 31).double()
    light = torch.tensor([0.3, 0.9, 0.5], dtype=torch.float64)[:, None, None]
    mean = local_mean(light * colours, colours)
    assert float((mean - light).abs().max()) < ROUNDING
    # Planted: a mean over all sites of the window, whether they measured the colour or not.
    assert float((local_mean(light * colours, torch.ones_like(colours)) - light).abs().max()) > 0.1


@pytest.mark.parametrize("cfa", [Cfa.parse("GRBG"), XTRANS], ids=["bayer", "xtrans"])
def test_local_means_of_colours_lie_in_one_place(cfa: Cfa) -> None:
    """On a slope of light all colours have the same mean: a narrow window, not centred, shows the array's pattern."""
    local_mean, colours = LocalMean().double(), one_hot(cfa, 60, 60).double()
    slope = torch.linspace(0.0, 1.0, 60, dtype=torch.float64).expand(60, 60)
    inside = (..., slice(MEAN_REACH, -MEAN_REACH), slice(MEAN_REACH, -MEAN_REACH))
    wrong = (local_mean(slope * colours, colours) - slope)[inside].abs().max() * 59  # in pixels
    assert float(wrong) < 0.1
    local_mean.window.zero_()[..., MEAN_REACH : MEAN_REACH + 3] = 1 / 3
    narrow = (local_mean(slope * colours, colours) - slope)[inside].abs().max() * 59
    assert float(narrow) > 0.2


def test_half_precision_keeps_noise_of_a_thousandth_beside_bright_light() -> None:
    """Rounding to bfloat16 adds less than a hundredth of such noise to the contrast, more than half of it to values."""
    noise, light = 0.001, torch.full((1, 3, 64, 64), 0.8)
    noisy = light + noise * torch.randn(light.shape, generator=torch.Generator().manual_seed(0))

    def rounding(x: torch.Tensor) -> float:
        return float((x.bfloat16().float() - x).std()) / noise

    assert rounding(noisy - LocalMean()(noisy, torch.ones_like(noisy))) < 0.01
    assert rounding(noisy) > 0.5


def test_autocast_does_not_round_means() -> None:
    x = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    whole = LocalMean()(x, torch.ones_like(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(LocalMean()(x, torch.ones_like(x)), whole)
