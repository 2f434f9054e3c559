"""What users import from the top. A name that goes breaks them: say so in the CHANGELOG before changing this list."""

from __future__ import annotations

import ast
import importlib

import pytest

from tests.shared_data import ROOT

PUBLIC = {
    "noise_models": [
        "Anscombe", "Calibration", "CameraProfile", "Cfa", "Decoder", "NoiseSampler", "RawFrame", "SensorNoise",
        "VirtualCamera", "calibrate", "estimate_from_frame", "frames_from", "read_profile", "read_raw",
    ],
    "physrestore": ["ChosenNoise", "Restoration", "choose_noise", "restore", "write_result"],
}  # fmt: skip


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_resolve_and_are_these(package: str) -> None:
    module = importlib.import_module(package)

    assert module.__all__ == PUBLIC[package]
    for name in PUBLIC[package]:
        assert getattr(module, name).__name__ == name


@pytest.mark.parametrize("package", PUBLIC)
def test_what_type_checkers_see_is_what_runs(package: str) -> None:
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }

    assert seen == importlib.import_module(package)._HOMES


@pytest.mark.parametrize("package", PUBLIC)
def test_an_unknown_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = importlib.import_module(package).nonsense
