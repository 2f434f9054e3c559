"""What a user may ask to be trained, in words: which task, which size, for which camera."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from torch import nn

from noise_models.cfa import Cfa
from noise_models.profile import CameraProfile
from noise_models.sampling import ProfileLaw, WidePrior
from noise_models.store import profile_to_json
from physrestore.errors import TrainingError
from physrestore.networks.cdlnet import CDLNetConfig
from physrestore.networks.colour_net import ColourNetConfig
from physrestore.networks.mosaic_net import MosaicNetConfig
from physrestore.training.fit import Task
from physrestore.training.pictures import Pictures
from physrestore.training.tasks.colour import ColourTask
from physrestore.training.tasks.gray import GrayTask
from physrestore.training.tasks.mosaic import MosaicTask
from physrestore.training.tasks.onward import Onward, digest_of_weights

TaskName = Literal["mosaic", "colour", "gray"]
SizeName = Literal["small", "large"]

MOSAIC_SIZES = {"small": MosaicNetConfig(), "large": MosaicNetConfig(channels=(32, 64, 96, 128))}
COLOUR_SIZES = {"small": ColourNetConfig(channels=(32, 48, 64)), "large": ColourNetConfig()}
# The paper's small network, and one of three times its parameters with half of its computation.
GRAY_SIZES = {"small": CDLNetConfig(), "large": CDLNetConfig(filters=96, stride=2)}

# Pixels: four halvings of it are still a picture.
SMALLEST_PATCH = 32

PURPOSES = {
    "mosaic": "Joint demosaicking and denoising of raw mosaics in one pass, told the noise of every site",
    "colour": "Denoising of colour pictures of a known noise level, for use as a prior",
    "gray": "Denoising of gray pictures of a known noise level",
}


@dataclass(frozen=True, kw_only=True)
class Order:
    """A training that was asked for.

    Attributes:
        task: What is learned.
        size: Of the network.
        camera: Train for its noise alone; None: for any camera. For the task "mosaic" only.
        white_level: Highest code [DN] of the camera, where the profile does not know it.
        patch: Side of a patch, pixels.
        batch: Patches a step.
        start: Network to begin with; ``size`` is then its own. None: begin with nothing.

    Raises:
        TrainingError: a camera for another task, one without colours, or a start of another architecture.
    """

    task: TaskName = "mosaic"
    size: SizeName = "small"
    camera: CameraProfile | None = None
    white_level: float | None = None
    patch: int = 128
    batch: int = 8
    start: nn.Module | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.task not in get_args(TaskName) or self.size not in get_args(SizeName):
            raise TrainingError(
                f"Tasks are {', '.join(get_args(TaskName))}; sizes {', '.join(get_args(SizeName))}; "
                f"not {self.task!r} and {self.size!r}."
            )
        if self.camera is not None and self.task != "mosaic":
            raise TrainingError(
                f"A camera's noise is that of its mosaic; the task {self.task!r} knows none. Train the task 'mosaic'."
            )
        if self.camera is not None and Cfa.parse(self.camera.cfa).is_mono:
            raise TrainingError(
                f"{self.camera.model!r} sees no colours; the task 'mosaic' is for colour filter arrays."
            )
        if self.patch < SMALLEST_PATCH or self.patch % 2 or self.batch < 1:
            raise TrainingError(
                f"A patch has an even side of {SMALLEST_PATCH} or more and a batch one patch or more, not "
                f"{self.patch} and {self.batch}."
            )

    def build(self, pictures: Pictures) -> Task:
        """The task, on these scenes.

        Raises:
            ProfileError: the camera's gain or white level is unknown.
        """
        task = self._from_nothing(pictures)
        return task if self.start is None else Onward(task, self.start)

    def _from_nothing(self, pictures: Pictures) -> Task:
        if self.task == "mosaic":
            task = MosaicTask(pictures, network=MOSAIC_SIZES[self.size], side=self.patch, count=self.batch)
            return task if self.camera is None else replace(task, fixed=_law(self.camera, self.white_level))
        if self.task == "colour":
            return ColourTask(pictures, network=COLOUR_SIZES[self.size], side=self.patch, count=self.batch)
        return GrayTask(pictures, network=GRAY_SIZES[self.size], side=self.patch, count=self.batch)

    @property
    def identity(self) -> dict[str, object]:
        """All that decides it, as plain JSON: a training is resumed only by the order it was begun with."""
        plain = {name: value for name, value in vars(self).items() if name not in ("camera", "start")}
        camera = None if self.camera is None else json.loads(profile_to_json(self.camera))
        return {**plain, "camera": camera, "start": None if self.start is None else digest_of_weights(self.start)}

    @property
    def noise_range(self) -> str:
        """For which noise, in words."""
        if self.camera is not None:
            isos = self.camera.isos
            return f"{self.camera.make} {self.camera.model}, ISO {isos[0]:g} to {isos[-1]:g}"
        if self.task == "mosaic":
            low, high = WidePrior().gain_dn
            return f"any camera with a gain of {low:g} to {high:g} DN/e- in 14 bits, and the published profiles"
        sigma = ColourTask.sigma if self.task == "colour" else GrayTask.sigma
        return f"white Gaussian noise with a std of {sigma[0]:.3g} to {sigma[1]:.3g}, white at 1"


def scenes(folders: Sequence[Path], order: Order) -> Pictures:
    """The pictures under some folders that are large enough for a patch.

    Raises:
        TrainingError: a folder that is not there, a damaged picture, or none that is large enough.
    """
    for folder in folders:
        if not folder.is_dir():
            raise TrainingError(f"{folder} is no folder. Name folders of pictures.")
    return Pictures.read(folders, smallest_side=order.patch)


def digest_of(pictures: Pictures) -> str:
    """Hex digest of names and pixels, to tell one set of scenes from another."""
    total = hashlib.sha256()
    for name, image in zip(pictures.names, pictures.images, strict=True):
        total.update(f"{name} {tuple(image.shape)}".encode())
        total.update(image.numpy().tobytes())
    return total.hexdigest()


def _law(camera: CameraProfile, white_level: float | None) -> ProfileLaw:
    """All ISOs from the lowest to the highest measured; another body and another day differ within the errors."""
    isos = camera.isos
    span = (isos[0], isos[-1]) if len(isos) > 1 else None
    return ProfileLaw(camera, iso_range=span, white_level=white_level, draw_uncertainty=True)
