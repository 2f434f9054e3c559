"""What every operator here is: a deepinv ``LinearPhysics`` with a weighted prox, free of state that calls change.

Importing this module imports deepinv: do so on use.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from physrestore.deepinv_host import load_deepinv
from physrestore.operators import conjugate_gradient as cg
from physrestore.operators.shapes import positive, precision

_physics: Any = load_deepinv().physics
LinearPhysics: Any = _physics.LinearPhysics


class LinearOperator(LinearPhysics, ABC):  # type: ignore[misc]  # deepinv has no types
    """A linear map of images (B, C, H, W) with its adjoint and the prox of its weighted least-squares term.

    A subclass writes `A` and `A_adjoint`; where ``A^T W A`` is diagonal for diagonal W, also `gram_diagonal`, which
    makes the prox and the pseudo-inverse closed forms. Otherwise both are solved by conjugate gradients. Unlike in
    deepinv, no call changes the solver's settings, objects can be pickled, numbers are accepted as parameters, and
    ``outer * inner`` composes without loss of closed forms.

    Attributes:
        noise_model: deepinv noise model, applied by ``physics(x)`` after `A`.
        sensor_model: Module applied after the noise, e.g. `physrestore.operators.sensor.SensorReadout`.
        tol: Relative residual of conjugate gradients; None: by dtype (`conjugate_gradient.TOLERANCE`).
        max_iter: Most steps of conjugate gradients; ending there warns (`conjugate_gradient.InexactSolution`).
    """

    parameter_names: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        noise_model: torch.nn.Module | None = None,
        sensor_model: torch.nn.Module | None = None,
        tol: float | None = None,
        max_iter: int = 500,
    ) -> None:
        """Keep the parts; modules stand where deepinv's defaults are lambdas, which cannot be pickled."""
        super().__init__(A=_replaced, sensor_model=torch.nn.Identity(), solver="CG", tol=tol, max_iter=max_iter)
        # After deepinv's constructor, which would move the noise model to the CPU.
        self.noise_model = _physics.ZeroNoise(noise_model=torch.nn.Identity()) if noise_model is None else noise_model
        if sensor_model is not None:
            self.sensor_model = sensor_model

    @abstractmethod
    def A(self, x: Tensor, **params: Any) -> Tensor:
        """Image (B, C, H, W) to measurement. Parameters given by name stay, as everywhere in deepinv."""

    @abstractmethod
    def A_adjoint(self, y: Tensor, **params: Any) -> Tensor:
        """Transpose of `A`: measurement to image."""

    def gram_diagonal(self, weights: Tensor, y: Tensor) -> Tensor | None:  # noqa: ARG002 (for subclasses)
        """The diagonal of ``A^T diag(weights) A`` where that is the whole matrix; None where it is not.

        Args:
            weights: Broadcasts to ``y``.
            y: A measurement; only its shape counts.

        Returns:
            Broadcasts to the image.
        """
        return None

    def prox_l2(self, z: Tensor | float | None, y: Tensor, gamma: float | Tensor, **options: Any) -> Tensor:
        """``argmin_x 1/2 |A x - y|^2 + 1/(2 gamma) |x - z|^2``; deepinv's name and argument order.

        Args:
            z: (B, C, H, W); a number is that image everywhere, None is zero.
            y: Measurement.
            gamma: As in `prox_weighted`.
            options: ``tol`` and ``max_iter`` as in `prox_weighted`; deepinv's ``solver`` and ``verbose`` have no
                meaning here.
        """
        if not isinstance(z, Tensor):
            z = torch.full_like(self.A_adjoint(y), 0.0 if z is None else float(z))
        return self.prox_weighted(z, y, None, gamma, tol=options.get("tol"), max_iter=options.get("max_iter"))

    def prox_weighted(
        self,
        z: Tensor,
        y: Tensor,
        weights: Tensor | float | None,
        gamma: float | Tensor,
        *,
        tol: float | None = None,
        max_iter: int | None = None,
    ) -> Tensor:
        """``argmin_x 1/2 (A x - y)^T W (A x - y) + 1/2 (x - z)^T diag(1 / gamma) (x - z)``.

        Args:
            z: (B, C, H, W).
            y: Measurement, finite also where its weight is zero.
            weights: Diagonal of W, inverse variances: None (one), a number, or a tensor that broadcasts to ``y``.
            gamma: Step: a number, (B,), or a tensor that broadcasts to ``z`` (a diagonal preconditioner).
            tol: Of conjugate gradients, where they are needed; None: the operator's.
            max_iter: The same.

        Returns:
            (B, C, H, W).

        Raises:
            ValueError: weights below zero, a gamma that is not positive, or shapes that do not fit.
        """
        w, rho = precision(weights, y), 1.0 / positive(gamma, z, name="gamma")
        exact = self._closed_form(z, y, w, rho)
        if exact is not None:
            return exact
        return self.prox_correlated(z, y, lambda r: w * r, gamma, weights=w, tol=tol, max_iter=max_iter)

    def prox_correlated(
        self,
        z: Tensor,
        y: Tensor,
        apply_precision: cg.Linear,
        gamma: float | Tensor,
        *,
        weights: Tensor,
        tol: float | None = None,
        max_iter: int | None = None,
    ) -> Tensor:
        """`prox_weighted` for a precision W that is not diagonal, by conjugate gradients.

        Args:
            z: As there.
            y: As there.
            apply_precision: Multiplies by W, symmetric positive semi-definite.
            gamma: As there.
            weights: About the diagonal of W, for the preconditioner; broadcasts to ``y``.
            tol: As there.
            max_iter: As there.
        """
        rho = 1.0 / positive(gamma, z, name="gamma")
        rhs = self.A_adjoint(apply_precision(y - self.A(z)))
        with torch.no_grad():  # the residual is judged against the equation for x, not for the change of z
            scale = cg.image_norm(self.A_adjoint(apply_precision(y))) + cg.image_norm(rho * z)
            precondition = self._preconditioner(z, weights, rho)
        return z + cg.solve(
            lambda x: self.A_adjoint(apply_precision(self.A(x))) + rho * x,
            rhs,
            precondition=precondition,
            scale=scale,
            **self._limits(tol, max_iter),
        )

    def A_dagger(self, y: Tensor, *, tol: float | None = None, max_iter: int | None = None, **_: Any) -> Tensor:
        """The least-squares image of smallest norm: exact where `gram_diagonal` is, else by conjugate gradients."""
        diagonal = self.gram_diagonal(y.new_ones(1, 1, 1, 1), y)
        rhs = self.A_adjoint(y)
        if diagonal is None:
            # Without a preconditioner: from zero, the iterates stay in the range of A^T, where the smallest norm is.
            return cg.solve(lambda x: self.A_adjoint(self.A(x)), rhs, **self._limits(tol, max_iter))
        seen = diagonal > 0
        return torch.where(seen, rhs / torch.where(seen, diagonal, 1.0), 0.0)

    def update_parameters(self, **params: Any) -> None:
        """Replace parameters of `parameter_names`; numbers and tensors alike, None and other names are passed over."""
        for name in self.parameter_names:
            if params.get(name) is not None:
                current = getattr(self, name)
                setattr(self, name, torch.as_tensor(params[name], dtype=current.dtype, device=current.device))
                self._check_parameters()

    def __mul__(self, other: Any) -> Any:
        """``self * other`` is the operator that applies ``other`` first."""
        from physrestore.operators.composition import Composition

        return Composition(self, other) if isinstance(other, LinearOperator) else super().__mul__(other)

    def _check_parameters(self) -> None:
        """Raise ValueError for impossible parameters; for subclasses."""

    def _closed_form(self, z: Tensor, y: Tensor, w: Tensor, rho: Tensor) -> Tensor | None:
        diagonal = self.gram_diagonal(w, y)
        if diagonal is None:
            return None
        return z + self.A_adjoint(w * (y - self.A(z))) / (diagonal + rho)

    def _limits(self, tol: float | None, max_iter: int | None) -> dict[str, Any]:
        """Settings of conjugate gradients: the operator's where the call has none."""
        steps = self.max_iter if max_iter is None else max_iter
        return {"tol": self.tol if tol is None else tol, "max_iter": steps}

    def _preconditioner(self, like: Tensor, w: Tensor, rho: Tensor) -> cg.Linear:
        """Approximate inverse of ``A^T W A + diag(rho)``: its row sums, which bound it where A is not negative."""
        inverse = 1.0 / (self.A_adjoint(w * self.A(torch.ones_like(like))).abs() + rho)
        return lambda x: inverse * x


def _replaced(x: Tensor, **_: Any) -> Tensor:  # pragma: no cover (deepinv's slot for A; `A` is a method here)
    raise NotImplementedError("Write A as a method of the subclass.")
