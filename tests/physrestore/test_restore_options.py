"""The options of `physrestore restore` beyond strength: words become objects, and files what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import typer
from PIL import Image
from torch import Tensor

from physrestore.cli.blur_kernels import blur_of
from physrestore.cli.prior_names import BUILT_IN, named_prior
from physrestore.errors import MissingPackage, PriorError
from physrestore.networks.colour_net import ColourNet, ColourNetConfig
from physrestore.networks.mosaic_net import MosaicNet, MosaicNetConfig
from physrestore.networks.store import save_network
from physrestore.priors.base import PriorSpec
from physrestore.results import read_record, uncertainty_paths
from tests.physrestore.killed_batch import digests, make_photos
from tests.physrestore.onnx_bytes import box_filter, model, node, value
from tests.physrestore.test_cli import cli, profile_file  # noqa: F401 (a fixture)

PICTURE = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    make_photos(tmp_path / "photos")
    return tmp_path / "photos" / "p2.dng"


# --prior


@pytest.mark.parametrize("name", ["dct", "tv"])
def test_priors_without_weights_have_names(name: str) -> None:
    named = named_prior(name)

    assert named.name == name
    assert named.prior is not None
    assert named.prior.denoise(PICTURE, 0.1).shape == PICTURE.shape


def test_every_name_gives_a_prior_or_the_package_to_install() -> None:
    for name in BUILT_IN:
        try:
            prior = named_prior(name).prior
        except MissingPackage as error:
            assert "pip install" in str(error)  # noqa: PT017
        else:
            assert isinstance(prior.spec, PriorSpec)  # type: ignore[union-attr]


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(PriorError, match=r"no prior 'dtc'.*dct, tv.*\.safetensors or \.onnx; or module:function"):
        named_prior("dtc")
    with pytest.raises(PriorError, match=r"no file 'lost\.onnx'"):
        named_prior("lost.onnx")


def test_weights_are_a_prior_or_a_network_and_named_by_their_digest(tmp_path: Path) -> None:
    colour, mosaic = tmp_path / "mine.safetensors", tmp_path / "other.safetensors"
    about = {"purpose": "test", "licence": "CC0-1.0"}
    torch.manual_seed(0)
    save_network(colour, ColourNet(ColourNetConfig(channels=(8, 8), blocks=1)), about=about)
    save_network(mosaic, MosaicNet(MosaicNetConfig(channels=(8, 8), blocks=1)), about=about)

    one, two = named_prior(str(colour)), named_prior(str(mosaic))

    assert one.prior is not None
    assert one.prior.denoise(PICTURE, torch.full((1, 3, 1, 1), 0.1)).shape == PICTURE.shape
    assert one.prior.spec.weights_licence == "CC0-1.0"
    assert (one.network, two.prior) == (None, None)
    assert isinstance(two.network, MosaicNet)
    assert one.name.startswith("mine ")
    save_network(colour, ColourNet(ColourNetConfig(channels=(8, 16), blocks=1)), about=about)
    assert named_prior(str(colour)).name != one.name


def test_an_onnx_file_says_itself_how_it_takes_the_noise(tmp_path: Path) -> None:
    blind, told = tmp_path / "box.onnx", tmp_path / "told.onnx"
    blind.write_bytes(box_filter())
    inputs = [value("x", (1, 3, "H", "W")), value("s", (1, 3, "H", "W"))]
    told.write_bytes(model([node("Sub", ["x", "s"], "y")], inputs, value("y", (1, 3, "H", "W"))))

    pytest.importorskip("onnxruntime")
    specs = [named_prior(str(path)).prior.spec for path in (blind, told)]  # type: ignore[union-attr]

    assert [(spec.channels, spec.noise) for spec in specs] == [(1, "blind"), (3, "map")]
    moved = named_prior(str(told)).prior.denoise(PICTURE, 0.1)  # type: ignore[union-attr]
    assert torch.allclose(moved, PICTURE - 0.1, atol=1e-6)
    inputs = [value("x", (1, 5, "H", "W"))]
    told.write_bytes(model([node("Relu", ["x"], "y")], inputs, value("y", (1, 5, "H", "W"))))
    with pytest.raises(PriorError, match="has 1 inputs, the first of shape"):
        named_prior(str(told))
    told.write_bytes(b"no model")
    with pytest.raises(PriorError, match="no ONNX file that ONNX Runtime can run"):
        named_prior(str(told))


OWN = """
import torch
def blind(x): return 0.5 * x
def told(x, sigma): return x - sigma
def make(): return blind
class Net(torch.nn.Module):
    def forward(self, x, sigma): return 2 * x
net = Net()
number = 3
def three(x, y, z): return x
"""


def test_a_function_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_denoisers_test.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)

    def made(name: str) -> Tensor:
        prior = named_prior(f"own_denoisers_test:{name}").prior
        assert prior is not None
        return prior.denoise(PICTURE, 0.1)

    assert torch.allclose(made("blind"), 0.5 * PICTURE)
    assert torch.allclose(made("make"), 0.5 * PICTURE)
    assert torch.allclose(made("told"), PICTURE - 0.1)
    assert torch.allclose(made("net"), 2 * PICTURE)
    assert torch.allclose(made("Net"), 2 * PICTURE)  # a class is made without arguments
    for name, reason in {"number": "is int", "three": "is function", "gone": "has no 'gone'"}.items():
        with pytest.raises(PriorError, match=reason):
            made(name)
    with pytest.raises(PriorError, match="cannot be imported"):
        named_prior("not_there_at_all:f")


# --deblur


def test_kernels_from_words_and_files(tmp_path: Path) -> None:
    gaussian = blur_of("gaussian:0.8")
    assert isinstance(gaussian, Tensor)
    assert float(gaussian.sum()) == pytest.approx(1.0)
    steps = torch.arange(9.0) - 4
    assert float((gaussian.sum(0) * steps.square()).sum()) == pytest.approx(0.64, rel=0.02)
    assert blur_of("estimate") == "estimate"

    line = np.array([[0, 0, 0], [1, 2, 1], [0, 0, 0]], np.uint8)
    np.save(tmp_path / "k.npy", line.astype(float))
    Image.fromarray(line * 60).save(tmp_path / "k.png")
    for name in ("k.npy", "k.png"):
        kernel = blur_of(str(tmp_path / name))
        assert isinstance(kernel, Tensor)
        assert kernel.tolist()[1] == [0.25, 0.5, 0.25]


def test_what_is_no_kernel_is_refused(tmp_path: Path) -> None:
    for name, values in {"even": np.ones((2, 3)), "negative": -np.ones((3, 3)), "cube": np.ones((3, 3, 3))}.items():
        np.save(tmp_path / f"{name}.npy", values)
    (tmp_path / "text.png").write_text("not a picture")
    wrong = {
        "gaussian:-1": "positive sigma",
        "gaussian:wide": "could not convert",
        "blurry": "neither a file nor a kernel",
        str(tmp_path / "even.npy"): "odd sides",
        str(tmp_path / "negative.npy"): "none below zero",
        str(tmp_path / "cube.npy"): "holds no kernel",
        str(tmp_path / "text.png"): "cannot be read as a kernel",
    }
    for word, reason in wrong.items():
        with pytest.raises(typer.BadParameter, match=reason):
            blur_of(word)


# The command


def test_uncertainty_is_written_told_and_recorded(photo: Path, profile_file: Path, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "out"
    arguments = ("restore", photo, "-o", out, "--profile", profile_file, "--method", "pnp", "--json")

    code, stdout, stderr = cli(*arguments)

    assert code == 0, stderr
    told = json.loads(stdout)["files"][0]["confidence"]
    numbers, picture = uncertainty_paths(out / "p2_restored.dng")
    with np.load(numbers) as arrays:
        std, units = arrays["std"].astype(float), str(arrays["units"])
        assert "90 %" in str(arrays["meaning"])
    assert std.shape == (3, 64, 96)
    assert units == "DN"
    assert told["expected_error_dn"] == pytest.approx((std**2).mean() ** 0.5, rel=1e-2)
    assert told["tail_error_dn"] == pytest.approx(np.quantile(std, 0.95), rel=1e-2)
    record = read_record(out / "p2_restored.dng")
    assert record is not None
    assert record["confidence"].startswith("expected error ")
    with Image.open(picture) as image:
        assert image.size[0] >= 96
        assert image.size[1] > 64
    # A flat of 34 DN noise: what is left of it is a few DN.
    assert 0.5 < told["expected_error_dn"] < 20


def test_uncertainty_can_be_left_out_and_is_where_nobody_knows_it(
    photo: Path,
    profile_file: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    arguments = ("restore", photo, "--profile", profile_file)

    codes = [
        cli(*arguments, "-o", tmp_path / "a", "--method", "pnp", "--no-uncertainty")[0],
        cli(*arguments, "-o", tmp_path / "b", "--method", "classic")[0],
    ]

    assert codes == [0, 0]
    assert [path.name for path in digests(tmp_path / "a")] == ["p2_restored.dng"]
    assert [path.name for path in digests(tmp_path / "b")] == ["p2_restored.dng"]


def test_what_a_method_does_not_know_is_usage(photo: Path, profile_file: Path, tmp_path: Path) -> None:  # noqa: F811
    arguments = ("restore", photo, "-o", tmp_path / "out", "--profile", profile_file)
    wrong = {
        ("--method", "classic", "--deblur", "gaussian:0.8"): "'classic' does not know --deblur. Use --method pnp",
        ("--method", "classic", "--prior", "dct"): "'classic' does not know --prior. Use --method pnp",
        ("--method", "classic", "--uncertainty"): "does not know --uncertainty",
        ("--method", "pnp", "--scale", "2", "--output", "cfa-dng"): "--scale 2 has no mosaic to write",
        ("--method", "pnp", "--budget", "soon"): "'soon' is no duration",
        ("--method", "pnp", "--budget", "0s"): "positive number of seconds",
        ("--method", "pnp", "--device", "abacus"): "auto, cpu, cuda or cuda:N",
        ("--method", "pnp", "--deblur", "blurry"): "neither a file nor a kernel",
    }
    for options, reason in wrong.items():
        code, _, stderr = cli(*arguments, *options)
        assert code == 2, stderr
        assert reason in " ".join(stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_twice_the_pixels_as_linear_dng(photo: Path, profile_file: Path, tmp_path: Path) -> None:  # noqa: F811
    code, _, stderr = cli(
        *("restore", photo, "-o", tmp_path, "--profile", profile_file, "--method", "pnp", "--scale", 2, "--preview"),
    )

    assert code == 0, stderr
    with tifffile.TiffFile(tmp_path / "p2_restored.dng") as tiff:
        raw = tiff.pages.first.pages[0]
        assert raw.shape == (128, 192, 3)
        assert raw.tags["ActiveArea"].value == (0, 0, 128, 192)
    assert (tmp_path / "p2_restored_preview.png").exists()


def test_a_named_prior_and_a_kernel_reach_the_record(photo: Path, profile_file: Path, tmp_path: Path) -> None:  # noqa: F811
    arguments = ("restore", photo, "-o", tmp_path, "--profile", profile_file, "--method", "pnp", "--output", "npz")

    code, _, stderr = cli(*arguments, "--prior", "dct", "--deblur", "gaussian:0.6", "--budget", "1h", "--device", "cpu")

    assert code == 0, stderr
    record = read_record(tmp_path / "p2_restored.npz")
    assert record is not None
    assert (record["prior"], record["budget_seconds"]) == ("dct", 3600.0)
    assert record["blur"].startswith("kernel ")
    with np.load(tmp_path / "p2_restored.npz") as arrays:
        assert arrays["rgb"].shape == (3, 64, 96)


def test_doctor_lists_the_priors() -> None:
    report = json.loads(cli("doctor", "--json")[1])

    assert set(BUILT_IN) <= set(report["priors"])
    assert any("network" in what for what in report["priors"].values())
