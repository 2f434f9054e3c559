"""Before any network or solver: what can be put right of a frame, and its way into the working space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from noise_models.frame import RawFrame, tile_to
from noise_models.sensor import SensorNoise
from physrestore.classic.lines import row_offsets
from physrestore.errors import RestoreError
from physrestore.pnp.defects import repair_defects
from physrestore.working_space import WorkingSpace


@dataclass(frozen=True)
class Prepared:
    """A whole frame before it is restored.

    Attributes:
        planes: (4, H, W): values in the working space, known (0 at defects), clipped, linear source.
        space: The transform.
        row_noise_removed_dn: Std of the row offsets that were subtracted [DN].
    """

    planes: Tensor
    space: WorkingSpace
    row_noise_removed_dn: float

    @property
    def defects(self) -> int:
        """Sites whose value was replaced."""
        return int((self.planes[1] == 0).sum())


def prepare(frame: RawFrame, noise: SensorNoise, *, share: float) -> Prepared:
    """Subtract row offsets, go to the working space, repair defects.

    Args:
        frame: Not monochrome.
        noise: Of this camera at this ISO.
        share: Of the noise that is to be removed, 0..1; at 0 no measured value changes.

    Raises:
        ProfileError: the noise describes other planes, or its gain is unknown.
        RestoreError: values that are not finite.
    """
    space = WorkingSpace.of_frame(frame, noise)
    source = frame.linear()[0, 0]
    signal = source
    offsets = row_offsets(frame, noise) if share > 0 else None
    removed = 0.0
    if offsets is not None:
        span = tile_to(torch.from_numpy(frame.white_level - frame.black_level).float(), *frame.shape)
        signal = source - torch.from_numpy(offsets).float()[:, None] / span
        removed = share * float(np.std(offsets))
    stabilised = space.stabilise(signal, frame.cfa)
    known = torch.ones_like(source)
    clipped = frame.clipped()[0, 0].float()
    if share > 0:
        repair = repair_defects(stabilised, frame.cfa)
        stabilised = repair.mosaic
        known[repair.defective] = 0.0
        clipped[repair.defective] = 0.0
    values = space.balanced(stabilised, frame.cfa)
    if not bool(torch.isfinite(values).all()):
        raise RestoreError("The mosaic is not finite after stabilisation, which no 16-bit input may cause: report it.")
    return Prepared(torch.stack([values, known, clipped, source]), space, removed)
