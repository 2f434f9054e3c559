"""What adaptation asks of mosaic networks, and what it sees of the colours that were not measured."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from noise_models.cfa import BAYER_PLANES, QUAD_BAYER_ROWS, XTRANS_ROWS, Cfa
from noise_models.errors import CfaError
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from noise_models.simulate import VirtualCamera
from physrestore.selfsup.crops import Batch, NoisyImage, cut, windows
from physrestore.selfsup.frames import noisy_frame
from physrestore.selfsup.held_out_gate import HeldOutGate, Role
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from physrestore.selfsup.losses.stein import Stein
from physrestore.selfsup.tasks import Demosaicking, Denoising
from physrestore.working_space import WorkingSpace, one_hot

ARRAYS = [Cfa.parse("GRBG"), Cfa(XTRANS_ROWS), Cfa(QUAD_BAYER_ROWS)]
ids = ["Bayer", "X-Trans", "quad-Bayer"]
COLOUR = torch.tensor([0.2, 0.6, 0.4], dtype=torch.float64).reshape(1, 3, 1, 1)
STD = torch.tensor([0.05, 0.1, 0.2], dtype=torch.float64).reshape(1, 3, 1, 1)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Says(nn.Module):
    """One colour everywhere, plus something where it was not measured; remembers what it was shown."""

    def __init__(self, colour: Tensor, cast: float = 0.0) -> None:
        super().__init__()
        self.colour, self.cast = colour, cast
        self.shown: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, mosaic: Tensor, std: Tensor, colours: Tensor) -> Tensor:
        self.shown.append((mosaic, std, colours))
        return self.colour.expand(len(mosaic), 3, *mosaic.shape[-2:]) + self.cast * (1.0 - colours)


def flat(cfa: Cfa, count: int = 1, side: int = 48) -> Batch:
    """Mosaics of one colour with a std of each colour's own."""
    planes = one_hot(cfa, side, side).double()
    mean, std = ((v * planes).sum(1, keepdim=True).expand(count, -1, -1, -1) for v in (COLOUR, STD))
    noise = PixelNoise.of(sigma=std)
    return Batch(mean + noise.draw(mean, generator=drawn()), noise, torch.ones_like(mean))


@pytest.mark.parametrize("cfa", ARRAYS, ids=ids)
def test_the_measured_colour_is_judged(cfa: Cfa) -> None:
    batch = flat(cfa)

    estimate = Demosaicking(cfa).estimate(Says(COLOUR, cast=9.0), batch.y, batch.noise.std(batch.y))

    torch.testing.assert_close(estimate, (COLOUR * one_hot(cfa, 48, 48)).sum(1, keepdim=True))


@pytest.mark.parametrize("cfa", ARRAYS, ids=ids)
def test_the_unseen_change_is_that_of_the_colours_not_measured(cfa: Cfa) -> None:
    batch, cast = flat(cfa, count=2), 0.3

    same = Demosaicking(cfa).unseen_change(Says(COLOUR), Says(COLOUR), batch)
    changed = Demosaicking(cfa).unseen_change(Says(COLOUR), Says(COLOUR, cast), batch)
    seen_only = Demosaicking(cfa).unseen_change(Says(COLOUR), SaysWhereMeasured(COLOUR, 0.5), batch)

    assert same is not None
    assert changed is not None
    assert seen_only is not None
    assert torch.equal(same.values, torch.zeros_like(batch.y))
    torch.testing.assert_close(changed.values, torch.full_like(batch.y, cast**2))
    assert torch.equal(seen_only.values, torch.zeros_like(batch.y))  # those the measurements judge


class SaysWhereMeasured(Says):
    """One colour, plus something where it was measured."""

    def forward(self, mosaic: Tensor, std: Tensor, colours: Tensor) -> Tensor:
        return self.colour + self.cast * colours


def test_the_unseen_change_teaches_the_network_and_not_the_one_before() -> None:
    cfa = Cfa.parse("RGGB")
    before, after = (nn.Parameter(torch.zeros(1, 3, 1, 1, dtype=torch.float64) + k) for k in (0.0, 0.5))
    risk = Demosaicking(cfa).unseen_change(Says(before), Says(after), flat(cfa))
    assert risk is not None
    risk.mean().sum().backward()  # type: ignore[no-untyped-call]  # torch types it not
    assert before.grad is None
    assert after.grad is not None
    assert bool((after.grad > 0).all())


def test_the_gate_charges_what_measured_colours_do_not_show() -> None:
    """A cast where nothing was measured is refused both ways: none of the two is known to be right."""
    cfa = Cfa.parse("RGGB")
    y, noise, *_ = flat(cfa, side=288)
    image = NoisyImage(y, noise, cfa)
    gate = HeldOutGate(
        [image], windows([image], 72), side=72, judge=Stein(), shares=(0.1, 0.4), batch=4, generator=drawn()
    )
    right, cast, worse = Says(COLOUR), Says(COLOUR, 0.1), Says(COLOUR + 0.1)

    for verdict in (
        gate.compare(right, cast, Demosaicking(cfa), Role.JUDGE),
        gate.compare(cast, right, Demosaicking(cfa), Role.JUDGE),
    ):
        assert verdict.before == verdict.after
        assert verdict.difference > 2 * verdict.standard_error
    charged = gate.compare(right, cast, Demosaicking(cfa), Role.JUDGE).difference
    variance = float((STD.square() * torch.tensor([1.0, 2.0, 1.0]).reshape(1, 3, 1, 1)).sum() / 4)
    assert charged == pytest.approx(2 / 3 * 0.01 / variance, rel=1e-6)
    # What is seen to be better at measured colours may cost something between them.
    cured = SaysWhereMeasured(COLOUR + 0.1, -0.1)
    assert gate.compare(worse, cured, Demosaicking(cfa), Role.JUDGE).better


def test_photos_of_several_levels_are_judged_by_their_own() -> None:
    """The mean measurement of a root depends on its black; that of another photo is told wrong."""
    cfa, light = Cfa.parse("RGGB"), 0.05
    generator, images, roots = drawn(5), [], []
    for gain, read in ((0.02, 0.01), (0.002, 0.03)):
        space = WorkingSpace(torch.full((3,), gain), torch.full((3,), read), torch.ones(3))
        x = torch.full((384, 384), light)
        y = gain * torch.poisson(x / gain, generator=generator) + read * torch.randn(x.shape, generator=generator)
        measured, root = (space.balanced(space.stabilise(v, cfa), cfa) - space.black[0] for v in (y, x))
        std = PixelNoise.of(sigma=space.scale[0].reshape(1, 1, 1, 1))
        images.append(NoisyImage(measured[None, None], std, cfa, black=space.black))
        roots.append(float(root.mean()))
    batch = cut(images, windows(images, 384), 384, [torch.ones(384, 384)] * 2)
    network = Says(torch.tensor(roots).reshape(2, 1, 1, 1).expand(2, 3, 1, 1))
    std = batch.noise.std(batch.y)

    own = Demosaicking(cfa).of_batch(batch).estimate(network, batch.y, std)
    first = Demosaicking(cfa, images[0].black).estimate(network, batch.y, std)

    errors = [(batch.y - one).mean(dim=(1, 2, 3)) for one in (own, first)]
    within = 5 * std.mean(dim=(1, 2, 3)) / 384
    naive = torch.tensor([float(image.values.mean()) for image in images]) - torch.tensor(roots)
    # As for one photo, the next term of the series is left out.
    assert bool((errors[0].abs() < within + 0.15 * naive.abs()).all())
    assert abs(errors[1][1]) > within[1] + 0.15 * abs(naive[1])  # the planted error


def test_a_photo_counts_the_same_whatever_its_unit() -> None:
    """Values and noise of one photo times ten: a network without a scale of its own gets the same verdict."""
    y, noise, *_ = flat(Cfa.parse("RGGB"), side=192)
    other, more, *_ = flat(Cfa.parse("RGGB"), side=192)
    verdicts = []
    for factor in (1.0, 10.0):
        images = [NoisyImage(y, noise), NoisyImage(factor * other, more.scaled(factor**2))]
        gate = HeldOutGate(
            images, windows(images, 48), side=48, judge=Stein(), shares=(0.1, 0.4), batch=4, generator=drawn()
        )
        verdicts.append(gate.compare(Scales(1.0), Scales(0.9), Denoising(), Role.JUDGE))
    for name, value in vars(verdicts[0]).items():
        assert getattr(verdicts[1], name) == pytest.approx(value, rel=1e-9)


class Scales(nn.Module):
    """The measurement times a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, y: Tensor, std: Tensor) -> Tensor:
        return self.factor * y


def test_measured_roots_are_smaller_on_average_than_roots_of_light() -> None:
    """The mean of measurements through the generalised Anscombe transform, against what the task expects of a network
    that gives the root of the light; without the correction it would be taught to darken."""
    cfa, gain, read = Cfa.parse("RGGB"), 0.01, 0.03
    space = WorkingSpace(torch.full((3,), gain), torch.full((3,), read), torch.ones(3))
    generator = drawn(4)
    for light in (0.02, 0.1, 0.5):
        x = torch.full((600, 600), light)
        y = gain * torch.poisson(x / gain, generator=generator) + read * torch.randn(x.shape, generator=generator)
        measured = space.balanced(space.stabilise(y, cfa), cfa) - space.black[0]
        root = space.balanced(space.stabilise(x, cfa), cfa)[0, 0] - space.black[0, 0, 0]
        network = Says(root.reshape(1, 1, 1, 1).expand(1, 3, 1, 1))
        std = space.scale[0].expand(1, 1, 600, 600)

        aware = Demosaicking(cfa, space.black).estimate(network, measured[None, None], std)
        unaware = Demosaicking(cfa).estimate(network, measured[None, None], std)

        error = measured.std().item() / 600
        told, naive = ((measured - one[0, 0]).mean().item() for one in (aware, unaware))
        # The next term of the series is left out: a tenth of the correction at 2 electrons, less above.
        assert abs(told) < 5 * error + 0.15 * abs(naive)
        assert naive < -5 * error


def test_monochrome_sensors_have_nothing_unseen() -> None:
    with pytest.raises(CfaError, match="measures all there is"):
        Demosaicking(Cfa.parse("M"))


def test_frames_are_shown_above_their_black_with_the_noise_of_their_colour() -> None:
    plane = PlaneNoise(
        gain=Estimate(value=20.0), read_noise_dn=Estimate(value=40.0), black_level_dn=Estimate(value=512.0)
    )
    noise = SensorNoise(iso=800.0, planes=dict.fromkeys(BAYER_PLANES, plane), row_noise_dn=Estimate(value=0.0))
    cfa = Cfa.parse("GBRG")
    frame = VirtualCamera(noise, cfa=cfa, shape=(96, 128)).flat(0.2, generator=drawn())

    image = noisy_frame(frame, noise)

    space, colours = WorkingSpace.of_frame(frame, noise), one_hot(cfa, 96, 128)
    assert image.cfa == cfa
    torch.testing.assert_close(image.noise.sigma, (space.scale[None] * colours).sum(1, keepdim=True))
    dark = space.stabilise(torch.zeros(frame.shape), cfa)
    expected = space.balanced(space.stabilise(frame.linear()[0, 0], cfa) - dark, cfa)
    assert image.weights is not None
    good = image.weights[0, 0] > 0
    assert float(good.float().mean()) > 0.99
    torch.testing.assert_close(image.values[0, 0][good], expected[good], rtol=1e-3, atol=1e-3)
    assert (image.values / image.noise.sigma)[0, 0][good].std().item() == pytest.approx(1.0, abs=0.05)
