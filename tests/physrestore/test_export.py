"""Networks for other programs: the files, and that a program that follows the contract gets our result."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from noise_models.cfa import Cfa, pack
from noise_models.errors import NoProfileForIso, ProfileError
from noise_models.profile import CameraProfile
from noise_models.store import profile_to_json
from physrestore.cli.app import app
from physrestore.errors import OutputExists, WeightsError
from physrestore.export import export_darktable, export_onnx
from physrestore.export.darktable import CameraLaw, darktable_model
from physrestore.networks.colour_net import ColourNet, ColourNetConfig
from physrestore.networks.mosaic_net import MosaicNet, MosaicNetConfig
from physrestore.networks.store import Stored, save_network
from physrestore.weights import catalogue
from physrestore.working_space import one_hot, working_black, working_light, working_noise, working_value
from tests.noise_models.noise_profiles import entry
from tests.physrestore.network_laws import uniform

runtime = pytest.importorskip("onnxruntime")

ABOUT = {"purpose": "test", "licence": "CC0-1.0"}


def mosaic_net() -> MosaicNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MosaicNet(MosaicNetConfig(channels=(4, 6)))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for values in network.parameters():
            values.add_(0.5 * torch.randn(values.shape, generator=generator) / values[0].numel() ** 0.5)
    return network.eval()


def stored() -> Stored:
    return Stored(mosaic_net(), "MosaicNet", ABOUT)


def camera(cfa: str = "RGGB") -> CameraProfile:
    return CameraProfile(make="Test", model="One (II)", cfa=cfa, entries=(entry(800.0), entry(1600.0)))


def law(iso: float = 1600.0) -> CameraLaw:
    return CameraLaw.of(camera(), iso)


def run(content: bytes, **inputs: Tensor) -> Tensor:
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: x.numpy() for name, x in inputs.items()})[0])


def test_an_onnx_file_says_how_to_use_it(tmp_path: Path) -> None:
    export_onnx(stored(), tmp_path / "m.onnx")

    content = (tmp_path / "m.onnx").read_bytes()
    about = runtime.InferenceSession(content, providers=["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map
    assert {"mosaic", "noise", "colours", "rgb", "purpose", "licence", "architecture"} <= set(about)
    mosaic, noise, colours = (
        uniform(1, 1, 9, 14).float(),
        torch.full((1, 1, 1, 1), 0.1),
        one_hot(Cfa.parse("BGGR"), 9, 14),
    )
    with torch.no_grad():
        expected = mosaic_net()(mosaic, noise, colours)
    torch.testing.assert_close(run(content, mosaic=mosaic, noise=noise, colours=colours), expected, rtol=0, atol=1e-4)
    with pytest.raises(OutputExists, match=r"m\.onnx"):
        export_onnx(stored(), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == content


def test_the_built_in_law_is_the_profiles() -> None:
    """By hand from the numbers of `entry`: K, read noise and black of the planes R, G1, G2, B; greens are averaged."""
    gain = 1600 / 800 * np.array([1.0, 1.1, 1.2, 1.3])
    read = 1.5 + 1600 / 800 * np.array([2.0, 3.0, 4.0, 5.0])
    scale = 4095.0 - np.array([500.25, 503.25, 506.25, 509.25])
    a, b = gain / scale, (read**2 + 1 / 12) / scale**2
    built = law()
    np.testing.assert_allclose(built.a[0].numpy(), [a[0], a[1:3].mean(), a[3]], rtol=1e-5)
    np.testing.assert_allclose(built.b[0].numpy(), [b[0], b[1:3].mean(), b[3]], rtol=1e-5)
    assert float(law(iso=800.0).a[0, 0]) < 0.6 * float(built.a[0, 0])


def test_darktable_s_graph_restores_as_we_do() -> None:
    """What darktable feeds and expects, done by hand around the same network."""
    network, built, side = mosaic_net(), law(), 8
    cfa = Cfa.parse("RGGB")
    light = uniform(1, 1, 2 * side, 2 * side).float() * 0.8 - 0.01  # some values below black
    space, colours = (built.a, built.b, built.balance), one_hot(cfa, 2 * side, 2 * side)
    with torch.no_grad():
        values = working_value(light, space, colours) - working_black(space, colours)
        noise = (working_noise(built.a, built.balance) * colours).sum(1, keepdim=True)
        expected = working_light(network(values, noise, colours) + working_black(space), space)

    content = darktable_model(network, built, metadata={}, tile=side)

    result = run(content, input=pack(light, cfa))
    assert result.shape == (1, 3, 2 * side, 2 * side)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)
    swapped = run(content, input=pack(light, cfa)[:, [0, 2, 1, 3]].contiguous())  # planted: greens exchanged
    assert float((swapped - expected).abs().max()) > 1e-2


def test_the_archive_is_what_darktable_imports(tmp_path: Path) -> None:
    export_darktable(stored(), law(), tmp_path / "m.dtmodel")

    with zipfile.ZipFile(tmp_path / "m.dtmodel") as archive:
        names = archive.namelist()
        folder = names[0].split("/")[0]
        config = json.loads(archive.read(f"{folder}/config.json"))
        model = archive.read(f"{folder}/model_bayer.onnx")
    assert sorted(names) == [f"{folder}/config.json", f"{folder}/model_bayer.onnx"]
    assert config["id"] == folder == law().identifier
    assert set(folder) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert (config["task"], config["backend"]) == ("rawdenoise", "onnx")
    variant = config["attributes"]["variants"]["bayer"]
    assert variant["onnx"] == "model_bayer.onnx"
    assert (variant["input_kind"], variant["wb_norm"], variant["output_scale"]) == ("bayer_v1", "none", "absolute")
    opened = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (tile,) = config["attributes"]["input_sizes"]
    assert opened.get_inputs()[0].shape == [1, 4, tile, tile]
    assert opened.get_outputs()[0].shape == [1, 3, 2 * tile, 2 * tile]
    export_darktable(stored(), law(), tmp_path / "again.dtmodel")
    assert (tmp_path / "again.dtmodel").read_bytes() == (tmp_path / "m.dtmodel").read_bytes()


def test_what_darktable_cannot_use_is_refused(tmp_path: Path) -> None:
    colour = Stored(ColourNet(ColourNetConfig(channels=(4, 6))), "ColourNet", ABOUT)
    with pytest.raises(WeightsError, match="takes mosaics; ColourNet does not"):
        export_darktable(colour, law(), tmp_path / "m.dtmodel")
    with pytest.raises(NoProfileForIso):
        law(iso=1e6)
    mono = CameraProfile(make="Test", model="Mono", cfa="M", entries=(entry(800.0, planes=("M",)),))
    with pytest.raises(ProfileError, match="for Bayer mosaics; 'Mono' has M"):
        CameraLaw.of(mono, 800.0)


def test_the_command(tmp_path: Path) -> None:
    weights, profile = tmp_path / "w.safetensors", tmp_path / "p.pnoise.json"
    save_network(weights, mosaic_net(), about=ABOUT)
    profile.write_text(profile_to_json(camera()))

    def cli(*arguments: object) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["export", *map(str, arguments)])
        return done.exit_code, done.stdout, done.stderr

    both = cli(
        weights, "--onnx", tmp_path / "a.onnx", "--darktable", tmp_path / "a.dtmodel", "--profile", profile,
        "--iso", 800, "--json",
    )  # fmt: skip
    report = json.loads(both[1])
    assert (both[0], report["exit_code"]) == (0, 0)
    assert Path(report["onnx"]).is_file()
    assert Path(report["darktable"]).is_file()
    shipped = next(name for name in catalogue() if name.startswith("mosaic"))
    assert cli(shipped, "--onnx", tmp_path / "shipped.onnx")[0] == 0
    assert (tmp_path / "shipped.onnx").stat().st_size > 100_000
    assert cli(weights)[0] == 2
    code, _, words = cli(weights, "--darktable", tmp_path / "b.dtmodel")
    assert (code, "give the camera's --profile" in words) == (2, True)
    code, _, words = cli(weights, "--onnx", tmp_path / "a.onnx")
    assert (code, "a.onnx" in words) == (3, True)
    code, _, words = cli(tmp_path / "absent.safetensors", "--onnx", tmp_path / "b.onnx")
    assert (code, "cannot be read" in words) == (3, True)
