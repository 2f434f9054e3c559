"""A calibrated sensor's noise as a deepinv ``NoiseModel``. Importing this module imports deepinv: do so on use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noise_models.cfa import BAYER_PLANES, Cfa
from noise_models.frame import tile_to
from noise_models.sensor import SensorNoise
from noise_models.terms import ReadNoise, RowNoise, ShotNoise
from physrestore.deepinv_host import load_deepinv
from physrestore.sendable import SendsGenerator

NoiseModel: Any = load_deepinv().physics.NoiseModel

# Packed planes R, G1, G2, B: the first two share the sensor's rows with red, the last two those with blue.
PACKED_ROW_GROUPS = (0, 0, 1, 1)


class CalibratedNoise(SendsGenerator, NoiseModel):  # type: ignore[misc]  # deepinv has no types
    """Poisson-Gaussian noise with row noise: ``y = x + shot(x) + read + row``, in the units of ``x`` (white is 1).

    Parameters may be numbers or tensors of shape (), (B,), (B, C), (B|1, C|1, 1, 1) or (B|1, C|1, H, W). As everywhere
    in deepinv, parameters passed to `forward` stay. Noise enters the gradient as a constant: dy/dx = 1.

    Attributes:
        gain: Variance per signal, ``a`` of ``a x + b``: one over the electrons of x = 1. Buffer.
        sigma: Std of the signal-independent noise of one pixel; quantisation is part of it. Buffer.
        row: Std of the offset that a row shares. Buffer.
        row_groups: Channels of equal number are read out in the same sensor rows; None: all are.
        tail: Kind of the read noise's tail; a lognormal spread is drawn anew for every call (another sensor).
        tail_shape: Its shape, as in `noise_models.terms.ReadNoise`.

    Raises:
        ValueError: a gain that is not positive, or a negative std.

    >>> noise = CalibratedNoise(gain=0.01, sigma=0.02, row=0.005)
    >>> x = torch.full((1, 1, 8, 8), 0.5)
    >>> noise(x, seed=1).shape, round(float(noise.variance(x)[0, 0, 0, 0]), 6)
    (torch.Size([1, 1, 8, 8]), 0.005425)
    """

    gain: Tensor
    sigma: Tensor
    row: Tensor

    def __init__(
        self,
        gain: float | Tensor,
        sigma: float | Tensor,
        *,
        row: float | Tensor = 0.0,
        row_groups: Sequence[int] | None = None,
        tail: Literal["gaussian", "lognormal", "tukey"] = "gaussian",
        tail_shape: float = 0.0,
        rng: torch.Generator | None = None,
    ) -> None:
        """Set the parameters; ``rng`` None is a generator of its own with seed 0, never torch's global one."""
        super().__init__(rng=torch.Generator().manual_seed(0) if rng is None else rng)
        self.noise_model = self.forward  # deepinv composes (N1 * N2) through it; its own default cannot be pickled
        ReadNoise(1.0, tail, tail_shape)  # refuses impossible shapes here, not at the first image
        self.row_groups = None if row_groups is None else tuple(row_groups)
        self.tail: Literal["gaussian", "lognormal", "tukey"] = tail
        self.tail_shape = tail_shape
        for name, value in (("gain", gain), ("sigma", sigma), ("row", row)):
            self.register_buffer(name, self._float_to_tensor(value))
            self._check(name)

    @classmethod
    def of_sensor(
        cls,
        noise: SensorNoise,
        *,
        cfa: Cfa,
        black: NDArray[np.float64],
        white: NDArray[np.float64],
        mosaic_shape: tuple[int, int] | None = None,
        rng: torch.Generator | None = None,
    ) -> Self:
        """The noise of linear frames of one sensor at one ISO. Column noise counts as noise of the pixel.

        Args:
            noise: With known gain.
            cfa: Of the frames.
            black: Per CFA site [DN], shape ``cfa.period``.
            white: Per CFA site [DN], same shape.
            mosaic_shape: (H, W) of mosaics (B, 1, H, W); None: packed Bayer planes (B, 4, h, w).
            rng: As in the constructor.

        Raises:
            ValueError: packed planes of an array that is not Bayer.
            ProfileError: the profile does not fit ``cfa``, or its gain is unknown.
        """
        affine = noise.affine(cfa, black, white)
        column = 0.0 if noise.column_noise_dn is None else noise.column_noise_dn.value
        scale = white - black
        sigma = np.sqrt(affine.b + (column / scale) ** 2)
        sites = [torch.from_numpy(v).float() for v in (affine.a, sigma, noise.row_noise_dn.value / scale)]
        groups = None
        if mosaic_shape is not None:
            maps = [tile_to(v, *mosaic_shape)[None, None] for v in sites]
        elif cfa.is_bayer:
            maps = [torch.stack([v[cfa.sites(plane)[0]] for plane in BAYER_PLANES])[None] for v in sites]
            groups = PACKED_ROW_GROUPS
        else:
            raise ValueError(f"A {cfa.name} mosaic has no packed planes; give mosaic_shape for mosaics (B, 1, H, W).")
        shape = 0.0 if noise.tail.shape is None else noise.tail.shape.value
        gain, sigma_map, row = maps
        return cls(gain, sigma_map, row=row, row_groups=groups, tail=noise.tail.kind, tail_shape=shape, rng=rng)

    def forward(
        self,
        x: Tensor,
        sigma: float | Tensor | None = None,
        gain: float | Tensor | None = None,
        row: float | Tensor | None = None,
        seed: int | None = None,
        **kwargs: Any,  # noqa: ARG002 (deepinv hands every parameter to every part)
    ) -> Tensor:
        """Draw a measurement.

        Args:
            x: Mean, (B, C, H, W); where it is negative it has no shot noise.
            sigma: Replaces the buffer.
            gain: Replaces the buffer.
            row: Replaces the buffer.
            seed: Of this draw; None continues.
            kwargs: Parameters of other parts of the physics; not used.

        Raises:
            ValueError: parameters that do not broadcast to ``x``.
        """
        self.update_parameters(sigma=sigma, gain=gain, row=row)
        for name in ("sigma", "gain", "row"):
            self._check(name)
        self.rng_manual_seed(seed)
        rng = self.rng
        mean = x.detach().clamp(min=0.0)
        shot = ShotNoise(self._like("gain", x)).sample(mean, generator=rng) - mean
        read = ReadNoise(self._like("sigma", x), self.tail, self.tail_shape)
        pixels = read.sample(read.pixel_std(mean, generator=rng), generator=rng)
        groups = torch.tensor(self.row_groups or (0,) * x.shape[1], device=x.device)
        if groups.numel() != x.shape[1]:
            raise ValueError(f"Row groups {self.row_groups} are of {groups.numel()} channels; x has {x.shape[1]}.")
        lines = RowNoise(1.0).sample(mean[:, : int(groups.max()) + 1], generator=rng)[:, groups]
        return x + shot + pixels + self._like("row", x) * lines

    def variance(self, x: Tensor) -> Tensor:
        """Variance of every value of a measurement with mean ``x``; row noise is part of it."""
        gain, sigma, row = (self._like(name, x) for name in ("gain", "sigma", "row"))
        return gain * x.clamp(min=0.0) + sigma**2 + row**2

    def _like(self, name: str, x: Tensor) -> Tensor:
        """A parameter with trailing axes added, on device and in dtype of ``x``, that broadcasts to it."""
        value: Tensor = getattr(self, name)
        shaped = value[(..., *(None,) * (x.dim() - value.dim()))].to(x)
        if shaped.dim() != x.dim() or any(n not in (1, m) for n, m in zip(shaped.shape, x.shape, strict=True)):
            raise ValueError(
                f"{name} of shape {tuple(value.shape)} does not fit x of shape {tuple(x.shape)}. Needed: (), (B,), "
                "(B, C), (B|1, C|1, 1, 1) or (B|1, C|1, H, W); parameters of an earlier call stay until replaced."
            )
        return shaped

    def _check(self, name: str) -> None:
        lowest = float(getattr(self, name).min())
        if lowest < 0 or (name == "gain" and lowest == 0):
            raise ValueError(f"{name} must be {'positive' if name == 'gain' else 'no negative std'}, not {lowest:g}.")
