"""Classic restoration against its rivals: PSNR of the raw mosaic and processor time.

Kodak24 crops become linear mosaics (sRGB undone, red and blue dimmed as daylight does before white balance) and get
Poisson-Gaussian noise of a known law at three exposures. All rivals see the same stabilised planes and share the exact
unbiased inverse, so the table compares denoisers alone; the noise is theirs to remove, not to estimate.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from noise_models.cfa import Cfa, pack
from noise_models.frame import RawFrame
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from noise_models.stabilise import Anscombe
from physrestore.classic import denoise_classic
from physrestore.classic.dct import remove_white_noise
from physrestore.quality import psnr
from tests.shared_data import data_folder

PICTURES = ("01", "08", "23")
CROP = 512
# Electrons at full scale and read noise [e-]: roughly ISO 800, 3200 and 12800 of a small-pixel camera.
LEVELS = ((4000.0, 4.0), (800.0, 3.0), (160.0, 3.0))
CAMERA_WHITE = (0.5, 1.0, 0.6)
# Size of the timed photo [megapixels], and what the project promises for it on two idle cores.
PHOTO = (4000, 6000)

Denoiser = Callable[[Tensor], Tensor]


def run() -> None:
    """Print both tables; one thread for the rivals, so that processor time compares work and not waiting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    quality()
    torch.set_num_threads(threads)
    speed()


def quality() -> None:
    """PSNR [dB] of the packed planes and CPU-seconds per megapixel of mosaic."""
    folder = data_folder() / "sets" / "kodak24"
    if not folder.exists():
        print(f"quality: no pictures at {folder.name} (set PHYSRESTORE_TEST_DATA)")
        return
    mosaics = [_mosaic(np.asarray(Image.open(folder / f"{name}.png").convert("RGB"))) for name in PICTURES]
    print(f"{'':28}" + "".join(f"{full:>7.0f} e-" for full, _ in LEVELS) + "   CPU-s/MP")
    for name, denoiser in _rivals():
        values, start, megapixels = [], time.process_time(), 0.0
        for full, read_noise in LEVELS:
            scores = []
            for k, mosaic in enumerate(mosaics):
                truth = mosaic * full
                scores.append(psnr(_restore(truth, read_noise, denoiser, seed=k), truth, peak=full))
                megapixels += truth.numel() / 1e6
            values.append(sum(scores) / len(scores))
        cost = (time.process_time() - start) / megapixels
        print(f"{name:28}" + "".join(f"{value:10.2f}" for value in values) + f"{cost:11.2f}", flush=True)


def speed() -> None:
    """The whole chain on a photo of 24 megapixels."""
    height, width = PHOTO
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32) / 300
    signal = 600 + 500 * np.sin(x) * np.cos(y) + 200 * np.sin(x * y)
    dn = signal + rng.standard_normal(signal.shape, dtype=np.float32) * np.sqrt(np.maximum(signal, 0) * 2 + 36) + 256
    cfa = Cfa.parse("RGGB")
    frame = RawFrame(
        np.clip(np.round(dn), 0, 16383).astype(np.uint16), cfa, np.full((2, 2), 256.0), np.full((2, 2), 16383.0)
    )
    del y, x, signal, dn
    wall, cpu = time.perf_counter(), time.process_time()
    denoise_classic(frame, _noise(cfa))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    print(
        f"24 MP: {wall:.1f} s wall, {cpu:.1f} CPU-s, {torch.get_num_threads()} threads, "
        f"peak of the process {peak:.2f} GiB"
    )


def _rivals() -> Iterator[tuple[str, Denoiser]]:
    yield "noisy", lambda planes: planes
    yield "wavelet (BayesShrink)", _bayes_shrink
    yield "one scale", lambda planes: remove_white_noise(planes, scales=1)
    yield "physrestore classic", remove_white_noise
    try:
        import bm3d  # an extra with a non-commercial licence
    except ImportError:
        print("bm3d is not installed: no row for it")
        return
    yield "BM3D per plane", lambda planes: torch.stack([torch.from_numpy(bm3d.bm3d(p.numpy(), 1.0)) for p in planes])


def _restore(truth: Tensor, read_noise: float, denoiser: Denoiser, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.poisson(truth, generator=generator) + read_noise * torch.randn(truth.shape, generator=generator)
    transform = Anscombe(gain=torch.tensor(1.0), read_noise_dn=torch.tensor(read_noise))
    stabilised = transform.forward(noisy)
    return transform.inverse(denoiser(stabilised).float())


def _mosaic(picture: np.ndarray) -> Tensor:
    """Central crop of an sRGB picture as linear RGGB planes (4, h, w), 0..1."""
    top, left = ((size - CROP) // 2 for size in picture.shape[:2])
    code = picture[top : top + CROP, left : left + CROP].astype(np.float64) / 255
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4) * CAMERA_WHITE
    mosaic = linear[..., 1].copy()
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = linear[0::2, 0::2, 0], linear[1::2, 1::2, 2]
    return pack(torch.from_numpy(mosaic).float()[None], Cfa.parse("RGGB"))


def _bayes_shrink(planes: Tensor) -> Tensor:
    """Undecimated Haar wavelet with BayesShrink thresholds (Chang, Yu & Vetterli, IEEE TIP 9(9), 2000)."""
    details, result = _haar(planes)
    of_noise, _ = _haar(torch.randn(planes.shape, generator=torch.Generator().manual_seed(0)))
    for (detail, step, axis), (noise, _, _) in zip(details, of_noise, strict=True):
        variance = noise.square().mean()
        signal = (detail.square().mean((1, 2), keepdim=True) - variance).clamp(min=1e-9).sqrt()
        kept = detail.sign() * F.relu(detail.abs() - variance / signal)
        result = result + (kept - kept.roll(step, axis)) / 2
    return result


def _haar(planes: Tensor, levels: int = 4) -> tuple[list[tuple[Tensor, int, int]], Tensor]:
    """Details with step and axis, and the rest: planes = rest + sum of (d - shifted d) / 2."""
    details, rest = [], planes
    for level in range(levels):
        for axis in (1, 2):
            step = 2**level
            shifted = rest.roll(-step, axis)
            details.append(((rest - shifted) / 2, step, axis))
            low = (rest + shifted) / 2
            rest = (low + low.roll(step, axis)) / 2
    return details, rest


def _noise(cfa: Cfa) -> SensorNoise:
    plane = PlaneNoise(
        gain=Estimate(value=2.0), read_noise_dn=Estimate(value=6.0), black_level_dn=Estimate(value=256.0)
    )
    return SensorNoise(iso=1600.0, planes=dict.fromkeys(cfa.plane_names, plane), row_noise_dn=Estimate(value=1.0))
