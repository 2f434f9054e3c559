"""What the losses must know of the noise: its variance at every site, and what rows have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from physrestore.operators.shapes import fit


@dataclass(frozen=True, eq=False)
class PixelNoise:
    """Noise of covariance ``diag(gain x + sigma^2) + row^2`` (the last between the sites of a row).

    Values are tensors that broadcast to the images, or of shape (), (B,) or (B, C): one batch may hold several ISOs.

    Attributes:
        gain: Variance per signal, ``a`` of ``a x + b``; 0 for noise that does not depend on the signal.
        sigma: Std of the signal-independent noise of a pixel.
        row: Std of the offset that a row shares.
        row_groups: Channels of equal number are read out in the same sensor rows; None: all are.
    """

    gain: Tensor
    sigma: Tensor
    row: Tensor
    row_groups: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        *,
        gain: Tensor | float = 0.0,
        sigma: Tensor | float = 0.0,
        row: Tensor | float = 0.0,
        row_groups: Sequence[int] | None = None,
    ) -> Self:
        """Noise of numbers or tensors.

        Raises:
            ValueError: a value that is negative or not finite, or no noise at all.

        >>> round(float(PixelNoise.of(gain=0.01, sigma=0.1).variance(torch.full((1, 1, 1, 1), 0.5))), 6)
        0.015
        """
        values = {"gain": torch.as_tensor(gain), "sigma": torch.as_tensor(sigma), "row": torch.as_tensor(row)}
        for name, value in values.items():
            if not bool((torch.isfinite(value) & (value >= 0)).all()):
                raise ValueError(f"{name} must be finite and not negative everywhere; lowest {float(value.min()):g}.")
        if not any(bool((value > 0).any()) for value in values.values()):
            raise ValueError("There is no noise to learn from: gain, sigma and row are all 0. Give the noise's law.")
        return cls(**values, row_groups=None if row_groups is None else tuple(row_groups))

    @classmethod
    def of_noise_model(cls, model: Any) -> Self:
        """The noise of a deepinv noise model, by its buffers ``gain``, ``sigma`` and ``row`` where it has them.

        Raises:
            ValueError: it has neither ``gain`` nor ``sigma``.
        """
        values = {name: getattr(model, name) for name in ("gain", "sigma", "row") if hasattr(model, name)}
        if not values:
            raise ValueError(
                f"{type(model).__name__} states neither gain nor sigma. Give the loss its noise: noise=PixelNoise.of()."
            )
        return cls.of(**values, row_groups=getattr(model, "row_groups", None))

    @property
    def has_rows(self) -> bool:
        """Whether rows have an offset in common."""
        return bool((self.row > 0).any())

    @property
    def grows(self) -> bool:
        """Whether the noise grows with the signal."""
        return bool((self.gain > 0).any())

    def fitted(self, y: Tensor) -> Self:
        """The same, on device and in dtype of the images (B, C, H, W), with four axes that broadcast to them.

        Raises:
            ValueError: shapes that do not fit.
        """
        gain, sigma, row = (fit(getattr(self, name), y, name=name) for name in ("gain", "sigma", "row"))
        return replace(self, gain=gain, sigma=sigma, row=row)

    def expected_variance(self, y: Tensor) -> Tensor:
        """``gain y + sigma^2 + row^2``: of mean ``variance(x)`` over the noise of ``y``, hence not clamped."""
        law = self.fitted(y)
        return (law.gain * y + law.sigma**2 + law.row**2).expand(y.shape)

    def variance(self, mean: Tensor) -> Tensor:
        """Variance of every value around a mean, which counts as 0 where it is negative."""
        return self.expected_variance(mean.clamp(min=0.0))

    def std(self, mean: Tensor) -> Tensor:
        """Square root of `variance`."""
        return self.variance(mean).sqrt()

    def scaled(self, factor: float | Tensor) -> Self:
        """Noise of ``factor`` times the variance."""
        root = torch.as_tensor(factor).sqrt()
        return replace(self, gain=self.gain * factor, sigma=self.sigma * root, row=self.row * root)

    def draw(self, mean: Tensor, *, generator: torch.Generator, signs: bool = False) -> Tensor:
        """Zero-mean numbers with the covariance of the noise around ``mean``.

        Args:
            mean: (B, C, H, W); takes no gradient.
            generator: Of the draws.
            signs: Two-valued numbers (the probe of least variance) in place of normal ones.
        """
        law, mean = self.fitted(mean), mean.detach()
        pixels = (law.gain * mean.clamp(min=0.0) + law.sigma**2).sqrt() * _unit(mean.shape, mean, generator, signs)
        return pixels + law.row * self.row_pattern(mean, generator=generator, signs=signs) if law.has_rows else pixels

    def row_pattern(self, like: Tensor, *, generator: torch.Generator, signs: bool = False) -> Tensor:
        """One unit-variance number a sensor row, (B, C, H, 1).

        Raises:
            ValueError: row groups of another number of channels.
        """
        batch, channels, height, _ = like.shape
        groups = torch.tensor(self.row_groups or (0,) * channels, device=like.device)
        if groups.numel() != channels:
            raise ValueError(
                f"Row groups {self.row_groups} are of {groups.numel()} channels; the image has {channels}."
            )
        return _unit((batch, int(groups.max()) + 1, height, 1), like, generator, signs)[:, groups]

    def window(self, rows: slice, columns: slice) -> Self:
        """The noise of a window; what is constant over the image stays."""

        def cut(value: Tensor) -> Tensor:
            if value.dim() < 4:
                return value
            row_part = value if value.shape[-2] == 1 else value[..., rows, :]
            return row_part if row_part.shape[-1] == 1 else row_part[..., columns]

        return replace(self, gain=cut(self.gain), sigma=cut(self.sigma), row=cut(self.row))


def _unit(shape: Sequence[int], like: Tensor, generator: torch.Generator, signs: bool) -> Tensor:
    device = generator.device
    if signs:
        return (2 * torch.randint(0, 2, tuple(shape), generator=generator, device=device) - 1).to(like)
    return torch.randn(tuple(shape), generator=generator, device=device, dtype=like.dtype).to(like.device)
