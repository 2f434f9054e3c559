"""Before any network or solver: what can be put right of a frame, and its way into the working space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noise_models.frame import RawFrame, tile_to
from noise_models.sensor import SensorNoise
from physrestore.classic.hot_pixels import BORDER
from physrestore.classic.lines import row_offsets
from physrestore.errors import RestoreError
from physrestore.pnp.defects import repair_defects
from physrestore.working_space import WorkingSpace

# Rows worked on at once, a multiple of every period (1, 2, 4, 6): a dozen intermediate values of each of their sites
# stay in the cache, where those of a whole frame would be written to memory and read back.
BAND = 96
# Rows above and below a site on which its repair depends, for every array (`repair_defects` reaches `REACH`, less).
DEFECT_REACH = BORDER


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
    offsets = row_offsets(frame, noise) if share > 0 else None
    planes = torch.empty(4, *frame.shape)
    for band in _bands(frame.shape[0], period=frame.cfa.period[0]):
        # Levels and colours repeat from the first row of every band.
        part = replace(frame, mosaic=frame.mosaic[band.read], masked=())
        own = None if offsets is None else offsets[band.read]
        planes[:, band.write] = _prepared_rows(part, space, own, repair=share > 0)[:, band.inside]
    if not bool(torch.isfinite(planes[0]).all()):
        raise RestoreError("The mosaic is not finite after stabilisation, which no 16-bit input may cause: report it.")
    return Prepared(planes, space, 0.0 if offsets is None else share * float(np.std(offsets)))


def _prepared_rows(part: RawFrame, space: WorkingSpace, offsets: NDArray[np.float64] | None, *, repair: bool) -> Tensor:
    """Planes of `Prepared` of some rows; offsets [DN]."""
    source = part.linear()[0, 0]
    signal = source
    if offsets is not None:
        span = tile_to(torch.from_numpy(part.white_level - part.black_level).float(), *part.shape)
        signal = source - torch.from_numpy(offsets).float()[:, None] / span
    stabilised = space.stabilise(signal, part.cfa)
    known, clipped = torch.ones_like(source), part.clipped()[0, 0].float()
    if repair:
        found = repair_defects(stabilised, part.cfa)
        stabilised = found.mosaic
        known[found.defective] = 0.0
        clipped[found.defective] = 0.0
    return torch.stack([space.balanced(stabilised, part.cfa), known, clipped, source])


@dataclass(frozen=True)
class _Band:
    """Rows that are worked on at once, and where they belong."""

    read: slice
    write: slice

    @property
    def inside(self) -> slice:
        """Where ``write`` lies inside ``read``."""
        return slice(self.write.start - self.read.start, self.write.stop - self.read.start)


def _bands(height: int, *, period: int) -> Iterator[_Band]:
    """Cover the rows; every band reads what the search for defects sees of its neighbours."""
    margin = -(-DEFECT_REACH // period) * period
    for start in range(0, height, BAND):
        stop = min(start + BAND, height)
        yield _Band(slice(max(0, start - margin), min(stop + margin, height)), slice(start, stop))
