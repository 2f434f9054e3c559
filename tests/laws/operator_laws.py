"""The laws as numbers: how far an operator is from keeping each of them. Zero is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from physrestore.operators.base import LinearOperator
from tests.laws.operator_table import random, uniform

Shape = tuple[int, ...]


def adjoint_gap(operator: LinearOperator, shape: Shape, dtype: torch.dtype) -> float:
    """``|<A u, v> - <u, A^T v>|`` over the size that <A u, v> has for random v, which is |A u|."""
    u = random(shape, 1, dtype)
    image = operator.A(u)
    v = random(tuple(image.shape), 2, dtype)
    left, right = (image * v).double().sum(), (u * operator.A_adjoint(v)).double().sum()
    return float((left - right).abs() / image.norm())


def linearity_gap(operator: LinearOperator, shape: Shape) -> float:
    """``A(2 u - 3 v) - 2 A u + 3 A v``, and the same of the adjoint."""
    u, v = random(shape, 3), random(shape, 4)
    a, b = operator.A(u), operator.A(v)
    forward = (operator.A(2 * u - 3 * v) - 2 * a + 3 * b).norm() / (a.norm() + b.norm())
    c, d = operator.A_adjoint(a), operator.A_adjoint(b)
    back = (operator.A_adjoint(2 * a - 3 * b) - 2 * c + 3 * d).norm() / (c.norm() + d.norm())
    return float(forward.maximum(back))


def vjp_gap(operator: LinearOperator, shape: Shape) -> float:
    """The adjoint written by hand against the one that autograd derives from `A`; and `A` against the adjoint's."""
    u = random(shape, 5)
    image, pullback = torch.func.vjp(operator.A, u)
    v = random(tuple(image.shape), 6)
    back, pushback = torch.func.vjp(operator.A_adjoint, v)
    first = (pullback(v)[0] - back).norm() / back.norm()
    second = (pushback(u)[0] - image).norm() / image.norm()
    return float(first.maximum(second))


def data(operator: LinearOperator, shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """z, y, and weights over a factor of a hundred, one in ten of them zero."""
    z = random(shape, 8, dtype)
    y = operator.A(random(shape, 9, dtype))
    draw = uniform(tuple(y.shape), 10, dtype)
    weights = torch.where(draw < 0.1, 0.0, 100.0**draw)
    return z, y + 0.1 * random(tuple(y.shape), 11, dtype), weights


def prox_residual(
    operator: LinearOperator,
    z: Tensor,
    y: Tensor,
    weights: Tensor | float | None,
    gamma: float | Tensor,
) -> float:
    """``A^T W A x - A^T W y + x / gamma - z / gamma`` at the prox, over the sum of the four norms; worst image."""
    x = operator.prox_weighted(z, y, weights, gamma)
    w = 1.0 if weights is None else weights
    residual = operator.A_adjoint(w * (operator.A(x) - y)) + (x - z) / gamma
    terms = (operator.A_adjoint(w * operator.A(x)), operator.A_adjoint(w * y), x / gamma, z / gamma)
    size = sum(term.flatten(1).norm(dim=1) for term in terms)
    return float((residual.flatten(1).norm(dim=1) / size).max())


def dense(operator: LinearOperator, shape: Shape) -> Tensor:
    """The matrix of the operator for one image, (m, n), float64."""
    n = shape[1] * shape[2] * shape[3]
    basis = torch.eye(n, dtype=torch.float64).reshape(n, *shape[1:])
    return torch.stack([operator.A(e[None]).flatten() for e in basis], dim=1)
