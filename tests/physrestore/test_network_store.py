"""Weights in files: what comes back, what is refused, and whether the shipped files are the listed ones."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from physrestore.errors import WeightsError
from physrestore.networks.colour_net import ColourNet, ColourNetConfig
from physrestore.networks.mosaic_net import MosaicNet, MosaicNetConfig
from physrestore.networks.store import ARCHITECTURES, load_network, save_network

# By its full name: the package shows the function `catalogue` under the module's.
shipped = importlib.import_module("physrestore.weights.shipped")

ABOUT = {"purpose": "test", "licence": "CC0-1.0"}
# Half the distance between neighbouring float16 numbers, relative.
HALF_ROUNDING = 2.0**-11


def network(seed: int = 0) -> MosaicNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MosaicNet(MosaicNetConfig(channels=(4, 6), blocks=2))


def stored(path: Path, **changes: object) -> Path:
    """A sound file with changed metadata or tensors."""
    save_network(path, network(), about=ABOUT)
    with safe_open(path, framework="pt") as file:
        about, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for key, value in changes.items():
        if key == "tensors":
            tensors |= value
        else:
            about[key] = value
    save_file(tensors, path, about)
    return path


def test_full_precision_comes_back_exactly(tmp_path: Path) -> None:
    first, path = network(), tmp_path / "a.safetensors"
    save_network(path, first, about=ABOUT, half=False)

    back = load_network(path)

    assert (back.architecture, back.about, back.network.config) == ("MosaicNet", ABOUT, first.config)
    assert not back.network.training
    assert all(torch.equal(value, back.network.state_dict()[name]) for name, value in first.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    (tmp_path / "other").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode  # as readable as any new file


def test_half_precision_rounds_and_no_more(tmp_path: Path) -> None:
    first = network()
    for name, half in (("a", True), ("b", False)):
        save_network(tmp_path / name, first, about=ABOUT, half=half)
    back = load_network(tmp_path / "a").network.state_dict()

    sizes = [(tmp_path / name).stat().st_size for name in ("a", "b")]
    assert sizes[0] < 0.6 * sizes[1]
    smallest_normal = torch.finfo(torch.float16).tiny
    for name, value in first.state_dict().items():
        bound = HALF_ROUNDING * value.abs().clamp(min=smallest_normal)
        assert back[name].dtype == torch.float32
        assert bool(((back[name] - value).abs() <= bound).all())
    assert any(not torch.equal(back[name], value) for name, value in first.state_dict().items())


def test_the_colour_network_is_stored_too(tmp_path: Path) -> None:
    config = ColourNetConfig(channels=(4, 6), unshuffle=1)
    save_network(tmp_path / "c", ColourNet(config), about=ABOUT)
    assert load_network(tmp_path / "c").network.config == config


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_known_architecture_comes_back(tmp_path: Path, name: str) -> None:
    module = importlib.import_module(f"physrestore.networks.{ARCHITECTURES[name]}")
    first = getattr(module, name)(getattr(module, f"{name}Config")())
    save_network(tmp_path / "a", first, about=ABOUT, half=False)
    back = load_network(tmp_path / "a")
    assert back.architecture == name
    assert all(torch.equal(value, back.network.state_dict()[key]) for key, value in first.state_dict().items())


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    for value, half, words in (
        (float("nan"), False, "not finite"),
        (1e6, True, "not finite in float16"),  # beyond 65504
    ):
        bad = network()
        with torch.no_grad():
            bad.trunk.head.weight[0, 0, 0, 0] = value
        with pytest.raises(WeightsError, match=words):
            save_network(tmp_path / "bad", bad, about=ABOUT, half=half)
    assert list(tmp_path.iterdir()) == []


def test_only_known_architectures_are_written(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="Linear is none of the architectures"):
        save_network(tmp_path / "x", nn.Linear(1, 1), about=ABOUT)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_network(path, network(), about=ABOUT)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"\xff" * 64 + whole[64:]):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match="cannot be read as safetensors"):
            load_network(path)
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        load_network(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "os"}, "holds no network.*'os'"),
        ({"format": "another-format-7"}, "holds no network"),
        ({"config": '{"channels": [4, 6], "blocks": 2, "colour": "red"}'}, "has colour, which MosaicNet does not know"),
        ({"config": '{"channels": [4, 7], "blocks": 2}'}, "do not fit their own configuration"),
        ({"config": '{"channels": "many"}'}, "is none of MosaicNet"),
        ({"config": "[1, 2"}, "is none of MosaicNet"),
        ({"config": "[1, 2]"}, "is none of MosaicNet"),
        ({"tensors": {"stranger": torch.zeros(1)}}, "do not fit their own configuration"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_does_not_belong_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        load_network(stored(tmp_path / "a", **changes))


def test_the_file_unchanged_is_not_refused(tmp_path: Path) -> None:
    assert load_network(stored(tmp_path / "a")).architecture == "MosaicNet"


def test_weights_with_nan_are_refused(tmp_path: Path) -> None:
    broken = {"trunk.head.weight": torch.full((4, 6, 3, 3), float("nan"), dtype=torch.float16)}
    with pytest.raises(WeightsError, match="not finite"):
        load_network(stored(tmp_path / "a", tensors=broken))


def test_every_shipped_network_has_its_file_its_card_and_loads() -> None:
    for name, entry in shipped.catalogue().items():
        assert entry.purpose
        about = shipped.load(name).about
        assert {"purpose", "licence"} <= set(about), name
        card = entry.card.read_text(encoding="utf-8").lower()
        missing = [word for word in ("data", "recipe", "seed", "quality", "limits", "noise range") if word not in card]
        assert missing == [], f"{entry.card.name} says nothing on {missing}"


def test_no_weights_lie_about_that_are_not_listed() -> None:
    assert {p.stem for p in shipped.HOME.glob("*.safetensors")} == set(shipped.catalogue())


@pytest.fixture
def catalogue_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A catalogue of one network, "one", in a folder of its own."""
    path = tmp_path / "one.safetensors"
    save_network(path, network(), about=ABOUT)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "manifest.json").write_text(json.dumps({"one": {"sha256": digest, "purpose": "test"}}))
    monkeypatch.setattr(shipped, "HOME", tmp_path)
    for cached in (shipped.catalogue, shipped.load):
        cached.cache_clear()
    yield path
    for cached in (shipped.catalogue, shipped.load):
        cached.cache_clear()


def test_a_listed_network_loads(catalogue_here: Path) -> None:
    assert shipped.load("one").architecture == "MosaicNet"


def test_another_file_under_a_listed_name_is_refused(catalogue_here: Path) -> None:
    save_network(catalogue_here, network(seed=1), about=ABOUT)
    with pytest.raises(WeightsError, match=r"one\.safetensors is damaged.*Install the package again"):
        shipped.load("one")


def test_an_unknown_name_is_refused(catalogue_here: Path) -> None:
    with pytest.raises(WeightsError, match="No shipped network is called 'two'; there are one"):
        shipped.load("two")
