"""``physrestore doctor``: what is installed, what is missing, and the line that installs it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil

import typer

from physrestore.cli.console import Exit, JsonOption, emit, say
from physrestore.cli.prior_names import BUILT_IN

PACKAGES = ("torch", "deepinv", "kornia", "rawpy", "numpy", "scipy", "pydantic", "tifffile", "imagecodecs", "pillow")

# What each optional tool adds and how it is installed.
OPTIONAL_PACKAGES = {
    "bm3d": ("the BM3D denoiser as a prior; non-commercial licence", "pip install 'physrestore[bm3d]'"),
    "onnxruntime": ("ONNX files as priors", "pip install 'physrestore[onnx]'"),
    "skimage": ("scikit-image's denoisers as priors", "pip install 'physrestore[scikit]'"),
}
OPTIONAL_PROGRAMS = {
    "exiftool": ("copies all metadata into results", "apt install libimage-exiftool-perl | brew install exiftool"),
}


def doctor(as_json: JsonOption = False) -> None:
    """Report versions, devices and optional tools."""
    import torch

    from physrestore.cli.restore import profile_folder

    versions = {name: _version(name) for name in ("physrestore", *PACKAGES)}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none (CPU only)"
    found: dict[str, str] = {}
    advice: list[str] = []
    for name, (purpose, install) in OPTIONAL_PACKAGES.items():
        present = importlib.util.find_spec(name) is not None
        found[name] = "yes" if present else "no"
        advice += [] if present else [f"{name} is missing ({purpose}): {install}"]
    for name, (purpose, install) in OPTIONAL_PROGRAMS.items():
        place = shutil.which(name)
        found[name] = place or "no"
        advice += [] if place else [f"{name} is missing ({purpose}): {install}"]
    missing = [name for name, version in versions.items() if version is None]
    report: dict[str, object] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": versions,
        "decoder": _decoder(),
        "gpu": device,
        "engine": _engine(),
        "threads": torch.get_num_threads(),
        "optional": found,
        "priors": _priors(),
        "profile_folder": str(profile_folder()),
        "advice": advice + [f"{name} is needed and missing: pip install {name}" for name in missing],
    }
    code = Exit.NOTHING_USABLE if missing else Exit.OK
    if as_json:
        emit({"command": "doctor", "exit_code": int(code), **report})
    else:
        for key, value in report.items():
            if isinstance(value, dict):
                say(f"{key}:")
                for name, item in value.items():
                    say(f"  {name:14} {item}")
            elif isinstance(value, list):
                for line in value:
                    say(f"{key}: {line}")
            else:
                say(f"{key}: {value}")
    raise typer.Exit(code)


def _engine() -> str:
    """How the fast method runs its network on this machine, and why so."""
    from physrestore.contract import Options
    from physrestore.fast.engine import choose_engine

    engine = choose_engine(Options().torch_device)
    return f"{engine.name}: {engine.reason}"


def _priors() -> dict[str, str]:
    """What ``--prior`` knows by name."""
    from physrestore import weights

    shipped = {name: f"network, {entry.purpose}" for name, entry in weights.catalogue().items()}
    return {**{name: f"without weights: {what}" for name, what in BUILT_IN.items()}, **shipped}


def _decoder() -> str:
    """What the decoder process says of itself, or why it cannot run."""
    from noise_models.reading.decoder import Decoder

    try:
        with Decoder() as decoder:
            return decoder.start()
    except (OSError, EOFError, ValueError) as error:
        return f"cannot run: {error}"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
