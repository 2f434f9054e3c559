"""Frames of one light level, streamed: their sum, and the pairs they form in order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.defects import mean_without
from noise_models.cfa import Cfa
from noise_models.frame import RawFrame

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
Site = tuple[int, int]


class FrameStack:
    """Sum of the frames of one light level, and the frame that waits for its partner.

    Attributes:
        frames: Frames added so far.
        waiting: The last frame where it has no partner yet.
        defects: Sites that the first pair of darks shows to be defective, per CFA site; empty for flats.
    """

    def __init__(self) -> None:
        self._total: NDArray[np.uint32] | None = None
        self.frames = 0
        self.waiting: RawFrame | None = None
        self.defects: dict[Site, Bool] = {}

    def add(self, raw: RawFrame) -> RawFrame | None:
        """Add a frame; returns its partner where it completes a pair."""
        # uint32 holds 65,537 frames of 16 bits.
        if self._total is None:
            self._total = raw.mosaic.astype(np.uint32)
        else:
            self._total += raw.mosaic
        self.frames += 1
        partner, self.waiting = self.waiting, (raw if self.waiting is None else None)
        return partner

    def site(self, site: Site, period: tuple[int, int]) -> F32:
        """Mean frame of one CFA site (h, w) [DN]."""
        assert self._total is not None
        part = self._total[site[0] :: period[0], site[1] :: period[1]]
        return (part / np.float64(self.frames)).astype(np.float32)

    def plane_mean(self, plane: str, cfa: Cfa, defects: Mapping[Site, Bool]) -> float:
        """Mean of one plane [DN] over all frames and the sites that are no defects."""
        return float(
            np.mean([mean_without(self.site(site, cfa.period), defects.get(site)) for site in cfa.sites(plane)])
        )
