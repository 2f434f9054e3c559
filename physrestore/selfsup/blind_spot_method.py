"""The method selfsup with a blind-spot network: one pass, and how sure it is comes with it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noise_models.frame import RawFrame, tile_to
from noise_models.sensor import SensorNoise
from physrestore.selfsup.blind_spot import BlindSpotModel
from physrestore.selfsup.blind_spot_restore import restore_blind_spot


@dataclass(frozen=True, eq=False)
class RestoredMosaic:
    """A mosaic by the posterior of a blind-spot network.

    Attributes:
        mosaic: (H, W) uint16 [DN], pedestal, levels and array of the source; clipped sites as they were.
        std: Of every value, (H, W), linear (white is 1); NaN where light was clipped.
        numbers: What was done, by name.
        notes: What the user should know, one sentence each.
    """

    mosaic: NDArray[np.uint16]
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
    source, clipped = frame.linear()[0, 0], frame.clipped()[0, 0]
    back = (1.0 - strength / 100.0) * (source - result.mosaic)
    # Given the measurement, the error of mean + back has variance std^2 and mean back.
    std = (result.std.square() + back.square()).sqrt()
    std = torch.where(clipped, torch.full_like(std, float("nan")), std)
    light = torch.where(clipped, source, result.mosaic + back)
    return RestoredMosaic(_in_dn(light, frame), std, result.numbers, tuple(result.z.wrong))


def _in_dn(light: Tensor, frame: RawFrame) -> NDArray[np.uint16]:
    """A mosaic in linear light, (H, W), as the sensor's numbers, rounded."""
    black, white = (
        tile_to(torch.from_numpy(level).float(), *frame.shape) for level in (frame.black_level, frame.white_level)
    )
    codes = (black + light * (white - black)).round_().clamp_(0, np.iinfo(np.uint16).max)
    return codes.numpy().astype(np.uint16)
