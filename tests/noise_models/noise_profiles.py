"""Small profiles and helpers for the tests of sampled noise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from noise_models.cfa import BAYER_PLANES, Cfa
from noise_models.profile import CameraProfile
from noise_models.sampling.laws import ProfileLaw
from noise_models.sampling.sampler import NoiseSampler
from noise_models.sensor import Estimate, HotPixels, PlaneNoise, SensorNoise, Tail

TAILS = {
    "gaussian": Tail(),
    "lognormal": Tail(kind="lognormal", shape=Estimate(value=0.4)),
    "tukey": Tail(kind="tukey", shape=Estimate(value=-0.1)),
}


def entry(
    iso: float,
    *,
    planes: tuple[str, ...] = BAYER_PLANES,
    tail: str = "gaussian",
    row: float = 0.0,
    column: float = 0.0,
    prnu: float = 0.01,
    dsnu: float = 0.5,
    jitter: float = 0.0,
    hot: float = 0.0,
    segment: int = 0,
    relative_error: float | None = None,
) -> SensorNoise:
    """Planes that differ in everything; K proportional to ISO."""

    def about(value: float) -> Estimate:
        return Estimate(value=value, standard_error=None if relative_error is None else relative_error * value)

    return SensorNoise(
        iso=iso,
        planes={
            name: PlaneNoise(
                gain=about(iso / 800.0 * (1.0 + 0.1 * k)),
                read_noise_dn=about(1.5 + iso / 800.0 * (2.0 + k)),
                black_level_dn=Estimate(value=500.25 + 3.0 * k),
                saturation_dn=Estimate(value=4095.0),
                prnu=Estimate(value=prnu),
                dsnu_dn=Estimate(value=dsnu),
            )
            for k, name in enumerate(planes)
        },
        row_noise_dn=about(row),
        column_noise_dn=Estimate(value=column),
        tail=TAILS[tail],
        black_jitter_dn=Estimate(value=jitter),
        hot_pixels=HotPixels(fraction=Estimate(value=hot), excess_dn=Estimate(value=200.0)) if hot else None,
        segment=segment,
    )


def profile(*entries: SensorNoise, cfa: str = "RGGB") -> CameraProfile:
    return CameraProfile(make="Test", model="Test camera", cfa=cfa, entries=entries)


def law(*entries: SensorNoise, cfa: str = "RGGB") -> ProfileLaw:
    return ProfileLaw(profile(*entries, cfa=cfa))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class NoisyPatches(Dataset[Tensor]):
    """What a training set does in a worker: one seed an item."""

    def __init__(self, sampler: NoiseSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        clean = torch.full((1, 1, 16, 16), 0.2)
        return self.sampler.sample(clean, cfa=Cfa.parse("RGGB"), generator=generator(index)).noisy[0]
