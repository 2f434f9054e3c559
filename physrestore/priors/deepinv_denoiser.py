"""A denoiser of deepinv as a prior. This module does not import deepinv: whoever has a denoiser has done so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from physrestore.errors import PriorError
from physrestore.priors.adapter import TILE, Adapter
from physrestore.priors.base import NoiseKind, PriorSpec
from physrestore.priors.network import in_dtype_of

# Sides of the image and levels with which a denoiser is asked what it accepts.
_PROBE_SIDE = 64
_PROBE_LEVELS = (0.02, 0.2)

_NO_LIMIT = (0.0, float("inf"))


class DeepinvPrior(Adapter):
    """A deepinv denoiser, which gets what it accepts: a noise map or one level per image, and sides that fit it.

    Whether it takes maps is found by trying on a small image. The denoiser is put into evaluation mode. It is called
    with linear values between 0 and 1, whatever it was trained on.

    Attributes:
        denoiser: The deepinv denoiser.

    Raises:
        PriorError: a denoiser that ignores sigma, without a declaration of "fixed" or "blind"; or one whose reach is
            not known here, without ``halo`` and ``modulo``.
    """

    def __init__(
        self,
        denoiser: Callable[[Tensor, Any], Tensor],
        *,
        channels: int,
        sigma_range: tuple[float, float] = _NO_LIMIT,
        noise: Literal["fixed", "blind"] | None = None,
        halo: int | None = None,
        modulo: int | None = None,
        non_local: bool = False,
        scale_equivariant: bool = False,
        differentiable: bool = True,
        weights_licence: str | None = None,
        tile: int | None = TILE,
    ) -> None:
        """Probe and wrap.

        Args:
            denoiser: Called as ``denoiser(x, sigma)``.
            channels: That it was built for.
            sigma_range: That it was trained on (white is 1).
            noise: For denoisers that ignore sigma; None finds "map" or "scalar".
            halo: See `PriorSpec`; known for DRUNet, FFDNet and DnCNN.
            modulo: The same.
            non_local: See `PriorSpec`, as for all others.
            scale_equivariant: See there.
            differentiable: See there.
            weights_licence: See there.
            tile: As in `Adapter`.
        """
        self.denoiser = denoiser.eval() if isinstance(denoiser, torch.nn.Module) else denoiser
        known = _reach(denoiser)
        if non_local:
            known = (0, known[1] if known else 1)
        if known is None and (halo is None or modulo is None):
            raise PriorError(
                f"How far {type(denoiser).__name__} reaches is not known here. Give halo (the radius of its receptive "
                "field) and modulo (what image sides must be multiples of), or non_local=True."
            )
        spec = PriorSpec(
            channels=channels,
            noise=_accepted(self.denoiser, channels) if noise is None else noise,
            sigma_range=sigma_range,
            halo=known[0] if halo is None and known else halo or 0,
            modulo=known[1] if modulo is None and known else modulo or 1,
            non_local=non_local,
            scale_equivariant=scale_equivariant,
            differentiable=differentiable,
            weights_licence=weights_licence,
        )
        # deepinv's maps have one channel.
        super().__init__(spec, tile=tile, level_axes=(1,) if spec.noise == "map" else None)

    def _denoise_own(self, x: Tensor, sigma: Tensor) -> Tensor:
        x, sigma = in_dtype_of(self.denoiser, x), in_dtype_of(self.denoiser, sigma)
        if self.spec.noise == "map":
            return self.denoiser(x, sigma.expand(x.shape[0], 1, *x.shape[-2:]))
        return self.denoiser(x, sigma.flatten().expand(x.shape[0]))


def _accepted(denoiser: Callable[[Tensor, Any], Tensor], channels: int) -> NoiseKind:
    """Try a map that differs from its mean, then two levels."""
    parameter = next(denoiser.parameters(), None) if isinstance(denoiser, torch.nn.Module) else None
    image = torch.linspace(0, 1, channels * _PROBE_SIDE**2).reshape(1, channels, _PROBE_SIDE, _PROBE_SIDE)
    image = image if parameter is None else image.to(parameter)
    levels = [image.new_full((1,), level) for level in _PROBE_LEVELS]
    with torch.no_grad():
        low, high = (denoiser(image, level) for level in levels)
        if torch.equal(low, high):
            raise PriorError(
                f"{type(denoiser).__name__} ignores the noise level. Declare what it was made for: noise='fixed' with "
                "sigma_range=(s, s), or noise='blind' with the range that it was trained on."
            )
        mapped = image.new_full((1, 1, _PROBE_SIDE, _PROBE_SIDE), _PROBE_LEVELS[0])
        mapped[..., _PROBE_SIDE // 2 :] = _PROBE_LEVELS[1]
        try:
            both = denoiser(image, mapped)
        except (ValueError, RuntimeError, TypeError):  # deepinv's ways of refusing a map
            return "scalar"
    # A denoiser that broadcasts a map by chance must also act on it where it says.
    own = (both - high)[..., _PROBE_SIDE // 2 :].abs().mean()
    other = (both - low)[..., _PROBE_SIDE // 2 :].abs().mean()
    return "map" if both.shape == image.shape and bool(own < other) else "scalar"


def _reach(denoiser: object) -> tuple[int, int] | None:
    """Halo and modulo of the architectures whose reach was counted, layer by layer."""
    match type(denoiser).__name__:
        case "DRUNet":
            # Eight 3x3 convolutions a side at each of three scales and eight at the fourth, and the resampling between.
            return 192, 8
        case "FFDNet":
            layers = len(denoiser.blocks)  # type: ignore[attr-defined]
            return 2 * (layers + 1), 2  # 3x3 convolutions on 2x2 blocks
        case "DnCNN":
            return int(denoiser.depth), 1  # type: ignore[attr-defined]
    return None
