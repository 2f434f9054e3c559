"""Published weights under the names that this package gives them.

Nothing is read from files here: the published files are pickles, which this package does not open. Read them elsewhere
(``torch.load(path, weights_only=True)``), give the tensors to these functions, and keep the result as safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

from physrestore.errors import PriorError
from physrestore.networks.cscnet import CSCNet, CSCNetConfig
from physrestore.networks.dncnn import DnCNN, DnCNNConfig

Network = TypeVar("Network", bound=nn.Module)


def dncnn_of_kair(tensors: Mapping[str, Tensor], *, level: float) -> DnCNN:
    """DnCNN from the layout of the KAIR collection (MIT licence): convolutions with rectifiers between, no norms.

    Args:
        tensors: ``model.0.weight``, ``model.0.bias``, ``model.2.weight``, ...
        level: Noise that it was trained for [0..1].

    Raises:
        PriorError: names or shapes that do not belong together.
    """
    first = _tensor(tensors, "model.0.weight", "KAIR's DnCNN")
    layers = len(tensors) // 2
    network = DnCNN(DnCNNConfig(channels=first.shape[1], features=first.shape[0], layers=layers, level=level))
    renamed = {
        f"convolutions.{k}.{part}": _tensor(tensors, f"model.{2 * k}.{part}", "KAIR's DnCNN")
        for k in range(layers)
        for part in ("weight", "bias")
    }
    return _filled(network, renamed, tensors)


def cscnet_of_authors(tensors: Mapping[str, Tensor], *, level: float, stride: int = 8, unfoldings: int = 12) -> CSCNet:
    """CSCNet from the layout of its authors' code.

    Args:
        tensors: ``apply_A.weight``, ``apply_B.weight``, ``apply_C.weight``, ``soft_threshold.threshold``.
        level: Noise that it was trained for [0..1].
        stride: Not in the tensors: from the ``.config`` file beside them, like ``unfoldings``.
        unfoldings: See ``stride``.

    Raises:
        PriorError: names or shapes that do not belong together.
    """
    names = {
        "synthesis": "apply_A.weight",
        "analysis": "apply_B.weight",
        "output": "apply_C.weight",
        "threshold": "soft_threshold.threshold",
    }
    found = {ours: _tensor(tensors, theirs, "the authors' CSCNet") for ours, theirs in names.items()}
    filters, channels, kernel, _ = found["analysis"].shape
    config = CSCNetConfig(channels, filters, kernel, stride, unfoldings, level)
    flat = {name: values.flatten() if name == "threshold" else values.flatten(1) for name, values in found.items()}
    return _filled(CSCNet(config), flat, tensors)


def _tensor(tensors: Mapping[str, Tensor], name: str, layout: str) -> Tensor:
    if name not in tensors:
        raise PriorError(
            f"No tensor {name!r} among {sorted(tensors)[:4]}...: these are not the weights of {layout}. "
            "Give the state dictionary of the published file as it is."
        )
    return tensors[name]


def _filled(network: Network, renamed: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Network:
    """The network with these weights, in evaluation mode, if every tensor found its place."""
    wrong = [
        f"{name} {tuple(renamed[name].shape)} for {tuple(own.shape)}"
        for name, own in network.state_dict().items()
        if renamed[name].shape != own.shape
    ]
    if wrong or len(renamed) != len(tensors):
        raise PriorError(
            f"The tensors do not make one {type(network).__name__}: {len(tensors)} given, {len(renamed)} used, "
            f"wrong shapes: {', '.join(wrong) or 'none'}. Give the state dictionary of the published file as it is."
        )
    network.load_state_dict(dict(renamed))
    return network.eval()
