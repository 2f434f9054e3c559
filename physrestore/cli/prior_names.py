"""``--prior NAME|FILE|module:function``: the one place where such a word becomes an object."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physrestore.errors import PriorError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from physrestore.priors.base import Prior

# Priors without weights, and what each is.
BUILT_IN = {
    "dct": "sliding cosine transform; fast",
    "tv": "total variation; keeps edges, flattens texture",
    "tgv": "total generalised variation; keeps edges and slopes; slow",
    "wavelet": "wavelet shrinkage (needs ptwt)",
    "nlm": "non-local means (needs scikit-image)",
    "bm3d": "block matching (needs bm3d, not for commercial use); slow",
}
# What an ONNX file does not say of itself, and metadata "halo", "modulo", "sigma_max" of the file may.
ONNX_HALO, ONNX_MODULO = 64, 16
# The colour network's receptive field is wider, but what lies beyond has no effect one can see.
NETWORK_HALO = 64


@dataclass(frozen=True)
class NamedPrior:
    """What the word stands for: a prior for plug-and-play, or the network of a one-pass method.

    Attributes:
        name: For records: with a digest where there are weights.
        prior: A denoiser of colour pictures.
        network: A network that takes mosaics: a `MosaicNet`, or a `BlindSpotModel`.
    """

    name: str
    prior: Prior | None = None
    network: nn.Module | None = None


def named_prior(word: str) -> NamedPrior:
    """The prior or network of a word.

    Raises:
        PriorError: no such name, file, module or function, or something that is no denoiser.
        MissingPackage: the prior needs a package that is not installed.
        WeightsError: a file of weights that cannot be used.
    """
    if word in BUILT_IN:
        return NamedPrior(word, _built_in(word))
    path = Path(word)
    if path.suffix == ".safetensors":
        from physrestore.networks.store import load_network
        from physrestore.selfsup.blind_spot_file import is_blind_spot, load_blind_spot

        name = f"{path.stem} {_digest(path)}"
        if is_blind_spot(path):
            return NamedPrior(name, network=load_blind_spot(path))
        return _of_network(load_network(path), name)
    if path.suffix == ".onnx":
        return NamedPrior(f"{path.stem} {_digest(_existing(path))}", _of_onnx(path))
    if ":" in word:
        return NamedPrior(word, _of_function(word))
    from physrestore import weights

    entry = weights.catalogue().get(word)
    if entry is None:
        names = ", ".join([*BUILT_IN, *weights.catalogue()])
        raise PriorError(
            f"There is no prior {word!r}. Give one of {names}; a file that ends in .safetensors or .onnx; or "
            "module:function."
        )
    return _of_network(weights.load(word), f"{word} {entry.sha256[:12]}")


def move_prior(prior: Prior | None, device: torch.device) -> None:
    """Networks of a prior to the device where it will be asked."""
    from torch import nn

    for part in vars(prior).values() if hasattr(prior, "__dict__") else ():
        if isinstance(part, nn.Module):
            part.to(device)


def _built_in(name: str) -> Prior:
    if name == "dct":
        from physrestore.priors.transform import TransformPrior

        return TransformPrior()
    if name == "nlm":
        from physrestore.priors.scikit import ScikitPrior

        return ScikitPrior("nl_means")
    if name == "bm3d":
        from physrestore.priors.block_matching import Bm3dPrior

        return Bm3dPrior()
    from physrestore.priors.variational import VariationalPrior

    return VariationalPrior("tv" if name == "tv" else "tgv" if name == "tgv" else "wavelet")


def _of_network(stored: Any, name: str) -> NamedPrior:
    if stored.architecture == "MosaicNet":
        return NamedPrior(name, network=stored.network)
    if stored.architecture != "ColourNet":
        raise PriorError(
            f"{name!r} holds a {stored.architecture}; a prior is a ColourNet, a fast method's a MosaicNet."
        )
    from physrestore.priors.base import PriorSpec
    from physrestore.priors.network import NetworkPrior

    spec = PriorSpec(
        channels=3,
        noise="map",
        sigma_range=(0.0, float("inf")),
        scale_equivariant=True,
        halo=NETWORK_HALO,
        modulo=stored.network.multiple,
        weights_licence=stored.about.get("licence"),
    )
    return NamedPrior(name, NetworkPrior(stored.network, spec, condition="argument"))


def _of_onnx(path: Path) -> Prior:
    """The number and shapes of a file's inputs say how it learns the noise."""
    from physrestore.priors.base import PriorSpec
    from physrestore.priors.network import Condition
    from physrestore.priors.onnx_file import OnnxPrior
    from physrestore.priors.optional import require

    runtime: Any = require("onnxruntime", purpose="A prior in an ONNX file", install="'physrestore[onnx]'")
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise PriorError(f"{path.name!r} is no ONNX file that ONNX Runtime can run: {error}.") from error
    inputs, about = session.get_inputs(), session.get_modelmeta().custom_metadata_map
    planes = inputs[0].shape[1] if len(inputs[0].shape) == 4 else None
    told = {(2, 3): "argument", (2, 1): "argument", (1, 4): "one", (1, 6): "each", (1, 3): "none", (1, 1): "none"}
    how = told.get((len(inputs), planes)) if isinstance(planes, int) else None
    if how is None:
        raise PriorError(
            f"{path.name!r} has {len(inputs)} inputs, the first of shape {inputs[0].shape}. Needed: pictures (1, 3, H, "
            "W), alone, with the noise as a fourth plane (or planes 4 to 6), or with a second input for it."
        )
    is_map = how in ("one", "each") or (how == "argument" and len(inputs[1].shape) == 4)
    spec = PriorSpec(
        channels=1 if planes == 1 else 3,
        noise="blind" if how == "none" else "map" if is_map else "scalar",
        sigma_range=(0.0, float(about.get("sigma_max", "inf"))),
        halo=int(about.get("halo", ONNX_HALO)),
        modulo=int(about.get("modulo", ONNX_MODULO)),
        differentiable=False,
    )
    condition: Condition = "none" if how == "none" else "argument" if how == "argument" else "channels"
    return OnnxPrior(path, spec, condition=condition, map_channels="one" if how == "one" else "each")


def _of_function(word: str) -> Prior:
    """``module:function``: a prior, something that makes one, or a denoiser ``f(x)`` or ``f(x, sigma)``."""
    module_name, _, name = word.partition(":")
    sys.path.insert(0, str(Path.cwd()))  # a module beside the photos is found, as `python` itself would
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except ImportError as error:
        raise PriorError(f"The module of --prior {word} cannot be imported: {error}.") from error
    finally:
        sys.path.pop(0)
    if found is None:
        raise PriorError(f"The module {module_name!r} has no {name!r}.")
    if callable(found) and not _is_prior(found) and _needed(found) == 0:
        found = found()
    if _is_prior(found):
        prior: Prior = found
        return prior
    needed = _needed(found) if callable(found) else None
    if needed not in (1, 2):
        raise PriorError(
            f"{word!r} is {type(found).__name__}. Needed: a denoiser f(x) or f(x, sigma) of pictures (B, 3, H, W), an "
            "object with `spec` and `denoise`, or a function without arguments that returns one of these."
        )
    from physrestore.priors.base import PriorSpec
    from physrestore.priors.network import NetworkPrior

    kind, condition = ("map", "argument") if needed == 2 else ("blind", "none")
    spec = PriorSpec(channels=3, noise=kind, sigma_range=(0.0, float("inf")), non_local=True)  # type: ignore[arg-type]
    return NetworkPrior(found, spec, condition=condition)  # type: ignore[arg-type]


def _is_prior(found: object) -> bool:
    return not inspect.isclass(found) and hasattr(found, "spec") and hasattr(found, "denoise")


def _needed(function: Callable[..., object]) -> int:
    """Arguments without a default; those of a module's ``forward``."""
    target = getattr(function, "forward", function) if not inspect.isclass(function) else function
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError) as error:
        raise PriorError(f"{function!r} does not say what arguments it takes. Wrap it in a function.") from error
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.default is inspect.Parameter.empty and p.kind in positional for p in parameters)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise PriorError(f"There is no file {str(path)!r} for --prior.")
    return path


def _digest(path: Path) -> str:
    return hashlib.sha256(_existing(path).read_bytes()).hexdigest()[:12]
