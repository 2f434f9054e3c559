"""A second device that is pretended: tensors on it say that they are on no CPU, and are computed on the CPU.

What mixes them with tensors of the CPU fails, as it would on a GPU; what does not gives the CPU's numbers. So a machine
without a GPU can tell whether code is fit for one. It says nothing of speed or of half precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# Every build of torch knows it, and does nothing on it that is not asked for here.
ELSEWHERE = torch.device("meta")
_ATEN = torch.ops.aten
# What may take tensors of both devices, as on a GPU: copies, and picking by indices that lie on the CPU.
_MIXING = (_ATEN.copy_, _ATEN._to_copy, _ATEN.index, _ATEN.index_put, _ATEN.index_put_, _ATEN._index_put_impl_)


class _Elsewhere(torch.Tensor):
    """A tensor on the pretended device; ``held`` holds its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, real: Tensor) -> _Elsewhere:
        out: _Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls,
            real.shape,
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            layout=real.layout,
            device=ELSEWHERE,
        )
        out.held = real
        return out

    def __repr__(self) -> str:  # type: ignore[override]
        return f"elsewhere: {self.held!r}"

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype).to(ELSEWHERE)

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Pretending(TorchDispatchMode):
    """Catches what makes tensors on the pretended device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """Within it, the device that is given can be named wherever a device can."""
    autocast, enabled, tensor, as_tensor = torch.autocast, torch.is_autocast_enabled, torch.tensor, torch.as_tensor
    # Torch has no autocast for it and does not fill it with Python's numbers. In inference mode compound operations
    # would come here whole.
    replaced = {
        "inference_mode": torch.no_grad,
        "autocast": lambda kind, *rest, **more: (
            nullcontext() if kind == ELSEWHERE.type else autocast(kind, *rest, **more)
        ),
        "is_autocast_enabled": lambda kind="cpu": kind != ELSEWHERE.type and enabled(kind),
        "tensor": lambda data, *, device=None, **more: tensor(data, **more).to(device),
        "as_tensor": lambda data, *, device=None, **more: as_tensor(data, **more).to(device),
    }
    with _Pretending(), patch.multiple(torch, **replaced):
        yield ELSEWHERE


def _computed(func: Any, args: Any, kwargs: Any) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    wrappers = {id(t.held): t for t in tensors if isinstance(t, _Elsewhere)}
    there = bool(wrappers)
    if there and func.overloadpacket not in _MIXING:
        strangers = [t for t in tensors if not isinstance(t, _Elsewhere) and t.dim() > 0]
        if strangers:
            raise RuntimeError(f"{func} got tensors of two devices: {ELSEWHERE} and cpu, {tuple(strangers[0].shape)}.")
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]).type == ELSEWHERE.type
        kwargs = {**kwargs, "device": torch.device("cpu")}
    elif func.overloadpacket is _ATEN.copy_:
        there = isinstance(args[0], _Elsewhere)
    generator = kwargs.get("generator")
    if there and generator is not None:
        raise RuntimeError(f"{func} draws on {ELSEWHERE} with a generator of {generator.device}.")
    args, kwargs = tree_map(lambda leaf: leaf.held if isinstance(leaf, _Elsewhere) else leaf, (args, kwargs))
    out = func(*args, **kwargs)
    if not there:
        return out
    return tree_map(lambda leaf: _moved(leaf, wrappers) if isinstance(leaf, Tensor) else leaf, out)


def _moved(made: Tensor, wrappers: dict[int, _Elsewhere]) -> Tensor:
    """A result on the pretended device; what was changed in place keeps its own tensor."""
    same = wrappers.get(id(made))
    # A conjugate is a view with a mark, which the wrapper would hide.
    return _Elsewhere(made.resolve_conj().resolve_neg()) if same is None else same
