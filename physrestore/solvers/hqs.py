"""Half-quadratic splitting: the solver for operators with a cheap prox."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from physrestore.solvers.iterate import Denoise, Iterate, Iterates, Prox, StopReason
from physrestore.solvers.schedule import Level


def hqs(x0: Tensor, *, prox_fidelity: Prox, denoise: Denoise, schedule: Iterable[Level]) -> Iterates:
    """Alternate ``z = prox_{gamma f}(x)`` and ``x = D_noise_level(z)`` along a schedule.

    With falling levels the schedule is the algorithm: it ends where the level is the noise of the data, and the order
    of the levels matters. At a constant level it converges to a fixed point of ``x = D(prox_{gamma f}(x))``: for D a
    prox, the minimiser of the prior plus the *Moreau envelope* of f, not of f itself (`admm` and `pgd` have that).
    Since ``prox_fidelity`` is given the current estimate, it may weigh the data by the noise expected there.

    Args:
        x0: Start, (B, C, H, W): a classical estimate (e.g. a demosaicked image); a poor one costs quality.
        prox_fidelity: Of the negative log-likelihood f.
        denoise: The prior.
        schedule: From `physrestore.solvers.schedule.noise_locked`.

    Source:
        Geman & Yang, IEEE TIP 4(7), 1995; Zhang et al., IEEE TPAMI 44(10), 2022, eqs. (6).
    """
    x = x0
    for step, level in enumerate(schedule):
        z = prox_fidelity(x, level.gamma)
        x = denoise(z, level.noise_level)
        yield Iterate(x=x, step=step, z=z, noise_level=level.noise_level)
    return StopReason.SCHEDULE
