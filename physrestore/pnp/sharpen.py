"""What optics and pixels took from a picture, given back with the prior's help: deblurring and twice the pixels.

Blur acts on light, not on its root, so the data step is in linear light: a weighted least-squares prox of mosaic after
blur, the weights those of the noise that the blurred picture is expected to have. The prior works in the working
space, where noise is the same everywhere. The picture to start from is that of the joint solve, still blurred.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from noise_models.stabilise import ANSCOMBE_OFFSET
from physrestore.pnp.joint import NOISE_SHARE, Measured
from physrestore.priors.base import Prior
from physrestore.solvers.hqs import hqs
from physrestore.solvers.iterate import Iterate, Step
from physrestore.solvers.schedule import Level
from physrestore.solvers.solve import solve
from physrestore.working_space import WorkingSpace, working_light, working_value

# Weight of the prior against the data; it bounds how far a frequency's noise can be lifted in one step, to
# 1 / (2 sqrt(weight)) times. DPIR's value for deblurring (Zhang et al. 2022, section 5.1).
PRIOR_WEIGHT = 0.23
# Std of what is still blurred at the first step, where white is about 1; it falls to the noise.
FIRST_ERROR = 0.03
STEPS = 8
# Of the linear equations, relative: the next step moves the picture by far more.
TOLERANCE = 1e-4
MAX_ITERATIONS = 200


@dataclass(frozen=True)
class Optics:
    """What happened to the light between scene and sensor.

    Attributes:
        kernel: Of the blur in sensor sites, (kh, kw) with a sum of one; None: sharp.
        scale: Pixels of the wanted picture per site along a line.
    """

    kernel: Tensor | None = None
    scale: int = 1

    @property
    def is_plain(self) -> bool:
        """Nothing to undo."""
        return self.kernel is None and self.scale == 1


def sharpen(
    blurred: Tensor,
    data: Measured,
    *,
    optics: Optics,
    space: WorkingSpace,
    prior: Prior,
    on_iterate: Callable[[Iterate], None] | None = None,
) -> Tensor:
    """The scene before the optics.

    Args:
        blurred: Restored picture as the sensor saw it, linear light, (3, H, W).
        data: What was measured, in the working space.
        optics: What to undo.
        space: The working space.
        prior: Of pictures in it.
        on_iterate: Called with every step.

    Returns:
        (3, sH, sW), linear light.

    Source:
        Zhang et al., "Plug-and-play image restoration with deep denoiser prior", IEEE TPAMI 44(10), 2022 (the
        splitting, its weight and its falling levels).
    """
    operator = _operator(data, optics)
    law = (space.gain[None].to(blurred), space.dark_noise[None].to(blurred).square(), space.balance[None].to(blurred))
    measured = _light_of_mosaic(data, law)
    mosaic_of = operator.outer.A
    a, b = (mosaic_of(p.reshape(1, 3, 1, 1).expand(1, 3, *data.values.shape[-2:])) for p in law[:2])
    weights = data.known / (a * mosaic_of(blurred[None]).clamp(min=0) + b)
    black = (law[2] * (ANSCOMBE_OFFSET * law[0] + law[1] / law[0])).sqrt().reshape(1, 3, 1, 1)
    balance = law[2].reshape(1, 3, 1, 1)

    def data_step(v: Tensor, gamma: Step) -> Tensor:
        x = working_light(v, law)
        slope = 2.0 * v.maximum(black) / balance
        active = ~(data.clipped & (operator.A(x) >= measured))
        step = gamma * slope.square()
        z = operator.prox_weighted(x, measured, weights * active, step, tol=TOLERANCE, max_iter=MAX_ITERATIONS)
        return working_value(z, law)

    start = blurred[None] if optics.scale == 1 else _enlarged(blurred[None], optics.scale)
    steps = hqs(
        working_value(start, law), prox_fidelity=data_step, denoise=prior.denoise, schedule=_schedule(data.noise)
    )
    return working_light(solve(steps, on_iterate=on_iterate).x, law)[0]


def _schedule(noise: Tensor) -> list[Level]:
    """Falling from `FIRST_ERROR` to the noise, equally spaced in the logarithm, every colour from its own noise."""
    last = NOISE_SHARE * noise[None]
    first = last.clamp(min=FIRST_ERROR)
    levels = [first * (last / first) ** (step / (STEPS - 1)) for step in range(STEPS)]
    return [Level(level, level.square() / PRIOR_WEIGHT) for level in levels]


def _operator(data: Measured, optics: Optics) -> Any:  # a Composition; naming it here would import deepinv
    """Scene to mosaic: a pixel gathers the light of its area, then every site sees one colour."""
    from physrestore.operators.blur import Blur
    from physrestore.operators.downsample import Downsample
    from physrestore.operators.mosaic import Mosaic

    parts = []
    if optics.kernel is not None:
        parts.append(Blur(optics.kernel.to(data.values), boundary="reflect"))
    if optics.scale > 1:
        parts.append(Downsample(optics.scale, filter="area", boundary="reflect").to(data.values.device))
    inner = parts[0] * parts[1] if len(parts) == 2 else parts[0]
    return Mosaic(data.cfa) * inner


def _light_of_mosaic(data: Measured, law: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The measured values in linear light, (1, 1, H, W)."""
    from physrestore.operators.mosaic import Mosaic

    return Mosaic(data.cfa).A(working_light(data.values.expand(1, 3, -1, -1), law))


def _enlarged(x: Tensor, scale: int) -> Tensor:
    size = [scale * side for side in x.shape[-2:]]
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False)
