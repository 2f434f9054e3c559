"""Joint noise levels inside deepinv: updates, its trainer, its data sets, its workers."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from noise_models.cfa import BAYER_PLANES, Cfa
from noise_models.errors import CfaError, ProfileError
from noise_models.sampling.laws import ProfileLaw, WidePrior
from physrestore.deepinv_host import load_deepinv
from physrestore.degradation import NoiseLevelGenerator, SensorReadout
from physrestore.noise import CalibratedNoise
from tests.moments import assert_moments
from tests.noise_models.noise_profiles import entry, law, profile
from tests.physrestore.degraded_patches import DegradedPatches

dinv = load_deepinv()
RGGB = Cfa.parse("RGGB")
ROW_GROUPS = (0, 0, 1, 1)


def camera() -> ProfileLaw:
    return law(*(entry(iso, row=iso / 400.0, column=1.0) for iso in (100.0, 800.0, 3200.0)))


def physics() -> nn.Module:
    model: nn.Module = dinv.physics.Denoising(noise_model=CalibratedNoise(0.01, 0.01, row_groups=ROW_GROUPS))
    return model


def check_moments(noisy: Tensor, clean: Tensor, levels: dict[str, Tensor]) -> None:
    """Of every image of packed planes apart: rows have one variance, pixels inside a row the other."""
    width = noisy.shape[-1]
    for b in range(len(noisy)):
        gain, sigma, row = (float(levels[key][b]) for key in ("gain", "sigma", "row"))
        pixel = gain * float(clean[b, 0, 0, 0]) + sigma**2
        within = noisy[b] - noisy[b].mean(dim=2, keepdim=True)
        assert_moments(within, variance=pixel * (1 - 1 / width))
        rows = noisy[b, [0, 2]].mean(dim=2)  # red and the second green: independent rows
        assert_moments(rows, mean=float(clean[b, 0, 0, 0]), variance=row**2 + pixel / width)


def test_images_of_a_batch_have_the_levels_that_were_drawn_for_them() -> None:
    levels = NoiseLevelGenerator(camera(), cfa=RGGB).step(batch_size=6, seed=3)
    clean = torch.linspace(0.05, 0.4, 6)[:, None, None, None].expand(6, 4, 200, 200)

    noisy = physics()(clean, seed=5, **levels)

    assert {key: value.shape for key, value in levels.items()} == dict.fromkeys(("gain", "sigma", "row"), (6,))
    assert len(levels["gain"].unique()) == 3
    check_moments(noisy, clean, levels)
    with pytest.raises(AssertionError, match="variance"):  # the planted error: levels of another image
        check_moments(noisy, clean, {key: value.roll(1) for key, value in levels.items()})


def test_update_sets_the_levels_of_the_next_call() -> None:
    levels = NoiseLevelGenerator(camera(), cfa=RGGB).step(batch_size=2, seed=1)
    clean = torch.full((2, 4, 200, 200), 0.2)
    model = physics()

    model.update(**levels)

    check_moments(model(clean, seed=4), clean, levels)


def test_levels_are_those_of_the_sensor_and_belong_together() -> None:
    noise = entry(800.0, row=2.0, column=1.5)
    levels = NoiseLevelGenerator(law(noise), cfa=RGGB, per_plane=True).step(batch_size=2)

    assert {key: tuple(value.shape) for key, value in levels.items()} == dict.fromkeys(("gain", "sigma", "row"), (2, 4))
    for k, name in enumerate(BAYER_PLANES):
        plane = noise.planes[name]
        scale = 4095.0 - plane.black_level_dn.value
        dark = float(plane.variance(0.0)) + 0.5**2 + 1.5**2
        assert plane.gain is not None
        np.testing.assert_allclose(float(levels["gain"][1, k]), plane.gain.value / scale, rtol=1e-6)
        np.testing.assert_allclose(float(levels["sigma"][1, k]), np.sqrt(dark) / scale, rtol=1e-6)
        np.testing.assert_allclose(float(levels["row"][1, k]), 2.0 / scale, rtol=1e-6)


def test_seeds_fix_the_levels_and_the_generator_continues_without() -> None:
    first, second = (NoiseLevelGenerator(WidePrior(), cfa=RGGB, rng=torch.Generator().manual_seed(2)) for _ in "ab")

    assert torch.equal(first.step(3, seed=1)["sigma"], second.step(3, seed=1)["sigma"])
    assert torch.equal(first.step(3)["gain"], second.step(3)["gain"])
    assert not torch.equal(first.step(3)["gain"], first.step(3)["gain"])
    first.reset_rng()
    untouched = NoiseLevelGenerator(WidePrior(), cfa=RGGB, rng=torch.Generator().manual_seed(2))
    assert torch.equal(first.step(3)["row"], untouched.step(3)["row"])


def test_readout_rounds_clips_and_passes_the_gradient_between_the_ends() -> None:
    readout = SensorReadout(black=torch.tensor([64.25, 60.0])[:, None, None], white=1023.0, low=50.0)
    y = torch.tensor([-1.0, 0.1234, 0.5, 2.0]).expand(1, 2, 1, 4).clone().requires_grad_()

    out = readout(y)

    codes = out * (1023.0 - readout.black) + readout.black
    np.testing.assert_allclose(codes.detach().numpy(), codes.detach().round().numpy(), atol=1e-3)
    assert codes[0, :, 0, [0, 3]].round().tolist() == [[50.0, 1023.0], [50.0, 1023.0]]
    (slope,) = torch.autograd.grad(out.sum(), y)
    torch.testing.assert_close(slope[0, 0, 0], torch.tensor([0.0, 1.0, 1.0, 0.0]))
    with pytest.raises(ValueError, match="White level 50 must be above black level 64"):
        SensorReadout(black=64.0, white=50.0)


def test_noise_and_readout_together_have_the_whole_variance_once() -> None:
    noise = entry(100.0, planes=("M",), prnu=0.0, dsnu=0.0)  # read noise 1.75 DN: rounding is 2.6 % of the variance
    mono = Cfa.parse("M")
    levels = NoiseLevelGenerator(law(noise, cfa="M"), cfa=mono, rounds=True).step(batch_size=1)
    black = noise.planes["M"].black_level_dn.value
    model = dinv.physics.Denoising(noise_model=CalibratedNoise(0.01, 0.01))
    model.sensor_model = SensorReadout(black=black, white=4095.0)
    clean = torch.full((1, 1, 1000, 1000), 0.01)

    dn = model(clean, seed=3, **levels) * (4095.0 - black)

    variance = float(noise.planes["M"].variance(0.01 * (4095.0 - black)))
    assert_moments(dn, mean=0.01 * (4095.0 - black), variance=variance)
    twice = NoiseLevelGenerator(law(noise, cfa="M"), cfa=mono).step(batch_size=1)
    with pytest.raises(AssertionError, match="variance"):  # the planted error: rounding counted twice
        assert_moments(model(clean, seed=3, **twice) * (4095.0 - black), variance=variance)


class Scale(nn.Module):
    """The smallest network that deepinv can train."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, y: Tensor, physics: nn.Module, **_: object) -> Tensor:
        assert isinstance(physics.noise_model, CalibratedNoise)
        assert physics.noise_model.gain.shape == (y.shape[0],)
        return self.weight * y


def clean_images(count: int) -> Tensor:
    return torch.linspace(0.1, 0.4, count)[:, None, None, None].expand(count, 4, 32, 32).clone()


@pytest.mark.filterwarnings("ignore::UserWarning:deepinv")  # its trainer speaks of its own defaults
def test_the_trainer_of_deepinv_draws_levels_batch_by_batch() -> None:
    model = Scale()
    data = dinv.datasets.TensorDataset(x=clean_images(8), use_dict_output=True)
    trainer = dinv.Trainer(
        model=model,
        physics=physics(),
        optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
        train_dataloader=DataLoader(data, batch_size=4),
        epochs=5,
        online_measurements=True,
        physics_generator=NoiseLevelGenerator(camera(), cfa=RGGB),
        save_path=None,
        verbose=False,
        show_progress_bar=False,
        device="cpu",
    )

    trainer.train()

    assert 0.8 < model.weight.item() < 1.1  # the data are nearly unbiased: the best factor is near 1


def test_a_generated_data_set_keeps_the_levels_of_every_image(tmp_path: Path) -> None:
    data = dinv.datasets.TensorDataset(x=clean_images(6).repeat(1, 1, 4, 4), use_dict_output=True)
    path = dinv.datasets.generate_dataset(
        train_dataset=data,
        physics=physics(),
        save_dir=str(tmp_path),
        physics_generator=NoiseLevelGenerator(camera(), cfa=RGGB),
        save_physics_generator_params=True,
        batch_size=3,
        num_workers=0,
        device="cpu",
        verbose=False,
        show_progress_bar=False,
    )
    stored = dinv.datasets.HDF5Dataset(path, train=True, load_physics_generator_params=True, use_dict_output=True)
    items = [stored[k] for k in range(6)]
    stored.close()

    levels = {
        key: torch.stack([torch.as_tensor(item["params"][key]) for item in items]) for key in ("gain", "sigma", "row")
    }
    check_moments(torch.stack([i["y"] for i in items]), torch.stack([i["x"] for i in items]), levels)


def test_generator_noise_and_readout_work_in_a_spawned_worker() -> None:
    items = DegradedPatches(NoiseLevelGenerator(camera(), cfa=RGGB))

    from_worker = list(DataLoader(items, batch_size=2, num_workers=1, multiprocessing_context="spawn"))

    assert torch.equal(torch.cat(from_worker), torch.stack([items[k] for k in range(4)]))
    assert torch.equal(pickle.loads(pickle.dumps(items))[3], items[3])


def test_levels_that_do_not_fit_the_images_are_refused() -> None:
    with pytest.raises(ProfileError, match="images of a M sensor"):
        NoiseLevelGenerator(camera(), cfa=Cfa.parse("M"))
    with pytest.raises(CfaError, match="Only Bayer images have levels per packed plane; these are M"):
        NoiseLevelGenerator(
            ProfileLaw(profile(entry(100.0, planes=("M",)), cfa="M")), cfa=Cfa.parse("M"), per_plane=True
        )
