"""Data terms that are a sum over the measured values, with a prox that is right for every linear operator.

Importing this module imports deepinv: do so on use.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from physrestore.deepinv_host import load_deepinv
from physrestore.operators.adapt import as_operator
from physrestore.operators.base import LinearOperator
from physrestore.operators.conjugate_gradient import TOLERANCE, InexactSolution, image_norm
from physrestore.operators.exposure import Exposure
from physrestore.operators.shapes import positive

DataFidelity: Any = load_deepinv().optim.DataFidelity

# The outer equation is solved to a multiple of what the inner one, conjugate gradients, reaches.
OUTER_SLACK = 20.0
MAX_STEPS = 200
MAX_HALVINGS = 30
# A curvature of zero has no target; this share of the largest keeps the last, differentiable step finite.
LEAST_CURVATURE = {torch.float32: 1e-6, torch.float64: 1e-12}


class SiteFidelity(DataFidelity, ABC):  # type: ignore[misc]  # deepinv has no types
    """``f(x) = sum_i phi_i((A x)_i)``, phi from the measured value y_i and its noise.

    A subclass writes phi, its slope, and the curvature of a quadratic model of it. The prox minimises
    ``f(x) + |x - z|^2 / (2 gamma)`` by Newton's method on that model: every step is a weighted least-squares prox of
    the operator, shortened where it does not descend. deepinv's solvers take it as any data fidelity of theirs, and
    stock linear physics are adapted.

    Attributes:
        phi_error: By how much phi may be wrong at a site; the descent does not take that for a rise.
    """

    phi_error: ClassVar[float] = 0.0

    def __init__(self) -> None:
        """Hand the distance to deepinv."""
        super().__init__(d=self.distance)

    @abstractmethod
    def penalty(self, u: Tensor, y: Tensor) -> Tensor:
        """The value phi at every site, of the shape of ``y``."""

    @abstractmethod
    def slope(self, u: Tensor, y: Tensor) -> Tensor:
        """The derivative phi' at every site."""

    @abstractmethod
    def curvature(self, u: Tensor, y: Tensor) -> Tensor:
        """The second derivative phi'', or that of a parabola above phi that touches it at ``u``; not negative."""

    def hessian(self, u: Tensor, y: Tensor) -> Tensor:
        """The second derivative itself, not negative; the derivative of the prox needs it. Here: `curvature`."""
        return self.curvature(u, y)

    def slope_and_curvature(self, u: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both; for subclasses that compute them together."""
        return self.slope(u, y), self.curvature(u, y)

    def first_guess(self, operator: LinearOperator, z: Tensor, y: Tensor, rho: Tensor) -> Tensor:  # noqa: ARG002
        """Where the prox begins its descent; rho is ``1 / gamma``. Here: z."""
        return z

    def distance(self, u: Tensor, y: Tensor) -> Tensor:
        """The sum of phi for every image, (B,)."""
        return self.penalty(u, y).flatten(1).sum(dim=1)

    def fn(self, x: Tensor, y: Tensor, physics: Any, **_: Any) -> Tensor:
        """f(x) of every image, (B,)."""
        return self.distance(physics.A(x), y)

    def grad(self, x: Tensor, y: Tensor, physics: Any, **_: Any) -> Tensor:
        """The gradient of f at x."""
        gradient: Tensor = physics.A_adjoint(self.slope(physics.A(x), y))
        return gradient

    def grad_d(self, u: Tensor, y: Tensor, **_: Any) -> Tensor:
        """The gradient of the distance in the measurement's space."""
        return self.slope(u, y)

    def prox_d(self, u: Tensor, y: Tensor, gamma: float | Tensor = 1.0, **_: Any) -> Tensor:
        """The prox of the distance in the measurement's space."""
        return self.prox(u, y, Exposure(1.0), gamma=gamma)

    def prox(self, x: Tensor, y: Tensor, physics: Any, *, gamma: float | Tensor = 1.0, **_: Any) -> Tensor:
        """``argmin_v f(v) + 1/2 (v - x)^T diag(1 / gamma) (v - x)``.

        Differentiable once in everything it depends on, as the exact solution is, whatever the number of steps.

        Args:
            x: (B, C, H, W).
            y: Measurement.
            physics: A linear operator; stock physics of deepinv are adapted.
            gamma: Step: a number, (B,), or a tensor that broadcasts to ``x``.

        Raises:
            TypeError: a physics that is not linear.
            ValueError: a gamma that is not positive, or parameters that do not fit the measurement.

        Warns:
            InexactSolution: not solved after `MAX_STEPS` steps.
        """
        operator = as_operator(physics)
        rho = 1.0 / positive(gamma, x, name="gamma")
        with torch.no_grad():
            solution = self._minimise(operator, x, y, rho)
            u = operator.A(solution)
            hessian = self.hessian(u, y).expand(y.shape)
            hessian = hessian.maximum(LEAST_CURVATURE[x.dtype] * self.curvature(u, y).amax())
        if not torch.is_grad_enabled():
            return solution
        # One more Newton step from the solution changes nothing but carries the derivative of the equation it solves.
        step = operator.prox_weighted(x, u - self.slope(u, y) / hessian, hessian, gamma)
        return solution + (step - step.detach())

    def _minimise(self, operator: LinearOperator, z: Tensor, y: Tensor, rho: Tensor) -> Tensor:
        tol, objective = OUTER_SLACK * TOLERANCE[z.dtype], self._objective(operator, z, y, rho)
        noise = self.phi_error * y[0].numel()
        x = self.first_guess(operator, z, y, rho)
        for _ in range(MAX_STEPS):
            u = operator.A(x)
            slope, curvature = self.slope_and_curvature(u, y)
            pull = operator.A_adjoint(slope)
            error = image_norm(pull + rho * (x - z))
            size = image_norm(pull) + image_norm(rho * x) + image_norm(rho * z)
            open_ = error > tol * size
            if not bool(open_.any()):
                return x
            used = curvature > 0
            target = torch.where(used, u - slope / torch.where(used, curvature, 1.0), 0.0)
            proposal = operator.prox_weighted(z, target, curvature, 1.0 / rho)
            x = _descend(objective, x, torch.where(open_, proposal - x, 0.0), noise)
        worst = float((error / size).max())
        warnings.warn(
            f"The prox of {type(self).__name__} is not solved after {MAX_STEPS} steps: relative residual {worst:.1e}, "
            f"asked {tol:.1e}. Use a smaller gamma.",
            InexactSolution,
            stacklevel=4,
        )
        return x

    def _objective(self, operator: LinearOperator, z: Tensor, y: Tensor, rho: Tensor) -> Callable[[Tensor], Tensor]:
        """What the prox minimises, as one number per image, (B, 1, 1, 1).

        Where ``A^T W A`` is diagonal for every W, no two values of the image share a measurement: then one number per
        value, of the shape of the image, so that every value's step has its own length.
        """
        gain = operator.A(torch.ones_like(z))
        separable = operator.gram_diagonal(torch.ones_like(gain), gain) is not None

        def objective(v: Tensor) -> Tensor:
            quadratic, u = 0.5 * rho * (v - z).square(), operator.A(v)
            if not separable:
                whole = quadratic.flatten(1).sum(dim=1) + self.distance(u, y)
                return whole[:, None, None, None]
            # A row holds one number, the gain; dead sites have none and no say.
            data = torch.where(gain != 0, self.penalty(u, y) / torch.where(gain != 0, gain, 1.0), 0.0)
            return quadratic + operator.A_adjoint(data)

        return objective


def _descend(objective: Callable[[Tensor], Tensor], x: Tensor, step: Tensor, error: float) -> Tensor:
    """``x + t step`` with the largest t of 1, 1/2, 1/4, ... that does not raise the objective, number by number.

    ``error``: by how much the objective of an image may be wrong, beyond rounding.
    """
    now = objective(x)
    slack = torch.finfo(x.dtype).eps * now.abs() * 4.0 + error / now[0].numel()
    t = torch.ones_like(now)
    for _ in range(MAX_HALVINGS):
        worse = ~(objective(x + t * step) <= now + slack)
        if not bool(worse.any()):
            break
        t = torch.where(worse, 0.5 * t, t)
    return x + t * step
