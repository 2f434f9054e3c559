"""Every adapter: it says what it can do, does it, and explains what is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from noise_models.stabilise import Anscombe
from physrestore.deepinv_host import load_deepinv
from physrestore.errors import MissingPackage, NoiseOutOfRange, PriorError
from physrestore.priors.adapter import apply_in_tiles
from physrestore.priors.base import Prior, PriorSpec
from physrestore.priors.block_matching import Bm3dPrior
from physrestore.priors.deepinv_denoiser import DeepinvPrior
from physrestore.priors.network import NetworkPrior
from physrestore.priors.onnx_file import OnnxPrior
from physrestore.priors.probe import synthetic_picture
from physrestore.priors.scikit import ScikitPrior
from physrestore.priors.stabilised import StabilisedPrior
from physrestore.priors.variational import VariationalPrior
from physrestore.priors.verify import verify_prior
from physrestore.quality import psnr
from tests.physrestore import onnx_bytes
from tests.shared_data import shared

models = load_deepinv().models


def untrained(name: str, channels: int = 1) -> torch.nn.Module:
    """A deepinv network, small, with the same random weights in every run."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        match name:
            case "DRUNet":
                return models.DRUNet(channels, channels, nc=(4, 4, 4, 4), pretrained=None)
            case "FFDNet":
                return models.FFDNet(img_channels=channels, nf=8, n_conv_layers=5, pretrained=None)
            case "DnCNN":
                return models.DnCNN(channels, channels, depth=5, nf=4, pretrained=None)
    raise AssertionError(name)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def faults(prior: Prior) -> list[str]:
    return [f"{finding.name}: {finding.text}" for finding in verify_prior(prior) if not finding.passed]


# deepinv


def test_what_a_deepinv_denoiser_accepts_is_found_by_trying() -> None:
    unet = DeepinvPrior(untrained("DRUNet"), channels=1, sigma_range=(0.0, 0.2))
    ffdnet = DeepinvPrior(untrained("FFDNet"), channels=1)
    assert (unet.spec.noise, ffdnet.spec.noise) == ("map", "scalar")
    with pytest.raises(PriorError, match="DnCNN ignores the noise level"):
        DeepinvPrior(untrained("DnCNN"), channels=1)
    declared = DeepinvPrior(untrained("DnCNN"), channels=1, noise="fixed", sigma_range=(0.1, 0.1))
    with pytest.raises(NoiseOutOfRange, match=r"made for noise of standard deviation 0\.1 "):
        declared.denoise(torch.zeros(1, 1, 8, 8), 0.2)


def test_maps_batches_and_sides_that_deepinv_refuses_are_handled() -> None:
    unet = DeepinvPrior(untrained("DRUNet", 3), channels=3)
    ffdnet = DeepinvPrior(untrained("FFDNet"), channels=1)
    x, per_channel = torch.rand(2, 3, 67, 71), 0.1 + 0.1 * torch.rand(1, 3, 67, 71)
    for prior in (unet, ffdnet):
        assert prior.denoise(x, per_channel).shape == x.shape
    two = torch.tensor([0.05, 0.2])
    alone = ffdnet.denoise(x[1:], 0.2)
    torch.testing.assert_close(ffdnet.denoise(x, two)[1:], alone)
    with pytest.raises(ValueError, match="Incorrect shape"):
        unet.denoiser(x, per_channel)  # deepinv alone


@pytest.mark.parametrize(("name", "noise_kind"), [("DRUNet", None), ("FFDNet", None), ("DnCNN", "blind")])
def test_the_counted_reach_makes_tiles_exact(name: str, noise_kind: str | None) -> None:
    denoiser = untrained(name).double().requires_grad_(requires_grad=False)
    prior = DeepinvPrior(denoiser, channels=1, noise=noise_kind, sigma_range=(0.0, 0.2))
    x, level = noise(1, 1, 32, 640).double(), torch.full((1, 1, 1, 1), 0.1, dtype=torch.float64)
    whole = prior.denoise(x, level)
    modulo = prior.spec.modulo
    gaps = []
    for halo in (prior.spec.halo, prior.spec.halo // 8 // modulo * modulo):
        pieces = apply_in_tiles(prior.denoise, x, level, tile=64, halo=halo, modulo=modulo)
        gaps.append(float((pieces - whole).abs().max() / whole.abs().max()))
    assert gaps[0] < 1e-12 < gaps[1]


def test_an_unknown_architecture_must_say_how_far_it_reaches() -> None:
    median = models.MedianFilter(kernel_size=5)
    with pytest.raises(PriorError, match="How far MedianFilter reaches is not known"):
        DeepinvPrior(median, channels=1, noise="blind")
    assert DeepinvPrior(median, channels=1, noise="blind", halo=2, modulo=1).spec.halo == 2


def test_published_weights_for_one_level_pass_there_and_are_refused_elsewhere() -> None:
    """DnCNN for 25/255, gray (KAIR); what it does at 5/255 is why it is refused there."""
    stored = torch.load(shared("weights/dncnn/dncnn_25.pth"), weights_only=True)
    network = gray_dncnn(stored)
    level = 25 / 255
    spec = PriorSpec(channels=1, noise="fixed", sigma_range=(level, level), halo=17, weights_licence="MIT")
    prior = NetworkPrior(network, spec, condition="none")
    # A clean grey moves by 0.12 of its level: it was never shown clean images.
    assert [fault.split(":")[0] for fault in faults(prior)] == ["constant"]
    x = synthetic_picture(96, channels=1)
    with pytest.raises(NoiseOutOfRange, match=r"2\.32 octaves below"):
        prior.denoise(x, 5 / 255)
    noisy = x + 5 / 255 * noise(*x.shape)
    for forced in (network(noisy), network(5 * noisy) / 5):
        assert psnr(forced, x, peak=1.0) < psnr(noisy, x, peak=1.0) - 2


class Residual(torch.nn.Module):
    """An image minus the noise that a network sees in it."""

    def __init__(self, layers: torch.nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        return x - self.layers(x)


def gray_dncnn(stored: dict[str, Tensor]) -> torch.nn.Module:
    """Zhang et al., IEEE TIP 2017, with batch normalisation merged: 17 layers of 3x3 convolutions."""
    layers: list[torch.nn.Module] = []
    for name in [name for name in stored if name.endswith("weight")]:
        weight, bias = stored[name], stored[name.replace("weight", "bias")]
        convolution = torch.nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
        convolution.load_state_dict({"weight": weight, "bias": bias})
        layers += [convolution, torch.nn.ReLU()]
    return Residual(torch.nn.Sequential(*layers[:-1])).requires_grad_(requires_grad=False)


# ONNX


def onnx_spec(**changes: object) -> PriorSpec:
    return PriorSpec(**{"channels": 1, "noise": "map", "sigma_range": (0.0, 9.0), "differentiable": False, **changes})


def test_an_onnx_file_equals_the_same_in_torch(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    for name, data in (
        ("box", onnx_bytes.box_filter()), ("shrink", onnx_bytes.shrinkage()), ("minus", onnx_bytes.minus_level())
    ):  # fmt: skip
        (tmp_path / f"{name}.onnx").write_bytes(data)
    x, level = noise(2, 3, 40, 33), 0.1 + torch.rand(1, 3, 40, 33)
    blind = onnx_spec(noise="blind", halo=1)
    box = OnnxPrior(tmp_path / "box.onnx", blind, condition="none", tile=16)
    mean = torch.nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    torch.testing.assert_close(box.denoise(x, 1.0), mean(x))
    shrink = OnnxPrior(tmp_path / "shrink.onnx", onnx_spec(channels=3), condition="argument")
    torch.testing.assert_close(shrink.denoise(x, level), x / (1 + level**2))
    minus = OnnxPrior(tmp_path / "minus.onnx", onnx_spec(), condition="channels")
    torch.testing.assert_close(minus.denoise(x.double(), level), x.double() - level.double(), atol=1e-6, rtol=0)


def test_onnx_files_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    with pytest.raises(PriorError, match="There is no file"):
        OnnxPrior(path, onnx_spec(), condition="channels")
    path.write_bytes(b"not a network")
    with pytest.raises(PriorError, match="ONNX Runtime refuses"):
        OnnxPrior(path, onnx_spec(), condition="channels")
    path.write_bytes(onnx_bytes.box_filter(64, 64))
    with pytest.raises(PriorError, match="dynamic height and width"):
        OnnxPrior(path, onnx_spec(), condition="channels")
    path.write_bytes(onnx_bytes.box_filter())
    with pytest.raises(PriorError, match="condition='argument' needs 2"):
        OnnxPrior(path, onnx_spec(), condition="argument")


def test_an_onnx_file_cannot_promise_gradients() -> None:
    with pytest.raises(PriorError, match="differentiable=False"):
        OnnxPrior("net.onnx", onnx_spec(differentiable=True), condition="channels")


# Optional packages


@pytest.mark.parametrize(
    ("package", "make", "line"),
    [("onnxruntime", lambda: OnnxPrior("net.onnx", onnx_spec(), condition="channels"), r"'physrestore\[onnx\]'"),
     ("bm3d", Bm3dPrior, r"'physrestore\[bm3d\]'"), ("skimage", ScikitPrior, "scikit-image"),
     ("ptwt", lambda: VariationalPrior("wavelet"), "ptwt")],
)  # fmt: skip
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, package: str, make: object, line: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=f"needs the package {package}.*: pip install {line}$"):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("method", ["nl_means", "wavelet", "tv"])
def test_scikit_image(method: str) -> None:
    pytest.importorskip("skimage")
    assert faults(ScikitPrior(method)) == []  # type: ignore[arg-type]


def test_block_matching_sees_each_channel_with_its_own_level() -> None:
    pytest.importorskip("bm3d")
    clean = synthetic_picture(32, channels=3)
    level = torch.tensor([[0.02, 0.05, 0.1]])
    noisy = clean + level[..., None, None] * noise(*clean.shape)
    out = Bm3dPrior().denoise(noisy, level)
    errors = (out - clean).square().mean((0, 2, 3)).sqrt()
    assert out.dtype == torch.float32
    assert bool((errors < level[0]).all())


@pytest.mark.slow
def test_block_matching_passes_every_check() -> None:
    """A clean grey among them, of which bm3d's own colour function makes NaN."""
    pytest.importorskip("bm3d")
    assert faults(Bm3dPrior()) == []


# TV, TGV, wavelets


@pytest.mark.parametrize("kind", ["tv", "tgv", "wavelet"])
def test_variational_priors(kind: str) -> None:
    if kind == "wavelet":
        pytest.importorskip("ptwt")
    # Fewer iterations than in earnest.
    assert faults(VariationalPrior(kind, iterations=60)) == []  # type: ignore[arg-type]


def test_total_variation_forgets_the_last_image_unlike_deepinvs() -> None:
    first, second = noise(1, 1, 32, 32), noise(1, 1, 32, 32, seed=1)
    prior, host = VariationalPrior("tv", iterations=20), models.TVDenoiser(n_it_max=20)
    fresh = prior.denoise(second, 0.1)
    prior.denoise(first, 0.1)
    torch.testing.assert_close(prior.denoise(second, 0.1), fresh, atol=0, rtol=0)
    host(first, 0.06)
    assert float((host(second, 0.06) - fresh).abs().max()) > 1e-3


# Stabilisation


def camera_noise(clean: Tensor, gain: Tensor, read_noise: float) -> Tensor:
    draw = torch.Generator().manual_seed(3)
    return torch.poisson(clean / gain, generator=draw) * gain + read_noise * torch.randn(clean.shape, generator=draw)


def test_stabilisation_beats_one_level_for_all_on_batches_and_gain_maps() -> None:
    clean = synthetic_picture(128, channels=1).repeat(2, 1, 1, 1) ** 2
    gain = torch.tensor([0.01, 0.05])[:, None, None, None] * torch.linspace(0.5, 2, 128)
    noisy = camera_noise(clean, gain.expand_as(clean), 0.02)
    sigma = (gain * clean + 0.02**2).sqrt()
    scalar = VariationalPrior("tv", iterations=100)
    plain = scalar.denoise(noisy, sigma)
    stabilised = StabilisedPrior(scalar, gain=gain, read_noise=0.02).denoise(noisy, sigma)
    for k in range(2):
        assert psnr(stabilised[k], clean[k], peak=1.0) > psnr(plain[k], clean[k], peak=1.0) + 0.5
    alone = StabilisedPrior(scalar, gain=gain[:1], read_noise=0.02).denoise(noisy[:1], sigma[:1])
    torch.testing.assert_close(stabilised[:1], alone, atol=1e-5, rtol=0)


def test_stabilisation_keeps_the_mean_of_the_dark() -> None:
    """Half an electron and a read noise of one; the algebraic inverse is off by a quarter of an electron."""
    gain, read_noise, signal = 0.02, 0.02, 0.01
    noisy = camera_noise(torch.full((1, 1, 256, 256), signal), torch.tensor(gain), read_noise)
    sigma = (gain * signal + read_noise**2) ** 0.5
    limit = 5 * sigma / 256  # standard errors of the mean
    any_level = PriorSpec(channels=1, noise="blind", sigma_range=(0.0, 9.0), non_local=True)
    average = NetworkPrior(lambda x: x.mean((2, 3), keepdim=True).expand_as(x), any_level, condition="none")
    out = StabilisedPrior(average, gain=gain, read_noise=read_noise).denoise(noisy, sigma)
    assert abs(float(out.mean()) - signal) < limit
    transform = Anscombe(torch.tensor(gain), torch.tensor(read_noise))
    algebraic = gain * (float(transform.forward(noisy).mean()) ** 2 / 4 - 3 / 8 - 1)
    assert abs(algebraic - signal) > limit


def test_a_schedules_level_scales_the_law_and_the_inner_range_is_kept() -> None:
    seen = []

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(sigma.item())
        return x

    spec = PriorSpec(channels=1, noise="scalar", sigma_range=(0.02, 0.1))
    prior = StabilisedPrior(NetworkPrior(network, spec, condition="argument"), gain=0.01, read_noise=0.01)
    x = torch.full((1, 1, 8, 8), 0.5)
    own = (0.01 * 0.5 + 0.01**2) ** 0.5
    prior.denoise(x, own)
    prior.denoise(x, 1.5 * own)
    assert seen[0] == pytest.approx(0.5 * (1 / 0.01 + 3 / 8 + 1) ** -0.5)  # variance 1 over f(white)
    assert seen[1] / seen[0] == pytest.approx(1.5, rel=0.01)
    with pytest.raises(NoiseOutOfRange):
        prior.denoise(x, 4 * own)


def test_stabilised_priors_pass() -> None:
    assert faults(StabilisedPrior(VariationalPrior("tv", iterations=60), gain=0.01, read_noise=0.02)) == []
