"""What adaptation asks of mosaic networks, and what it sees of the colours that were not measured."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from noise_models.cfa import BAYER_PLANES, QUAD_BAYER_ROWS, XTRANS_ROWS, Cfa
from noise_models.errors import CfaError
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from noise_models.simulate import VirtualCamera
from physrestore.selfsup.crops import Batch, NoisyImage, windows
from physrestore.selfsup.frames import noisy_frame
from physrestore.selfsup.held_out_gate import HeldOutGate, Role
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from physrestore.selfsup.losses.stein import Stein
from physrestore.selfsup.tasks import Demosaicking
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
def test_the_unseen_loss_measures_the_teachers_image_with_another_phase(cfa: Cfa) -> None:
    batch, network = flat(cfa, count=2), Says(COLOUR)
    own = one_hot(cfa, 48, 48)
    seen = set()
    for seed in range(6):
        network.shown.clear()
        loss = Demosaicking(cfa).unseen_loss(network, Says(COLOUR + 0.1), batch, generator=drawn(seed))
        ((mosaic, std, colours),) = network.shown
        assert not torch.equal(colours, own.to(colours))
        torch.testing.assert_close(std, (STD * colours).sum(1, keepdim=True).expand(2, -1, -1, -1))
        z = (mosaic - ((COLOUR + 0.1) * colours).sum(1, keepdim=True)) / std
        assert z.square().mean().item() == pytest.approx(1.0, abs=5 * (2 / z.numel()) ** 0.5)
        assert loss.item() == pytest.approx(0.01)
        seen.add(tuple(colours[0, 0, :6, :6].flatten().tolist()))
    assert len(seen) > 1


@pytest.mark.parametrize("cfa", ARRAYS, ids=ids)
def test_the_unseen_difference_is_that_of_the_colours_not_shown(cfa: Cfa) -> None:
    """Both networks say one colour; the second adds a cast where it was not shown the colour.

    On the image of the first, the cast is its whole error. On its own, which has the cast outside the old phase, both
    err by the cast as often where the phases show different colours, and the first more often where they show the same.
    """
    batch, cast = flat(cfa, count=2), 0.3
    right, wrong = Says(COLOUR), Says(COLOUR, cast)

    risk = Demosaicking(cfa).unseen_difference(right, wrong, batch, generator=drawn(1))
    back = Demosaicking(cfa).unseen_difference(wrong, right, batch, generator=drawn(1))
    same = Demosaicking(cfa).unseen_difference(right, right, batch, generator=drawn(1))

    assert risk is not None
    assert back is not None
    assert same is not None
    assert risk.mean().min() > 0
    assert back.mean().max() < 0
    assert torch.equal(same.values, torch.zeros_like(same.values))
    first = torch.full_like(risk.values, 0.5 * cast**2)
    assert risk.values.max().item() <= first.max().item() + 1e-9


def test_the_gate_sees_a_cast_of_colours_that_were_not_measured() -> None:
    cfa = Cfa.parse("RGGB")
    y, noise, _ = flat(cfa, side=288)
    image = NoisyImage(y, noise, cfa)
    gate = HeldOutGate(
        [image], windows([image], 72), side=72, judge=Stein(), shares=(0.1, 0.4), batch=4, generator=drawn()
    )
    right, cast = Says(COLOUR), Says(COLOUR, 0.1)

    assert gate.compare(cast, right, Demosaicking(cfa), Role.JUDGE).better
    verdict = gate.compare(right, cast, Demosaicking(cfa), Role.JUDGE)
    assert verdict.difference > 2 * verdict.standard_error
    assert verdict.before == verdict.after  # the planted error: measured colours alone do not show it


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
