"""A torch module, or any function of tensors, as a prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from physrestore.errors import PriorError
from physrestore.priors.adapter import TILE, Adapter
from physrestore.priors.base import PriorSpec

Condition = Literal["argument", "channels", "none"]


def condition_of(spec: PriorSpec, condition: Condition) -> Condition:
    """The way in which a noise level reaches a network, checked against what the network declares.

    Raises:
        PriorError: a network that is told the level but declares not to need it, or the reverse.
    """
    told = spec.noise in ("map", "scalar")
    if told != (condition in ("argument", "channels")):
        raise PriorError(
            f"condition={condition!r} contradicts noise={spec.noise!r}: priors of noise 'map' and 'scalar' get the "
            "level as 'argument' or 'channels', those of noise 'fixed' and 'blind' get 'none'."
        )
    return condition


class NetworkPrior(Adapter):
    """A denoiser written in torch.

    A module is put into evaluation mode here; to train through it, call its ``train()`` afterwards. It computes in the
    dtype of its parameters and stays on their device.

    Attributes:
        module: The module or function.
        condition: How it learns the noise level: "argument" calls ``module(x, sigma)`` with sigma of shape (B,) for
            noise "scalar" and of the image's shape (or with one channel, see ``map_channels``) for noise "map";
            "channels" calls it with the level appended as further channels; "none" calls ``module(x)``.

    Raises:
        PriorError: a condition that contradicts ``spec.noise``.

    >>> box = torch.nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    >>> spec = PriorSpec(channels=1, noise="blind", sigma_range=(0.05, 0.5), halo=1)
    >>> prior = NetworkPrior(box, spec, condition="none")
    >>> prior.denoise(torch.eye(3)[None, None], 0.1)[0, 0, 1, 1].item()
    0.3333333432674408
    """

    def __init__(
        self,
        module: Callable[..., Tensor],
        spec: PriorSpec,
        *,
        condition: Condition,
        map_channels: Literal["one", "each"] = "each",
        tile: int | None = TILE,
    ) -> None:
        """Wrap; ``map_channels`` "one": the network takes one noise map for all channels, their root mean square."""
        super().__init__(spec, tile=tile, level_axes=(1,) if spec.noise == "map" and map_channels == "one" else None)
        self.module = module.eval() if isinstance(module, torch.nn.Module) else module
        self.condition = condition_of(spec, condition)
        self._map_channels = map_channels

    def _denoise_own(self, x: Tensor, sigma: Tensor) -> Tensor:
        x, sigma = in_dtype_of(self.module, x), in_dtype_of(self.module, sigma)
        if self.condition == "none":
            return self.module(x)
        if self.spec.noise == "scalar" and self.condition == "argument":
            return self.module(x, sigma.flatten().expand(x.shape[0]))
        planes = x.shape[1] if self._map_channels == "each" and self.spec.noise == "map" else 1
        level = sigma.expand(x.shape[0], planes, *x.shape[-2:])
        if self.condition == "channels":
            return self.module(torch.cat([x, level], dim=1))
        return self.module(x, level)


def in_dtype_of(module: object, data: Tensor) -> Tensor:
    """Data in the dtype of a module's parameters; unchanged where there are none.

    Raises:
        PriorError: they are on another device.
    """
    parameter = next(module.parameters(), None) if isinstance(module, torch.nn.Module) else None
    if parameter is None:
        return data
    if parameter.device != data.device:
        raise PriorError(
            f"The network is on {parameter.device}, the image on {data.device}. Move one of them: module.to(...)."
        )
    return data.to(parameter.dtype)
