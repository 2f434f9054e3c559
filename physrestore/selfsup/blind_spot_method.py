"""The method selfsup with a blind-spot network: one pass, and how sure it is comes with it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore.selfsup.blind_spot import BlindSpotModel
from physrestore.selfsup.blind_spot_restore import restore_blind_spot


@dataclass(frozen=True, eq=False)
class RestoredMosaic:
    """A mosaic by the posterior of a blind-spot network.

    Attributes:
        light: (H, W) float32, linear: black at 0, white at 1.
        std: Of every value, (H, W); NaN where light was clipped.
        numbers: What was done, by name.
        notes: What the user should know, one sentence each.
    """

    light: Tensor
    std: Tensor
    numbers: dict[str, float]
    notes: tuple[str, ...]


def restore_mosaic(
    frame: RawFrame,
    noise: SensorNoise,
    *,
    model: BlindSpotModel,
    strength: float = 100.0,
    device: torch.device | str = "cpu",
    progress: Callable[[float], None] | None = None,
) -> RestoredMosaic:
    """Restore a frame by posterior mean, with the standard deviation of every value.

    Args:
        frame: Of the kind of array that the model was trained on.
        noise: Its noise, with the gain known.
        model: From `physrestore.selfsup.blind_spot_files`; never changed.
        strength: 100 gives the posterior mean; at 0 every measured value is kept. What is put back of the residual
            counts as error, by its size at every site.
        device: Where to compute.
        progress: Called with the share done, 0..1.

    Raises:
        RestoreError: a frame of another kind of array than the model's.
        ProfileError: the noise describes other planes, or its gain is unknown.
        ValueError: a frame that is too small.
    """
    result = restore_blind_spot(frame, noise, copy.deepcopy(model).to(device), progress=progress)
    back = (1.0 - strength / 100.0) * (frame.linear()[0, 0] - result.mosaic)
    # Given the measurement, the error of mean + back has variance std^2 and mean back.
    std = (result.std.square() + back.square()).sqrt()
    std = torch.where(frame.clipped()[0, 0], torch.full_like(std, float("nan")), std)
    return RestoredMosaic(result.mosaic + back, std, result.numbers, tuple(result.z.wrong))
