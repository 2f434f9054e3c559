"""Parameters of operators against the images they act on: device, dtype and shape settled in one place."""

from __future__ import annotations

import torch
from torch import Tensor


def fit(value: Tensor | float, like: Tensor, *, name: str) -> Tensor:
    """A parameter on device and in dtype of an image, with trailing axes added, so that the two broadcast.

    Args:
        value: Number, or tensor of shape (), (B,), (B, C) or (B|1, C|1, H|1, W|1).
        like: (B, C, H, W).
        name: What the parameter is called in an error.

    Returns:
        (B|1, C|1, H|1, W|1).

    Raises:
        ValueError: the shape does not broadcast to that of ``like``.

    >>> fit(torch.tensor([1.0, 2.0]), torch.zeros(2, 3, 4, 4), name="ratio").shape
    torch.Size([2, 1, 1, 1])
    """
    tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    shaped = tensor[(..., *(None,) * (like.dim() - tensor.dim()))] if tensor.dim() else tensor.reshape(1, 1, 1, 1)
    if shaped.dim() != like.dim() or any(n not in (1, m) for n, m in zip(shaped.shape, like.shape, strict=True)):
        raise ValueError(
            f"{name} of shape {tuple(tensor.shape)} does not fit an image of shape {tuple(like.shape)}. Needed: (), "
            "(B,), (B, C) or (B|1, C|1, H|1, W|1)."
        )
    return shaped


def is_constant_per_plane(value: Tensor) -> bool:
    """Whether a fitted parameter is one number for every (image, channel), judged by its shape."""
    return value.shape[-2:] == (1, 1)


def positive(value: Tensor | float, like: Tensor, *, name: str) -> Tensor:
    """`fit` of a parameter that must be positive.

    Raises:
        ValueError: as `fit`, or a value that is not positive.
    """
    shaped = fit(value, like, name=name)
    if not bool((shaped > 0).all()):
        raise ValueError(f"{name} must be positive everywhere; its smallest value is {float(shaped.min()):g}.")
    return shaped


def precision(weights: Tensor | float | None, like: Tensor) -> Tensor:
    """`fit` of weights of a least-squares term (inverse variances); None is one everywhere.

    Raises:
        ValueError: as `fit`, or a negative or undefined weight.
    """
    shaped = fit(1.0 if weights is None else weights, like, name="weights")
    if not bool((shaped >= 0).all()):
        raise ValueError(
            f"weights must not be negative; their smallest value is {float(shaped.min()):g}. They are inverse "
            "variances; zero is a value that was not observed."
        )
    return shaped
