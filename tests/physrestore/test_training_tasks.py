"""What the networks are shown: shapes, and whether the noise they are told is the noise that is there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from noise_models.cfa import BAYER_PHASES, BAYER_PLANES, Cfa
from noise_models.sampling import NoiseParameters, WidePrior
from physrestore.networks.colour_net import ColourNetConfig
from physrestore.networks.mosaic_net import MosaicNetConfig
from physrestore.training.pictures import Pictures
from physrestore.training.tasks import mosaic as mosaic_task
from physrestore.training.tasks.colour import COLOUR_SPREAD, ColourTask
from physrestore.training.tasks.mosaic import LEVEL_SPREAD, MosaicTask
from physrestore.training.unprocess import Unprocessing
from physrestore.working_space import one_hot

NETWORK = MosaicNetConfig(channels=(4, 6))
# Photons enough that the square root is stable to 1e-3, and no highlights.
BRIGHT = Unprocessing(exposure=(0.3, 0.8))


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(level: int = 128) -> Pictures:
    return Pictures([torch.full((3, 80, 80), level, dtype=torch.uint8)])


def speckled() -> Pictures:
    return Pictures([torch.randint(256, (3, 80, 80), generator=gen(), dtype=torch.uint8)])


@dataclass(frozen=True)
class PlainSensors:
    """Shot noise, Gaussian read noise and rounding; gains drawn over two decades."""

    planes: tuple[str, ...] = BAYER_PLANES

    def draw(self, count: int, *, generator: torch.Generator) -> NoiseParameters:
        prior = WidePrior(
            planes=self.planes, gain_dn=(0.2, 20.0), prnu=(0.0, 0.0), black_error_dn=(1e-9, 1e-9), bits=(14,)
        )
        drawn = prior.draw(count, generator=generator)
        zero = torch.zeros_like(drawn.row_noise_dn)
        return replace(drawn, row_noise_dn=zero, tail_kind=zero.long(), tail_shape=zero)


def test_shapes_of_a_mosaic_batch() -> None:
    values, noise, colours, clean = MosaicTask(speckled(), network=NETWORK, side=12, count=3).batch(gen())
    assert (values.shape, noise.shape, clean.shape) == ((3, 1, 12, 12), (3, 1, 12, 12), (3, 3, 12, 12))
    assert colours.shape == (1, 3, 12, 12)
    assert torch.equal(colours.sum(1), torch.ones(1, 12, 12))
    assert all(part.dtype == torch.float32 and bool(torch.isfinite(part).all()) for part in (values, noise, clean))


def test_every_kind_of_sensor_is_drawn() -> None:
    task, generator = MosaicTask(speckled(), network=NETWORK, side=12, count=1), gen()
    patterns = {tuple(task.batch(generator)[2].argmax(1).flatten().tolist()) for _ in range(60)}
    bayer = {tuple(one_hot(Cfa.parse(phase), 12, 12).argmax(1).flatten().tolist()) for phase in BAYER_PHASES}
    assert bayer < patterns  # and some X-Trans


@pytest.mark.parametrize("kind", ["bayer", "xtrans"])
def test_a_cameras_own_law_decides_its_pattern(kind: str) -> None:
    planes = BAYER_PLANES if kind == "bayer" else ("R", "G", "B")
    task = MosaicTask(flat(), network=NETWORK, side=12, count=1, fixed=PlainSensors(planes))
    green = {round(float(task.batch(gen(seed))[2][:, 1].mean()), 3) for seed in range(8)}
    assert green == ({0.5} if kind == "bayer" else {round(20 / 36, 3)})


def level_ratio(batch: tuple[Tensor, ...], *, told: Tensor | None = None) -> Tensor:
    """Measured std of (values - clean) over the told one, of every picture and colour, (B, 3)."""
    values, noise, colours, clean = batch
    ratios = []
    for colour in range(3):
        sites = colours[0, colour] > 0
        error = (values - clean[:, colour : colour + 1])[:, 0][:, sites]
        ratios.append(error.std(1) / (noise if told is None else told)[:, 0][:, sites].mean(1))
    return torch.stack(ratios, dim=1)


@pytest.mark.parametrize("noise", ["calibrated", "gaussian"])
def test_the_told_noise_is_the_noise_that_is_there(noise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosaic_task, "LEVEL_SPREAD", 0.0)
    monkeypatch.setattr(mosaic_task, "XTRANS_SHARE", 0.0)
    task = MosaicTask(
        flat(200), network=NETWORK, side=64, count=24, noise=noise, fixed=PlainSensors(), unprocessing=BRIGHT
    )
    batch = task.batch(gen(4))
    sites = 64 * 64 / 4  # of red and blue
    error = 1 / math.sqrt(2 * sites)

    ratio = level_ratio(batch)

    assert float((ratio - 1).abs().max()) < 5 * error
    # Planted: a network told twice the gain, and one told the same for all colours.
    doubled = level_ratio(batch, told=math.sqrt(2) * batch[1])
    alike = level_ratio(batch, told=batch[1].mean(dim=(2, 3), keepdim=True).expand_as(batch[1]))
    assert float((doubled - 1).abs().min()) > 5 * error
    assert float((alike - 1).abs().max()) > 5 * error


def test_the_told_noise_errs_as_much_as_profiles_do() -> None:
    task = MosaicTask(flat(200), network=NETWORK, side=32, count=100, fixed=PlainSensors(), unprocessing=BRIGHT)
    ratio = torch.cat([level_ratio(task.batch(gen(seed)))[:, 1] for seed in range(4)])
    spread = float(ratio.log().std())
    sampling = 1 / math.sqrt(2 * 32 * 32 / 2)  # of each measured std
    expected = math.hypot(LEVEL_SPREAD, sampling)
    assert abs(spread / expected - 1) < 5 / math.sqrt(2 * len(ratio))
    assert abs(spread / sampling - 1) > 5 / math.sqrt(2 * len(ratio))  # without the spread


def test_some_cameras_read_out_noisily() -> None:
    drawn = WidePrior().draw(2000, generator=gen())
    harder = mosaic_task._harder(drawn, gen(1))
    factor = (harder.read_noise_dn / drawn.read_noise_dn)[:, 0]
    changed = factor > 1
    share, error = mosaic_task.NOISY_READOUT_SHARE, math.sqrt(0.2 * 0.8 / 2000)
    assert abs(float(changed.float().mean()) - share) < 5 * error
    assert float(factor.min()) == 1.0
    assert 0.95 * mosaic_task.NOISIEST_READOUT < float(factor.max()) <= mosaic_task.NOISIEST_READOUT
    # Log-uniform: the mean logarithm is half of the largest's.
    logs = factor[changed].log() / math.log(mosaic_task.NOISIEST_READOUT)
    assert abs(float(logs.mean()) - 0.5) < 5 / math.sqrt(12 * len(logs))
    assert torch.equal(harder.gain_dn, drawn.gain_dn)


def test_calibrated_noise_has_what_gaussian_noise_has_not() -> None:
    """Rounding: calibrated values lie on the codes of the sensor, Gaussian ones anywhere."""
    law = PlainSensors()
    counts = {}
    for noise in ("calibrated", "gaussian"):
        task = MosaicTask(flat(2), network=NETWORK, side=64, count=1, noise=noise, fixed=law)
        values = task.batch(gen(1))[0]
        counts[noise] = len(values.unique())
    assert counts["calibrated"] < counts["gaussian"] / 4


def test_the_mosaics_loss_counts_measured_and_interpolated_sites() -> None:
    task = MosaicTask(flat(), network=NETWORK)
    colours = one_hot(Cfa.parse("RGGB"), 4, 4)
    clean, noise = torch.zeros(1, 3, 4, 4), torch.full((1, 1, 4, 4), 0.1)
    values = torch.zeros(1, 1, 4, 4)
    batch = (values, noise, colours, clean)
    level = 0.1**mosaic_task.ERROR_POWER

    measured = task.loss(lambda *_: colours, batch)
    between = task.loss(lambda *_: 1 - colours, batch)

    assert float(task.loss(lambda *_: clean, batch)) == 0.0
    assert float(measured) == pytest.approx(1 / 3 / level)
    assert float(between) == pytest.approx(mosaic_task.INTERPOLATED * 2 / 3 / level)


def test_low_noise_does_not_outweigh_all_else() -> None:
    task, colours = MosaicTask(flat(), network=NETWORK), one_hot(Cfa.parse("RGGB"), 4, 4)

    def loss(level: float, wrong: Tensor) -> float:
        noise = torch.full((1, 1, 4, 4), level)
        return float(task.loss(lambda *_: wrong, (noise, noise, colours, torch.zeros(1, 3, 4, 4))))

    for wrong, floor in ((colours, mosaic_task.MEASURED_FLOOR), (1 - colours, mosaic_task.BETWEEN_FLOOR)):
        assert loss(4 * floor, wrong) < loss(2 * floor, wrong) < loss(floor, wrong)
        assert loss(floor / 100, wrong) == loss(floor, wrong)


def test_the_colour_task_tells_its_noise() -> None:
    task = ColourTask(speckled(), network=ColourNetConfig(channels=(4, 6)), side=40, count=200)
    noisy, sigma, clean = task.batch(gen())
    assert (noisy.shape, sigma.shape) == ((200, 3, 40, 40), (200, 3, 1, 1))
    ratio = (noisy - clean).flatten(2).std(2) / sigma[..., 0, 0]
    error = 1 / math.sqrt(2 * 40 * 40)
    assert float((ratio - 1).abs().max()) < 5 * error
    planted = (noisy - clean).flatten(2).std(2) / sigma.mean(1, keepdim=True)[..., 0, 0]
    assert float((planted - 1).abs().max()) > 5 * error


def test_the_colour_tasks_levels_span_their_range_evenly_in_logarithm() -> None:
    task = ColourTask(flat(), network=ColourNetConfig(channels=(4, 6)), side=2, count=2000, sigma=(0.01, 0.1))
    logs = task.batch(gen())[1][..., 0, 0].log()
    low, high = math.log(0.01), math.log(0.1)
    spread_of_mean = math.sqrt((high - low) ** 2 / 12 + COLOUR_SPREAD**2 / 3)
    assert abs(float(logs.mean()) - (low + high) / 2) < 5 * spread_of_mean / math.sqrt(2000)
    colours = logs - logs.mean(1, keepdim=True)
    within = float(colours.square().sum() / (2000 * 2))  # two degrees of freedom a picture
    assert abs(within / COLOUR_SPREAD**2 - 1) < 5 * math.sqrt(2 / 4000)


def test_the_colour_loss_weighs_levels() -> None:
    task = ColourTask(flat(), network=ColourNetConfig(channels=(4, 6)))
    clean, sigma = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 1, 1), 0.01)
    assert float(task.loss(lambda *_: clean, (clean, sigma, clean))) == 0.0
    assert float(task.loss(lambda *_: clean + 1, (clean, sigma, clean))) == pytest.approx(0.01**-0.7)


def test_batches_follow_the_generator_alone() -> None:
    for task in (
        MosaicTask(speckled(), network=NETWORK, side=12, count=2),
        ColourTask(speckled(), network=ColourNetConfig(channels=(4, 6)), side=12, count=2),
    ):
        first, second, other = (task.batch(gen(seed)) for seed in (3, 3, 4))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert not torch.equal(first[0], other[0])
