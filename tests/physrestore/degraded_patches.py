"""A training set that degrades in its worker, as a spawned process must be able to import it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from physrestore.degradation import NoiseLevelGenerator, SensorReadout
from physrestore.noise import CalibratedNoise


class DegradedPatches(Dataset[Tensor]):
    """Grey packed patches; the item's number is the seed."""

    def __init__(self, levels: NoiseLevelGenerator) -> None:
        self.levels = levels
        self.noise = CalibratedNoise(0.01, 0.01, row_groups=(0, 0, 1, 1))
        self.readout = SensorReadout(black=512.0, white=4095.0)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        levels = self.levels.step(batch_size=1, seed=index)
        noisy: Tensor = self.readout(self.noise(torch.full((1, 4, 8, 8), 0.2), seed=index, **levels))
        return noisy[0]
