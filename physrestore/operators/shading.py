"""Lens shading: a gain that depends on the place in the picture."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from physrestore.operators.base import LinearOperator
from physrestore.operators.shapes import fit


class Shading(LinearOperator):
    """``y(p) = gain(p) x(p)``: vignetting, dust, pixel response; of the scene, or of a mosaic after `Mosaic`.

    Dividing a raw by its flat field first amplifies the noise of the corners and moves their clipping level; as an
    operator it keeps both right.

    Attributes:
        gain: (B|1, C|1, H, W), a flat field divided by its value where the gain is one; not negative. Zero is a site
            that measures nothing. Buffer.

    Raises:
        ValueError: another shape, or gains that are negative or not finite.

    >>> import torch
    >>> Shading(torch.tensor([[[[1.0, 0.5]]]])).A(torch.ones(1, 3, 1, 2))[0, 2].tolist()
    [[1.0, 0.5]]
    """

    gain: Tensor
    parameter_names: ClassVar[tuple[str, ...]] = ("gain",)

    def __init__(self, gain: Tensor, **parts: Any) -> None:
        """``parts`` are those of `LinearOperator`."""
        super().__init__(**parts)
        self.register_buffer("gain", gain.clone())
        self._check_parameters()

    def A(self, x: Tensor, gain: Tensor | None = None, **params: Any) -> Tensor:
        """(B, C, H, W) to the same shape."""
        self.update_parameters(gain=gain, **params)
        return fit(self.gain, x, name="gain") * x

    def A_adjoint(self, y: Tensor, gain: Tensor | None = None, **params: Any) -> Tensor:
        """The same as `A`."""
        return self.A(y, gain=gain, **params)

    def gram_diagonal(self, weights: Tensor, y: Tensor) -> Tensor:
        """``gain^2`` times the weights."""
        return fit(self.gain, y, name="gain").square() * weights

    def _check_parameters(self) -> None:
        if self.gain.dim() != 4:
            raise ValueError(f"A shading map has the shape (B|1, C|1, H, W), not {tuple(self.gain.shape)}.")
        if not bool(((self.gain >= 0) & self.gain.isfinite()).all()):
            raise ValueError("A shading map must be finite and not negative. Mask dead sites with a gain of zero.")
