"""Any linear physics of deepinv as an operator of this package."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from physrestore.operators.base import LinearOperator, LinearPhysics


class Adapted(LinearOperator):
    """A deepinv ``LinearPhysics`` with the prox of any weights, which deepinv does not have, by conjugate gradients.

    Noise and sensor model are those of the physics. Most stock physics hold lambdas and cannot be pickled; adapting
    them does not change that.

    Attributes:
        physics: The physics.

    Raises:
        TypeError: not a linear physics.
    """

    def __init__(self, physics: Any, *, tol: float | None = None, max_iter: int = 500) -> None:
        """``tol`` and ``max_iter`` as in `LinearOperator`."""
        if not isinstance(physics, LinearPhysics):
            raise TypeError(f"Only a deepinv LinearPhysics can be adapted, not a {type(physics).__name__}.")
        super().__init__(noise_model=physics.noise_model, tol=tol, max_iter=max_iter)
        self.physics = physics

    def A(self, x: Tensor, **params: Any) -> Tensor:
        """The physics' own."""
        y: Tensor = self.physics.A(x, **params)
        return y

    def A_adjoint(self, y: Tensor, **params: Any) -> Tensor:
        """The physics' own."""
        x: Tensor = self.physics.A_adjoint(y, **params)
        return x

    def sensor(self, x: Tensor) -> Tensor:
        """The physics' own."""
        y: Tensor = self.physics.sensor(x)
        return y

    def update_parameters(self, **params: Any) -> None:
        """The physics' own."""
        self.physics.update_parameters(**params)


def as_operator(physics: Any) -> LinearOperator:
    """The physics itself where it is an operator of this package, else `Adapted`.

    Raises:
        TypeError: not a linear physics.
    """
    return physics if isinstance(physics, LinearOperator) else Adapted(physics)
