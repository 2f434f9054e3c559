"""Any of these losses as a deepinv ``Loss``. Importing this module imports deepinv: do so on use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from physrestore.deepinv_host import load_deepinv
from physrestore.selfsup.losses.base import SelfLoss
from physrestore.selfsup.losses.noisier import Noisier
from physrestore.selfsup.losses.operator_loss import OperatorLoss
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from physrestore.selfsup.losses.recorrupted import Recorrupted
from physrestore.sendable import SendsGenerator

Loss: Any = load_deepinv().loss.Loss


class SelfSupervisedLoss(SendsGenerator, Loss):  # type: ignore[misc]  # deepinv has no types
    """A loss for deepinv's ``Trainer``, with models ``model(y, physics)``.

    Where a loss of this package works on measurements, the model is judged by ``A(model(y, physics))``. The model sees
    the physics unchanged, also where the loss feeds it a noisier measurement (as with deepinv's own losses).

    Attributes:
        loss: The loss.
        noise: Of the measurements; None: that of ``physics.noise_model`` at every call, by its buffers.
        weight: Factor, for sums of losses.
        samples: Recorruptions averaged by the adapted model in evaluation, for losses that need it.
        rng: Of everything that is drawn.
    """

    def __init__(
        self,
        loss: SelfLoss | OperatorLoss,
        *,
        noise: PixelNoise | None = None,
        weight: float = 1.0,
        samples: int = 5,
        rng: torch.Generator | None = None,
    ) -> None:
        """Wrap; ``rng`` None is a generator of its own with seed 0, never torch's global one."""
        super().__init__()
        self.loss, self.noise, self.weight, self.samples = loss, noise, weight, samples
        self.rng = torch.Generator().manual_seed(0) if rng is None else rng

    def forward(self, x_net: Tensor | None, y: Tensor, physics: Any, model: Any, **_: Any) -> Tensor:
        """The loss of every image, (B,).

        Args:
            x_net: ``model(y, physics)``, reused where the loss calls just that; None: called here.
            y: Measurements.
            physics: Operator and noise.
            model: The reconstruction, adapted or not.
        """
        plain = model.model if isinstance(model, AveragedModel) else model
        law = self.law(physics)
        if isinstance(self.loss, OperatorLoss):
            value = self.loss(plain, y, physics, law, generator=self.rng, image=x_net)
        else:

            def estimate(v: Tensor, _std: Tensor) -> Tensor:
                known = x_net if v is y and x_net is not None else plain(v, physics)
                measured: Tensor = physics.A(known)
                return measured

            value = self.loss(estimate, y, law, generator=self.rng)
        return self.weight * value

    def adapt_model(self, model: nn.Module, **_: Any) -> nn.Module:
        """The model, averaged over recorruptions in evaluation where the loss trains it on recorrupted input."""
        if not isinstance(self.loss, Recorrupted | Noisier) or isinstance(model, AveragedModel):
            return model
        return AveragedModel(model, self)

    def law(self, physics: Any) -> PixelNoise:
        """The noise of a physics, as the loss takes it."""
        return PixelNoise.of_noise_model(physics.noise_model) if self.noise is None else self.noise


class AveragedModel(nn.Module):
    """A denoiser trained by recorruption: as it is in training, averaged over recorruptions in evaluation.

    Attributes:
        model: The network.
        trained_by: The loss.
    """

    def __init__(self, model: nn.Module, trained_by: SelfSupervisedLoss) -> None:
        super().__init__()
        self.model, self.trained_by = model, trained_by

    def forward(self, y: Tensor, physics: Any, **_: Any) -> Tensor:
        """As deepinv calls it; ``update_parameters`` has no meaning here."""
        if self.training:
            image: Tensor = self.model(y, physics)
            return image
        outer, loss = self.trained_by, self.trained_by.loss
        assert isinstance(loss, Recorrupted | Noisier)
        return loss.average(
            lambda v, _std: self.model(v, physics), y, outer.law(physics), samples=outer.samples, generator=outer.rng
        )


def as_deepinv(loss: SelfLoss | OperatorLoss, **options: Any) -> SelfSupervisedLoss:
    """A deepinv loss; ``options`` are those of `SelfSupervisedLoss`."""
    return SelfSupervisedLoss(loss, **options)
