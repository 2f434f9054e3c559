"""Shrinkage: the one nonlinearity of all sparse networks here, and the step of LISTA around it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Power iterations for the largest eigenvalue: what decides is the gap to the second, and an estimate that is a few per
# cent low only makes the first step of an untrained network that much longer.
POWER_ITERATIONS = 30


def soft_threshold(x: Tensor, threshold: Tensor) -> Tensor:
    """Move every value towards zero by a threshold, and to zero what is nearer than that.

    It is the prox of ``threshold |x|``. Below zero the threshold is continued oddly: values move away from zero by its
    size, those nearer to zero than that are doubled. A few filters of the published CSCNet learned such thresholds.

    Args:
        x: Any shape.
        threshold: Broadcasts against ``x``.

    >>> soft_threshold(torch.tensor([-3.0, -0.5, 0.5, 3.0]), torch.tensor(1.0)).tolist()
    [-2.0, 0.0, 0.0, 2.0]
    """
    size = threshold.abs()
    return torch.addcmul(x, threshold.sign(), x.clamp(-size, size), value=-1)


def lista_step(code: Tensor, correlation: Tensor, threshold: Tensor) -> Tensor:
    """One step of the learned iterative shrinkage-thresholding algorithm.

    Args:
        code: Codes so far.
        correlation: Filters applied to what the codes leave unexplained (signal minus synthesis), same shape.
        threshold: Broadcasts against ``code``.

    Source:
        Gregor, LeCun, "Learning fast approximations of sparse coding", ICML 2010, with the analysis filters and the
        synthesis kept apart instead of multiplied out: fewer operations where filters overlap.
    """
    return soft_threshold(code + correlation, threshold)


def largest_eigenvalue(
    operator: Callable[[Tensor], Tensor], start: Tensor, *, iterations: int = POWER_ITERATIONS
) -> float:
    """Largest eigenvalue of a symmetric, positive semidefinite operator, by the power method (from below).

    Args:
        operator: Takes and returns tensors of the shape of ``start``.
        start: Not orthogonal to the eigenvector: random values.
        iterations: Applications of the operator.
    """
    vector, norm = start, start.norm()
    for _ in range(iterations):
        vector = operator(vector / norm)
        norm = vector.norm()
    return float(norm)
