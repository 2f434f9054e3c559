"""The exact Poisson-Gaussian likelihood of codes: counted electrons, Gaussian read noise, rounding and clipping."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from physrestore.fidelity.base import LEAST_CURVATURE, SiteFidelity
from physrestore.fidelity.electron_sum import Derivatives, Window, negative_log_likelihood
from physrestore.noise import CalibratedNoise
from physrestore.operators.base import LinearOperator
from physrestore.operators.shapes import fit, positive

# Rounding to steps adds this many squared steps to the variance that a profile declares (noise_models.sensor).
ROUNDING_VARIANCE = 1.0 / 12.0
# Mean electrons from which downwards there is no light.
DARKEST = 1e-3


class ExactPoissonGaussian(SiteFidelity):
    """``phi(u) = -log P(code y | mean u)``: no Gaussian or shifted Poisson law in the place of the true one.

    The code is the mean's electrons, counted, times the gain, plus Gaussian noise, rounded to a step and clipped:
    ``P = sum_n Poisson(n; u / gain) P(gain n + sigma e is rounded to y)``. Codes at ``low`` and ``high`` say "at most"
    and "at least". phi is convex; below `DARKEST` electrons, where there is no light, it goes on as the parabola of the
    read noise's curvature, as in `ShiftedPoisson`. The sum costs some 50 terms a value and step: for few electrons,
    where the approximations fail, and as their judge elsewhere. `docs/what_is_solved.md` has them in one table.

    Towards zero light a bright code's pull grows without a bound that a gradient step could use: solvers by prox (HQS,
    ADMM) are right for it.

    Derivatives in u are exact up to the second; none reaches the measurement, whose codes are whole, or the noise.

    Attributes:
        gain: a of the variance ``a x + b^2``, in the units of the measurement; number or broadcasting to it. Buffer.
        sigma: Std of the Gaussian noise *before rounding*, positive, alike. Buffer.
        step: Size of one code, positive, alike. Buffer.
        low: Lowest code that the camera writes, in the units of the measurement, alike; minus infinity: none. Buffer.
        high: Highest code; infinity: none. Buffer.

    Raises:
        ValueError: a gain, sigma or step that is not positive, or limits that do not rise, at the first use.

    Source:
        As `physrestore.fidelity.electron_sum`; rounding and clipping as in `noise_models.likelihood.CodeLikelihood`.
    """

    gain: Tensor
    sigma: Tensor
    step: Tensor
    low: Tensor
    high: Tensor
    # Log factorials up to 1e6 in double precision; measured against sums over all counts: 6e-10 at 360000 electrons.
    phi_error: ClassVar[float] = 1e-9

    def __init__(
        self,
        gain: Tensor | float,
        sigma: Tensor | float,
        *,
        step: Tensor | float,
        low: Tensor | float = -torch.inf,
        high: Tensor | float = torch.inf,
    ) -> None:
        """Keep the parameters; they are fitted to the measurement at use."""
        super().__init__()
        for name, value in (("gain", gain), ("sigma", sigma), ("step", step), ("low", low), ("high", high)):
            # A number keeps its precision: at bright sites, light is compared with steps a hundred thousandth of it.
            kept = value.clone() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
            self.register_buffer(name, kept)

    @classmethod
    def of_noise(
        cls,
        noise: CalibratedNoise,
        *,
        step: Tensor | float,
        low: Tensor | float = -torch.inf,
        high: Tensor | float = torch.inf,
    ) -> Self:
        """Of calibrated noise, whose sigma counts rounding in; row noise counts as each value's own.

        Args:
            noise: Of the measurement, in its units, Gaussian beyond its shot noise.
            step: ``1 / (white - black)`` for codes in DN; a map where the levels differ from site to site.
            low: ``(0 - black) / (white - black)`` for a camera that writes from code 0.
            high: 1 for a camera that clips at its white level.

        Raises:
            ValueError: a sigma that rounding alone exceeds.
        """
        rounding = ROUNDING_VARIANCE * torch.as_tensor(step).square()
        own = noise.sigma.square() + noise.row.square() - rounding
        if not bool((own > 0).all()):
            raise ValueError(
                f"Rounding to steps of {float(torch.as_tensor(step).max()):g} makes more noise than the calibrated "
                f"sigma of {float(noise.sigma.min()):g} has. Needed: step = 1 / (white - black) of the codes that were "
                "calibrated."
            )
        return cls(noise.gain, own.sqrt(), step=step, low=low, high=high)

    def penalty(self, u: Tensor, y: Tensor) -> Tensor:
        """The value phi."""
        return _apply(self, u, y, 0)

    def slope(self, u: Tensor, y: Tensor) -> Tensor:
        """The derivative phi'."""
        return _apply(self, u, y, 1)

    def curvature(self, u: Tensor, y: Tensor) -> Tensor:
        """The second derivative, kept from vanishing where a code no longer pulls on bright light."""
        return self.slope_and_curvature(u, y)[1]

    def hessian(self, u: Tensor, y: Tensor) -> Tensor:
        """The second derivative itself."""
        return _apply(self, u, y, 2)

    def slope_and_curvature(self, u: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both from one sum."""
        _, slope, second = self.derivatives(u, y)
        largest = fit(self.sigma, y, name="sigma").square().reciprocal()
        return slope, second.maximum(LEAST_CURVATURE[y.dtype] * largest)

    def first_guess(self, operator: LinearOperator, z: Tensor, y: Tensor, rho: Tensor) -> Tensor:
        """The prox under Gaussian noise of the variance at the code: from the dark, Newton's method would creep."""
        gain, sigma = (fit(value, y, name=name) for name, value in (("gain", self.gain), ("sigma", self.sigma)))
        u = operator.A(z)
        explained = ((y <= self.low.to(y)) & (u <= y)) | ((y >= self.high.to(y)) & (u >= y))
        weights = torch.where(explained, 0.0, 1.0 / (gain * y.clamp(min=0.0) + sigma.square()))
        return operator.prox_weighted(z, y, weights, 1.0 / rho)

    @torch.no_grad()
    def derivatives(self, u: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """phi, phi' and phi'' at every site, in shape and dtype of ``y``."""
        gain, sigma, step = (positive(getattr(self, name), y, name=name) for name in ("gain", "sigma", "step"))
        low, high = (fit(getattr(self, name), y, name=name) for name in ("low", "high"))
        if not bool((low < high).all()):
            raise ValueError(f"The lowest code must lie below the highest, not {float(low.max()):g} above it.")
        lower = torch.where(y <= low, -torch.inf, y - 0.5 * step)
        upper = torch.where(y >= high, torch.inf, y + 0.5 * step)
        a, b, lower, upper, mean = (v.expand(y.shape).double().flatten() for v in (gain, sigma, lower, upper, u))
        at = negative_log_likelihood((mean / a).clamp(min=DARKEST), Window(lower / a, upper / a, b / a))
        parts = _with_parabola(Derivatives(at.value, at.first / a, at.second / a.square()), mean - DARKEST * a, b)
        value, first, second = (part.reshape(y.shape).to(y.dtype) for part in parts)
        return value, first, second


def _with_parabola(at: Derivatives, above: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The derivatives a distance ``above`` the darkest mean; where that is negative, those given are of that mean."""
    below, steepness = above.clamp(max=0.0), sigma.square().reciprocal()
    value = at.value + at.first * below + 0.5 * steepness * below.square()
    return value, at.first + steepness * below, torch.where(above < 0, steepness, at.second)


class _Derivative(torch.autograd.Function):
    """The n-th derivative of phi, whose own derivative is the next one."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, y: Tensor, law: ExactPoissonGaussian, order: int) -> Tensor:
        ctx.save_for_backward(u, y)
        ctx.law, ctx.order = law, order
        return law.derivatives(u, y)[order]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        u, y = ctx.saved_tensors
        if ctx.order > 1:
            raise NotImplementedError("The exact likelihood has derivatives up to the second; a third was asked for.")
        return gradient * _apply(ctx.law, u, y, ctx.order + 1), None, None, None


def _apply(law: ExactPoissonGaussian, u: Tensor, y: Tensor, order: int) -> Tensor:
    derivative: Tensor = _Derivative.apply(u, y, law, order)  # type: ignore[no-untyped-call]
    return derivative
