"""Laws of any callable on batches, as numbers and verdicts: images stay apart, inputs stay theirs, types follow."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Call = Callable[..., Tensor]


def mixing_gap(call: Call, inputs: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """How far the first image of the result moves when every image but the first is replaced, over its size."""
    mixed = [torch.cat([a[:1], b[1:]]) for a, b in zip(inputs, others, strict=True)]
    first, second = call(*inputs)[0], call(*mixed)[0]
    return float((first - second).norm() / first.norm())


def is_left_alone(call: Call, inputs: Sequence[Tensor]) -> bool:
    """Whether the call writes nothing into what it is given, nor hands out memory that it was given."""
    before = [value.clone() for value in inputs]
    result = call(*inputs)
    result.add_(1.0)  # a view of an input would change it
    return all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


def follows_type(call: Call, inputs: Sequence[Tensor], *, rtol: float) -> bool:
    """Whether single precision in is single precision out, and the same numbers to ``rtol`` of the largest."""
    wide = call(*inputs)
    narrow = call(*(value.float() for value in inputs))
    near = float((narrow.double() - wide).abs().max() / wide.abs().max()) < rtol
    return narrow.dtype == torch.float32 and wide.dtype == torch.float64 and near


def survives_pickling(thing: Any, use: Callable[[Any], Any]) -> bool:
    """Whether a pickled and restored object gives the same answer."""
    first, second = use(thing), use(pickle.loads(pickle.dumps(thing)))
    return torch.equal(first, second) if isinstance(first, Tensor) else bool(first == second)
