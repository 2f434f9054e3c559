"""Losses that claim to be the squared error: for maps, batches, rows and noise that grows with the signal."""

from __future__ import annotations

import pytest
import torch

from physrestore.selfsup.losses.base import SelfLoss
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from physrestore.selfsup.losses.recorrupted import Recorrupted
from physrestore.selfsup.losses.stein import Stein
from physrestore.selfsup.losses.thinned import Thinned
from tests.physrestore.unbiased import SIDE, assert_unbiased, bent, excess, gaussian, photons, scene, smoother, std_map

DRAWS = 600
MAP = PixelNoise.of(sigma=std_map())
PHOTONS = PixelNoise.of(gain=torch.tensor(0.01, dtype=torch.float64), sigma=0.04)
GAUSSIAN_LOSSES = [Recorrupted(0.5), Recorrupted(1.0), Stein(), Stein(step=0.01, second_order=True)]
names = [repr(loss) for loss in GAUSSIAN_LOSSES]


@pytest.mark.parametrize("loss", GAUSSIAN_LOSSES, ids=names)
def test_std_map(loss: SelfLoss) -> None:
    x = scene()
    y = gaussian(x, MAP, DRAWS)

    assert_unbiased(excess(loss, smoother, y, x, MAP))

    scalar = PixelNoise.of(sigma=std_map().square().mean().sqrt())  # the planted error: right on average only
    with pytest.raises(AssertionError, match="mean"):
        assert_unbiased(excess(loss, smoother, y, x, scalar))


@pytest.mark.parametrize("loss", [Recorrupted(0.5), Stein(step=1e-3)], ids=repr)
def test_estimates_that_are_not_linear(loss: SelfLoss) -> None:
    x = scene()

    assert_unbiased(excess(loss, bent, gaussian(x, MAP, DRAWS), x, MAP))


@pytest.mark.parametrize("loss", GAUSSIAN_LOSSES, ids=names)
def test_batches_of_several_levels(loss: SelfLoss) -> None:
    levels = torch.tensor([0.03, 0.15], dtype=torch.float64).repeat(DRAWS // 2)
    noise = PixelNoise.of(sigma=levels)
    x = scene()
    y = gaussian(x, noise, DRAWS)

    differences = excess(loss, smoother, y, x, noise)
    assert_unbiased(differences[0::2])
    assert_unbiased(differences[1::2])

    of_the_other = PixelNoise.of(sigma=levels.flip(0))
    with pytest.raises(AssertionError, match="mean"):
        assert_unbiased(excess(loss, smoother, y, x, of_the_other)[0::2])


@pytest.mark.parametrize("loss", GAUSSIAN_LOSSES, ids=names)
def test_row_noise(loss: SelfLoss) -> None:
    noise = PixelNoise.of(sigma=std_map(), row=0.06)
    x = scene()
    y = gaussian(x, noise, DRAWS)

    assert_unbiased(excess(loss, smoother, y, x, noise))

    as_pixels = PixelNoise.of(sigma=(std_map() ** 2 + 0.06**2).sqrt())  # the planted error: same variance, no rows
    with pytest.raises(AssertionError, match="mean"):
        assert_unbiased(excess(loss, smoother, y, x, as_pixels))


def test_rows_of_packed_planes_are_shared_by_two_and_two() -> None:
    noise = PixelNoise.of(sigma=0.01, row=0.1, row_groups=(0, 0, 1, 1))
    drawn = noise.draw(torch.zeros(400, 4, 8, 8), generator=torch.Generator().manual_seed(0)).mean(-1)

    red, green, other_green, blue = drawn.movedim(1, 0).flatten(1)
    assert torch.corrcoef(torch.stack([red, green, other_green, blue])).round(decimals=1).tolist() == [
        [1.0, 1.0, 0.0, 0.0],
        [1.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 1.0],
        [0.0, 0.0, 1.0, 1.0],
    ]
    with pytest.raises(ValueError, match="the image has 3"):
        noise.draw(torch.zeros(1, 3, 8, 8), generator=torch.Generator())


def twice(y: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """A strong smoother: for one that keeps half of every value, the errors of a wrong gain cancel."""
    return smoother(smoother(y, std), std)


@pytest.mark.parametrize("loss", [Recorrupted(0.5), Stein(), Stein(second_order=True)], ids=repr)
def test_noise_that_grows_with_the_signal(loss: SelfLoss) -> None:
    x = scene()
    y = photons(x, PHOTONS, DRAWS)

    assert_unbiased(excess(loss, smoother, y, x, PHOTONS))

    flat = PixelNoise.of(sigma=PHOTONS.variance(x).mean().sqrt())  # the planted error: one level for all
    with pytest.raises(AssertionError, match="mean"):
        assert_unbiased(excess(loss, smoother, y, x, flat))


def test_gain_map() -> None:
    gain = torch.linspace(0.002, 0.03, SIDE, dtype=torch.float64).expand(1, 1, SIDE, SIDE)
    noise = PixelNoise.of(gain=gain, sigma=0.03)
    x = scene()
    y = photons(x, noise, DRAWS)

    for loss in (Recorrupted(), Stein(), Thinned()):
        assert_unbiased(excess(loss, smoother, y, x, noise))
        with pytest.raises(AssertionError, match="mean"):
            assert_unbiased(excess(loss, smoother, y, x, PixelNoise.of(gain=gain.mean(), sigma=0.03)))


@pytest.mark.parametrize("sigma", [0.0, 0.04], ids=["photons", "photons and read noise"])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_thinning(sigma: float, share: float) -> None:
    noise = PixelNoise.of(gain=torch.tensor(0.02, dtype=torch.float64), sigma=sigma)
    x = scene()
    y = photons(x, noise, DRAWS)

    assert_unbiased(excess(Thinned(share), twice, y, x, noise))

    wrong = PixelNoise.of(gain=torch.tensor(0.06, dtype=torch.float64), sigma=sigma)
    with pytest.raises(AssertionError, match="mean"):
        assert_unbiased(excess(Thinned(share), twice, y, x, wrong))


def test_thinning_of_pure_photons_is_exact_for_any_estimate() -> None:
    noise = PixelNoise.of(gain=torch.tensor(0.05, dtype=torch.float64))
    x = scene()

    assert_unbiased(excess(Thinned(0.3), bent, photons(x, noise, DRAWS), x, noise))


def test_second_order_makes_few_electrons_right_for_quadratic_estimates() -> None:
    noise = PixelNoise.of(gain=torch.tensor(0.2, dtype=torch.float64), sigma=0.2)
    x = scene()
    y = photons(x, noise, 2 * DRAWS)

    assert_unbiased(excess(Stein(second_order=True), lambda v, _: 0.5 * v**2, y, x, noise))

    with pytest.raises(AssertionError, match="mean"):
        assert_unbiased(excess(Stein(), lambda v, _: 0.5 * v**2, y, x, noise))


def test_recorruption_returns_the_gradient_of_the_plain_loss() -> None:
    y = gaussian(scene(), MAP, 3)
    strength = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    alpha = 0.4

    drawn = MAP.draw(y, generator=torch.Generator().manual_seed(5))
    plain = (strength * smoother(y + alpha * drawn, y) - (y - drawn / alpha)).square().mean()
    ours = Recorrupted(alpha)(
        lambda v, s: strength * smoother(v, s), y, MAP, generator=torch.Generator().manual_seed(5)
    ).mean()

    expected, got = (torch.autograd.grad(value, strength)[0] for value in (plain, ours))
    torch.testing.assert_close(got, expected)


def test_networks_are_told_the_noise_of_what_they_are_fed() -> None:
    told: list[torch.Tensor] = []
    y = gaussian(scene(), MAP, 2)

    def listener(v: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        told.append(std)
        return v

    generator = torch.Generator().manual_seed(0)
    Recorrupted(0.75)(listener, y, MAP, generator=generator)
    Stein()(listener, y, MAP, generator=generator)
    exposed = photons(scene(), PHOTONS, 2)
    Thinned(0.36)(listener, exposed, PHOTONS, generator=generator)

    torch.testing.assert_close(told[0], 1.25 * std_map().expand(y.shape))
    torch.testing.assert_close(told[1], std_map().expand(y.shape))
    torch.testing.assert_close(told[3].mean(), PHOTONS.std(scene()).mean() / 0.8, rtol=0.02, atol=0.0)


def test_averaging_recorruptions_brings_the_noise_down() -> None:
    y = gaussian(scene(), MAP, 1)
    loss, generator = Recorrupted(0.5), torch.Generator().manual_seed(2)

    one, many = (
        (loss.average(lambda v, _: v, y, MAP, samples=n, generator=generator) - y).std().item() for n in (1, 64)
    )

    assert one / many == pytest.approx(8.0, rel=0.2)


def test_weights_take_sites_out() -> None:
    x, noise = scene(), MAP
    y = gaussian(x, noise, DRAWS)
    left = torch.zeros_like(x)
    left[..., :8] = 1.0
    broken = y.clone()
    broken[..., 14:] = 9.0  # clipped, say: not near enough to reach the left through the smoother

    for loss in (Recorrupted(), Stein()):
        assert_unbiased(excess(loss, smoother, broken, x, noise, weights=left))
        with pytest.raises(AssertionError, match="mean"):
            assert_unbiased(excess(loss, smoother, broken, x, noise))
        with pytest.raises(ValueError, match="no site that counts"):
            loss(smoother, y, noise, generator=torch.Generator(), weights=torch.zeros_like(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Recorrupted(0.0), "alpha must be above 0"),
        (lambda: Stein(step=-1.0), "step must be above 0"),
        (lambda: Thinned(1.0), "share must be above 0 and below 1"),
        (PixelNoise.of, "no noise to learn from"),
        (lambda: PixelNoise.of(sigma=-0.1), "sigma must be finite and not negative"),
        (lambda: PixelNoise.of_noise_model(torch.nn.Identity()), "neither gain nor sigma"),
    ],
)
def test_refusals(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]


def test_losses_refuse_noise_that_they_cannot_be_right_for() -> None:
    y, generator = gaussian(scene(), MAP, 1), torch.Generator()

    with pytest.raises(ValueError, match="gain is 0"):
        Thinned()(smoother, y, MAP, generator=generator)
    with pytest.raises(ValueError, match="rows share an offset"):
        Thinned()(smoother, y, PixelNoise.of(gain=0.1, row=0.1), generator=generator)
    with pytest.raises(ValueError, match="does not fit"):
        Stein()(smoother, y, PixelNoise.of(sigma=torch.ones(3, 3)), generator=generator)
