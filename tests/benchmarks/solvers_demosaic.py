"""Demosaicking without noise and at a camera's calibrated noise: Bayer and X-Trans, published peers in the same run.

Kodak24 crops become linear camera RGB (sRGB undone, red and blue dimmed as daylight does before white balance) and a
14-bit mosaic with the noise of a published camera: shot and read noise, its tails, rows, rounding, clipping. PSNR [dB]
is after white balance and the sRGB curve, the space of the literature; in brackets in linear light. 32 sites along the
edges do not count: the published networks have no result there. Menon's method and demosaicnet work on
white-balanced, sRGB-coded values, for which they were made; everyone knows the white balance, and those who use it the
calibrated noise. What denoises before or after demosaicking does it in the space of equal noise, told the calibrated
noise; after demosaicking `TOLD_AFTER_DEMOSAIC` times as much. CPU-s/MP is processor time on one thread.

--images N, --crop N, --levels N (0 noise-free, then rising ISO) and --rivals WORD... make it shorter.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.frame import Colour, RawFrame, tile_to
from noise_models.published import published_profiles
from noise_models.sampling import NoiseSampler, ProfileLaw
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise
from noise_models.stabilise import Anscombe
from physrestore import weights
from physrestore.classic import denoise_classic
from physrestore.cli.prior_names import named_prior
from physrestore.fast import restore_fast
from physrestore.pnp import restore_pnp
from physrestore.quality import psnr
from physrestore.working_space import WorkingSpace
from tests.benchmarks._demosaicnet import BAYER, XTRANS, DemosaicNet
from tests.benchmarks.pnp import NO_NOISE_DN, TOLD_AFTER_DEMOSAIC, _balanced_demosaic, _demosaic_then_denoise, _tent
from tests.benchmarks.priors import on_planes
from tests.shared_data import data_folder

PICTURES = ("05", "13", "19", "08", "01", "23")
CROP, MARGIN = 240, 32
CAMERA, ISOS = "ILCE-7SM2", (None, 800.0, 3200.0, 12800.0)
NEUTRAL = (0.5, 1.0, 0.6)
BLACK, WHITE = 512.0, 16383.0
# Brightest value of a picture as a share of white.
EXPOSURE = 0.9
# Shipped networks that know colours.
PRIORS = ("MosaicNet", "ColourNet")


@dataclass(frozen=True)
class Shot:
    """A frame, its noise, and what it should be: linear camera RGB (3, H, W)."""

    frame: RawFrame
    noise: SensorNoise
    truth: Tensor


Rival = Callable[[RawFrame, SensorNoise], Tensor]


def run(arguments: list[str]) -> None:
    """Print one table per filter array."""
    options = _parser().parse_args(arguments)
    folder = data_folder() / "sets" / "kodak24"
    if not folder.exists():
        print(f"demosaicking: no pictures at {folder.name} (set PHYSRESTORE_TEST_DATA)")
        return
    names = PICTURES[: options.images]
    truths = [_camera_rgb(np.asarray(Image.open(folder / f"{n}.png").convert("RGB")), options.crop) for n in names]
    torch.set_num_threads(1)
    isos = ISOS[: options.levels]
    print(f"{CAMERA}, {len(truths)} crops of {options.crop}x{options.crop}, inner {options.crop - 2 * MARGIN}")
    for name, cfa in (("Bayer", BAYER), ("X-Trans", XTRANS)):
        heads = ("no noise" if iso is None else f"ISO {iso:.0f}" for iso in isos)
        print(f"{name:32}" + "".join(f"{head:>16}" for head in heads) + "   CPU-s/MP")
        for title, rival in _rivals(cfa):
            if not options.rivals or any(word in title for word in options.rivals):
                _row(title, rival, [[_shot(t, cfa, iso, seed=k) for k, t in enumerate(truths)] for iso in isos])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks solvers_demosaic")
    parser.add_argument("--images", type=int, default=len(PICTURES))
    parser.add_argument("--crop", type=int, default=CROP, help="side of the crops, a multiple of 12")
    parser.add_argument("--levels", type=int, default=len(ISOS))
    parser.add_argument("--rivals", nargs="*", help="words in the names of the rows wanted")
    return parser


def _row(title: str, rival: Rival, levels: list[list[Shot]]) -> None:
    cells, seconds, sites = [], 0.0, 0
    for shots in levels:
        scores = []
        for shot in shots:
            begin = time.process_time()
            rgb = rival(shot.frame, shot.noise)
            seconds += time.process_time() - begin
            sites += shot.frame.mosaic.size
            scores.append(
                (psnr(_inner(_coded(rgb)), _inner(_coded(shot.truth))), psnr(_inner(rgb), _inner(shot.truth)))
            )
        cells.append("{:7.2f} ({:5.2f})".format(*np.mean(scores, axis=0)))
    print(f"{title:32}" + "".join(f"{cell:>16}" for cell in cells) + f"{seconds / sites * 1e6:11.1f}", flush=True)


def _rivals(cfa: Cfa) -> Iterator[tuple[str, Rival]]:
    yield "bilinear" if cfa.is_bayer else "tent", lambda frame, _: _tent(frame)
    if cfa.is_bayer:
        yield "Malvar", lambda frame, _: _balanced_demosaic(frame)
        yield from _menon()
    yield from _demosaicnet(cfa)
    yield from _demosaicnet_and_bm3d(cfa)
    first = "Malvar" if cfa.is_bayer else "tent"
    yield f"{first}, then denoised", _demosaic_then_denoise
    if cfa.is_bayer:
        yield "classic denoised, then Malvar", _denoise_then_demosaic
    yield "physrestore pnp", lambda frame, noise: restore_pnp(frame, noise).rgb
    yield from _shipped()


def _menon() -> Iterator[tuple[str, Rival]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from colour_demosaicing import demosaicing_CFA_Bayer_Menon2007
    except ImportError:
        print("Menon: colour-demosaicing is not installed")
        return

    def restore(frame: RawFrame, _: SensorNoise) -> Tensor:
        coded = demosaicing_CFA_Bayer_Menon2007(_coded_mosaic(frame).double().numpy(), frame.cfa.name)
        return _decoded(torch.from_numpy(coded).float().permute(2, 0, 1))

    yield "Menon", restore


def _demosaicnet(cfa: Cfa) -> Iterator[tuple[str, Rival]]:
    folder = data_folder() / "weights" / "demosaicnet"
    if not folder.exists():
        print("demosaicnet: its published weights are not in the shared data")
        return
    network = DemosaicNet.load(folder, cfa)

    def restore(frame: RawFrame, _: SensorNoise) -> Tensor:
        planes = _coded_mosaic(frame) * (_colours(frame) == torch.arange(3)[:, None, None])
        inner, m = network(planes[None])[0], network.margin
        coded = _coded(_tent(frame))
        coded[:, m:-m, m:-m] = inner
        return _decoded(coded)

    yield "demosaicnet", restore


def _demosaicnet_and_bm3d(cfa: Cfa) -> Iterator[tuple[str, Rival]]:
    """The best that two published methods give, one after the other."""
    try:
        import bm3d  # an extra with a non-commercial licence
    except ImportError:
        print("bm3d is not installed: no rows of it and demosaicnet")
        return
    for title, demosaicked in _demosaicnet(cfa):

        def demosaic_first(frame: RawFrame, noise: SensorNoise, demosaicked: Rival = demosaicked) -> Tensor:
            space = WorkingSpace.of_frame(frame, noise)
            law = (space.gain.reshape(3, 1, 1), space.dark_noise.reshape(3, 1, 1))
            stabilised = Anscombe(*law).forward(demosaicked(frame, noise)).permute(1, 2, 0).double().numpy()
            clean = torch.from_numpy(bm3d.bm3d_rgb(stabilised, TOLD_AFTER_DEMOSAIC)).float().permute(2, 0, 1)
            return space.linear(clean * space.scale)

        def denoise_first(frame: RawFrame, noise: SensorNoise, demosaicked: Rival = demosaicked) -> Tensor:
            return demosaicked(replace(frame, mosaic=on_planes(frame, noise, lambda p: bm3d.bm3d(p, 1.0))), noise)

        yield f"{title}, then CBM3D", demosaic_first
        if cfa.is_bayer:
            yield f"BM3D, then {title}", denoise_first


def _shipped() -> Iterator[tuple[str, Rival]]:
    """Our trained networks: colour ones as priors of pnp, mosaic ones as they are."""
    rows = {name: named_prior(name) for name in weights.catalogue() if weights.load(name).architecture in PRIORS}
    for name, named in rows.items():
        if named.prior is not None:
            yield (
                f"physrestore pnp, {name}",
                lambda frame, noise, prior=named.prior: restore_pnp(frame, noise, prior=prior).rgb,
            )
        elif named.network is not None:
            network = copy.deepcopy(named.network)
            yield (
                f"physrestore fast, {name}",
                lambda frame, noise, network=network: restore_fast(frame, noise, network=network).rgb,
            )
    if all(named.prior is None for named in rows.values()):
        print("pnp with a trained prior: no colour network is shipped yet")


def _denoise_then_demosaic(frame: RawFrame, noise: SensorNoise) -> Tensor:
    return _balanced_demosaic(replace(frame, mosaic=denoise_classic(frame, noise).mosaic))


def _shot(truth: Tensor, cfa: Cfa, iso: float | None, *, seed: int) -> Shot:
    linear = truth.gather(0, _period(cfa, truth)[None])[0]
    black, white = BLACK, WHITE
    if iso is None:
        plane = PlaneNoise(
            gain=Estimate(value=NO_NOISE_DN[0]),
            read_noise_dn=Estimate(value=NO_NOISE_DN[1]),
            black_level_dn=Estimate(value=BLACK),
        )
        noise = SensorNoise(iso=None, planes=dict.fromkeys(cfa.plane_names, plane), row_noise_dn=Estimate(value=0.0))
    else:
        profile = next(p for p in published_profiles() if CAMERA in p.model)
        batch = NoiseSampler(ProfileLaw(profile, isos=[iso])).sample(
            linear[None, None], cfa=Cfa.parse("RGGB"), generator=torch.Generator().manual_seed(1000 * seed + int(iso))
        )
        # One gain for all colours: which array the noise was drawn for does not show in it.
        linear = batch.noisy[0, 0]
        black, white = float(batch.parameters.black_dn[0, 0]), float(batch.parameters.white_dn[0, 0])
        noise = profile.at(iso)
        noise = noise.model_copy(update={"planes": dict.fromkeys(cfa.plane_names, noise.planes["G1"])})
    codes = np.round(linear.double().numpy() * (white - black) + black).clip(0, 65534).astype(np.uint16)
    levels = (np.full(cfa.period, level) for level in (black, white))
    return Shot(RawFrame(codes, cfa, *levels, colour=Colour(as_shot_neutral=NEUTRAL)), noise, truth)


def _camera_rgb(picture: np.ndarray, side: int) -> Tensor:
    """Central crop of an sRGB picture as linear camera RGB (3, side, side)."""
    top, left = ((size - side) // 2 for size in picture.shape[:2])
    code = torch.from_numpy(picture[top : top + side, left : left + side].astype(np.float32) / 255)
    return _decoded(code.permute(2, 0, 1).contiguous())


def _period(cfa: Cfa, like: Tensor) -> Tensor:
    index = torch.tensor([["RGB".index(letter) for letter in row] for row in cfa.rows])
    return tile_to(index, *like.shape[-2:])


def _colours(frame: RawFrame) -> Tensor:
    return _period(frame.cfa, frame.linear())


def _neutral() -> Tensor:
    return EXPOSURE * torch.tensor(NEUTRAL).reshape(3, 1, 1)


def _coded_mosaic(frame: RawFrame) -> Tensor:
    """White-balanced, exposed to white and sRGB-coded, (H, W)."""
    return _curve(frame.linear()[0, 0] / _neutral().flatten()[_colours(frame)])


def _coded(rgb: Tensor) -> Tensor:
    """Camera RGB as a display shows it, 0..1."""
    return _curve((rgb / _neutral()).clamp(min=0.0))


def _curve(light: Tensor) -> Tensor:
    """The sRGB curve; a straight line below black."""
    light = light.clamp(max=1.0)
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=1e-6) ** (1 / 2.4) - 0.055)


def _decoded(code: Tensor) -> Tensor:
    """The inverse of `_coded`."""
    light = torch.where(code <= 0.04045, code / 12.92, ((code.clamp(min=0.0) + 0.055) / 1.055) ** 2.4)
    return light * _neutral()


def _inner(rgb: Tensor) -> Tensor:
    return rgb[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
