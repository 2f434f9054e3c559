"""Raw denoising by the shipped networks and their rivals: PSNR, SSIM and processor time over cameras and ISOs.

Kodak24 crops become linear camera RGB (as in the benchmark pnp), are mosaicked, and get the whole noise of published
cameras through `NoiseSampler`: shot noise, read noise with its tail, rows, rounding and clipping. All rivals know the
calibrated noise. Raw: PSNR and SSIM of the stabilised mosaic (per colour plane, so that dark areas count as an eye
counts them). Developed: white balance, the same Malvar demosaick for all that return mosaics, sRGB curve.

--cameras N, --isos N and --images N make it shorter; --peers leaves out what is not named.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from kornia.metrics import ssim
from PIL import Image
from torch import Tensor

from noise_models.cfa import Cfa, pack, unpack
from noise_models.frame import Colour, RawFrame, tile_to
from noise_models.profile import CameraProfile
from noise_models.published import published_profiles
from noise_models.sampling import NoiseSampler, ProfileLaw
from noise_models.sensor import SensorNoise
from noise_models.stabilise import Anscombe
from physrestore import weights
from physrestore.classic import denoise_classic
from physrestore.demosaic import demosaic
from physrestore.fast import restore_fast
from physrestore.pipeline import sampled
from physrestore.quality import psnr
from tests.shared_data import data_folder

PICTURES = ("03", "07", "11", "14", "20", "22", "04", "09", "10", "15", "16", "24")  # none chose a constant of ours
CROP = 256
CAMERAS = ("ILCE-7SM2", "Canon EOS 70D", "NIKON D850")
ISOS = (400.0, 800.0, 1600.0, 3200.0, 6400.0)
NEUTRAL = (0.5, 1.0, 0.6)
# Brightest value of a picture as a share of white: at high ISO a photographer exposes what light there is.
EXPOSURE = 0.6
CFA = Cfa.parse("RGGB")

# A restored picture: the mosaic [DN], and camera RGB where the rival demosaics itself.
Restored = tuple[np.ndarray, Tensor | None]
Rival = Callable[[RawFrame, SensorNoise], Restored]


@dataclass(frozen=True)
class Shot:
    """A noisy frame, its noise, and what it should be."""

    frame: RawFrame
    noise: SensorNoise
    truth: Tensor


def run(arguments: list[str]) -> None:
    """Print one row per rival: means over pictures at every ISO, all cameras together."""
    options = _parser().parse_args(arguments)
    folder = data_folder() / "sets" / "kodak24"
    if not folder.exists():
        print(f"priors: no pictures at {folder.name} (set PHYSRESTORE_TEST_DATA)")
        return
    truths = [camera_rgb(np.asarray(Image.open(folder / f"{name}.png").convert("RGB"))) for name in PICTURES]
    profiles = [p for name in CAMERAS[: options.cameras] for p in published_profiles() if name in p.model]
    isos = ISOS[-options.isos :]
    torch.set_num_threads(1)
    print("noise: " + ", ".join(p.model for p in profiles) + f"; {options.images} crops of {CROP}x{CROP}")
    print(f"{'raw PSNR (SSIM) [dB]':26}" + "".join(f"{f'ISO {iso:.0f}':>16}" for iso in isos) + "   CPU-s/MP")
    developed = {}
    for name, rival in _rivals():
        if options.peers and not any(word in name for word in options.peers):
            continue
        raw, seen, seconds, megapixels = [], [], 0.0, 0.0
        for iso in isos:
            scores = []
            for shot in shots(profiles, iso, truths[: options.images]):
                begin = time.process_time()
                restored = rival(shot.frame, shot.noise)
                seconds += time.process_time() - begin
                megapixels += shot.frame.mosaic.size / 1e6
                scores.append(score(shot, restored))
            raw.append(np.mean([s[:2] for s in scores], axis=0))
            seen.append(np.mean([s[2:] for s in scores], axis=0))
        developed[name] = seen
        cells = "".join(f"{f'{value:.2f} ({similarity:.3f})':>16}" for value, similarity in raw)
        print(f"{name:26}{cells}{seconds / megapixels:11.2f}", flush=True)
    print("\ndeveloped PSNR (SSIM)")
    for name, seen in developed.items():
        print(f"{name:26}" + "".join(f"{f'{value:.2f} ({similarity:.3f})':>16}" for value, similarity in seen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks priors")
    parser.add_argument("--cameras", type=int, default=len(CAMERAS))
    parser.add_argument("--isos", type=int, default=len(ISOS), help="the highest ones")
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--peers", nargs="*", help="words in the names of the rows wanted")
    return parser


def _rivals() -> Iterator[tuple[str, Rival]]:
    yield "noisy", lambda frame, _: (frame.mosaic, None)
    yield "wavelet + VST", lambda frame, noise: (on_planes(frame, noise, _wavelet), None)
    yield "NLM + VST", lambda frame, noise: (on_planes(frame, noise, _non_local_means), None)
    yield "physrestore classic", lambda frame, noise: (denoise_classic(frame, noise).mosaic, None)
    try:
        import bm3d  # an extra with a non-commercial licence
    except ImportError:
        print("bm3d is not installed: no row for it")
    else:
        yield "BM3D + VST", lambda frame, noise: (on_planes(frame, noise, lambda p: bm3d.bm3d(p, 1.0)), None)
    for name in ("mosaic-small", "mosaic-large"):
        if name in weights.catalogue():
            network = copy.deepcopy(weights.load(name).network)
            yield f"physrestore fast, {name[7:]}", _fast(network)


def _fast(network: torch.nn.Module) -> Rival:
    def restore(frame: RawFrame, noise: SensorNoise) -> Restored:
        result = restore_fast(frame, noise, network=network)
        return sampled(result.rgb, frame), result.rgb

    return restore


def on_planes(frame: RawFrame, noise: SensorNoise, denoiser: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Every packed plane by itself, its noise stabilised to a std of 1; exact unbiased inverse."""
    black, transform = _stabiliser(frame, noise)
    planes = pack(torch.from_numpy(frame.mosaic.astype(np.float32))[None], frame.cfa) - black
    stabilised = transform.forward(planes)
    clean = torch.stack([torch.from_numpy(np.asarray(denoiser(p.numpy()))).float() for p in stabilised])
    dn = unpack(transform.inverse(clean) + black, frame.cfa)[0].numpy()
    return np.clip(np.round(dn), 0, 65535).astype(np.uint16)


def _stabiliser(frame: RawFrame, noise: SensorNoise) -> tuple[float, Anscombe]:
    plane = noise.planes["G1"]
    read = float(np.sqrt(plane.variance(0.0)))
    return float(frame.black_level[0, 0]), Anscombe(torch.tensor(plane.gain.value), torch.tensor(read))


def _wavelet(plane: np.ndarray) -> np.ndarray:
    from skimage.restoration import denoise_wavelet

    return denoise_wavelet(plane, sigma=1.0, method="BayesShrink", mode="soft", rescale_sigma=False)


def _non_local_means(plane: np.ndarray) -> np.ndarray:
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(plane, h=0.7, sigma=1.0, patch_size=5, patch_distance=7, fast_mode=True)


def shots(profiles: list[CameraProfile], iso: float, truths: list[Tensor]) -> Iterator[Shot]:
    for profile in profiles:
        sampler = NoiseSampler(ProfileLaw(profile, isos=[iso]))
        for k, truth in enumerate(truths):
            generator = torch.Generator().manual_seed(1000 * k + int(iso))
            clean = _mosaic(truth)
            batch = sampler.sample(clean[None, None], cfa=CFA, generator=generator)
            black, white = float(batch.parameters.black_dn[0, 0]), float(batch.parameters.white_dn[0, 0])
            codes = np.round(batch.noisy[0, 0].double().numpy() * (white - black) + black).astype(np.uint16)
            frame = RawFrame(
                codes, CFA, np.full((2, 2), black), np.full((2, 2), white), colour=Colour(as_shot_neutral=NEUTRAL)
            )
            yield Shot(frame, profile.at(iso), truth)


def score(shot: Shot, restored: Restored) -> tuple[float, float, float, float]:
    """PSNR and SSIM of the stabilised planes, then of the developed picture."""
    mosaic, rgb = restored
    frame = shot.frame
    black, white = float(frame.black_level[0, 0]), float(frame.white_level[0, 0])
    linear = torch.from_numpy((mosaic.astype(np.float32) - black) / (white - black))
    truth = _mosaic(shot.truth)
    planes = [pack(x.clamp(min=0).sqrt()[None], CFA) for x in (linear, truth)]
    neutral = torch.tensor(NEUTRAL).reshape(3, 1, 1)
    rgb = demosaic(_balanced(linear), CFA)[0] if rgb is None else rgb / neutral
    ideal = shot.truth / neutral
    pictures = [_srgb(x / EXPOSURE) for x in (rgb, ideal)]
    return (*_both(*planes), *_both(*pictures))


def _both(estimate: Tensor, truth: Tensor) -> tuple[float, float]:
    return psnr(estimate, truth), float(ssim(estimate[None], truth[None], window_size=11).mean())


def _balanced(linear: Tensor) -> Tensor:
    gain = 1 / torch.tensor(NEUTRAL)
    return (linear * tile_to(gain[_index()], *linear.shape))[None, None]


def _mosaic(rgb: Tensor) -> Tensor:
    return rgb.gather(0, tile_to(_index(), *rgb.shape[-2:])[None])[0]


def _index() -> Tensor:
    return torch.tensor([["RGB".index(letter) for letter in row] for row in CFA.rows])


def camera_rgb(picture: np.ndarray) -> Tensor:
    """Central crop of an sRGB picture as linear camera RGB (3, h, w)."""
    top, left = ((size - CROP) // 2 for size in picture.shape[:2])
    code = picture[top : top + CROP, left : left + CROP].astype(np.float64) / 255
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return torch.from_numpy(EXPOSURE * linear * NEUTRAL).float().permute(2, 0, 1).contiguous()


def _srgb(light: Tensor) -> Tensor:
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=1e-6) ** (1 / 2.4) - 0.055)
