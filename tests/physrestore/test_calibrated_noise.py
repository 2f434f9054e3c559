"""`CalibratedNoise` inside deepinv: moments, shapes, seeds, copies."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from noise_models.cfa import Cfa, pack
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise, Tail
from noise_models.simulate import VirtualCamera
from physrestore.deepinv_host import load_deepinv
from physrestore.noise import CalibratedNoise
from tests.moments import assert_moments

dinv = load_deepinv()
SHAPE = (2, 4, 300, 400)


def sensor(tail: Tail | None = None) -> SensorNoise:
    planes = {
        name: PlaneNoise(
            gain=Estimate(value=0.5 + 0.2 * k),
            read_noise_dn=Estimate(value=3.0 + k),
            black_level_dn=Estimate(value=500.0 + 10 * k),
        )
        for k, name in enumerate(("R", "G1", "G2", "B"))
    }
    row, column = Estimate(value=1.5), Estimate(value=0.8)
    return SensorNoise(iso=800.0, planes=planes, row_noise_dn=row, column_noise_dn=column, tail=tail or Tail())


@pytest.mark.parametrize("tail", [Tail(), Tail(kind="tukey", shape=Estimate(value=-0.05))], ids=lambda t: t.kind)
def test_moments_inside_a_deepinv_physics_are_the_sensor_s(tail: Tail) -> None:
    cfa, noise = Cfa.parse("GBRG"), sensor(tail)
    black = np.array([[noise.planes[name].black_level_dn.value for name in row] for row in cfa.plane_of_site])
    white = np.full((2, 2), 4095.0)
    model = CalibratedNoise.of_sensor(noise, cfa=cfa, black=black, white=white)
    physics = dinv.physics.Denoising(noise_model=model)
    x = torch.tensor([0.05, 0.1, 0.2, 0.4])[None, :, None, None].expand(SHAPE)

    y = physics(x, seed=3)

    for k, name in enumerate(("R", "G1", "G2", "B")):
        scale = 4095.0 - noise.planes[name].black_level_dn.value
        variance = float(noise.variance(name, float(x[0, k, 0, 0]) * scale)) / scale**2
        np.testing.assert_allclose(model.variance(x)[:, k].numpy(), variance, rtol=1e-5)
        row = 1.5 / scale
        within = y[:, k] - y[:, k].mean(dim=2, keepdim=True)
        assert_moments(within, variance=(variance - row**2) * (1 - 1 / 400))
        assert_moments(y[:, k].mean(dim=2), mean=float(x[0, k, 0, 0]), variance=row**2 + (variance - row**2) / 400)


def test_rows_are_shared_by_the_planes_of_one_sensor_row() -> None:
    model = CalibratedNoise(1e-6, 1e-6, row=0.1, row_groups=(0, 0, 1, 1))
    rows = model(torch.full(SHAPE, 0.5)).mean(dim=3).flatten(2).transpose(0, 1).flatten(1)

    correlation = torch.corrcoef(rows)
    assert correlation[0, 1] > 0.99
    assert correlation[2, 3] > 0.99
    assert abs(correlation[0, 2]) < 5 / 600**0.5


def test_mosaic_and_packed_models_are_one_noise() -> None:
    cfa, noise = Cfa.parse("BGGR"), sensor()
    camera = VirtualCamera(noise, cfa=cfa, shape=(200, 300), white_level=4095.0)
    levels = {"cfa": cfa, "black": camera.black_level, "white": camera.white_level}
    x = torch.rand(1, 1, 200, 300, generator=torch.Generator().manual_seed(0))

    mosaic = CalibratedNoise.of_sensor(noise, **levels, mosaic_shape=(200, 300)).variance(x)
    packed = CalibratedNoise.of_sensor(noise, **levels).variance(pack(x, cfa))

    torch.testing.assert_close(pack(mosaic, cfa), packed)


@pytest.mark.parametrize("shape", [(), (2,), (2, 4), (1, 4, 1, 1), (2, 1, 1, 1), (1, 1, 300, 400), SHAPE])
def test_parameters_broadcast(shape: tuple[int, ...]) -> None:
    sigma = torch.linspace(0.01, 0.02, max(1, int(np.prod(shape)))).reshape(shape)
    x = torch.full(SHAPE, 0.3)
    model = CalibratedNoise(0.001, 0.5)

    y = model(x, sigma=sigma, mask=torch.ones(1), seed=1)

    standard = (y - x) / model.variance(x).sqrt()
    assert_moments(standard, mean=0.0, variance=1.0)
    assert torch.equal(model.sigma, sigma)


def test_a_wrong_variance_is_found() -> None:
    model = CalibratedNoise(0.001, 0.02)
    x = torch.full(SHAPE, 0.3)
    standard = (model(x) - x) / (0.001**2 * x + 0.02**2).sqrt()
    with pytest.raises(AssertionError, match="variance"):
        assert_moments(standard, variance=1.0)


def test_seeds_clones_and_pickles_repeat_the_draw() -> None:
    physics = dinv.physics.Denoising(noise_model=CalibratedNoise(0.01, 0.02, row=0.01))
    x = torch.full((1, 1, 16, 16), 0.5)

    first, again, other = physics(x, seed=1), physics(x, seed=1), physics(x, seed=2)
    clone, copied = physics.clone(), pickle.loads(pickle.dumps(physics.noise_model))
    following = physics(x)

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(clone(x), following)
    assert torch.equal(copied(x), following)
    physics.noise_model.reset_rng()
    assert not torch.equal(physics(x), following)
    assert physics.noise_model.state_dict().keys() >= {"gain", "sigma", "row"}


def test_product_with_another_noise_model_has_both() -> None:
    other = CalibratedNoise(1e-9, 0.03, rng=torch.Generator().manual_seed(1))
    composed = CalibratedNoise(1e-9, 0.02) * other
    noise = composed(torch.full((1, 1, 500, 500), 0.5)) - 0.5
    assert_moments(noise, mean=0.0, variance=0.02**2 + 0.03**2, resolution=1e-5)


def test_box_operators_have_no_hidden_implementation() -> None:
    """Either torchvision's own, or declared only: never a wrong answer."""
    boxes, scores = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]]), torch.tensor([0.9, 0.8])
    try:
        kept = torch.ops.torchvision.nms(boxes, scores, 0.5)
    except NotImplementedError:
        return
    assert kept.tolist() == [0]


def test_global_randomness_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    CalibratedNoise(0.01, 0.02, row=0.01)(torch.ones(1, 1, 4, 4))
    assert torch.equal(before, torch.random.get_rng_state())


def test_gradient_is_one_and_negative_means_are_kept() -> None:
    x = torch.full((1, 1, 300, 300), -0.2, requires_grad=True)
    model = CalibratedNoise(0.01, 0.02)

    y = model(x)

    (slope,) = torch.autograd.grad(y.sum(), x)
    assert bool((slope == 1).all())
    assert_moments(y.detach() + 0.2, mean=0.0, variance=0.02**2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_follows_the_input(dtype: torch.dtype) -> None:
    assert CalibratedNoise(0.01, 0.02, row=0.1)(torch.ones(1, 1, 4, 4, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gain": 0.0, "sigma": 0.1}, "gain must be positive, not 0"),
        ({"gain": 0.1, "sigma": -0.1}, "sigma must be no negative std"),
        ({"gain": 0.1, "sigma": 0.1, "tail": "tukey", "tail_shape": -0.6}, "has no variance"),
    ],
)
def test_impossible_noise_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CalibratedNoise(**given)  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_refused() -> None:
    model = CalibratedNoise(0.1, torch.full((3,), 0.1))
    with pytest.raises(ValueError, match=r"sigma of shape \(3,\) does not fit x of shape \(2, 1, 4, 4\)"):
        model(torch.zeros(2, 1, 4, 4))
    packed = CalibratedNoise(0.1, 0.1, row_groups=(0, 0, 1, 1))
    with pytest.raises(ValueError, match="of 4 channels; x has 1"):
        packed(torch.zeros(2, 1, 4, 4))
    quiet = Estimate(value=0.0)
    noise = SensorNoise(iso=1.0, planes={"M": sensor().planes["R"]}, row_noise_dn=quiet)
    with pytest.raises(ValueError, match="M mosaic has no packed planes"):
        CalibratedNoise.of_sensor(noise, cfa=Cfa.parse("M"), black=np.zeros((1, 1)), white=np.ones((1, 1)))


def test_package_does_not_import_deepinv() -> None:
    code = "import sys, physrestore, physrestore.deepinv_host; sys.exit('deepinv' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
