"""Calibrated noise levels for deepinv: a generator of joint parameters, and the read-out behind the noise.

Importing this module imports deepinv: do so on use. The full chain (fixed patterns, hot sites, several tails in one
batch, real darks) is `noise_models.sampling.NoiseSampler`; here is the part that deepinv's own loops can update.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from noise_models.cfa import BAYER_PLANES, Cfa
from noise_models.errors import CfaError
from noise_models.sampling.laws import NoiseLaw
from noise_models.sensor import QUANTISATION_VARIANCE_DN2
from physrestore.deepinv_host import load_deepinv
from physrestore.sendable import SendsGenerator

PhysicsGenerator: Any = load_deepinv().physics.generator.PhysicsGenerator


class NoiseLevelGenerator(SendsGenerator, PhysicsGenerator):  # type: ignore[misc]  # deepinv has no types
    """Draws ``gain``, ``sigma`` and ``row`` of one sensor and ISO together, for `physrestore.noise.CalibratedNoise`.

    One dictionary an image batch: the levels of one image belong to one setting of one camera. Sums of deepinv's
    generators (``g1 + g2``) draw them apart and add equal keys. The tail stays that of the noise model; PRNU, black
    error and hot sites are not part of these levels.

    Attributes:
        law: Of the sensors.
        cfa: Of the images.
        per_plane: Whether the packed planes R, G1, G2, B have levels of their own.

    Raises:
        CfaError: levels per plane of an array that is not Bayer.
        ProfileError: a law for other planes than those of ``cfa``.

    >>> from noise_models.sampling.laws import WidePrior
    >>> levels = NoiseLevelGenerator(WidePrior(), cfa=Cfa.parse("RGGB")).step(batch_size=3, seed=1)
    >>> sorted(levels), levels["gain"].shape
    (['gain', 'row', 'sigma'], torch.Size([3]))
    """

    def __init__(
        self,
        law: NoiseLaw,
        *,
        cfa: Cfa,
        per_plane: bool = False,
        rounds: bool = False,
        rng: torch.Generator | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Set up the generator.

        Args:
            law: `ProfileLaw`, `WidePrior`, or one of your own.
            cfa: Of the images.
            per_plane: Levels of shape (B, 4) for packed planes; False: (B,), the mean variance over the CFA.
            rounds: A `SensorReadout` follows and rounds; its variance is then left out of ``sigma``.
            rng: On ``device``; None: a generator of its own with seed 0, never torch's global one.
            device: Of the levels.
            dtype: Of the levels.
        """
        rng = torch.Generator(device=device).manual_seed(0) if rng is None else rng
        super().__init__(step=_unused, rng=rng, device=device, dtype=dtype)
        if per_plane and not cfa.is_bayer:
            raise CfaError(f"Only Bayer images have levels per packed plane; these are {cfa.name}.")
        law.draw(1, generator=torch.Generator()).check(cfa)
        self.law, self.cfa, self.per_plane, self.rounds = law, cfa, per_plane, rounds

    def step(self, batch_size: int = 1, seed: int | str | None = None, **kwargs: Any) -> dict[str, Tensor]:  # noqa: ARG002
        """Levels of a batch, in units of x: ``gain`` (variance per signal), ``sigma`` and ``row`` (stds).

        ``sigma`` holds read noise, DSNU, rounding and column noise.

        Args:
            batch_size: Number of images.
            seed: Of this draw; None continues.
            kwargs: Arguments of other generators; not used.
        """
        self.rng_manual_seed(seed)
        drawn = self.law.draw(batch_size, generator=self.rng)
        dark = drawn.b + (drawn.dsnu_dn / drawn.scale_dn) ** 2 + drawn.column**2
        if self.rounds:
            dark = dark - QUANTISATION_VARIANCE_DN2 / drawn.scale_dn**2
        names = BAYER_PLANES if self.per_plane else [name for row in self.cfa.plane_of_site for name in row]
        places = [drawn.planes.index(name) for name in names]
        variances = {"gain": drawn.a, "sigma": dark, "row": drawn.row**2}
        levels = {key: v[:, places] if self.per_plane else v[:, places].mean(dim=1) for key, v in variances.items()}
        levels = {key: v if key == "gain" else v.sqrt() for key, v in levels.items()}
        return {key: v.to(**self.factory_kwargs) for key, v in levels.items()}


class SensorReadout(nn.Module):
    """Rounding to whole DN and clipping, for ``sensor_model`` of a deepinv physics; values in units of x.

    The gradient passes through rounding and stops at clipped values.

    Attributes:
        black: Black level [DN]; buffer that broadcasts to the images.
        white: Highest code [DN]; the same.
        low: Lowest code [DN]; the same.

    Raises:
        ValueError: levels that do not rise.

    >>> readout = SensorReadout(black=64.0, white=1023.0)
    >>> values = readout(torch.tensor([-1.0, 0.5001, 2.0])) * (1023.0 - 64.0) + 64.0
    >>> [round(float(value), 3) for value in values]
    [0.0, 544.0, 1023.0]
    """

    black: Tensor
    white: Tensor
    low: Tensor

    def __init__(self, *, black: float | Tensor, white: float | Tensor, low: float | Tensor = 0.0) -> None:
        super().__init__()
        for name, value in (("black", black), ("white", white), ("low", low)):
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float32))
        if not bool((self.white > torch.maximum(self.black, self.low)).all()):
            raise ValueError(
                f"White level {float(self.white.min()):g} must be above black level {float(self.black.max()):g} and "
                f"lowest code {float(self.low.max()):g}. Give all levels in DN."
            )

    def forward(self, y: Tensor) -> Tensor:
        """What the file holds of the values ``y`` (B, C, H, W)."""
        black, white, low = (level.to(y) for level in (self.black, self.white, self.low))
        value = y * (white - black) + black
        code = value.round().detach() + (value - value.detach())  # whole numbers; the gradient passes through
        return (code.maximum(low).minimum(white) - black) / (white - black)


def _unused(*_: Any, **__: Any) -> dict[str, Tensor]:
    """The default of deepinv is a lambda, with which a generator could not be sent to another process."""
    return {}
